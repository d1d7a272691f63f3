"""cupy.ndarray over a NumPy array that nobody else can see."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from . import gpu
from .api import check_call, parts
from .capture import recorded

SCATTERED = [np.dtype(c) for c in "iIfdL"]  # what atomicAdd knows, without the half that it is slow and rough in
REFUSED = (
    "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array explicitly."
)


class ndarray:
    """cupy.ndarray"""

    __slots__ = ("__weakref__", "_host", "_on", "base", "data")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, shape: Any, dtype: Any = float, memptr: Any = None, strides: Any = None, order: str = "C"):
        host = np.empty(shape, dtype, order)  # type: ignore[call-overload]
        if memptr is not None:
            raise NotImplementedError("the stand-in has no pointers")
        self.data = gpu.allocate(host.nbytes)
        self._host, self._on, self.base = host, gpu.here.current, None

    # What it is -----------------------------------------------------------------------------------------

    shape = property(lambda self: self._host.shape)
    strides = property(lambda self: self._host.strides)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    device = property(lambda self: gpu.Device(self._on))
    T = property(lambda self: view(self, self._host.T))
    mT = property(lambda self: view(self, self._host.mT))
    real = property(lambda self: view(self, self._host.real))
    imag = property(lambda self: view(self, self._host.imag))

    @property
    def flags(self) -> Any:
        f = self._host.flags
        return SimpleNamespace(
            c_contiguous=f.c_contiguous, f_contiguous=f.f_contiguous, owndata=self.base is None, fnc=f.fnc, forc=f.forc
        )

    def __len__(self) -> int:
        return len(self._host)

    def __repr__(self) -> str:
        return repr(self.get())

    # To the host, which waits ---------------------------------------------------------------------------

    def get(self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True) -> np.ndarray:
        if blocking:
            gpu.waits("get")
        if out is None:
            return np.array(self._host, order=order)  # type: ignore[call-overload]
        if out.dtype != self.dtype or out.shape != self.shape:
            raise TypeError(f"{out.dtype} {out.shape} array cannot be obtained from {self.dtype} {self.shape} array")
        out[...] = self._host
        return out

    def item(self) -> Any:
        gpu.waits("item")
        if self.size != 1:
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        return self._host.item()

    def tolist(self) -> Any:
        return self.get().tolist()

    def __bool__(self) -> bool:
        gpu.waits("bool")
        if self.size != 1:
            raise ValueError("The truth value of an array with more than one element is ambiguous.")
        return bool(self._host)

    def __int__(self) -> int:
        return int(self.get())

    def __float__(self) -> float:
        return float(self.get())

    # Not to NumPy ---------------------------------------------------------------------------------------

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise TypeError(REFUSED)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        raise TypeError(f"numpy.{function.__name__} was called on an array of a GPU; ask its own library for it")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        from .library import UFUNCS

        others = [x for x in inputs if not isinstance(x, ndarray)]
        if method != "__call__" or options or not others or not all(isinstance(x, np.generic) for x in others):
            raise TypeError(f"numpy.{ufunc.__name__} was called on an array of a GPU; ask its own library for it")
        return UFUNCS[ufunc.__name__](*inputs)  # a NumPy number on the left: np.float32(2) * x

    # Indices --------------------------------------------------------------------------------------------

    @recorded
    def __getitem__(self, index: Any) -> Any:
        host = self._host[_index(self, index)]
        if not _names_one(index):
            return owned(host, self._on)
        return view(self, self._host[(*_tuple(index), ...)] if isinstance(host, np.generic) else host)

    @recorded
    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(value, np.ndarray):
            whole = index is Ellipsis or index == slice(None)
            if not whole or value.dtype != self.dtype or value.shape != self.shape:
                raise TypeError("only a whole array can be set from NumPy's, of its shape and dtype; use set")
            gpu.uploads(value.nbytes)
        elif not isinstance(value, ndarray) and not gpu.is_number(value):
            raise TypeError(f"Unsupported type {type(value)}")
        at = _index(self, index)
        value = same_device(value)._host if isinstance(value, ndarray) else value
        if not any(isinstance(i, np.ndarray) and i.dtype != bool for i in _tuple(at)):
            self._host[at] = value
            return
        places = np.arange(self.size).reshape(self.shape)[at]
        values = np.broadcast_to(np.asarray(value, self.dtype) if gpu.is_number(value) else value, places.shape)
        self._host.flat[places.ravel()[::-1]] = values.astype(self.dtype).ravel()[::-1]  # not the last one stays

    def scatter_add(self, slices: Any, value: Any) -> None:
        scatter(self, slices, value, np.add)

    def scatter_max(self, slices: Any, value: Any) -> None:
        scatter(self, slices, value, np.maximum)

    def scatter_min(self, slices: Any, value: Any) -> None:
        scatter(self, slices, value, np.minimum)

    # The rest -------------------------------------------------------------------------------------------

    def set(self, arr: Any, stream: Any = None) -> None:
        if not isinstance(arr, np.ndarray) or arr.dtype != self.dtype or arr.shape != self.shape:
            raise TypeError("set takes a NumPy array of the same shape and dtype")
        if not (self.flags.c_contiguous or self.flags.f_contiguous):
            raise RuntimeError("Cannot set to non-contiguous array")
        gpu.uploads(arr.nbytes)
        self._host[...] = arr

    @recorded
    def fill(self, value: Any) -> None:
        if isinstance(value, ndarray):
            value = same_device(value)._host
        elif not gpu.is_number(value):
            raise TypeError(f"Unsupported type {type(value)}")
        self._host[...] = value

    @recorded
    def astype(
        self, dtype: Any, order: str = "K", casting: Any = None, subok: Any = None, copy: bool = True
    ) -> ndarray:
        same_device(self)
        return self if not copy and self.dtype == np.dtype(dtype) else owned(self._host.astype(dtype), self._on)

    def view(self, dtype: Any = None, type: Any = None) -> ndarray:
        return view(self, self._host.view() if dtype is None else self._host.view(dtype))

    @recorded
    def copy(self, order: str = "C") -> ndarray:
        return owned(self._host.copy(order))  # type: ignore[arg-type] # on the current device, wherever it comes from

    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> ndarray:
        host = self._host.diagonal(offset, axis1, axis2)
        host.flags.writeable = True
        return view(self, host)

    def __deepcopy__(self, memo: dict) -> ndarray:
        return self.copy()

    __copy__ = copy

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))


def owned(host: Any, device: int | None = None) -> ndarray:
    """A new array with memory of its own, on the current device."""
    host = np.asarray(host)
    host = host if host.flags.writeable else host.copy()
    if device is not None and device != gpu.here.current:
        raise ValueError(f"the array is on device {device}, and the current one is {gpu.here.current}")
    data = gpu.allocate(host.nbytes)
    out = ndarray.__new__(ndarray)
    out.data = data
    out._host, out._on, out.base = host, gpu.here.current, None
    gpu.works(host.nbytes)
    return out


def view(of: ndarray, host: np.ndarray) -> ndarray:
    """An array that shares memory."""
    out = ndarray.__new__(ndarray)
    out._host, out._on, out.base = host, of._on, of if of.base is None else of.base
    out.data = of.data  # of which it is a part; the real one says where it begins
    return out


def same_device(x: ndarray) -> ndarray:
    """x, if it lies on the current device."""
    if x._on != gpu.here.current:
        raise ValueError(
            f"The device where the array resides ({x._on}) is different from the current device ({gpu.here.current}). "
            "Peer access is unavailable between these devices."
        )
    return x


def _tuple(index: Any) -> tuple:
    return index if isinstance(index, tuple) else (index,)


def _names_one(index: Any) -> bool:
    return all(i is None or i is Ellipsis or isinstance(i, (slice, int, np.integer)) for i in _tuple(index))


def _index(of: ndarray, index: Any) -> Any:
    """The index for NumPy: arrays of integers wrap around, masks make the host wait."""
    items = []
    for i in _tuple(index):
        if isinstance(i, (list, np.ndarray)):
            i = np.asarray(i, dtype=None if len(i) else np.int32) if isinstance(i, list) else i
            gpu.uploads(i.nbytes)
        elif isinstance(i, ndarray):
            i = same_device(i)._host
        elif isinstance(i, slice) and any(isinstance(n, ndarray) for n in (i.start, i.stop, i.step)):
            raise TypeError("slice indices must be integers; an array of a GPU has no __index__")
        items.append(i)
    if any(isinstance(i, np.ndarray) and i.dtype.kind not in "biu" for i in items):
        raise IndexError("arrays used as indices must be of integer or boolean type")
    if not any(isinstance(i, np.ndarray) for i in items):
        return index
    taken = [_dimensions(i) for i in items]
    if Ellipsis in [i for i in items if not isinstance(i, np.ndarray)]:
        at = next(k for k, i in enumerate(items) if i is Ellipsis)
        taken[at] = of.ndim - sum(taken)
    axis = 0
    for k, (i, n) in enumerate(zip(items, taken, strict=True)):
        if isinstance(i, np.ndarray):
            if i.dtype == bool:
                gpu.waits("a mask as index")
            elif axis < of.ndim:
                length = of.shape[axis]
                if i.size and not length:
                    raise IndexError("cannot do a non-empty take from an empty axes.")
                items[k] = i.astype(np.int64) % max(length, 1)
        axis += n
    return tuple(items)


def _dimensions(i: Any) -> int:
    """How many dimensions an item of an index takes away."""
    if i is None or i is Ellipsis or isinstance(i, bool):
        return 0
    return i.ndim if isinstance(i, np.ndarray) and i.dtype == bool else 1


@recorded
def scatter(a: ndarray, index: Any, value: Any, ufunc: np.ufunc) -> None:
    same_device(a)
    at = _index(a, index)
    if a.dtype not in SCATTERED and any(isinstance(i, np.ndarray) and i.dtype != bool for i in _tuple(at)):
        raise TypeError(
            f"scatter_{ufunc.__name__} only supports int32, float32, float64, uint32, uint64, not {a.dtype}"
        )
    if isinstance(value, np.ndarray):
        raise TypeError(REFUSED)
    ufunc.at(a._host, at, same_device(value)._host.astype(a.dtype) if isinstance(value, ndarray) else value)


def _method(name: str) -> Callable:
    def method(self: ndarray, *args: Any, **kwargs: Any) -> Any:
        from .library import run

        check_call("ndarray", name, args, kwargs)
        return run(getattr(np.ndarray, name), name, (self, *args), kwargs)

    method.__name__ = name
    return method


def _operator(name: str, ufunc: str, swapped: bool = False, in_place: bool = False) -> Callable:
    def operation(self: ndarray, *other: Any) -> Any:
        from .library import UFUNCS

        if other and getattr(other[0], "__array_ufunc__", 0) is None:  # a Tensor: its own business
            return NotImplemented
        inputs = (*other, self) if swapped else (self, *other)
        return UFUNCS[ufunc](*inputs, out=self) if in_place else UFUNCS[ufunc](*inputs)

    return operation


BINARY = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "floordiv": "floor_divide",
    "mod": "remainder", "pow": "power", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor",
    "lshift": "left_shift", "rshift": "right_shift", "matmul": "matmul",
}  # fmt: skip
COMPARISONS = {
    "eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal",
}  # fmt: skip

for _name, _ufunc in BINARY.items():
    setattr(ndarray, f"__{_name}__", _operator(_name, _ufunc))
    setattr(ndarray, f"__r{_name}__", _operator(_name, _ufunc, swapped=True))
    if _name != "matmul":
        setattr(ndarray, f"__i{_name}__", _operator(_name, _ufunc, in_place=True))
for _name, _ufunc in (COMPARISONS | {"neg": "negative", "abs": "absolute", "invert": "invert"}).items():
    setattr(ndarray, f"__{_name}__", _operator(_name, _ufunc))
for _name, _text in parts()["ndarray"].items():
    if (
        _text.startswith("(")
        and not _name.startswith("_")
        and not hasattr(ndarray, _name)
        and hasattr(np.ndarray, _name)
    ):
        setattr(ndarray, _name, _method(_name))
