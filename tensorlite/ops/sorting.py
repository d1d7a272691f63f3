"""Order and counting: sort, topk, unique, bincount. What picks elements hands its gradient to where they came from."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..device import where_it_lies, xp
from ..dtype import is_floating
from ..op import OpError
from ..tensor import Tensor, array_of, method
from .indexing import take_along_dim
from .reduction import ValuesIndices
from .shape import _place, reshape


def _order(x: Any, dim: int, descending: bool) -> Any:
    """The indices that sort x along dim; equal values stand in order of position, the same on every machine."""
    library = xp(x)
    if not descending:
        return library.argsort(x, axis=dim, kind="stable")
    # All is reversed twice; negating instead would fail for unsigned numbers, and put nan last.
    return x.shape[dim] - 1 - library.flip(library.argsort(library.flip(x, dim), axis=dim, kind="stable"), dim)


@where_it_lies
def _sorted(input: Tensor, dim: int, descending: bool, op: str, k: int | None = None) -> ValuesIndices:
    """The first k of the sorted values along dim, and their indices."""
    at, x = _place(dim, input.ndim, input, op), array_of(input)
    if not x.ndim:
        values, indices = _sorted(reshape(input, 1), 0, descending, op, k)
        return ValuesIndices(reshape(values, input.shape), reshape(indices, input.shape))
    if k is not None and not 0 <= k <= x.shape[at]:
        raise OpError(f"{op}: k is {k}, but dimension {dim} of shape {x.shape} has {x.shape[at]} elements")
    order = _order(x, at, descending)
    indices = Tensor._of(order if k is None else order[(*(slice(None),) * at, slice(k))])
    return ValuesIndices(take_along_dim(input, indices, at), indices)


@method
def sort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> ValuesIndices:
    """The values in order along dim, and their indices; nan counts as largest. Always stable."""
    return _sorted(input, dim, descending, "sort")


@method
def argsort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> Tensor:
    """The indices that sort along dim. Always stable."""
    return _sorted(input, dim, descending, "argsort").indices


@method
def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> ValuesIndices:
    """The k largest (smallest) values along dim and their indices, in order. Raises OpError if there are fewer."""
    return _sorted(input, dim, largest, "topk", k)


@method
@where_it_lies
def unique(input: Tensor, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False) -> Any:
    """The different values, in order; with them, if asked, per element its place among them, and per value how often
    it occurs. PyTorch's dim is left out."""
    values, inverse, counts = xp(array_of(input)).unique(
        array_of(input), return_inverse=True, return_counts=True, equal_nan=False
    )
    asked = [values] + [inverse.reshape(input.shape)] * return_inverse + [counts] * return_counts
    tensors = tuple([Tensor._of(x) for x in asked])
    return tensors if len(tensors) > 1 else tensors[0]


@method
@where_it_lies
def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each of 0, 1, 2 … occurs in a vector of integers, or the sum of the weights where it does.

    minlength  the result is at least that long
    """
    x, w = array_of(input), array_of(weights)
    if x.ndim != 1 or x.dtype.kind not in "iu" or (x < 0).any() or minlength < 0:
        raise OpError(f"[bincount] expected a vector of integers, none negative, not {x.shape} {x.dtype}")
    if w is not None and w.shape != x.shape:
        raise OpError(f"[bincount] weights {w.shape} must have the shape of input, {x.shape}")
    dtype = np.dtype(np.int64) if w is None else w.dtype if is_floating(w.dtype) else np.dtype(np.float64)
    return Tensor._of(xp(x).bincount(x, w, minlength).astype(dtype, copy=False))


@method
@where_it_lies
def nonzero(input: Tensor, as_tuple: bool = False) -> Any:
    """Where input is not 0: (count, dimensions) int64, a row per element; as_tuple: a vector per dimension instead."""
    x = array_of(input)
    if as_tuple:
        return tuple([Tensor._of(i) for i in xp(x).nonzero(x.reshape(x.shape or 1))])
    return Tensor._of(xp(x).argwhere(x).astype(np.int64, copy=False))


@where_it_lies
def searchsorted(
    sorted_sequence: Tensor, input: Any, *, out_int32: bool = False, right: bool = False, side: str | None = None
) -> Tensor:
    """Where values would have to be inserted into a sorted vector to keep it sorted: before equal ones, or (right)
    after them. PyTorch's form with a sequence per row is left out."""
    sequence = array_of(sorted_sequence)
    if sequence.ndim != 1 or (right and side == "left"):
        raise OpError(f"[searchsorted] expected a vector, not shape {sequence.shape}, and right or side, not both")
    library = xp(sequence)
    values = array_of(input) if hasattr(input, "dtype") else library.asarray(input)
    found = library.searchsorted(sequence, values, side or ("right" if right else "left"))
    return Tensor._of(xp(sequence).asarray(found, dtype=np.int32 if out_int32 else np.int64))


__all__ = ["argsort", "bincount", "nonzero", "searchsorted", "sort", "topk", "unique"]
