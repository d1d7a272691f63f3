"""From a .cu file to a kernel that can be launched.

A family's sources are compiled for one element type at a time, when one of its kernels is first launched; CuPy keeps
the result on disk. Nothing here imports CuPy: an array brings its own library along (`xp`).
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ...device import device_of, xp

HERE = Path(__file__).parent
TYPES = {"float32": "float", "bfloat16": "__nv_bfloat16", "float16": "__half"}  # of an array, and in CUDA
FAMILIES = tuple(sorted(path.stem for path in HERE.glob("*.cu")))
HALVES = ("float16", "bfloat16")
LARGE = 48 * 1024  # bytes of shared memory beyond which a kernel must ask for them

_INCLUDE = re.compile(r'^#include "(.+)"$', re.MULTILINE)
_KERNEL = re.compile(r"__global__ void\s+(?:__launch_bounds__\([\d, ]+\)\s+)?(\w+)\(")


@cache
def source(family: str) -> str:
    """The CUDA source of a family, its own includes put in: CuPy's cache goes by this text alone."""

    def read(name: str) -> str:
        return f'#line 1 "{name}"\n' + _INCLUDE.sub(lambda found: read(found[1]), (HERE / name).read_text("utf-8"))

    return read(f"{family}.cu")


def kernels(family: str) -> tuple[str, ...]:
    """The names of the kernels of a family, in the order of the source."""
    return tuple(_KERNEL.findall(source(family)))


def dtypes(family: str) -> tuple[str, ...]:
    """The names of the dtypes that a family's sources can be compiled for: tensor cores take no float32."""
    return HALVES if family == "attention_mma" else tuple(TYPES)


def options(dtype: str, constants: tuple[tuple[str, int], ...] = ()) -> tuple[str, ...]:
    """What the compiler is told, for arrays of the dtype of this name."""
    defined = [f"-D{name}={value}" for name, value in constants]
    return ("--std=c++17", "--device-as-default-execution-space", f"-DELEMENT={TYPES[dtype]}", *defined)


@cache
def _module(library: Any, family: str, dtype: str, constants: tuple[tuple[str, int], ...]) -> Any:
    return library.RawModule(code=source(family), options=options(dtype, constants))


@cache
def function(
    library: Any, family: str, name: str, dtype: str, constants: tuple[tuple[str, int], ...], device: int, large: bool
) -> Any:
    """A kernel on a GPU, called with grid, block and arguments. `large`: it may take all the shared memory there is."""
    kernel = _module(library, family, dtype, constants).get_function(name)
    if large:
        kernel.max_dynamic_shared_size_bytes = _most_shared(library, device) - kernel.shared_size_bytes
    return kernel


def launch(
    family: str,
    name: str,
    like: Any,
    grid: tuple[int, ...],
    block: tuple[int, ...],
    *arguments: Any,
    shared: int = 0,
    **constants: int,
) -> None:
    """Run a kernel, compiled for the dtype of the array `like`, where that array lies, on the current stream.

    arguments  arrays; NumPy scalars of the kernel's own types (np.int32, np.int64, np.float32 …); structures, as NumPy
               arrays of a dtype with fields; None for a pointer to nothing
    shared     bytes of dynamic shared memory
    constants  what the source is compiled with

    Raises TypeError for a Python number, whose width would be a guess, and for an array of NumPy's beside CuPy's, of
    which CuPy would pass the bytes.
    """
    library = xp(like)
    for x in arguments:
        if x is not None and not hasattr(x, "dtype"):
            raise TypeError(f"{name}: {x!r} has no width; pass np.int32, np.int64 or np.float32")
        if isinstance(x, np.ndarray) and x.dtype.names is None and library is not np:
            raise TypeError(f"{name}: an array {x.shape} {x.dtype} is not on the GPU; move it there with .to('cuda')")
    where = device_of(like).index or 0
    kernel = function(library, family, name, like.dtype.name, tuple(constants.items()), where, shared > LARGE)
    kernel(grid, block, arguments, shared_mem=shared)


@cache
def _most_shared(library: Any, device: int) -> int:
    return library.cuda.Device(device).attributes["MaxSharedMemoryPerBlockOptin"]


def most_shared(like: Any) -> int:
    """The bytes of shared memory that a block may ask for, on the GPU on which the array `like` lies."""
    return _most_shared(xp(like), device_of(like).index or 0)


def supported(*arrays: Any) -> bool:
    """Whether kernels exist for arrays (or None) like these: one of TYPES, the same for all, contiguous, not empty."""
    dtype = arrays[0].dtype
    if dtype.name not in TYPES:
        return False
    return all(x is None or (x.dtype == dtype and x.flags.c_contiguous and x.size) for x in arrays)


def blocks(n: int, per_block: int) -> int:
    """How many blocks n things take."""
    return -(-n // per_block)
