"""Picking elements by position. Backward, each gradient is added where its element came from."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..device import xp
from ..op import Op
from ..tensor import Tensor, array_of, attach, method

# fmt: off
_getitem = Op("getitem",          lambda x, *, index: _pick(x, index),
                                  dx=lambda g, x_shape, index: _setitem(g, index=index, shape=x_shape), view=True)
_setitem = Op("setitem",          lambda x, *, index, shape: _scatter(x, index, shape),
                                  dx=lambda g, index: _getitem(g, index=index))
_take    = Op("take_along_dim",   lambda x, indices, *, dim: xp(x).take_along_axis(x, indices, dim),
                                  dx=lambda g, x_shape, indices, dim: _put(g, indices, dim=dim, shape=x_shape),
                                  expects="integer indices with as many dimensions as x, which broadcast with it outside dim")
_put     = Op("put_along_dim",    lambda x, indices, *, dim, shape: _scatter(x, _along(indices, dim, shape), shape),
                                  dx=lambda g, indices, dim: _take(g, indices, dim=dim))
_lookup  = Op("embedding",        lambda weight, ids: _rows(weight, ids),
                                  dweight=lambda g, weight_shape, ids: _add_rows(g, ids, count=weight_shape[0]),
                                  expects="weight (vocabulary, width) and integer ids, each at least 0 and less than the vocabulary")
_add_rows = Op("embedding_grad",  lambda g, ids, *, count: _sum_by_id(g, ids, count),
                                  dg=lambda g, ids: _lookup(g, ids))
# fmt: on


def _pick(x: Any, index: Any) -> Any:
    y = x[index]
    if isinstance(y, np.generic):  # NumPy copies a single element; with an Ellipsis it gives a view
        y = x[(*(index if isinstance(index, tuple) else (index,)), ...)]
    return y


def _basic(index: Any) -> bool:
    """Whether an index names each element at most once by slices and ints alone (NumPy then gives a view)."""
    items = index if isinstance(index, tuple) else (index,)
    return all(i is None or i is Ellipsis or isinstance(i, (slice, int, np.integer)) for i in items)


def _scatter(x: Any, index: Any, shape: tuple[int, ...]) -> Any:
    """Zeros, with the elements of x added at the index; an element named twice gets both."""
    out = xp(x).zeros(shape, x.dtype)
    if _basic(index) or (hasattr(index, "dtype") and index.dtype == bool):
        out[index] = x
    else:
        xp(x).add.at(out, index, x)
    return out


def _along(indices: Any, dim: int, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """The index tuple which at every position but dim is that position itself (NumPy's take_along_axis), or 0
    where `shape` was broadcast."""
    sizes = [max(n, m) if i != dim % len(shape) else m for i, (n, m) in enumerate(zip(shape, indices.shape, strict=True))]
    grid = np.ogrid[tuple(slice(n) for n in sizes)]
    places = [xp(indices).asarray(at if n > 1 else at * 0) for at, n in zip(grid, shape, strict=True)]
    return tuple([indices if i == dim % len(shape) else at for i, at in enumerate(places)])


def _rows(weight: Any, ids: Any) -> Any:
    if ids.dtype.kind not in "ui":
        raise TypeError(f"ids must be integers, not {ids.dtype}")
    if ids.size and xp(ids) is np:  # on a GPU the check would wait for the device
        low, high = ids.min(), ids.max()
        if low < 0 or high >= len(weight):
            raise IndexError(f"token id {low if low < 0 else high} is outside the vocabulary of {len(weight)}")
    return weight[ids]


def _sum_by_id(g: Any, ids: Any, count: int) -> Any:
    """(count, width): row i is the sum of the rows of g whose id is i. Sorting makes equal ids neighbours,
    so that each id is written once, in a fixed order."""
    library = xp(g)
    out = library.zeros((count, g.shape[-1]), g.dtype)
    if not ids.size:
        return out
    flat = ids.reshape(-1)
    if library is not np:
        library.add.at(out, flat, g.reshape(flat.size, -1))
        return out
    order = np.argsort(flat, kind="stable")
    ordered = flat[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    out[ordered[starts]] = np.add.reduceat(g.reshape(flat.size, -1)[order], starts, axis=0)
    return out


def _index(index: Any) -> Any:
    """An index with arrays in the place of Tensors and lists."""
    if isinstance(index, tuple):
        return tuple([_index(i) for i in index])
    if isinstance(index, list):
        return np.asarray([int(i) if isinstance(i, Tensor) else i for i in index], dtype=None if index else np.int64)
    # A copy, because backward will use it again, and nobody watches whether it is written until then.
    return array_of(index).copy() if isinstance(index, (Tensor, np.ndarray)) else index


def _iterate(self: Tensor) -> Any:
    if not self.ndim:
        raise TypeError("iteration over a 0-dimensional Tensor")
    return (self[i] for i in range(len(self)))


def numbers_first(index: Any) -> tuple[tuple[Any, ...], Any]:
    """An index that has numbers and arrays, as one with the numbers and then one with the rest.

    That is PyTorch's meaning of x[0, :, ids]. NumPy counts the number among the arrays, and moves their dimension to
    the front because a slice stands between them.
    """
    numbers = [isinstance(i, (int, np.integer)) for i in index] if isinstance(index, tuple) else []
    if not any(numbers) or not any(isinstance(i, np.ndarray) or hasattr(i, "device") for i in index):
        return (), index
    first: list[Any] = []
    for i, number in zip(index, numbers, strict=True):
        if number or i is Ellipsis:
            first.append(i)
        elif i is not None:
            first += [slice(None)] * (i.ndim if getattr(i, "dtype", None) == np.dtype(bool) else 1)
    return tuple(first), tuple([i for i, number in zip(index, numbers, strict=True) if not number])


def _get_item(self: Tensor, index: Any) -> Tensor:
    first, rest = numbers_first(_index(index))
    return _getitem(_getitem(self, index=first) if first else self, index=rest)


attach(__getitem__=_get_item, __iter__=_iterate)


@method
def take_along_dim(input: Tensor, indices: Tensor, dim: int) -> Tensor:
    """Per position, the element of input whose place along dim is given by indices."""
    return _take(input, indices, dim=dim)


@method
def gather(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """out[i][j][k] = input[i][index[i][j][k]][k] for dim 1: as `take_along_dim`, without broadcasting; index
    may be shorter than input in the other dimensions."""
    shape = array_of(index).shape
    cut = tuple([slice(None) if i == dim % input.ndim else slice(n) for i, n in enumerate(shape)])
    return _take(input[cut], index, dim=dim)


@method
def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    """The k largest (smallest) values along dim and their indices, in order. Raises ValueError if there are fewer."""
    from .reduction import ValuesIndices

    x = array_of(input)
    if not 0 <= k <= x.shape[dim]:
        raise ValueError(f"topk: k is {k}, but dimension {dim} of shape {x.shape} has {x.shape[dim]} elements")
    # A stable sort: equal values stand in order of position, the same on every machine. For the largest, all is
    # reversed twice; negating instead would fail for unsigned numbers, and put nan last.
    library = xp(x)
    if largest:
        order = x.shape[dim] - 1 - library.flip(library.argsort(library.flip(x, dim), axis=dim, kind="stable"), dim)
    else:
        order = library.argsort(x, axis=dim, kind="stable")
    indices = Tensor._of(xp(x).take(order, np.arange(k), axis=dim))
    return ValuesIndices(_take(input, indices, dim=dim), indices)


def embedding(input: Tensor, weight: Tensor) -> Tensor:
    """Row `id` of weight for each id: (…) integers and (vocabulary, width) -> (…, width)"""
    return _lookup(weight, input)


__all__ = ["gather", "take_along_dim", "topk"]
