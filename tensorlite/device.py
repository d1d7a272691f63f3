"""Where arrays live: NumPy on the CPU, CuPy on an NVIDIA GPU. The only file that imports CuPy.

Everything else asks `xp(array)` for the array's own library and never names one.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable
from functools import cache, wraps
from types import ModuleType
from typing import Any, TypeVar

import numpy as np

from . import late
from .capture import refuse

F = TypeVar("F", bound=Callable)


class device:
    """A place for arrays, as in PyTorch: `device("cpu")`, `device("cuda")`, `device("cuda:1")`.

    Raises ValueError for any other name, TypeError for what is no name.
    """

    __slots__ = ("index", "type")
    type: str
    index: int | None

    def __init__(self, name: str | device, index: int | None = None):
        if isinstance(name, device):
            index = name.index
            name = name.type
        if not isinstance(name, str):
            raise TypeError(f"device: expected 'cpu', 'cuda' or 'cuda:N', not {name!r}")
        kind, _, number = name.partition(":")
        if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
            raise ValueError(f"device: {name!r} is not a device; use 'cpu', 'cuda' or 'cuda:N'")
        self.type = kind
        self.index = int(number) if number else index

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        return f"device({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (device, str)):
            return NotImplemented
        try:
            other = device(other)
        except ValueError:  # a name from elsewhere, "mps" say
            return False
        return self.type == other.type and (self.index or 0) == (other.index or 0)

    def __hash__(self) -> int:
        return hash((self.type, self.index or 0))


CPU = device("cpu")


@cache
def _gpu(index: int) -> device:
    return device("cuda", index)


def xp(array: Any, other: Any = None) -> ModuleType:
    """The library that `array` belongs to, or the `other` operand where one of them is a number: numpy or cupy."""
    # An array of CuPy's exists only if somebody imported it, so the CPU path never does.
    cupy = sys.modules.get("cupy")
    if cupy is None or not (isinstance(array, cupy.ndarray) or isinstance(other, cupy.ndarray)):
        return np
    return cupy


def library(where: device | str | None) -> ModuleType:
    """The array library for a device. Raises RuntimeError if the machine lacks what it takes."""
    if where is None or (where := device(where)).type == "cpu":
        return np
    try:
        import cupy
    except ImportError:
        raise RuntimeError(
            f"device {str(where)!r} needs CuPy: pip install 'tensorlite[cuda13]' (or [cuda12] for a driver of CUDA 12)"
        ) from None
    if not cupy.cuda.is_available():
        raise RuntimeError(
            f"device {str(where)!r}: CuPy is installed, but it finds no NVIDIA GPU or no driver; use device='cpu'"
        )
    if where.index and where.index >= (count := cupy.cuda.runtime.getDeviceCount()):
        raise RuntimeError(
            f"device {str(where)!r} does not exist: this machine has {count} GPU(s), counted from cuda:0"
        )
    return cupy


class OutOfMemoryError(MemoryError, RuntimeError):
    """An array did not fit into memory. What there was before is still there."""


class on:
    """While the block runs, its device is the one where arrays are made. Gives the device's library.

    A GPU that has no memory left raises OutOfMemoryError, with what is free.
    """

    __slots__ = ("context", "library")

    def __init__(self, where: device | str | None):
        self.context: Any = None
        self.library: Any = np
        if where is not None and where is not CPU:
            self.library = library(where)
            if (index := device(where).index) is not None and self.library is not np:
                self.context = self.library.cuda.Device(index)

    def __enter__(self) -> ModuleType:
        if self.context is not None:
            self.context.__enter__()
        return self.library

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        try:
            if self.library is not np and isinstance(error, self.library.cuda.memory.OutOfMemoryError):
                raise out_of_memory(error) from None
        finally:
            if self.context is not None:
                self.context.__exit__(kind, error, traceback)


def out_of_memory(error: MemoryError) -> OutOfMemoryError:
    """The same, with what the current GPU has, or NumPy's words."""
    cupy = sys.modules.get("cupy")
    if cupy is None or not isinstance(error, cupy.cuda.memory.OutOfMemoryError):
        return OutOfMemoryError(str(error))
    free, total = cupy.cuda.Device().mem_info
    ours = cupy.get_default_memory_pool().used_bytes()
    return OutOfMemoryError(
        f"{error}; cuda:{cupy.cuda.Device().id} has {total / 2**30:.1f} GiB, of which arrays of this program take "
        f"{ours / 2**30:.1f} and {free / 2**30:.1f} are free. A smaller batch takes less"
    )


def elsewhere(arrays: Iterable[Any]) -> Any:
    """The GPU that holds the arrays, if that is not the current one, else None. Numbers are nowhere.

    Raises ValueError if they lie on several devices, which it names.
    """
    cupy = sys.modules["cupy"]
    held = {device_of(x): x for x in arrays if isinstance(x, (cupy.ndarray, np.ndarray))}
    if len(held) > 1:
        raise ValueError(
            f"the inputs lie on different devices, {' and '.join(map(str, held))}; move them to one with .to(device)"
        )
    index = next(iter(held), CPU).index
    return None if index is None or index == cupy.cuda.runtime.getDevice() else cupy.cuda.Device(index)


class wandering:
    """Whatever GPU the block makes the current one, after it the current one is that of before."""

    __slots__ = ("context",)

    def __enter__(self) -> None:
        cupy = sys.modules.get("cupy")
        self.context = None if cupy is None or not cupy.cuda.is_available() else on(current("cuda"))
        if self.context is not None:
            self.context.__enter__()

    def __exit__(self, *error: Any) -> None:
        if self.context is not None:
            self.context.__exit__(*error)


def follow(*arrays: Any) -> None:
    """Make the GPU that holds the arrays the current one; for a block that is `wandering`."""
    if "cupy" in sys.modules and (gpu := elsewhere(arrays)) is not None:
        gpu.use()


def where_it_lies(function: F) -> F:
    """A function of Tensors that also computes between ops, with the GPU that holds them as the current one. ValueError
    if they lie on several devices."""

    @wraps(function)
    def there(input: Any, *args: Any, **options: Any) -> Any:
        if "cupy" not in sys.modules:
            return function(input, *args, **options)
        with wandering():
            follow(*[x.array for x in (input, *args, *options.values()) if hasattr(x, "array")])
            return function(input, *args, **options)

    return there  # type: ignore[return-value]


def device_of(array: Any) -> device:
    """The device on which `array` lies."""
    return CPU if isinstance(array, np.ndarray) or xp(array) is np else _gpu(array.device.id)


def current(where: device | str) -> device:
    """A device with its number: "cuda" is the GPU that is current."""
    where = device(where)
    return where if where.type == "cpu" or where.index is not None else _gpu(library(where).cuda.runtime.getDevice())


# From one to another -----------------------------------------------------------------------------------


def move(array: Any, where: device | str, non_blocking: bool = False) -> Any:
    """`array` on the device `where`; itself if it is there already.

    non_blocking  from page-locked memory to a GPU: the copy goes on while the program does. Anything else CuPy puts
                  into page-locked memory of its own first, which takes the time of a copy in memory

    Raises what an earlier op on a GPU found wrong in the numbers of its inputs (late.py), when they come to the CPU.
    """
    target = current(where)
    source = device_of(array)
    if source == target:
        return array
    if target.type == "cpu":
        refuse("a number is read, for which the program would wait", "read it after replay()")
        late.settle(source)
        return array.get()
    with on(target) as cupy:
        if source.type == "cpu":
            refuse(
                "an array comes from the CPU, which a replay would not copy again",
                "copy_() it before replay() into a Tensor that the block reads",
            )
        if source.type == "cuda":
            return array.copy()  # to the current GPU
        if non_blocking and is_pinned(array) and array.flags.c_contiguous:
            return _copy_along(array, cupy)
        return cupy.asarray(array)


_in_flight: deque[tuple[Any, Any]] = deque()  # what is being copied, and the event at its end


def _copy_along(array: np.ndarray, cupy: Any) -> Any:
    """Start a copy and hold on to its source until it is done, because CuPy's pool would hand that memory out again."""
    while _in_flight and _in_flight[0][1].done:
        _in_flight.popleft()
    stream = cupy.cuda.get_current_stream()
    out = cupy.empty(array.shape, array.dtype)
    out.set(array, stream=stream)
    _in_flight.append((array, stream.record()))
    return out


def pinned(array: np.ndarray) -> np.ndarray:
    """A copy in page-locked memory, from which a GPU reads by itself. RuntimeError without a GPU."""
    cupy = library("cuda")
    memory = cupy.cuda.alloc_pinned_memory(array.nbytes)
    out = np.frombuffer(memory, array.dtype, array.size).reshape(array.shape)
    out[...] = array
    return out


def is_pinned(array: Any) -> bool:
    """Whether an array lies in page-locked memory that `pinned` took."""
    cupy = sys.modules.get("cupy")
    while isinstance(array, np.ndarray):
        array = array.base
    memory = array.obj if isinstance(array, memoryview) else array
    return cupy is not None and isinstance(memory, cupy.cuda.PinnedMemoryPointer)
