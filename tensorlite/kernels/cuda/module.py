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
TYPES = {"float32": "float", "float16": "__half", "bfloat16": "__nv_bfloat16"}  # of an array, and in CUDA
FAMILIES = tuple(sorted(path.stem for path in HERE.glob("*.cu")))
LARGE = 48 * 1024  # bytes of shared memory beyond which a kernel must ask for them

NOTHING = np.uint64(0)  # for a pointer: no array
_INCLUDE = re.compile(r'^#include "(.+)"$', re.MULTILINE)
_KERNEL = re.compile(r"__global__ void\s+(?:__launch_bounds__\(.*?\)\s+)?(\w+)\(")


@cache
def source(family: str) -> str:
    """The CUDA source of a family, its own includes put in: CuPy's cache goes by this text alone."""

    def read(name: str) -> str:
        return f'#line 1 "{name}"\n' + _INCLUDE.sub(lambda found: read(found[1]), (HERE / name).read_text("utf-8"))

    return read(f"{family}.cu")


def kernels(family: str) -> tuple[str, ...]:
    """The names of the kernels of a family, in the order of the source."""
    return tuple(_KERNEL.findall(source(family)))


def options(dtype: str) -> tuple[str, ...]:
    """What the compiler is told, for arrays of the dtype of this name."""
    return ("--std=c++17", "--device-as-default-execution-space", f"-DELEMENT={TYPES[dtype]}")


@cache
def _module(library: Any, family: str, dtype: str) -> Any:
    return library.RawModule(code=source(family), options=options(dtype))


@cache
def function(library: Any, family: str, name: str, dtype: str, device: int, shared: int) -> Any:
    """A kernel on a GPU, which may use `shared` bytes of shared memory: called with grid, block and arguments."""
    kernel = _module(library, family, dtype).get_function(name)
    if shared > LARGE:
        kernel.max_dynamic_shared_size_bytes = shared
    return kernel


def launch(
    family: str, name: str, like: Any, grid: tuple[int, ...], block: tuple[int, ...], *arguments: Any, shared: int = 0
) -> None:
    """Run a kernel, compiled for the dtype of the array `like`, where that array lies, on the current stream.

    arguments  contiguous arrays, NumPy scalars of the kernel's own types (np.int32, np.int64, np.float32 …), and
               None for a pointer to nothing. A Python number is a TypeError: its width would be a guess
    shared     bytes of dynamic shared memory
    """
    ready = [NOTHING if x is None else x for x in arguments]
    for x in ready:
        if not hasattr(x, "dtype"):
            raise TypeError(f"{name}: {x!r} has no width; pass np.int32, np.int64 or np.float32")
    where = device_of(like).index or 0
    function(xp(like), family, name, like.dtype.name, where, shared)(grid, block, tuple(ready), shared_mem=shared)


def supported(*arrays: Any) -> bool:
    """Whether kernels exist for arrays (or None) like these: one of TYPES, the same for all, contiguous, not empty."""
    dtype = arrays[0].dtype
    if dtype.name not in TYPES:
        return False
    return all(x is None or (x.dtype == dtype and x.flags.c_contiguous and x.size) for x in arrays)


def blocks(n: int, per_block: int) -> int:
    """How many blocks n things take."""
    return -(-n // per_block)
