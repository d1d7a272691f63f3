"""Sums of columns, in two steps whose order never changes: linear's gradient of the bias (product.py)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...device import xp
from .module import blocks, launch

BLOCK = (32, 8)
PARTS = 512  # at most: enough for every GPU, and the same number on all, so that all give the same bits
LEAST = 64  # rows to a part


def column_sum(x: Any) -> Any:
    """(N, C) -> (C,), added in float32. The array must be contiguous and of a supported dtype."""
    count, width = x.shape
    rows = max(LEAST, blocks(count, PARTS))
    parts = xp(x).empty((blocks(count, rows), width), np.float32)
    lanes = 16 // x.itemsize
    across = blocks(width, BLOCK[0] * lanes)
    shared = BLOCK[0] * BLOCK[1] * lanes * 4
    sizes = (np.int32(count), np.int32(width), np.int32(rows))
    launch("matrix", "column_sum_parts", x, (across, len(parts)), BLOCK, x, parts, *sizes, shared=shared)
    return sum_of_parts(parts, x.dtype, x)


def sum_of_parts(parts: Any, dtype: Any, like: Any) -> Any:
    """(parts, C) of float32 -> (C,) of the dtype of the array `like`"""
    count, width = parts.shape
    out = xp(parts).empty(width, dtype)
    grid, shared = (blocks(width, BLOCK[0] * 4), 1), BLOCK[0] * BLOCK[1] * 4 * 4
    sizes = (np.int32(count), np.int32(width))
    launch("matrix", "column_sum_total", like, grid, BLOCK, parts, out, *sizes, shared=shared)
    return out
