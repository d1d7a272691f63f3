"""Softmax and cross-entropy on a few rows at a time: a row of logits is read once, and never copied."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...block import Block
from ...ops.loss import _check_targets, _cross_entropy, _linear_cross_entropy, weighted
from ...parallel import rows


@Block
def logsumexp_rows(x: Any, out: Any) -> None:
    """(n, V) logits -> (n, 1)"""
    top = x.max(axis=1, keepdims=True)
    e = x - top
    np.exp(e, out=e)
    np.log(e.sum(axis=1, keepdims=True), out=out)
    out += top


@Block
def logits_slope(x: Any, logsumexp: Any, target: Any, scale: Any, out: Any) -> None:
    """(n, V) logits -> out, scale (softmax - one_hot(target)), with (n,) target and scale"""
    np.subtract(x, logsumexp, out=out)
    np.exp(out, out=out)
    out[np.arange(len(x)), target] -= 1
    out *= scale[:, None]


@Block
def losses_and_slope(p: Any, target: Any, share: Any, losses: Any, slope: bool) -> None:
    """(n, V) logits p -> (n,) losses, and, if wanted, in the place of p the slope of share times the loss by them."""
    at = np.arange(len(p))
    top = p.max(axis=1, keepdims=True)
    p -= top
    losses[...] = -p[at, target]
    np.exp(p, out=p)
    total = p.sum(axis=1, keepdims=True)
    losses += np.log(total[:, 0])
    if slope:
        p *= share[:, None] / total
        p[at, target] -= share
        if not share.all():
            p[share == 0] = 0  # also where logits are not finite


def _forward(logits: Any, target: Any, weight: Any) -> Any:
    if logits.dtype not in (np.float32, np.float64) or not logits.size:
        return NotImplemented
    _check_targets(target, logits.shape[-1])
    logsumexp = np.empty((len(logits), 1), logits.dtype)

    def block(start: int, stop: int) -> None:
        logsumexp_rows(logits[start:stop], logsumexp[start:stop])

    rows(block, len(logits), 2 * logits.shape[1] * logits.itemsize, logsumexp_rows.compiled(logits.dtype))
    loss = logsumexp[:, 0] - logits[np.arange(len(logits)), target]
    return weighted(loss, weight), logsumexp


def _dlogits(g: Any, logits: Any, target: Any, weight: Any, logsumexp: Any) -> Any:
    scale = g if weight is None else g * weight
    out = np.empty(logits.shape, logits.dtype)

    def block(start: int, stop: int) -> None:
        at = slice(start, stop)
        logits_slope(logits[at], logsumexp[at], target[at], scale[at], out[at])

    rows(block, len(logits), 2 * logits.shape[1] * logits.itemsize, logits_slope.compiled(logits.dtype))
    if weight is not None:
        out[weight == 0] = 0  # also where logits are not finite
    return out


_cross_entropy.kernel("cpu", _forward, dlogits=_dlogits, residual=("logsumexp",))

LOGITS = (
    256 << 20
)  # bytes of logits in memory at a time. Each further part costs the addition of a gradient of the weight


def _project(x: Any, weight: Any, target: Any, share: Any, *, slopes: tuple[bool, bool]) -> Any:
    if (
        x.dtype != weight.dtype
        or x.dtype not in (np.float32, np.float64)
        or x.shape[1:] != weight.shape[1:]
        or not x.size
    ):
        return NotImplemented
    _check_targets(target, len(weight))
    parts = -(-len(x) * len(weight) * x.itemsize // LOGITS)
    size = -(-len(x) // parts)
    buffer = np.empty((size, len(weight)), x.dtype)
    losses = np.empty(len(x), x.dtype)
    dx = np.empty_like(x) if slopes[0] else None
    dweight = None
    for first in range(0, len(x), size):
        last = min(first + size, len(x))
        logits = np.matmul(x[first:last], weight.T, out=buffer[: last - first])  # (n, V)
        _losses_and_slope(logits, target[first:last], share[first:last], losses[first:last], any(slopes))
        if dx is not None:
            np.matmul(logits, weight, out=dx[first:last])
        if slopes[1]:
            part = logits.T @ x[first:last]  # (V, C)
            dweight = part if dweight is None else np.add(dweight, part, out=dweight)
    return weighted(losses, share).sum(), dx, dweight


def _losses_and_slope(logits: Any, target: Any, share: Any, losses: Any, slope: bool) -> None:
    def block(start: int, stop: int) -> None:
        at = slice(start, stop)
        losses_and_slope(logits[at], target[at], share[at], losses[at], slope)

    rows(block, len(logits), logits.shape[1] * logits.itemsize, losses_and_slope.compiled(logits.dtype))


_linear_cross_entropy.kernel("cpu", _project, d=_linear_cross_entropy.plain.joint, residual=("dx", "dweight"))
