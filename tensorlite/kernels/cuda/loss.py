"""Cross-entropy, a block to a row of logits; in place of them its gradient, where head and loss are one op."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...device import xp
from ...ops.loss import _cross_entropy, _linear_cross_entropy
from .module import launch, supported
from .product import product

THREADS = 512
LOGITS = (
    1 << 30
)  # bytes of logits in memory at a time. Each further part costs the addition of a gradient of the weight


def _as(x: Any, dtype: Any) -> Any:
    """x contiguous and in a dtype; None stays None."""
    return None if x is None else xp(x).ascontiguousarray(x.astype(dtype, copy=False))


def _forward(logits: Any, target: Any, weight: Any) -> Any:
    if not supported(logits):
        return NotImplemented
    library, (count, classes) = xp(logits), logits.shape
    loss, logsumexp = library.empty(count, np.float32), library.empty(count, np.float32)
    arrays = (logits, _as(target, np.int64), _as(weight, np.float32), loss, logsumexp)
    launch("loss", "cross_entropy", logits, (count,), (THREADS,), *arrays, np.int32(classes))
    return loss.astype(logits.dtype, copy=False), logsumexp


def _dlogits(g: Any, logits: Any, target: Any, weight: Any, logsumexp: Any) -> Any:
    count, classes = logits.shape
    dlogits = xp(logits).empty_like(logits)
    ids, weight = _as(target, np.int64), _as(weight, np.float32)
    arrays = (_as(g, np.float32), logits, ids, weight, logsumexp, dlogits)
    launch("loss", "cross_entropy_backward", logits, (count,), (THREADS,), *arrays, np.int32(classes))
    return dlogits


_cross_entropy.kernel("cuda", _forward, dlogits=_dlogits, residual=("logsumexp",))


def _project(x: Any, weight: Any, target: Any, share: Any, *, slopes: tuple[bool, bool]) -> Any:
    """As kernels/cpu/loss.py: the head's product, the loss and both gradients, part by part of the positions. The loss
    and the gradient of the weight, which are sums over all of these, are float32."""
    if not supported(x, weight) or x.shape[1:] != weight.shape[1:]:
        return NotImplemented
    library, gradient = xp(x), np.int32(any(slopes))
    ids, share = _as(target, np.int64), _as(share, np.float32)
    parts = -(-len(x) * len(weight) * x.itemsize // LOGITS)
    size = -(-len(x) // parts)
    buffer = library.empty((size, len(weight)), x.dtype)
    losses = library.empty(len(x), np.float32)
    dx = library.empty_like(x) if slopes[0] else None
    dweight = library.empty(weight.shape, np.float32) if slopes[1] else None
    for first in range(0, len(x), size):
        part = slice(first, min(first + size, len(x)))
        logits = product(x[part], weight.T, out=buffer[: part.stop - first])  # (n, V)
        arrays = (logits, ids[part], share[part], losses[part])
        grid, classes = (len(logits),), np.int32(len(weight))
        launch("loss", "cross_entropy_in_place", logits, grid, (THREADS,), *arrays, classes, gradient)
        if dx is not None:
            product(logits, weight, out=dx[part])
        if dweight is not None:
            product(logits.T, x[part], out=dweight, accumulate=first > 0)  # (V, C)
    return losses.sum(), dx, dweight


_linear_cross_entropy.kernel("cuda", _project, d=_linear_cross_entropy.plain.joint, residual=("dx", "dweight"))
