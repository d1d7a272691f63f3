"""The gradient of an embedding, added up in the order of the tokens: deterministic, also for a frequent token."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...device import xp
from ...ops.embedding import _add_rows
from .module import blocks, launch, supported

PART = 32  # positions: as in embedding.cu
THREADS = 128


def _forward(x: Any, ids: Any, *, count: int) -> Any:
    """(…, C) gradients and (…) ids -> (count, C). An id outside 0 … count - 1, which no lookup gives, is left out."""
    library = xp(x)
    x = library.ascontiguousarray(x)
    if not supported(x) or ids.size * x.shape[-1] != x.size:
        return NotImplemented
    width = x.shape[-1]
    flat = ids.reshape(-1).astype(np.int64, copy=False)
    order = library.argsort(flat, kind="stable")
    tokens = flat[order]
    out = library.zeros((count, width), x.dtype)
    parts = blocks(flat.size, PART)
    heads, tails = (library.empty((parts, width), np.float32) for _ in range(2))
    sizes = (np.int32(flat.size), np.int32(count), np.int32(width))
    across = blocks(width, THREADS * 16 // x.itemsize)
    arrays = (x, order, tokens, out, heads, tails)
    launch("embedding", "embedding_parts", x, (parts, across), (THREADS,), *arrays, *sizes)
    grid = (parts, blocks(width, THREADS))
    launch("embedding", "embedding_join", x, grid, (THREADS,), tokens, out, heads, tails, *sizes)
    return out


_add_rows.kernel("cuda", _forward, dx=_add_rows.plain.rows["x"])
