"""Many numbers into one, along some dimensions. Backward, the gradient of the one spreads over the many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..device import xp
from ..dtype import is_floating
from ..op import Op
from ..tensor import Tensor, array_of, method
from .arithmetic import eq
from .elementwise import exp, log, sqrt
from .indexing import take_along_dim
from .shape import broadcast, squeeze, to

# fmt: off
_sum    = Op("sum",     lambda x, *, dim, keepdim: x.sum(axis=dim, keepdims=keepdim),
                        dx=lambda g, x_shape, dim, keepdim: spread(g, x_shape, dim, keepdim))
_mean   = Op("mean",    lambda x, *, dim, keepdim: x.mean(axis=dim, keepdims=keepdim),
                        dx=lambda g, x_shape, dim, keepdim: spread(g, x_shape, dim, keepdim) / count(x_shape, dim))
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
        raise TypeError(f"[{op}] of {x.dtype} would not be a whole number; convert first: x.float().{op}()")


@method
def sum(input: Tensor, dim: Dim = None, keepdim: bool = False, dtype: Any = None) -> Tensor:
    """The sum over dim (all dimensions by default). Booleans and integers are summed as int64."""
    if dtype is None and input.dtype.kind in "bui":
        dtype = np.dtype("int64")
    return _sum(input if dtype is None else to(input, dtype), dim=_dims(input, dim, "sum"), keepdim=keepdim)


@method
def mean(input: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """The arithmetic mean over dim (all dimensions by default)."""
    _floats_only(input, "mean")
    return _mean(input, dim=_dims(input, dim, "mean"), keepdim=keepdim)


@method
def var(input: Tensor, dim: Dim = None, *, correction: float = 1, keepdim: bool = False, unbiased: bool = True) -> Tensor:
    """The variance over dim: squared deviations from the mean, summed, divided by (count - correction).

    correction=1 (Bessel's) estimates a population's variance from a sample; 0, or unbiased=False, is the
    variance of the numbers themselves.
    """
    _floats_only(input, "var")
    return _var(input, dim=_dims(input, dim, "var"), correction=correction if unbiased else 0, keepdim=keepdim)


@method
def std(input: Tensor, dim: Dim = None, *, correction: float = 1, keepdim: bool = False, unbiased: bool = True) -> Tensor:
    """The square root of `var`."""
    return sqrt(var(input, dim, correction=correction, keepdim=keepdim, unbiased=unbiased))


@method
def amax(input: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """The largest value over dim; elements that are equally large share the gradient."""
    return _amax(input, dim=_dims(input, dim, "amax"), keepdim=keepdim)


@method
def amin(input: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """The smallest value over dim; elements that are equally small share the gradient."""
    return _amin(input, dim=_dims(input, dim, "amin"), keepdim=keepdim)


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
    values = take_along_dim(input, indices, dim)
    return ValuesIndices(values, indices) if keepdim else ValuesIndices(squeeze(values, dim), squeeze(indices, dim))


@method
def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The index of the largest value along dim (in the flattened Tensor without dim); the first, if several."""
    return _argmax(input, dim=dim, keepdim=keepdim)


@method
def argmin(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The index of the smallest value; as `argmax`."""
    return _argmin(input, dim=dim, keepdim=keepdim)


@method
def all(input: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """Whether every element (over dim) is true or not zero."""
    return _all(input, dim=_dims(input, dim, "all"), keepdim=keepdim)


@method
def any(input: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """Whether some element (over dim) is true or not zero."""
    return _any(input, dim=_dims(input, dim, "any"), keepdim=keepdim)


@method
def logsumexp(input: Tensor, dim: Dim, keepdim: bool = False) -> Tensor:
    """log(sum(exp(x))) over dim, without overflow: the largest value is taken out first."""
    top = array_of(amax(input, dim, True))
    top = xp(top).where(xp(top).isfinite(top), top, 0)  # all -inf gives -inf, not nan
    out = log(sum(exp(input - top), dim, True)) + top
    return out if keepdim else squeeze(out, _dims(input, dim, "logsumexp"))


@method
def norm(input: Tensor, p: float = 2, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """(sum of |x|^p)^(1/p) over dim; p=inf: the largest |x|."""
    if p == float("inf"):
        return amax(input.abs(), dim, keepdim)
    if p == 2:
        return sqrt(sum(input * input, dim, keepdim))
    return sum(input.abs() ** p, dim, keepdim) ** (1 / p)


__all__ = ["all", "amax", "amin", "any", "argmax", "argmin", "logsumexp", "max", "mean", "min", "norm", "std", "sum", "var"]
