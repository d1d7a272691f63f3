"""Where arrays live: NumPy on the CPU, CuPy on an NVIDIA GPU. The only file that imports CuPy.

Everything else asks `xp(array)` for the array's own library and never names one.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np


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


def xp(array: Any, other: Any = None) -> ModuleType:
    """The library that `array` belongs to, or the `other` operand where one of them is a number: numpy or cupy."""
    # An array of CuPy's exists only if somebody imported it, so the CPU path never does.
    cupy = sys.modules.get("cupy")
    if cupy is None or not (isinstance(array, cupy.ndarray) or isinstance(other, cupy.ndarray)):
        return np
    return cupy


def library(where: device | str | None) -> ModuleType:
    """The array library for a device. Raises RuntimeError if the machine lacks what it takes."""
    if where is None or device(where).type == "cpu":
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
    return cupy


def device_of(array: Any) -> device:
    """The device on which `array` lies."""
    return CPU if isinstance(array, np.ndarray) or xp(array) is np else device("cuda", array.device.id)


def move(array: Any, where: device | str) -> Any:
    """`array` on the device `where`; itself if it is there already."""
    target = device(where)
    if device_of(array) == target:
        return array
    if target.type == "cpu":
        return array.get()
    with library(target).cuda.Device(target.index or 0):
        return library(target).asarray(array)
