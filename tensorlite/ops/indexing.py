"""Picking elements by position. Backward, each gradient is added where its element came from."""

from __future__ import annotations

import builtins
import operator
from typing import Any

import numpy as np

from .. import late
from ..device import device_of, on, where_it_lies, xp
from ..op import Op, OpError
from ..tensor import Tensor, array_of, attach, method
from .arithmetic import where
from .shape import _place, broadcast_tensors, expand, flatten, reshape

# fmt: off
_getitem = Op("getitem",          lambda x, *, index: _pick(x, index),
                                  dx=lambda g, x_shape, index: _setitem(g, index=index, shape=x_shape), view=True)
_setitem = Op("setitem",          lambda x, *, index, shape: _scatter(x, index, shape),
                                  dx=lambda g, index: _getitem(g, index=index))
_take    = Op("take_along_dim",   lambda x, indices, *, dim: _taken(x, indices, dim),
                                  dx=lambda g, x_shape, indices, dim: _put(g, indices, dim=dim, shape=x_shape),
                                  expects="integer indices with as many dimensions as x, which broadcast with it outside dim", moves=True)
_put     = Op("put_along_dim",    lambda x, indices, *, dim, shape: _scatter(x, _along(indices, dim, shape), shape),
                                  dx=lambda g, indices, dim: _take(g, indices, dim=dim))
# fmt: on


def _pick(x: Any, index: Any) -> Any:
    _reachable(x.shape, index, xp(x))
    y = x[index]
    if isinstance(y, np.generic):  # NumPy copies a single element; with an Ellipsis it gives a view
        y = x[(*(index if isinstance(index, tuple) else (index,)), ...)]
    return y


def _reachable(shape: tuple[int, ...], index: Any, library: Any) -> None:
    """NumPy raises for a place that is not there; CuPy takes it modulo the length, so there it is noted (late.py)."""
    if library is np:
        return
    items = index if isinstance(index, tuple) else (index,)
    taken = [_dimensions(i) for i in items]
    rest = len(shape) - builtins.sum(taken)
    axis = 0
    for i, n in zip(items, taken, strict=True):
        if (isinstance(i, np.ndarray) or xp(i) is library) and i.dtype.kind in "iu" and axis < len(shape):
            late.within(i, -shape[axis], shape[axis], f"index {{}} is out of bounds for dimension {axis} with size {{}}", xp(i))
        axis += rest if i is Ellipsis else n


def _dimensions(i: Any) -> int:
    """How many dimensions an item of an index takes away."""
    if i is None or i is Ellipsis or isinstance(i, bool):
        return 0
    return i.ndim if getattr(i, "dtype", None) == np.dtype(bool) else 1


def _basic(index: Any) -> bool:
    """Whether an index names each element at most once by slices and ints alone (NumPy then gives a view)."""
    items = index if isinstance(index, tuple) else (index,)
    return all(i is None or i is Ellipsis or isinstance(i, (slice, int, np.integer)) for i in items)


def _scatter(x: Any, index: Any, shape: tuple[int, ...]) -> Any:
    """Zeros, with the elements of x added at the index; an element named twice gets both."""
    library = xp(x)
    _reachable(shape, index, library)
    out = library.zeros(shape, x.dtype)
    if _basic(index) or (hasattr(index, "dtype") and index.dtype == bool):
        out[index] = x
    elif library is np or (same := _ADDED.get(x.dtype.str[1:])) is None:
        library.add.at(out, index, x)
    elif x.dtype.itemsize == 8:
        library.add.at(out.view(same), index, x.view(same))
    else:
        out = _scatter(x.astype(same), index, shape).astype(x.dtype)
    return out


# In what dtype CuPy adds at places, where it does not in the array's own. Signed integers add up as unsigned ones do.
_ADDED = {"f2": np.float32, "i1": np.int32, "u1": np.int32, "i2": np.int32, "u2": np.int32, "i8": np.uint64}


def _taken(x: Any, indices: Any, dim: int) -> Any:
    if xp(x) is not np and x.ndim:
        n = x.shape[dim]
        late.within(indices, -n, n, f"index {{}} is out of bounds for dimension {dim} with size {{}}", xp(x))
    return xp(x).take_along_axis(x, indices, dim)


def _along(indices: Any, dim: int, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """The index tuple which at every position but dim is that position itself (NumPy's take_along_axis), or 0
    where `shape` was broadcast."""
    sizes = [max(n, m) if i != dim % len(shape) else m for i, (n, m) in enumerate(zip(shape, indices.shape, strict=True))]
    grid = np.ogrid[tuple(slice(n) for n in sizes)]
    places = [xp(indices).asarray(at if n > 1 else at * 0) for at, n in zip(grid, shape, strict=True)]
    return tuple([indices if i == dim % len(shape) else at for i, at in enumerate(places)])


def inside(ids: Any, length: int, what: str, outside: str) -> Any:
    """The array of `ids`, which must be integers from 0 to below length: NumPy would count negative ones from the end.
    IndexError for others; on a GPU when numbers next come from there (late.py)."""
    ids = array_of(ids)
    if ids.dtype.kind not in "ui":
        raise TypeError(f"{what} must be integers, not {ids.dtype}")
    if xp(ids) is not np:
        late.within(ids, 0, length, outside, xp(ids))
    elif ids.size:
        low, high = ids.min(), ids.max()
        if low < 0 or high >= length:
            raise IndexError(outside.format(low if low < 0 else high, length))
    return ids


# x[index] ----------------------------------------------------------------------------------------------


def _index(index: Any) -> Any:
    """An index with arrays in the place of Tensors and lists. Raises for what PyTorch reads otherwise than NumPy."""
    if isinstance(index, tuple):
        return tuple([_index(i) for i in index])
    if isinstance(index, slice):
        if index.step is not None and index.step < 1:
            raise ValueError(f"index: the step of a slice must be positive, not {index.step}; .flip(dim) reverses")
        return slice(*[i if i is None else operator.index(i) for i in (index.start, index.stop, index.step)])
    if isinstance(index, list):
        if any(isinstance(i, (list, tuple, Tensor)) for i in index):
            raise IndexError("index: a list of lists or Tensors has two meanings; write x[a, b], or x[tensor([a, b])]")
        return np.asarray(index, dtype=None if index else np.int64)
    if not isinstance(index, (Tensor, np.ndarray)):
        return index
    array = array_of(index)
    if array.dtype == np.uint8:
        raise IndexError("index: uint8 was PyTorch's mask once; use .bool() for a mask, .long() for positions")
    if isinstance(index, Tensor) and not array.ndim and array.dtype.kind in "ui":
        return array.item()  # as for a number, the result is a view
    return array.copy()  # because backward will use it again, and nobody watches whether it is written until then


def _iterate(self: Tensor) -> Any:
    if not self.ndim:
        raise TypeError("iteration over a 0-dimensional Tensor")
    return (self[i] for i in range(len(self)))


def numbers_first(index: Any) -> tuple[tuple[Any, ...], Any]:
    """An index that has numbers and arrays, as one with the numbers and then one with the rest.

    That is PyTorch's meaning of x[0, :, ids]. NumPy counts the number among the arrays, and moves their dimension to
    the front because a slice stands between them.
    """
    numbers = [_is_number(i) for i in index] if isinstance(index, tuple) else []
    if not any(numbers) or not any(isinstance(i, (np.ndarray, bool)) or hasattr(i, "device") for i in index):
        return (), index
    first: list[Any] = []
    for i, number in zip(index, numbers, strict=True):
        if number or i is Ellipsis:
            first.append(i)
        elif i is not None and not isinstance(i, bool):
            first += [slice(None)] * (i.ndim if getattr(i, "dtype", None) == np.dtype(bool) else 1)
    return tuple(first), tuple([i for i, number in zip(index, numbers, strict=True) if not number])


def _is_number(i: Any) -> bool:
    return isinstance(i, (int, np.integer)) and not isinstance(i, bool)


def _get_item(self: Tensor, index: Any) -> Tensor:
    first, rest = numbers_first(_index(index))
    return _getitem(_getitem(self, index=first) if first else self, index=rest)


@where_it_lies
def _contains(self: Tensor, element: Any) -> bool:
    if not isinstance(element, (int, float, np.generic, np.ndarray, Tensor)):
        raise RuntimeError(f"in: a Tensor can contain numbers, not {type(element).__name__}")
    return bool((self.array == array_of(element)).any())


attach(__getitem__=_get_item, __iter__=_iterate, __contains__=_contains)


def filled(x: Tensor, shape: tuple[int, ...], value: Any) -> Any:
    """`value`, a number or what broadcasts, in that shape and in x's dtype."""
    if not isinstance(value, Tensor):
        with on(device_of(x.array)) as library:
            return library.full(shape, value, x.dtype)
    while value.ndim > len(shape) and value.shape[0] == 1:
        value = value.squeeze(0)
    return expand(value.to(x.dtype), shape)


@where_it_lies
def put(x: Tensor, index: Any, value: Any) -> Tensor:
    """x with `value` (what broadcasts) at the index; of elements that are named twice the last value stays."""
    library = xp(x.array)
    place, last = library.zeros(x.shape, bool), library.zeros(x.shape, np.uint64)
    place[index] = True
    order = library.arange(last[index].size, dtype=np.uint64).reshape(last[index].shape)
    if library is np:
        last[index] = order
    else:  # where threads write at once, any of them may be the last
        library.maximum.at(last, index, order)
    new = where(last[index] == order, filled(x, order.shape, value), False)  # what does not stay gets no gradient
    return where(place, _setitem(new, index=index, shape=x.shape), x)


@method
def select(input: Tensor, dim: int, index: int) -> Tensor:
    """Slice number `index` along dim, without that dimension. A view."""
    return input[(slice(None),) * _place(dim, input.ndim, input, "select") + (index,)]


@method
def narrow(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """`length` slices along dim, from number `start` on. A view."""
    at = _place(dim, input.ndim, input, "narrow")
    n = input.shape[at] if input.ndim else 0
    first = int(start) + n * (start < 0)
    if not 0 <= first <= first + length <= n:
        raise OpError(f"[narrow] {length} from {start} on are not all in dimension {dim} of shape {input.shape}")
    return input[(slice(None),) * at + (slice(first, first + length),)]


# Along a dimension -------------------------------------------------------------------------------------


@method
def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """Per position, the element of input whose place along dim (in the flattened input without dim) indices gives."""
    if dim is None:
        return _take(flatten(input), flatten(indices), dim=0)
    return _take(input, indices, dim=dim)


def _fitting(input: Tensor, dim: int, index: Any, op: str, *others: Any) -> int:
    """dim counted from the start, if index (and a source) fit input along it as gather and scatter want."""
    at, index = _place(dim, input.ndim, input, op), array_of(index)
    beyond = any(i != at and n > m for i, (n, m) in enumerate(zip(index.shape, input.shape, strict=False)))
    if index.ndim != input.ndim or beyond:
        raise OpError(f"[{op}] index {index.shape} must have as many dimensions as input {input.shape}, and outside dimension {dim} be no longer")
    for src in others:
        if src.ndim != index.ndim or any(n > m for n, m in zip(index.shape, src.shape, strict=True)) or src.dtype != input.dtype:
            raise OpError(f"[{op}] src {src.shape} {src.dtype} must be at least as long as index {index.shape}, and {input.dtype}")
    inside(index, input.shape[at] if input.ndim else 1, f"{op}: index", f"[{op}] index {{}} is outside dimension {dim}, of length {{}}, of shape {tuple(input.shape)}")
    return at


@method
def gather(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """out[i][j][k] = input[i][index[i][j][k]][k] for dim 1: as `take_along_dim`, without broadcasting; index
    may be shorter than input in the other dimensions. Raises IndexError for an index out of range or negative."""
    at = _fitting(input, dim, index, "gather")
    if not input.ndim:
        return reshape(input, ())
    shape = tuple([m if i == at else n for i, (n, m) in enumerate(zip(array_of(index).shape, input.shape, strict=True))])
    return _take(input if input.shape == shape else input[tuple(map(slice, shape))], index, dim=at)


def _scattered(input: Tensor, dim: int, index: Tensor, src: Any, op: str) -> tuple[tuple[Any, ...], Any]:
    """The index tuple at which `src` goes into input, and the part of src that goes there."""
    sources = [src] if isinstance(src, Tensor) and src.ndim else []
    at = _fitting(input, dim, index, op, *sources)
    index = array_of(index).copy()
    reached = [input.shape[i] if i == at else n for i, n in enumerate(index.shape)]
    cut = src[tuple([slice(n) for n in index.shape])] if sources else src
    return (_along(index, at, tuple(reached)) if index.ndim else ()), cut


@method
def scatter(input: Tensor, dim: int, index: Tensor, src: Any = None, *, value: Any = None) -> Tensor:
    """input with out[i][index[i][j][k]][k] = src[i][j][k] for dim 1: the reverse of `gather`. src may be a number.
    Of several values for one place the last stays, and it alone has a gradient."""
    places, src = _scattered(input, dim, index, value if src is None else src, "scatter")
    return put(input, places, src)


@method
def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """As `scatter`, but adds to what stands there; several values for one place all count."""
    places, src = _scattered(input, dim, index, src, "scatter_add")
    return input + _setitem(src, index=places, shape=input.shape)


def _slices(input: Tensor, dim: int, index: Any, op: str, source: Any = None) -> tuple[Any, ...]:
    """The index tuple of the slices along dim; `source` must have their shape and input's dtype."""
    at, index = _place(dim, input.ndim, input, op), array_of(index)
    if index.ndim > 1 or not input.ndim:
        raise IndexError(f"[{op}] expected index to be a vector and input no number, not {index.shape} and {input.shape}")
    index = index.reshape(-1).copy()
    inside(index, input.shape[at], f"{op}: index", f"[{op}] index {{}} is outside dimension {dim}, of length {{}}, of shape {tuple(input.shape)}")
    shape = (*input.shape[:at], len(index), *input.shape[at + 1 :])
    if source is not None and (source.shape != shape or source.dtype != input.dtype):
        raise OpError(f"[{op}] source has shape {source.shape} and {source.dtype}, expected {shape} and {input.dtype}")
    return (*(slice(None),) * at, index)


@method
def index_select(input: Tensor, dim: int, index: Any) -> Tensor:
    """The slices along dim that index, a vector of integers, names. Raises IndexError for one that is not there."""
    return _getitem(input, index=_slices(input, dim, index, "index_select"))


@method
def index_add(input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1) -> Tensor:
    """input + alpha times the slices of source, each added at its index along dim."""
    added = _setitem(source, index=_slices(input, dim, index, "index_add", source), shape=input.shape)
    return input + (added if alpha == 1 else added * alpha)


@method
def index_copy(input: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """input with the slices of source in the place of those that index names along dim."""
    return put(input, _slices(input, dim, index, "index_copy", source), source)


@method
def index_fill(input: Tensor, dim: int, index: Tensor, value: Any) -> Tensor:
    """input with `value` in the slices that index names along dim."""
    return put(input, _slices(input, dim, index, "index_fill"), value)


@method
def take(input: Tensor, index: Tensor) -> Tensor:
    """The elements of the flattened input at index, in index's shape."""
    return flatten(input)[index if index.ndim else reshape(index, 1)].reshape(index.shape)


@method
def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements where the mask, which broadcasts with input, holds, as a vector."""
    if mask.dtype != bool:
        raise TypeError(f"masked_select: the mask must be boolean, not {mask.dtype}; use mask.bool()")
    input, mask = broadcast_tensors(input, mask)
    return input[mask]


__all__ = [
    "gather", "index_add", "index_copy", "index_fill", "index_select", "masked_select", "narrow", "scatter", "scatter_add",
    "select", "take", "take_along_dim",
]  # fmt: skip
