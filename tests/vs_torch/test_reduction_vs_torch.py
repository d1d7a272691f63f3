"""Reductions, against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
from compare import INF, NAN, Case, call, compare, method, table

from tensorlite.check.samples.sample import distinct, normal

KNOWN = {
    "norm at 0": "the row of sqrt gives 0/0 where PyTorch's norm takes the subgradient 0",
    "std of equal numbers": "as norm at 0",
}

REDUCTIONS: dict[str, Case] = {
    f"{name} of {shape} over {dim}, keepdim {keepdim}": (call(name, dim, keepdim=keepdim), distinct(*shape))
    for name in ("sum", "mean", "amax", "amin", "var", "std", "logsumexp", "all", "any", "argmax", "max", "min")
    for shape, dims in (((2, 3), (0, -1, 2)), ((2, 3, 4), (1, (0, 2), (-1, -3))), ((4, 1), (0,)))
    for dim in dims
    for keepdim in (False, True)
    if not (isinstance(dim, tuple) and name in ("argmax", "max", "min"))
}
REDUCTIONS |= {
    f"{name} of {shape}": (method(name), distinct(*shape))
    for name in ("sum", "mean", "max", "min", "argmax", "argmin", "all", "any", "norm", "var", "std")
    for shape in ((2, 3), (4,), ())
    if shape or name not in ("var", "std")
}
REDUCTIONS |= {
    f"{name} of {dtype}": (method(name), np.array([[1, 0, 2]], dtype))
    for name in ("sum", "mean", "max", "argmax", "all", "any", "var")
    for dtype in ("bool", "uint8", "int32", "int64", "float16")
    # PyTorch refuses the first, and its truth values of bytes are bytes.
    if (name, dtype) not in {("argmax", "bool"), ("all", "uint8"), ("any", "uint8")}
}
REDUCTIONS |= {f"var, correction {c}": (method("var", -1, correction=c), normal(3, 5)) for c in (0, 1, 2, 1.5)}
REDUCTIONS |= {f"norm {p}": (method("norm", p), normal(2, 3)) for p in (1, 2, 3, INF)}
REDUCTIONS |= {
    "var of one": (method("var"), normal(1)),
    "var with correction 0 of one": (method("var", correction=0), normal(1)),
    "var, too few": (lambda m, x: x.detach().var(0, correction=3), normal(2, 3)),
    "var, unbiased": (method("var", -1, unbiased=False), normal(3, 5)),
    "std, correction 0": (method("std", 0, correction=0, keepdim=True), normal(3, 5)),
    "std of equal numbers": (method("std"), np.ones(3)),
    "norm over a dimension": (method("norm", 2, -1, True), normal(2, 3)),
    "norm at 0": (method("norm"), np.zeros(3)),
    "sum, dtype": (lambda m, x: x.sum(dtype=m.float64), normal(2, 3).astype(np.float32)),
    "sum over no dimensions": (method("sum", dim=()), normal(2, 3)),
    "sum of nothing": (method("sum"), normal(0)),
    "sum over nothing": (method("sum", 1), normal(2, 0)),
    "amax over nothing": (method("amax", 1), normal(2, 0)),
    "mean of nothing": (method("mean"), normal(0)),
    "all and any of nothing": (lambda m, x: (x.all(), x.any()), normal(0)),
    "logsumexp of -inf": (method("logsumexp", -1), np.array([[-INF, -INF], [-INF, 1.0], [INF, 1.0]])),
    "logsumexp, large": (method("logsumexp", 0), np.array([1000.0, 1001.0])),
    "max with nan": (lambda m, x: (x.detach().max(), x.argmax(), *x.max(0)), np.array([1.0, NAN, 3.0, NAN])),
    "min with nan": (lambda m, x: (x.detach().min(), x.argmin(), *x.min(0)), np.array([1.0, NAN, 3.0])),
    "max with ties": (lambda m, x: (x.max(), x.amax(0), x.max(0).values), np.array([1.0, 3.0, 3.0])),
    "max of two": (lambda m, a, b: (m.max(a, b), a.min(b)), np.array([1.0, 4.0, 2.0]), np.array([1.0, 2.0, 3.0])),
}


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:(var|std).*degrees of freedom")
@table(REDUCTIONS, KNOWN)
def test_reductions(case: Case):
    compare(*case)
