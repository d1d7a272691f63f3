"""A stand-in for CuPy over NumPy's arrays, stricter than CuPy itself, so that the engine can be run without a GPU.

It has the names that CuPy has, with their parameters, and nothing else (api.txt, which generate.py writes from the real
one). What CuPy refuses raises here as there; what CuPy does otherwise than NumPy is done as CuPy does it:

* an array never turns into NumPy's by itself, a NumPy array never takes part in an operation, and NumPy's functions
  refuse arrays of a GPU (CuPy passes some of them on; the engine does not rely on that)
* an operation on an array that lies on another device than the current one raises
* an index out of range wraps around; of several values for one place it is not the last that stays
* results without dimensions are arrays; ufuncs have no where=, few have methods, and `at` refuses halves and int64
* generators draw float32 and float64 only, and have no state that could be saved

Whatever makes the host wait for the device is counted (`synchronisations`), and so are copies of arrays to the device
(`uploads`). What it cannot show is whether CUDA computes the same numbers, or how fast.

    with installed(devices=2, memory=1 << 20) as cupy: ...
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from tensorlite.amp.grad_scaler import unscale
from tensorlite.nn.utils import norm_of, scale
from tensorlite.op import OPS
from tensorlite.optim import Adam

from . import gpu
from .library import CuPy


@contextmanager
def installed(devices: int = 1, memory: int = 1 << 40, kernels: bool = False) -> Iterator[ModuleType]:
    """`import cupy` gives the stand-in meanwhile. `memory`: the bytes that each device has. `kernels`: those of ops
    are called, which somebody must run (tests/cuda_on_host); else they are put aside, and plain formulas remain."""
    before = {name: sys.modules[name] for name in [*sys.modules] if name.partition(".")[0] == "cupy"}
    for name in before:
        del sys.modules[name]
    manys = [norm_of, scale, unscale, Adam.together]  # take addresses, which the stand-in's arrays only pretend to have
    taken = [each for each in [*manys, *([] if kernels else OPS.values())] if "cuda" in each.kernels]
    aside = {each: each.kernels.pop("cuda") for each in taken}
    with gpu.machine(devices, memory):
        cupy = CuPy()
        sys.modules["cupy"] = cupy
        sys.modules["cupy.cuda"] = cupy.cuda
        try:
            yield cupy
        finally:
            for name in ("cupy", "cupy.cuda"):
                sys.modules.pop(name, None)
            sys.modules.update(before)
            for op, kernel in aside.items():
                op.kernels["cuda"] = kernel
