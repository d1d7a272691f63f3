"""Products of matrices. For y = a b: da = g bᵀ and db = aᵀ g, which the shapes alone almost force."""

from __future__ import annotations

from typing import Any

from ..op import Op
from ..tensor import Tensor, attach, method
from .shape import squeeze, unsqueeze

# fmt: off
_matmul = Op("matmul", lambda a, b: _product(a, b),  da=lambda g, b: matmul(g, b.mT),  db=lambda g, a, b_shape: _product_db(g, a, b_shape),
             expects="a (…, n, k) and b (…, k, m), of one dtype")
_linear = Op("linear", lambda x, weight, bias: _affine(x, weight, bias),
             dx=lambda g, weight: matmul(g, weight),
             dweight=lambda g, x: matmul(rows(g).mT, rows(x)),
             dbias=lambda g: g,
             expects="x (…, in), weight (out, in), bias (out,) or None, of one dtype")
# fmt: on


def _product(a: Any, b: Any) -> Any:
    if a.dtype != b.dtype:
        raise ValueError(f"a is {a.dtype} and b is {b.dtype}; convert one of them with .to(dtype)")
    if b.ndim == 2 < a.ndim and a.size and a.flags.c_contiguous:
        return (rows(a) @ b).reshape(*a.shape[:-1], b.shape[-1])
    return a @ b


def _product_db(g: Any, a: Any, b_shape: tuple[int, ...]) -> Any:
    """aᵀ g; where one matrix b met a stack of a, as one product over the rows of all."""
    if len(b_shape) == 2 < a.ndim and a.size and g.size:
        a, g = rows(a), rows(g)
    return matmul(a.mT, g)


def _affine(x: Any, weight: Any, bias: Any) -> Any:
    if bias is not None and (bias.shape != weight.shape[:1] or bias.dtype != x.dtype):
        raise ValueError(f"bias has shape {bias.shape} and {bias.dtype}; it must have {weight.shape[:1]} and {x.dtype}")
    y = _product(rows(x), weight.T)
    if bias is not None:
        y += bias
    return y.reshape(*x.shape[:-1], weight.shape[0])


def rows(x: Any) -> Any:
    """(…, n) as one matrix (rows, n), since one large product is faster than many small ones."""
    return x if x.ndim == 2 else x.reshape(-1, x.shape[-1])


@method
def matmul(input: Tensor, other: Tensor) -> Tensor:
    """The matrix product over the last two dimensions; the others broadcast. A vector counts as one row (left)
    or one column (right). Raises OpError if the inner dimensions or the dtypes differ."""
    a, b = input, other
    if a.ndim == 1 or b.ndim == 1:
        row, column = a.ndim == 1, b.ndim == 1
        y = matmul(unsqueeze(a, 0) if row else a, unsqueeze(b, 1) if column else b)
        return squeeze(y, (-2,) * row + (-1,) * column)
    return _matmul(a, b)


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b:  (…, in), (out, in), (out,) -> (…, out)"""
    return _linear(input, weight, bias)


mm = bmm = matmul
attach(__matmul__=lambda self, other: matmul(self, other), __rmatmul__=lambda self, other: matmul(other, self))
attach(mm=mm, bmm=bmm)

__all__ = ["bmm", "matmul", "mm"]
