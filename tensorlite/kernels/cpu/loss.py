"""Softmax and cross-entropy on a few rows at a time: a row of logits is read once, and never copied."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...ops.loss import _check_targets, _cross_entropy, weighted
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
