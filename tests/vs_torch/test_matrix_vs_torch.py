"""Products of matrices, against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
from compare import Case, call, compare, functional, table

from tensorlite.check.samples.sample import integers, normal

PRODUCTS = [
    ((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,)), ((2, 3), (3, 4)), ((2, 2, 3), (3,)), ((3,), (2, 3, 4)),
    ((2, 2, 3), (3, 4)), ((2, 3), (2, 3, 4)), ((2, 2, 3), (2, 3, 4)), ((2, 1, 2, 3), (4, 3, 2)), ((1, 2, 3), (5, 3, 2)),
    ((2, 4, 2, 3), (2, 4, 3, 2)), ((0, 3), (3, 2)), ((2, 0), (0, 3)), ((2, 3), (3, 0)), ((0, 2, 3), (3, 4)),
    ((2, 0, 3), (3, 4)), ((2, 2, 0), (0, 3)), ((0,), (0,)), ((0,), (0, 3)), ((2, 2, 3), (3, 0)), ((0, 2, 3), (0, 3, 4)),
    ((1, 2, 3), (0, 3, 4)), ((2, 3), (2, 3)), ((3,), (2,)), ((2, 2, 3), (3, 3, 2)),
]  # fmt: skip


@pytest.mark.parametrize("a, b", PRODUCTS, ids=str)
def test_matmul(a: tuple[int, ...], b: tuple[int, ...]):
    compare(call("matmul"), normal(*a), normal(*b))
    compare(lambda m, a, b: a @ b, normal(*a), normal(*b))
    if len(a) > 1 and len(b) > 1:  # transposed in memory
        compare(lambda m, a, b: a.mT @ b.mT, normal(*a[:-2], a[-1], a[-2]), normal(*b[:-2], b[-1], b[-2]))


MATRICES: dict[str, Case] = {
    "mm and bmm": (lambda m, a, b: (m.mm(a, b), m.bmm(a[None], b[None])), normal(2, 3), normal(3, 2)),
    "dtypes": (lambda m, a, b: a @ b, normal(2, 3), normal(3, 2).astype(np.float32)),
    "integers": (lambda m, a, b: a @ b, integers(5, 2, 3), integers(5, 3, 2)),
    "a number": (lambda m, a: a @ a, normal()),
    **{f"linear of {shape}": (functional("linear"), normal(*shape), normal(4, 3), normal(4))
       for shape in ((3,), (2, 3), (2, 5, 3), (0, 3), (2, 0, 3))},
    "linear without bias": (functional("linear"), normal(2, 3), normal(4, 3)),
    "linear of nothing": (functional("linear"), normal(2, 0), normal(4, 0), normal(4)),
    "linear of a transpose": (lambda m, x, w: m.nn.functional.linear(x.T, w), normal(3, 2), normal(4, 3)),
}  # fmt: skip


@table(MATRICES)
def test_matrices(case: Case):
    compare(*case)
