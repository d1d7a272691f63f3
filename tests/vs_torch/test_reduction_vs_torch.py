"""Reductions, against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
from compare import INF, NAN, Case, call, compare, method, table

from tensorlite.check.samples.sample import distinct, normal

REDUCTIONS: dict[str, Case] = {
    f"{name} of {shape} over {dim}, keepdim {keepdim}": (call(name, dim, keepdim=keepdim), distinct(*shape))
    for name in ("sum", "mean", "amax", "amin", "var", "std", "logsumexp", "all", "any", "argmax", "max", "min", "prod")
    for shape, dims in (((2, 3), (0, -1, 2)), ((2, 3, 4), (1, (0, 2), (-1, -3))), ((4, 1), (0,)))
    for dim in dims
    for keepdim in (False, True)
    if not (isinstance(dim, tuple) and name in ("argmax", "max", "min", "prod"))
}
REDUCTIONS |= {
    f"{name} of {shape}": (method(name), distinct(*shape))
    for name in (
        "sum",
        "mean",
        "max",
        "min",
        "argmax",
        "argmin",
        "all",
        "any",
        "norm",
        "var",
        "std",
        "prod",
        "count_nonzero",
    )
    for shape in ((2, 3), (4,), ())
    if shape or name not in ("var", "std")
}
REDUCTIONS |= {
    f"{name} of {dtype}": (method(name), np.array([[1, 0, 2]], dtype))
    for name in ("sum", "mean", "max", "argmax", "all", "any", "var", "prod", "count_nonzero", "norm")
    for dtype in ("bool", "uint8", "int32", "int64", "float16")
    # PyTorch refuses the first, and its truth values of bytes are bytes.
    if (name, dtype) not in {("argmax", "bool"), ("all", "uint8"), ("any", "uint8")}
}
REDUCTIONS |= {f"var, correction {c}": (method("var", -1, correction=c), normal(3, 5)) for c in (0, 1, 2, 1.5)}
POWERS = (0, 0.5, 1, 1.5, 2, 3, -1, -2, INF, -INF, "fro")
REDUCTIONS |= {f"norm {p}": (method("norm", p), normal(2, 3)) for p in POWERS if p != 0}
REDUCTIONS |= {
    f"norm {p} over {dim}": (method("norm", p, dim, True), normal(2, 3)) for p in POWERS[1:] for dim in (-1, (0, 1))
}
REDUCTIONS |= {
    f"norm {p} of {x}": (method("norm", p), np.array(x))
    for p in POWERS[1:]
    for x in ([0.0, 0.0], [0.0, 1.0], [3.0, 0.0, -3.0])
}
REDUCTIONS |= {f"norm {p} of nothing": (method("norm", p), normal(0)) for p in POWERS}
REDUCTIONS |= {f"norm {p} over nothing": (method("norm", p, 1), normal(2, 0)) for p in POWERS}
REDUCTIONS |= {
    f"prod of {x}": (method("prod"), np.array(x))
    for x in ([0.0, 3, 2], [0.0, 0, 2], [0.0], [0.0, 0, 0], [2.0, 3, 4, 5, 6, 7, 0])
}
REDUCTIONS |= {
    f"cumsum of {shape} over {dim}": (method("cumsum", dim), normal(*shape))
    for shape, dims in (((2, 3), (0, 1, -1, 2)), ((4,), (0,)), ((), (0, -1, 1)), ((0, 3), (0, 1)), ((2, 3, 2), (1,)))
    for dim in dims
}
REDUCTIONS |= {
    f"{name} of nothing": (method(name), normal(0)) for name in ("max", "min", "argmax", "argmin", "amax", "prod")
}
REDUCTIONS |= {
    f"{name} of {shape} over {dim}": (call(name, dim), np.zeros(shape))
    for name in ("max", "min", "argmax", "argmin", "amax", "amin", "prod", "logsumexp")
    for shape, dim in (((2, 0), 1), ((2, 0), 0), ((0, 0), 1), ((), 0), ((), -1), ((), 1))
}
REDUCTIONS |= {
    "var of one": (method("var"), normal(1)),
    "var with correction 0 of one": (method("var", correction=0), normal(1)),
    "var, too few": (lambda m, x: x.detach().var(0, correction=3), normal(2, 3)),
    "var, unbiased": (method("var", -1, unbiased=False), normal(3, 5)),
    "std, correction 0": (method("std", 0, correction=0, keepdim=True), normal(3, 5)),
    "std of equal numbers": (method("std"), np.ones(3)),
    "norm over a dimension": (method("norm", 2, -1, True), normal(2, 3)),
    "norm at 0": (method("norm"), np.zeros(3)),
    "norm of float16": (method("norm"), np.full(8, 300.0, "float16")),
    "norm, dtype": (lambda m, x: x.norm(dtype=m.float64), normal(3).astype(np.float32)),
    "norm by name": (
        lambda m, x: (m.norm(x, p="fro", dim=0), m.norm(x, keepdim=True), m.norm(x, dim=(0, 1))),
        normal(2, 3),
    ),
    "norm of infinity": (method("norm"), np.array([INF, 1.0])),
    "norm of nan": (method("norm"), np.array([NAN, 1.0])),
    "count_nonzero": (
        lambda m, x: (m.count_nonzero(x), x.count_nonzero(0), x.count_nonzero(dim=(0, 1)), (x > 1).count_nonzero(-1)),
        np.array([[1, 0, 2], [0, 0, NAN]]),
    ),
    "dtypes": (
        lambda m, x: (
            x.sum(dtype=m.float64),
            x.mean(dtype=m.float64),
            x.mean(0, True, dtype=m.float16),
            x.prod(dtype=m.float64),
            x.prod(1, True, dtype=m.float64),
            x.cumsum(0, dtype=m.float64),
        ),
        normal(2, 3).astype(np.float32),
    ),
    "integers of floats": (
        lambda m, x: (
            x.detach().sum(0, dtype=m.int32),
            x.detach().prod(dtype=m.int32),
            x.detach().cumsum(1, dtype=m.int32),
        ),
        2 * normal(2, 3),
    ),
    "dtypes of integers": (
        lambda m, x: (
            x.sum(dtype=m.float32),
            x.mean(dtype=m.float32),
            x.prod(dtype=m.int32),
            x.cumsum(-1, dtype=m.uint8),
        ),
        np.array([[1, 2], [3, 4]]),
    ),
    "mean as integers": (lambda m, x: x.mean(dtype=m.int64), normal(3)),
    **{
        f"cumsum of {dtype}": (method("cumsum", 0), np.array([1, 0, 1, 1], dtype))
        for dtype in ("bool", "uint8", "int32", "float16")
    },
    "cumsum, long": (method("cumsum", 0), np.full(100_000, 0.1, "float32")),
    "prod of nan, of infinity": (  # PyTorch's gradients are nan where infinity / infinity stands for a factor
        lambda m, x, y: (x.detach().prod(), y.detach().prod()),
        np.array([2.0, NAN, 3.0]),
        np.array([INF, 2.0]),
    ),
    **{f"{name} over two dimensions": (call(name, (0, 1)), normal(2, 3)) for name in ("argmax", "max", "cumsum")},
    "prod over two dimensions": (method("prod", (0, 1)), normal(2, 3)),
    "var, std, as they were": (
        lambda m, x: (
            x.var(0, False),
            x.std(0, False, True),
            x.var(False),
            m.std(x, True),
            m.var(x, unbiased=False),
            m.var(x, 1, keepdim=True),
            x.std(dim=(0, 1), unbiased=True),
            x.var((0, 1), correction=None),
        ),
        normal(3, 5),
    ),
    "var, unbiased and correction": (lambda m, x: x.var(0, unbiased=True, correction=0), normal(3, 5)),
    "std of equal numbers, some": (method("std", 1), np.array([[1.0, 1.0], [1.0, 2.0]])),
    "std with correction 0 of one": (method("std", correction=0), normal(1)),
    "logsumexp of integers": (method("logsumexp", 1), np.array([[1, 2], [3, 4]])),
    "logsumexp of unsigned": (method("logsumexp", 1), np.array([[1, 2], [3, 200]], np.uint8)),
    "argmax, keepdim": (lambda m, x: (m.argmax(x, keepdim=True), m.argmin(x, None, True), x.argmax(-1)), normal(2, 3)),
    "repeated dimensions": (lambda m, x: x.sum((0, 0)), normal(2, 3)),
    "max of booleans": (
        lambda m, x: (x.max(), x.min(), x.amax(0), *x.max(0)),
        np.array([[True, False], [False, False]]),
    ),
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
@table(REDUCTIONS)
def test_reductions(case: Case):
    compare(*case)
