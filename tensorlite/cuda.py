"""Questions about the GPU. They answer on a machine without one, too."""

from __future__ import annotations

from typing import Any

from .device import device as Device
from .device import library
from .random import default_generator


def is_available() -> bool:
    """Whether Tensors can be made on a GPU here: there is one, with a driver, and CuPy is installed."""
    try:
        library("cuda")
    except RuntimeError:
        return False
    return True


def device_count() -> int:
    """The number of GPUs that can be used."""
    return library("cuda").cuda.runtime.getDeviceCount() if is_available() else 0


def synchronize(device: Any = None) -> None:
    """Wait until the GPU has done all it was asked to, as before reading a clock. RuntimeError without a GPU."""
    where = Device(device or "cuda")
    cuda = library(where).cuda
    with cuda.Device(where.index):  # None is the current one
        cuda.runtime.deviceSynchronize()


def manual_seed(seed: int) -> None:
    """Seed the generator of the GPU; does nothing without one."""
    if is_available():
        default_generator("cuda").manual_seed(seed)
