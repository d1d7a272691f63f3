"""What this machine can do at most: the ceilings against which a speed says something, and how much fits into it.

>>> import tensorlite as tl
>>> tl.machine.ceilings()  # doctest: +SKIP
Ceilings(flops=2.1e+11, bytes=2.4e+10)
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import cuda, parallel
from .device import device, on

_SIDE = 2048  # of the matrices multiplied: large enough that the product, not the memory, is measured
_COPIED = 64 << 20  # bytes, more than any cache
TAKEN = 2 * _COPIED + 3 * 4 * _SIDE**2  # bytes in memory while `ceilings` measures


class Ceilings(NamedTuple):
    """flops: per second, in a product of float32 matrices.   bytes: read and written per second, in a copy."""

    flops: float
    bytes: float


@cache
def ceilings(where: str = "cpu") -> Ceilings:
    """Measured once per process and device, in about half a second, on as many threads as the kernels use."""
    on_cpu = device(where).type == "cpu"
    pieces, copied = (parallel.get_num_threads(), _COPIED) if on_cpu else (1, 16 * _COPIED)
    with on(where) as xp:
        a = xp.ones((_SIDE, _SIDE), np.float32)
        product = xp.empty_like(a)
        source = xp.ones(copied, np.uint8)
        target = xp.empty_like(source)
        bounds = [copied * i // pieces for i in range(pieces + 1)]

        def piece(i: int) -> None:
            target[bounds[i] : bounds[i + 1]] = source[bounds[i] : bounds[i + 1]]

        return Ceilings(
            flops=2 * _SIDE**3 / _fastest(lambda: xp.matmul(a, a, out=product), where),
            bytes=2 * copied / _fastest(lambda: parallel.share(piece, pieces), where),
        )


def _fastest(work: Callable[[], Any], where: str, times: int = 6) -> float:
    """Seconds of the fastest run: what disturbs a run only ever makes it slower. The first is for warming up."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        if device(where).type == "cuda":
            cuda.synchronize(where)
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def total_memory(where: str = "cpu") -> int:
    """Bytes that the device has; of the CPU's, as many as this process may take (a container's limit)."""
    if device(where).type == "cuda":
        return cuda.mem_get_info(where)[1]
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")] if hasattr(os, "sysconf") else []
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        if Path(limit).exists() and (text := Path(limit).read_text().strip()).isdigit():
            sizes.append(int(text))
    return min(sizes, default=sys.maxsize)


def resident_memory() -> int:
    """Bytes of memory that this process has now; 0 where the system does not tell (it does on Linux)."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0
