"""The module `cupy`: functions and ufuncs, each with CuPy's own parameters and types."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from . import gpu, random
from .api import check_call, loops, parts
from .array import ndarray, owned, same_device, scatter, view
from .capture import recorded

UPLOADING = {"array", "asanyarray", "asarray", "ascontiguousarray", "asfortranarray"}
WAITING = {"argwhere", "bincount", "extract", "flatnonzero", "nonzero", "repeat_array", "unique"}
ON_THE_HOST = set("broadcast_shapes can_cast finfo iinfo isscalar ndim promote_types result_type shape size".split())


@recorded
def run(function: Callable, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """NumPy's function on the arrays' host memory, and its result as arrays of the device."""
    arrays: list[ndarray] = []
    args = [_inside(x, arrays) for x in args]
    kwargs = {key: _inside(x, arrays) for key, x in kwargs.items()}
    if name in WAITING or (name == "where" and len(args) == 1):
        gpu.waits(name)
    with np.errstate(all="ignore"):  # a GPU does not warn
        return _outside(function(*args, **kwargs), arrays, name in ON_THE_HOST)


def _inside(x: Any, arrays: list[ndarray]) -> Any:
    if isinstance(x, ndarray):
        arrays.append(same_device(x))
        return x._host
    if isinstance(x, np.ndarray):
        raise TypeError(f"Unsupported type {type(x)}")
    if isinstance(x, (list, tuple)):
        return type(x)([_inside(each, arrays) for each in x])
    return x


def _outside(x: Any, arrays: list[ndarray], host: bool) -> Any:
    if host:
        return x
    if isinstance(x, tuple):
        return tuple([_outside(each, arrays, host) for each in x])
    if isinstance(x, list):
        return [_outside(each, arrays, host) for each in x]
    if isinstance(x, np.ndarray):
        for a in arrays:
            if x is a._host:
                return a
            if x.size and np.may_share_memory(x, a._host):
                return view(a, x)
        return owned(x)
    return owned(x) if isinstance(x, (bool, int, float, np.generic)) else x


class UFunc:
    """cupy.ufunc: computes in the first of CuPy's loops that holds the inputs, and raises if NumPy chose another."""

    def __init__(self, name: str):
        self.__name__ = self.name = name
        self.loops = loops(name)
        self.nin, self.nout = self.loops.inputs, self.loops.outputs
        self.function = getattr(np, name)

    @recorded
    def __call__(self, *args: Any, out: Any = None, dtype: Any = None, casting: str = "same_kind") -> Any:
        if not self.nin <= len(args) <= self.nin + self.nout:
            raise TypeError(f"Wrong number of arguments for {self.name!r}")
        inputs, outs = (
            args[: self.nin],
            args[self.nin :] or (out if isinstance(out, tuple) else (out,) * (out is not None)),
        )
        for x in inputs:
            if not isinstance(x, ndarray) and not gpu.is_number(x):
                raise TypeError(f"Unsupported type {type(x)}")
        for x in outs:
            if not isinstance(x, ndarray):
                raise TypeError(f"Output arguments type must be cupy.ndarray, not {type(x)}")
        for x in (*inputs, *outs):
            if isinstance(x, ndarray):
                same_device(x)
        hosts = [x._host if isinstance(x, ndarray) else x for x in inputs]
        if not any(isinstance(x, ndarray) for x in inputs):
            hosts = [np.asarray(x) for x in hosts]
        expected = self.chosen(inputs) if dtype is None else None
        with np.errstate(all="ignore"):
            y = self.function(*hosts, **({} if dtype is None else {"dtype": dtype}))
        results = y if isinstance(y, tuple) else (y,)
        for r, kind in zip(results, expected or ()):
            if r.dtype != kind:
                raise TypeError(
                    f"CuPy's {self.name} of {[describe(x) for x in inputs]} is {kind}, NumPy's is {r.dtype}"
                )
        if outs:
            for r, o in zip(results, outs, strict=True):
                np.copyto(o._host, r, casting=casting)  # type: ignore[arg-type]
            return outs[0] if self.nout == 1 else tuple(outs)
        return owned(np.asarray(y)) if self.nout == 1 else tuple([owned(r) for r in results])

    def chosen(self, inputs: Sequence[Any]) -> tuple[np.dtype, ...]:
        """The types of the outputs. A Python number is weak, unless it is of a higher kind than the arrays."""
        strong = [x.dtype for x in inputs if hasattr(x, "dtype")]
        weak = [type(x) for x in inputs if not hasattr(x, "dtype")]
        if not strong or (weak and max(map(_rank, map(np.dtype, weak))) > max(map(_rank, strong))):
            weak = []
        for given, made in self.loops.types:
            if all(_holds(loop, x, bool(weak)) for loop, x in zip(given, inputs, strict=True)):
                return made
        raise TypeError(f"Wrong type ({[describe(x) for x in inputs]}) of arguments for {self.name}")

    def __getattr__(self, name: str) -> Any:
        if name not in ("accumulate", "at", "outer", "reduce", "reduceat"):
            raise AttributeError(f"'cupy.ufunc' object has no attribute {name!r}")
        if name not in self.loops.methods:
            raise NotImplementedError(f"`{self.name}.{name}` is not supported yet")
        if name == "at":
            return lambda a, indices, b=None: scatter(a, indices, b, self.function)
        return lambda *args, **kwargs: run(getattr(self.function, name), name, args, kwargs)


def describe(x: Any) -> str:
    return str(x.dtype) if hasattr(x, "dtype") else type(x).__name__


def _rank(dtype: np.dtype) -> int:
    return {"b": 0, "i": 1, "u": 1}.get(dtype.kind, 2)


def _holds(loop: np.dtype, x: Any, weak: bool) -> bool:
    if hasattr(x, "dtype"):
        return bool(np.can_cast(x.dtype, loop))
    kind = np.dtype(type(x))
    return bool(np.can_cast(kind, loop)) or (weak and np.result_type(type(x)(0), loop) == loop)


class Function:
    """A function of CuPy's that NumPy has too."""

    def __init__(self, part: str, name: str, function: Callable):
        self.part, self.name, self.function = part, name, function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        check_call(self.part, self.name, args, kwargs)
        for unknown in ("blocking",):
            kwargs.pop(unknown, None)
        return run(self.function, self.name, args, kwargs)


@recorded
def _copied(a: ndarray, dtype: Any, options: dict[str, Any]) -> ndarray:
    return owned(np.array(same_device(a)._host, dtype, **options))


def _upload(part: str, name: str, function: Callable) -> Callable:
    def make(a: Any, dtype: Any = None, **options: Any) -> ndarray:
        check_call(part, name, (a, dtype), options)
        options.pop("blocking", None)
        if isinstance(a, ndarray):
            lies = {"ascontiguousarray": a.flags.c_contiguous, "asfortranarray": a.flags.f_contiguous}.get(name, True)
            if name != "array" and lies and dtype in (None, a.dtype):
                return a  # also from another device
            order = {"ascontiguousarray": "C", "asfortranarray": "F"}.get(name, "K")
            return _copied(a, dtype, {"order": order, **options})
        if any(isinstance(x, ndarray) for x in (a if isinstance(a, (list, tuple)) else ())):
            raise TypeError("the stand-in does not make arrays of lists of arrays; use stack")
        host = np.array(a, dtype)
        if host.dtype.kind not in "biufc" and host.dtype.char != "E":
            raise ValueError(f"Unsupported dtype {host.dtype}")
        gpu.uploads(host.nbytes)
        return owned(host)

    return make


def _where(condition: Any, x: Any = None, y: Any = None) -> Any:
    if not isinstance(condition, ndarray):
        raise AttributeError(f"{type(condition).__name__!r} object has no attribute 'astype'")
    if x is None and y is None:
        return run(np.nonzero, "nonzero", (condition,), {})
    for value in (x, y):
        if not isinstance(value, ndarray) and not gpu.is_number(value):
            raise TypeError(f"Unsupported type {type(value)}")
    return run(np.where, "where", (condition.astype(bool, copy=False), x, y), {})


@recorded
def _matmul(a: Any, b: Any, out: Any = None) -> ndarray:
    if not (isinstance(a, ndarray) and isinstance(b, ndarray)):
        raise TypeError(f"Unsupported type {type(b if isinstance(a, ndarray) else a)}")
    gpu.not_captured("calling cuBLAS API during stream capture")
    if a.dtype.char == "E" and (a.ndim > 2 or b.ndim > 2):
        raise TypeError("batched products of bfloat16 are not supported")
    wide = np.float32 if a.dtype.itemsize == 2 and a.dtype.kind in "fV" else a.dtype
    y = owned((same_device(a)._host.astype(wide) @ same_device(b)._host.astype(wide)).astype(a.dtype))
    if out is None:
        return y
    out[...] = y
    return out


def _searchsorted(a: Any, v: Any, side: str = "left", sorter: Any = None) -> ndarray:
    if not (isinstance(a, ndarray) and isinstance(v, ndarray)):
        raise TypeError("Only int or ndarray are supported")
    return run(np.searchsorted, "searchsorted", (a, v, side), {})


def _repeat(a: Any, repeats: Any, axis: Any = None) -> ndarray:
    if isinstance(repeats, ndarray):
        gpu.waits("repeat")
    return run(np.repeat, "repeat", (a, repeats), {"axis": axis})


def _take_along_axis(a: ndarray, indices: Any, axis: Any) -> Any:
    if not isinstance(indices, ndarray) or indices.dtype.kind not in "iu":
        raise IndexError("`indices` must be an integer array")
    if indices.ndim != a.ndim:
        raise ValueError("`indices` and `a` must have the same number of dimensions")
    at: list[Any] = [owned(x) for x in np.ogrid[tuple(map(slice, a.shape))]]
    at[axis] = indices
    return a[tuple(at)]


def _asnumpy(a: Any, stream: Any = None, order: str = "C", out: Any = None, *, blocking: bool = True) -> np.ndarray:
    return a.get(stream, order, out, blocking)


OWN: dict[str, Callable] = {
    "asnumpy": _asnumpy, "matmul": _matmul, "repeat": _repeat, "searchsorted": _searchsorted,
    "take_along_axis": _take_along_axis, "where": _where,
}  # fmt: skip

UFUNCS: dict[str, Any] = {name: UFunc(name) for name in parts()["ufuncs"] if hasattr(np, name)}
UFUNCS["matmul"] = _matmul


class Part(ModuleType):
    """A module with what api.txt names, as far as the stand-in has it."""

    def __init__(self, name: str, numpy: Any = None, offered: dict[str, Any] | None = None):
        super().__init__(name)
        self.__dict__.update(offered or {})
        self._numpy = numpy

    def __getattr__(self, name: str) -> Any:
        part = self.__name__
        if name.startswith("__") or name not in parts()[part]:
            raise AttributeError(f"module {part!r} has no attribute {name!r}")
        found = getattr(self._numpy, name, None)
        if found is None:
            raise NotImplementedError(
                f"{part}.{name} exists, but the stand-in lacks it; write it in tests/cupy_standin"
            )
        if callable(found) and not isinstance(found, type):
            found = (_upload if name in UPLOADING else Function)(part, name, found)
        setattr(self, name, found)
        return found


class CuPy(Part):
    """The module itself. `machine` is the stand-in's own: counters and devices."""

    def __init__(self) -> None:
        offered = {**{n: u for n, u in UFUNCS.items() if n != "matmul"}, **OWN, "ndarray": ndarray, "ufunc": UFunc}
        super().__init__("cupy", np, offered)
        self.cuda = Part("cupy.cuda", None, gpu.OFFERED)
        self.linalg = Part("cupy.linalg", np.linalg)
        self.random = Part("cupy.random", None, random.OFFERED)
        self.get_default_memory_pool = lambda: gpu.here.default_pool
        self.is_available = gpu.OFFERED["is_available"]
        self.machine = gpu.here


__all__ = ["UFUNCS", "CuPy", "run"]
