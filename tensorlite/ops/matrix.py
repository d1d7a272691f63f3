"""Matrices: products, triangles, diagonals. For y = a b: da = g bᵀ and db = aᵀ g, which the shapes alone almost force."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import mode
from ..device import xp
from ..op import Op, OpError
from ..tensor import Tensor, attach, method
from .indexing import _setitem
from .shape import _place, clone, movedim, squeeze, unsqueeze

# fmt: off
_matmul = Op("matmul", lambda a, b: _product(a, b),  da=lambda g, b: matmul(g, b.mT),  db=lambda g, a, b_shape: _product_db(g, a, b_shape),
             expects="a (…, n, k) and b (…, k, m), of one dtype")
_linear = Op("linear", lambda x, weight, bias: _affine(x, weight, bias),
             dx=lambda g, weight: matmul(g, weight),
             dweight=lambda g, x: matmul(rows(g).mT, rows(x)),
             dbias=lambda g: g,
             expects="x (…, in), weight (out, in), bias (out,) or None, of one dtype")
_tril     = Op("tril",     lambda x, *, diagonal: xp(x).tril(x, diagonal),   dx=lambda g, diagonal: tril(g, diagonal), moves=True)
_triu     = Op("triu",     lambda x, *, diagonal: xp(x).triu(x, diagonal),   dx=lambda g, diagonal: triu(g, diagonal), moves=True)
_diagonal = Op("diagonal", lambda x, *, offset: _slanted(x, offset),         dx=lambda g, x_shape, offset: _setitem(g, index=_on_diagonal(x_shape, offset), shape=x_shape), view=True)
# fmt: on


def _product(a: Any, b: Any) -> Any:
    if a.dtype != b.dtype:
        raise ValueError(f"a is {a.dtype} and b is {b.dtype}; convert one of them with .to(dtype)")
    if a.shape[-1:] != b.shape[-2:][:1]:
        raise ValueError(f"a has {a.shape[-1]} columns and b has {b.shape[-2:][0]} rows; they must be as many")
    if a.dtype == bool:
        raise TypeError("booleans have no product; convert them with .to(dtype)")
    if b.ndim == 2 < a.ndim and a.size and a.flags.c_contiguous:
        return (rows(a) @ b).reshape(*a.shape[:-1], b.shape[-1])
    return a @ b


def _product_db(g: Any, a: Any, b_shape: tuple[int, ...]) -> Any:
    """aᵀ g; where one matrix b met a stack of a, as one product over the rows of all."""
    if len(b_shape) == 2 < a.ndim and a.size and g.size:
        a, g = rows(a), rows(g)
    return matmul(a.mT, g)


def _affine(x: Any, weight: Any, bias: Any) -> Any:
    if x.dtype != weight.dtype:
        raise ValueError(f"x is {x.dtype} and weight is {weight.dtype}; convert one of them with .to(dtype)")
    if x.shape[-1:] != weight.shape[1:]:
        raise ValueError(f"x has {x.shape[-1]} features and weight is for {weight.shape[-1]}; they must be as many")
    if bias is not None and (bias.shape != weight.shape[:1] or bias.dtype != x.dtype):
        raise ValueError(f"bias has shape {bias.shape} and {bias.dtype}; it must have {weight.shape[:1]} and {x.dtype}")
    y = _product(rows(x), weight.T)
    if bias is not None:
        y += bias
    return y.reshape(*x.shape[:-1], weight.shape[0])


def rows(x: Any) -> Any:
    """(…, n) as one matrix (rows, n), since one large product is faster than many small ones."""
    return x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def _slanted(x: Any, offset: int) -> Any:
    y = x.diagonal(offset, -2, -1)
    if getattr(x.flags, "writeable", False):  # NumPy's view is not, although each element stands in it once
        y.flags.writeable = True
    return y


def _on_diagonal(shape: tuple[int, ...], offset: int) -> tuple[Any, ...]:
    """The index of a diagonal of the last two dimensions."""
    start, n = max(-offset, 0), max(min(shape[-2] + min(offset, 0), shape[-1] - max(offset, 0)), 0)
    i = np.arange(start, start + n)
    return (..., i, i + offset)


@method
def matmul(input: Tensor, other: Tensor) -> Tensor:
    """The matrix product over the last two dimensions; the others broadcast. A vector counts as one row (left)
    or one column (right). Raises OpError if the inner dimensions or the dtypes differ, TypeError for numbers."""
    a, b = input, other
    if not (hasattr(a, "ndim") and hasattr(b, "ndim")):
        raise TypeError(f"matmul: expected Tensors, not {type(a).__name__} and {type(b).__name__}; * multiplies by a number")
    if a.ndim == 1 or b.ndim == 1:
        row, column = a.ndim == 1, b.ndim == 1
        y = matmul(unsqueeze(a, 0) if row else a, unsqueeze(b, 1) if column else b)
        return squeeze(y, (-2,) * row + (-1,) * column)
    return _matmul(a, b)


def _with_ranks(op: str, *given: tuple[Tensor, int]) -> None:
    if any(x.ndim != ndim for x, ndim in given):
        ranks = " and ".join(f"{ndim} dimension(s)" for _, ndim in given)
        raise OpError(f"[{op}] expected {ranks}, not {', '.join(str(x.shape) for x, _ in given)}; matmul takes any")


@method
def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """The product of two matrices."""
    _with_ranks("mm", (input, 2), (mat2, 2))
    return matmul(input, mat2)


@method
def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """The products of matrices, pair by pair: (b, n, k) and (b, k, m) -> (b, n, m)"""
    _with_ranks("bmm", (input, 3), (mat2, 3))
    if len(input) != len(mat2):
        raise OpError(f"[bmm] the batches {input.shape} and {mat2.shape} differ in length; matmul broadcasts")
    return matmul(input, mat2)


@method
def mv(input: Tensor, vec: Tensor) -> Tensor:
    """A matrix times a vector."""
    _with_ranks("mv", (input, 2), (vec, 1))
    return matmul(input, vec)


@method
def dot(input: Tensor, tensor: Tensor) -> Tensor:
    """The sum of the products of two vectors' elements."""
    _with_ranks("dot", (input, 1), (tensor, 1))
    return matmul(input, tensor)


@method
def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """Every element of one vector times every element of another: (n,) and (m,) -> (n, m)"""
    _with_ranks("outer", (input, 1), (vec2, 1))
    return unsqueeze(input, 1) * vec2


@method
def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta input + alpha (mat1 mat2); input broadcasts to the product. With beta = 0 what it holds counts for nothing."""
    input, mat1, mat2 = mode.cast("addmm", input, mat1, mat2)
    return _plus(input, mm(mat1, mat2), beta, alpha, "addmm")


@method
def baddbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """As `addmm`, for a batch of matrices."""
    input, batch1, batch2 = mode.cast("baddbmm", input, batch1, batch2)
    return _plus(input, bmm(batch1, batch2), beta, alpha, "baddbmm")


def _plus(input: Tensor, product: Tensor, beta: float, alpha: float, op: str) -> Tensor:
    if input.dtype != product.dtype:
        raise OpError(f"[{op}] input is {input.dtype} and the matrices are {product.dtype}")
    if input.ndim > product.ndim or any(n not in (1, m) for n, m in zip(input.shape[::-1], product.shape[::-1], strict=False)):
        raise OpError(f"[{op}] input {input.shape} does not broadcast to the product's shape, {product.shape}")
    product = product if alpha == 1 else product * alpha
    return product if beta == 0 else product + (input if beta == 1 else input * beta)


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b:  (…, in), (out, in), (out,) -> (…, out)"""
    return _linear(input, weight, bias)


@method
def tril(input: Tensor, diagonal: int = 0) -> Tensor:
    """The lower triangle of the last two dimensions; zeros above the diagonal."""
    return _tril(_matrices(input, "tril"), diagonal=diagonal)


@method
def triu(input: Tensor, diagonal: int = 0) -> Tensor:
    """The upper triangle of the last two dimensions; zeros below the diagonal."""
    return _triu(_matrices(input, "triu"), diagonal=diagonal)


def _matrices(x: Any, op: str) -> Any:
    if x.ndim < 2:
        raise OpError(f"[{op}] expected at least 2 dimensions, not shape {tuple(x.shape)}")
    return x


@method
def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The elements at (i, i + offset) of the dimensions dim1 and dim2, as a new last dimension. A view."""
    first, second = [_place(dim, input.ndim, input, "diagonal") for dim in (dim1, dim2)]
    if first == second:
        raise OpError(f"[diagonal] dim1 {dim1} and dim2 {dim2} of shape {tuple(input.shape)} are the same")
    return _diagonal(movedim(input, (first, second), (-2, -1)), offset=offset)


@method
def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """A vector as the diagonal of a square matrix, or a copy of the diagonal of a matrix."""
    if input.ndim == 1:
        n = len(input) + abs(diagonal)
        return _setitem(input, index=_on_diagonal((n, n), diagonal), shape=(n, n))
    _with_ranks("diag", (input, 2))
    return clone(_diagonal(input, offset=diagonal))


@method
def trace(input: Tensor) -> Tensor:
    """The sum of a matrix's diagonal."""
    _with_ranks("trace", (input, 2))
    return diag(input).sum()


attach(__matmul__=lambda self, other: matmul(self, other), __rmatmul__=lambda self, other: matmul(other, self))

__all__ = [
    "addmm", "baddbmm", "bmm", "diag", "diagonal", "dot", "matmul", "mm", "mv", "outer", "trace", "tril", "triu",
]  # fmt: skip
