"""Kernels run without a GPU: the CUDA sources compiled by the machine's C++ compiler (on_host.h says how), and put in
the place of `module.function`. The Python that launches them runs as it is, on NumPy arrays, or on those of the
stand-in for CuPy (tests/cupy_standin)."""

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tensorlite.kernels.cuda import module

COMPILER = shutil.which("g++") or shutil.which("c++")
HERE = Path(__file__).parent
GUARD = 256  # bytes round an array, which no kernel may write, and which are nan to whoever reads them
KINDS = {"float32": b"f", "int32": b"i", "uint32": b"u", "int64": b"l", "uint64": b"L"}


class Host:
    """Stands in for CuPy's RawModule: builds a family once for each dtype, and runs its kernels.

    Every kernel runs twice, with threads and blocks in order and in reverse, and must leave the same bits.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.launched: set[tuple[str, str]] = set()
        self.behind: list[np.ndarray] = []  # arrays that kernels reach through tables of addresses

    @cache  # noqa: B019 - lives as long as the tests
    def library(self, family: str, dtype: str, constants: tuple) -> ctypes.CDLL:
        assert COMPILER is not None
        text = "\n".join(
            ['#include "on_host.h"', module.source(family), *[f"KERNEL({k})" for k in module.kernels(family)]]
        )
        built = self.folder / f"{family}-{dtype}{constants}.so"
        command = [COMPILER, "-std=c++17", "-O1", "-fno-strict-aliasing", "-shared", "-fPIC", "-w", "-x", "c++", "-"]
        defined = [option for option in module.options(dtype, constants) if option.startswith("-D")]
        command += ["-o", str(built), f"-I{HERE}", *defined]
        done = subprocess.run(command, input=text, text=True, capture_output=True)
        assert not done.returncode, done.stderr
        return ctypes.CDLL(str(built))

    def function(
        self, library: Any, family: str, name: str, dtype: str, constants: tuple, device: int, large: bool
    ) -> Callable:
        run = getattr(self.library(family, dtype, constants), f"run_{name}")
        run.restype = ctypes.c_char_p

        def launch(grid: tuple[int, ...], block: tuple[int, ...], arguments: tuple[Any, ...], shared_mem: int) -> None:
            self.launched.add((name, dtype))
            arguments = tuple([getattr(x, "_host", x) for x in arguments])  # of an array of the stand-in for CuPy
            arrays = {x.ctypes.data: x for x in arguments if _is_array(x)}
            results = []
            before = [x.copy() for x in self.behind]
            for reverse in (False, True):
                for x, saved in zip(self.behind, before):
                    x[...] = saved
                guarded = {address: _guarded(x) for address, x in arrays.items()}
                values, kinds = [], b""
                for x in arguments:
                    if x is None or _is_array(x):
                        kinds += b"p"
                        inside = None if x is None else guarded[x.ctypes.data][GUARD:].ctypes.data
                        values.append(ctypes.c_void_p(inside))
                    elif x.dtype.names:
                        kinds += b"s%d" % x.nbytes
                        values.append((ctypes.c_char * x.nbytes).from_buffer_copy(x.tobytes()))
                    else:
                        kinds += KINDS[x.dtype.name]
                        values.append(np.ctypeslib.as_ctypes(np.asarray(x)))
                pointers = (ctypes.c_void_p * len(values))(*[ctypes.addressof(value) for value in values])
                sizes = [(ctypes.c_uint * 3)(*(*given, 1, 1)[:3]) for given in (grid, block)]
                wrong = run(*sizes, ctypes.c_size_t(shared_mem), int(reverse), kinds, pointers)
                assert wrong is None, f"{name}: {wrong.decode()}"
                for address, around in guarded.items():
                    size = _memory(arrays[address]).size
                    edges = around[:GUARD], around[GUARD + size :]
                    assert all((edge == 0xFF).all() for edge in edges), f"{name} writes beyond an array"
                results.append({address: x[GUARD:][: _memory(arrays[address]).size] for address, x in guarded.items()})
                results[-1] |= {x.ctypes.data: _memory(x).copy() for x in self.behind}
            for address, x in {**arrays, **{x.ctypes.data: x for x in self.behind}}.items():
                first, second = (each[address] for each in results)
                assert (first == second).all(), f"{name}: a race, the order of threads changes the result"
                _memory(x)[:] = first

        return launch


def _is_array(x: Any) -> bool:
    """Of numbers, in memory: not a structure, which is passed by value."""
    return isinstance(x, np.ndarray) and x.dtype.names is None


def _guarded(x: np.ndarray) -> np.ndarray:
    """The bytes of x between guards, at a multiple of 16 as on a GPU (256 there)."""
    memory = _memory(x)
    room = np.full(memory.size + 2 * GUARD + 16, 0xFF, np.uint8)
    start = -room.ctypes.data % 16
    around = room[start : start + memory.size + 2 * GUARD]
    around[GUARD : GUARD + memory.size] = memory
    return around


def _memory(x: np.ndarray) -> np.ndarray:
    """The bytes from the first element of x to its last, whatever lies between them."""
    first, end = np.lib.array_utils.byte_bounds(x)
    return np.frombuffer((ctypes.c_char * (end - first)).from_address(first), np.uint8)
