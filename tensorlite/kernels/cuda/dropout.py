"""Dropout that draws its mask from a seed, forward and backward, instead of keeping it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...device import xp
from ...ops.activation import _seeded_dropout
from ...random import threshold
from .module import blocks, launch, supported

THREADS = 256


def _forward(x: Any, *, p: float, seed: int) -> Any:
    if not supported(x):
        return NotImplemented
    y = xp(x).empty_like(x)
    drawn = (np.uint64(seed), np.uint32(threshold(p)), np.float32(1 / (1 - p)))
    grid = (blocks(x.size, THREADS * 16 // x.itemsize),)
    launch("dropout", "dropout", x, grid, (THREADS,), x, y, np.int64(x.size), *drawn)
    return y


_seeded_dropout.kernel("cuda", _forward, dx=_seeded_dropout.plain.rows["x"])
