"""Products of matrices, against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
from compare import NAN, Case, call, compare, functional, method, table

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
    "linear of a batch of nothing": (functional("linear"), normal(2, 3, 0), normal(4, 0), normal(4)),
    "tril": (lambda m, x: (x.tril(), m.tril(x, 1), m.triu(x, diagonal=-1), x.triu(1)), normal(2, 3, 4)),
    "triu of ones": (lambda m: m.triu(m.ones(3, 3), diagonal=1).bool(),),
    "tril of a vector": (method("tril"), normal(3)),
    "triu of nothing": (lambda m, x: (x.triu(), x.tril(-9), m.triu(x.long(), 1), x.bool().tril()), normal(2, 0, 3)),
    "triu far away": (lambda m, x: (x.triu(9), x.triu(-9), x.tril(9), x.tril(-9)), normal(2, 3)),
    "mm of vectors": (lambda m, a: m.mm(a, a), normal(3)),
    "mm of batches": (lambda m, a: a.mm(a), normal(2, 3, 3)),
    "mm, wrong sizes": (lambda m, a: a.mm(a), normal(2, 3)),
    "bmm": (lambda m, a, b: (a.bmm(b), m.bmm(input=a, mat2=b)), normal(2, 3, 4), normal(2, 4, 5)),
    "bmm of matrices": (lambda m, a: m.bmm(a, a), normal(3, 3)),
    "bmm, other batch": (lambda m, a, b: m.bmm(a, b), normal(1, 2, 3), normal(2, 3, 2)),
    "bmm of nothing": (lambda m, a, b: m.bmm(a, b), normal(0, 2, 3), normal(0, 3, 2)),
    "mv and dot": (lambda m, a, b: (m.mv(a, b), a.mv(b), m.dot(b, b), b.dot(a[0])), normal(2, 3), normal(3)),
    "mv of a matrix": (lambda m, a: a.mv(a), normal(3, 3)),
    "mv, wrong length": (lambda m, a, b: a.mv(b), normal(3, 3), normal(2)),
    "dot of matrices": (lambda m, a: a.dot(a), normal(3, 3)),
    "dot, wrong lengths": (lambda m, a: a.dot(a[:1]), normal(3)),
    "dot of integers": (lambda m, a: (a.dot(a), a.outer(a)), integers(5, 3)),
    "outer": (lambda m, a, b: (m.outer(a, b), b.outer(a)), normal(2), normal(3)),
    "outer of dtypes": (lambda m, a, b: m.outer(a, b), normal(2), integers(5, 3)),
    "outer of matrices": (lambda m, a: m.outer(a, a), normal(2, 2)),
    "addmm": (
        lambda m, c, a, b: (m.addmm(c, a, b), c.addmm(a, b, beta=0.5, alpha=-2), m.addmm(c[0], a, b),
        m.addmm(c[0, 0], a, b)),
        normal(2, 4), normal(2, 3), normal(3, 4),
    ),
    "addmm of nan and nothing": (lambda m, c, a, b: m.addmm(c.detach(), a, b, beta=0), np.array(NAN), normal(2, 3),
        normal(3, 4)),
    "addmm, wrong shape": (lambda m, c, a, b: m.addmm(c, a, b), normal(2, 3), normal(2, 3), normal(3, 4)),
    "addmm, input of more dimensions": (lambda m, c, a, b: m.addmm(c, a, b), normal(1, 2, 4), normal(2, 3),
        normal(3, 4)),
    "addmm of dtypes": (lambda m, c, a: m.addmm(c.float(), a, a), normal(2, 2), normal(2, 2)),
    "baddbmm": (
        lambda m, c, a, b: (m.baddbmm(c, a, b), c.baddbmm(a, b, beta=2, alpha=3), m.baddbmm(c[0, 0], a, b, beta=0)),
        normal(2, 3, 2), normal(2, 3, 4), normal(2, 4, 2),
    ),
    "baddbmm of matrices": (lambda m, a: m.baddbmm(a, a, a), normal(2, 2)),
    "booleans": (lambda m, a: a @ a, np.ones((2, 2), bool)),
    "halves": (lambda m, a: (a.half() @ a.half()).float(), integers(5, 3, 3)),
    "times a number": (lambda m, a: a @ 2, normal(2, 2)),
    "a number times": (lambda m, a: 2 @ a, normal(2, 2)),
    "diagonal": (
        lambda m, x: (
            x.diagonal(), m.diagonal(x, 1, 1, 2), x.diagonal(-1, -1, 0), x.diagonal(offset=1, dim1=2, dim2=0),
            x.diagonal(9),
        ),
        normal(2, 3, 4),
    ),
    "diagonal of nothing": (lambda m, x: (x.diagonal(), x.diagonal(1)), normal(0, 3)),
    "diagonal, the same dimension": (method("diagonal", 0, 0, -2), normal(2, 3)),
    "diagonal of a vector": (method("diagonal"), normal(2)),
    "diag": (lambda m, x, v: (x.diag(), m.diag(x, 1), x.diag(-1), v.diag(), m.diag(v, 2), v.diag(-1)), normal(2, 3),
        normal(3)),
    "diag of nothing": (lambda m, v: (v.diag(), v.diag(1)), normal(0)),
    "diag of a batch": (method("diag"), normal(2, 2, 2)),
    "diag of a number": (method("diag"), normal()),
    "trace": (lambda m, x: (x.trace(), m.trace(x.long())), normal(2, 3)),
    "trace of a batch": (method("trace"), normal(2, 2, 2)),
    "linear of a transpose": (lambda m, x, w: m.nn.functional.linear(x.T, w), normal(3, 2), normal(4, 3)),
}  # fmt: skip


@table(MATRICES)
def test_matrices(case: Case):
    compare(*case)
