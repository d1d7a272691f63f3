"""Softmax and cross-entropy on a few rows at a time: a row of logits is read once, and never copied."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...ops.loss import _check_targets, _cross_entropy, _linear_cross_entropy, weighted
from ...parallel import rows


def _forward(logits: Any, target: Any, weight: Any) -> Any:
    if logits.dtype not in (np.float32, np.float64) or not logits.size:
        return NotImplemented
    _check_targets(target, logits.shape[-1])
    logsumexp = np.empty((len(logits), 1), logits.dtype)

    def block(start: int, stop: int) -> None:
        x, out = logits[start:stop], logsumexp[start:stop]
        top = x.max(axis=1, keepdims=True)
        e = x - top
        np.exp(e, out=e)
        np.log(e.sum(axis=1, keepdims=True), out=out)
        out += top

    rows(block, len(logits), 2 * logits.shape[1] * logits.itemsize)
    loss = logsumexp[:, 0] - logits[np.arange(len(logits)), target]
    return weighted(loss, weight), logsumexp


def _dlogits(g: Any, logits: Any, target: Any, weight: Any, logsumexp: Any) -> Any:
    scale = (g if weight is None else g * weight)[:, None]
    out = np.empty(logits.shape, logits.dtype)

    def block(start: int, stop: int) -> None:
        p = out[start:stop]
        np.subtract(logits[start:stop], logsumexp[start:stop], out=p)
        np.exp(p, out=p)
        p[np.arange(stop - start), target[start:stop]] -= 1
        p *= scale[start:stop]

    rows(block, len(logits), 2 * logits.shape[1] * logits.itemsize)
    if weight is not None:
        out[weight == 0] = 0  # also where logits are not finite
    return out


_cross_entropy.kernel("cpu", _forward, dlogits=_dlogits, residual=("logsumexp",))

LOGITS = (
    256 << 20
)  # bytes of logits in memory at a time. Each further part costs the addition of a gradient of the weight


def positions_at_a_time(positions: int, classes: int, itemsize: int) -> int:
    """How many positions' logits `linear_cross_entropy` has in memory at once."""
    parts = -(-positions * classes * itemsize // LOGITS)
    return -(-positions // parts)


def _project(x: Any, weight: Any, target: Any, share: Any, *, slopes: tuple[bool, bool]) -> Any:
    if (
        x.dtype != weight.dtype
        or x.dtype not in (np.float32, np.float64)
        or x.shape[1:] != weight.shape[1:]
        or not x.size
    ):
        return NotImplemented
    _check_targets(target, len(weight))
    size = positions_at_a_time(len(x), len(weight), x.itemsize)
    buffer = np.empty((size, len(weight)), x.dtype)
    losses = np.empty(len(x), x.dtype)
    dx = np.empty_like(x) if slopes[0] else None
    dweight = None
    for first in range(0, len(x), size):
        last = min(first + size, len(x))
        logits = np.matmul(x[first:last], weight.T, out=buffer[: last - first])  # (n, V)
        _compare(logits, target[first:last], share[first:last], losses[first:last], any(slopes))
        if dx is not None:
            np.matmul(logits, weight, out=dx[first:last])
        if slopes[1]:
            part = logits.T @ x[first:last]  # (V, C)
            dweight = part if dweight is None else np.add(dweight, part, out=dweight)
    return weighted(losses, share).sum(), dx, dweight


def _compare(logits: Any, target: Any, share: Any, losses: Any, slopes: bool) -> None:
    """Writes the losses, and in the place of the logits the slope of share times the loss by them."""

    def block(start: int, stop: int) -> None:
        p, ids, part = logits[start:stop], target[start:stop], share[start:stop]
        at = np.arange(stop - start)
        top = p.max(axis=1, keepdims=True)
        p -= top
        losses[start:stop] = -p[at, ids]
        np.exp(p, out=p)
        total = p.sum(axis=1, keepdims=True)
        losses[start:stop] += np.log(total[:, 0])
        if slopes:
            p *= part[:, None] / total
            p[at, ids] -= part
            if not part.all():
                p[part == 0] = 0  # also where logits are not finite

    rows(block, len(logits), logits.shape[1] * logits.itemsize)


_linear_cross_entropy.kernel("cpu", _project, d=_linear_cross_entropy.plain.joint, residual=("dx", "dweight"))
