"""Many numbers into one, along some dimensions. Backward, the gradient of the one spreads over the many."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..device import where_it_lies, xp
from ..dtype import get_default_dtype, is_floating
from ..op import Op, OpError
from ..tensor import Tensor, array_of, method
from .arithmetic import eq, ne, where
from .elementwise import abs, exp, log, sign, sqrt
from .indexing import take_along_dim
from .joining import cat, flip, split
from .shape import broadcast, clone, reshape, squeeze, to

# fmt: off
_sum    = Op("sum",     lambda x, *, dim, keepdim: x.sum(axis=dim, dtype=x.dtype, keepdims=keepdim),
                        dx=lambda g, x_shape, dim, keepdim: spread(g, x_shape, dim, keepdim))
_mean   = Op("mean",    lambda x, *, dim, keepdim: x.mean(axis=dim, keepdims=keepdim),
                        dx=lambda g, x_shape, dim, keepdim: spread(g, x_shape, dim, keepdim) / count(x_shape, dim))
_prod   = Op("prod",    lambda x, *, dim, keepdim: x.prod(axis=dim, dtype=x.dtype, keepdims=keepdim),
                        dx=lambda g, x, dim, keepdim: spread(g, x.shape, (dim,), keepdim) * _others(x, dim))
_cumsum = Op("cumsum",  lambda x, *, dim: _running_sum(x, dim),
                        dx=lambda g, dim: flip(_cumsum(flip(g, dim), dim=dim), dim))
_norm   = Op("norm",    lambda x, *, p, dim, keepdim: _length(x, p, dim, keepdim),
                        dx=lambda g, x, y, p, dim, keepdim: _norm_dx(g, x, y, p, dim, keepdim))
_var    = Op("var",     lambda x, *, dim, correction, keepdim: _variance(x, dim, correction, keepdim),
                        dx=lambda g, x, dim, correction, keepdim:
                            spread(g, x.shape, dim, keepdim) * (2 * (x - mean(x, dim, True))) / _freedom(x, dim, correction))
_amax   = Op("amax",    lambda x, *, dim, keepdim: x.max(axis=dim, keepdims=keepdim),
                        dx=lambda g, x, y, dim, keepdim: _to_the_extreme(g, x, y, dim, keepdim))
_amin   = Op("amin",    lambda x, *, dim, keepdim: x.min(axis=dim, keepdims=keepdim),
                        dx=lambda g, x, y, dim, keepdim: _to_the_extreme(g, x, y, dim, keepdim))
_argmax = Op("argmax",  lambda x, *, dim, keepdim: x.argmax(axis=dim, keepdims=keepdim))
_argmin = Op("argmin",  lambda x, *, dim, keepdim: x.argmin(axis=dim, keepdims=keepdim))
_all    = Op("all",     lambda x, *, dim, keepdim: x.all(axis=dim, keepdims=keepdim))
_any    = Op("any",     lambda x, *, dim, keepdim: x.any(axis=dim, keepdims=keepdim))
# fmt: on

Dim = int | Sequence[int] | None


def spread(g: Any, shape: tuple[int, ...], dim: tuple[int, ...] | None, keepdim: bool) -> Any:
    """The gradient of a reduced value, given to each element it was reduced from (a view)."""
    if not keepdim:
        reduced = range(len(shape)) if dim is None else dim
        g = g.reshape(tuple([1 if i in reduced else n for i, n in enumerate(shape)]))
    return broadcast(g, shape=shape)


def count(shape: tuple[int, ...], dim: tuple[int, ...] | None) -> int:
    """How many elements become one."""
    return int(np.prod([shape[i] for i in (range(len(shape)) if dim is None else dim)], dtype=np.int64))


def _variance(x: Any, dim: tuple[int, ...] | None, correction: float, keepdim: bool) -> Any:
    centred = x - x.mean(axis=dim, keepdims=True)
    return (centred * centred).sum(axis=dim, keepdims=keepdim) / _freedom(x, dim, correction)


def _freedom(x: Any, dim: tuple[int, ...] | None, correction: float) -> float:
    n = count(x.shape, dim) - correction
    return n if n > 0 else 0


def _to_the_extreme(g: Any, x: Any, y: Any, dim: tuple[int, ...] | None, keepdim: bool) -> Any:
    """The gradient goes to the largest (smallest) element; equal ones share it."""
    extreme = eq(x, spread(y, x.shape, dim, keepdim))
    return spread(g, x.shape, dim, keepdim) * extreme / sum(extreme, dim, True)


def _others(x: Any, dim: int) -> Any:
    """For each element the product of all others along dim: the derivative of the product.

    Product / element would fail at 0. Instead elements are paired, and a has b times what stands outside the pair,
    which is found in the same way from the products of the pairs. Nothing but products, so that derivatives of any
    order are right at 0 too.
    """
    n = x.shape[dim]
    if n < 2:
        return x**0
    sizes = (n // 2, n // 2, n % 2)
    a, b, odd = split(x, sizes, dim)
    outside, outside_odd = split(_others(cat((a * b, odd), dim), dim), sizes[1:], dim)
    return cat((b * outside, a * outside, outside_odd), dim)


def _running_sum(x: Any, dim: int) -> Any:
    """Added up in float64, because the error of n roundings one after the other grows with n."""
    return x.cumsum(axis=dim, dtype=np.float64 if x.dtype.kind == "f" else x.dtype).astype(x.dtype, copy=False)


def _length(x: Any, p: float, dim: tuple[int, ...] | None, keepdim: bool) -> Any:
    """(sum of |x|^p)^(1/p)"""
    if p == 2:
        return xp(x).sqrt((x * x).sum(axis=dim, keepdims=keepdim))
    return (xp(x).abs(x) ** p).sum(axis=dim, keepdims=keepdim) ** (1 / p)


def _norm_dx(g: Any, x: Any, y: Any, p: float, dim: tuple[int, ...] | None, keepdim: bool) -> Any:
    """d(norm)/dx = sign(x) (|x| / norm)^(p-1). Of the slopes that there are at norm 0 (and at x 0 for p < 1), 0."""
    slope = x / spread(where(eq(y, 0), math.inf, y), x.shape, dim, keepdim)
    if p != 2:
        zero = eq(slope, 0)
        slope = where(zero, 0.0, sign(x) * where(zero, 1.0, abs(slope)) ** (p - 1))
    return spread(g, x.shape, dim, keepdim) * slope


def _dims(x: Any, dim: Dim, op: str) -> tuple[int, ...] | None:
    """dim as a tuple of non-negative ints, None for all."""
    if dim is None:
        return None
    dims = (dim,) if isinstance(dim, (int, np.integer)) else tuple(dim)
    if not dims:
        return None
    ndim = x.ndim or 1
    for d in dims:
        if not -ndim <= d < ndim:
            raise IndexError(f"[{op}] dimension {d} does not exist in shape {tuple(x.shape)}")
    return tuple([d % x.ndim for d in dims]) if x.ndim else None


def _floats_only(x: Any, op: str) -> None:
    if not is_floating(x.dtype):
        raise OpError(f"[{op}] of {x.dtype} would not be a whole number; convert first: x.float().{op}()")


def _one(dims: tuple[int, ...] | None, op: str) -> int | None:
    """The only one of dims; None for all of them."""
    if dims is not None and len(dims) != 1:
        raise TypeError(f"{op} goes along one dimension, not along {dims}")
    return None if dims is None else dims[0]


def _some(x: Any, dim: Dim, op: str) -> tuple[int, ...] | None:
    """dim as `_dims` has it. Raises if that leaves nothing of which there could be a largest element."""
    dims = _dims(x, dim, op)
    if not count(x.shape, dims):
        kind, along = (RuntimeError, "") if dims is None else (IndexError, f" along dimension {dim}")
        raise kind(f"{op}: shape {tuple(x.shape)} has no elements{along}, so there is no {op} of them")
    return dims


def _addable(x: Any, dtype: Any) -> Any:
    """x in the dtype in which it is added up: as asked for; else booleans and integers as int64."""
    return to(x, dtype or np.int64) if dtype is not None or x.dtype.kind in "bui" else x


@method
def sum(input: Tensor, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The sum over dim (all dimensions by default). Booleans and integers are summed as int64."""
    return _sum(_addable(input, dtype), dim=_dims(input, dim, "sum"), keepdim=keepdim)


@method
def mean(input: Tensor, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The arithmetic mean over dim (all dimensions by default)."""
    x = input if dtype is None else to(input, dtype)
    _floats_only(x, "mean")
    return _mean(x, dim=_dims(input, dim, "mean"), keepdim=keepdim)


@method
def prod(input: Tensor, dim: int | None = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The product over dim (of all elements by default). Booleans and integers are multiplied as int64."""
    x = _addable(input, dtype)
    along = _one(_dims(input, dim, "prod"), "prod")
    return _prod(reshape(x, -1), dim=0, keepdim=False) if along is None else _prod(x, dim=along, keepdim=keepdim)


@method
def cumsum(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """Element i along dim is the sum of the elements up to i. Booleans and integers are summed as int64."""
    x = _addable(input, dtype)
    along = _one(_dims(input, dim, "cumsum"), "cumsum")
    return clone(x) if along is None else _cumsum(x, dim=along)


@method
def var(input: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: Any = None) -> Tensor:
    """The variance over dim: squared deviations from the mean, summed, divided by (count - correction).

    correction=1 (Bessel's, the default) estimates a population's variance from a sample; 0, or unbiased=False, is the
    variance of the numbers themselves.
    """
    _floats_only(input, "var")
    if isinstance(dim, bool):  # var(unbiased)
        dim, unbiased = None, dim
    if unbiased is not None and correction is not None:
        raise TypeError("var: give unbiased or correction, not both")
    if correction is None:
        correction = 0 if unbiased is False else 1
    return _var(input, dim=_dims(input, dim, "var"), correction=correction, keepdim=keepdim)


@method
def std(input: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: Any = None) -> Tensor:
    """The square root of `var`. Where it is 0 so is its gradient."""
    variance = var(input, dim, unbiased, keepdim, correction=correction)
    zero = eq(variance, 0)
    return where(zero, 0.0, sqrt(where(zero, 1.0, variance)))


@method
def amax(input: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """The largest value over dim; elements that are equally large share the gradient."""
    return _amax(input, dim=_some(input, dim, "amax"), keepdim=keepdim)


@method
def amin(input: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """The smallest value over dim; elements that are equally small share the gradient."""
    return _amin(input, dim=_some(input, dim, "amin"), keepdim=keepdim)


class ValuesIndices(NamedTuple):
    values: Tensor
    indices: Tensor


@method
def max(input: Tensor, dim: int | Tensor | None = None, keepdim: bool = False) -> Any:
    """The largest value; with dim, (values, indices) along it: the gradient goes to the element at the index.
    With a second Tensor: `maximum`."""
    return _extreme(input, dim, keepdim, amax, argmax, "maximum")


@method
def min(input: Tensor, dim: int | Tensor | None = None, keepdim: bool = False) -> Any:
    """The smallest value; as `max`."""
    return _extreme(input, dim, keepdim, amin, argmin, "minimum")


def _extreme(input: Tensor, dim: Any, keepdim: bool, full: Any, arg: Any, pairwise: str) -> Any:
    if isinstance(dim, Tensor):
        return getattr(input, pairwise)(dim)
    if dim is None:
        return full(input)
    indices = arg(input, dim, True)
    if not input.ndim:
        return ValuesIndices(full(input), indices)
    values = take_along_dim(input, indices, dim)
    return ValuesIndices(values, indices) if keepdim else ValuesIndices(squeeze(values, dim), squeeze(indices, dim))


@method
def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The index of the largest value along dim (in the flattened Tensor without dim); the first, if several."""
    return _argmax(input, dim=_one(_some(input, dim, "argmax"), "argmax"), keepdim=keepdim)


@method
def argmin(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The index of the smallest value; as `argmax`."""
    return _argmin(input, dim=_one(_some(input, dim, "argmin"), "argmin"), keepdim=keepdim)


@method
def all(input: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """Whether every element (over dim) is true or not zero."""
    return _all(input, dim=_dims(input, dim, "all"), keepdim=keepdim)


@method
def any(input: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """Whether some element (over dim) is true or not zero."""
    return _any(input, dim=_dims(input, dim, "any"), keepdim=keepdim)


@method
def count_nonzero(input: Tensor, dim: Dim = None) -> Tensor:
    """How many elements (over dim) are not zero."""
    return sum(ne(input, 0), dim)


@method
@where_it_lies
def logsumexp(input: Tensor, dim: Dim, keepdim: bool = False) -> Tensor:
    """log(sum(exp(x))) over dim, without overflow: the largest value is taken out first."""
    dims = _dims(input, dim, "logsumexp")
    input = input if is_floating(input.dtype) else to(input, get_default_dtype())  # unsigned numbers are never below top
    top: Any = 0.0  # of nothing it is -inf
    if count(input.shape, dims):
        largest = array_of(amax(input, dims, True))
        top = xp(largest).where(xp(largest).isfinite(largest), largest, 0)  # all -inf gives -inf, not nan
    out = log(sum(exp(input - top), dims, True)) + top
    return out if keepdim else squeeze(out, dims)


@method
def norm(input: Tensor, p: Any = "fro", dim: Dim = None, keepdim: bool = False, dtype: Any = None) -> Tensor:
    """(sum of |x|^p)^(1/p) over dim (all dimensions by default); "fro" is p=2.

    p=inf, -inf: the largest, the smallest |x|; p=0: how many x are not 0. Where the norm is 0 so is its gradient.
    Raises ValueError for the nuclear norm, IndexError or RuntimeError for inf or a negative p of no elements.
    """
    if p == "nuc":
        raise ValueError("norm: the nuclear norm needs singular values, which are not here; p is 'fro' or a number")
    p = 2.0 if p in ("fro", None) else float(p)
    x = input if dtype is None else to(input, dtype)
    _floats_only(x, "norm")
    if p < 0 or p == math.inf:
        _some(x, dim, "norm")
    if math.isinf(p):
        return (amax if p > 0 else amin)(abs(x), dim, keepdim)
    if p == 0:
        return to(sum(ne(x, 0), dim, keepdim), x.dtype)
    return _norm(x, p=p, dim=_dims(x, dim, "norm"), keepdim=keepdim)


__all__ = [
    "all", "amax", "amin", "any", "argmax", "argmin", "count_nonzero", "cumsum", "logsumexp", "max", "mean", "min", "norm",
    "prod", "std", "sum", "var",
]  # fmt: skip
