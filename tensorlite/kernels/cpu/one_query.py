"""Attention of a single query per head: the step of a generation that keeps keys and values.

The scores are a row per head, (B, H, 1, S), so there is nothing to divide into blocks but the batch; what it costs is
reading the keys and values once. All other cases go to attention.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...mode import is_grad_enabled
from ...ops.attention import _attention
from ...parallel import rows

_general = _attention.kernels["cpu"]


def _declines(q: Any, k: Any, v: Any, is_causal: bool, dropout_p: float) -> bool:
    return (
        q.ndim != 4
        or q.shape[2] != 1
        or is_causal
        or dropout_p > 0
        or is_grad_enabled()  # the backward is attention.py's
        or q.dtype not in (np.float32, np.float64)
        or not q.dtype == k.dtype == v.dtype
        or not q.shape[:2] == k.shape[:2] == v.shape[:2]
        or 0 in (*q.shape, *k.shape)
        or k.shape[2:] != (v.shape[2], q.shape[3])
    )


def _forward(q: Any, k: Any, v: Any, mask: Any, *, is_causal: bool, scale: float, dropout_p: float, seed: int) -> Any:
    if _declines(q, k, v, is_causal, dropout_p):
        return _general.forward(q, k, v, mask, is_causal=is_causal, scale=scale, dropout_p=dropout_p, seed=seed)
    (b, h, _, _), s = q.shape, k.shape[2]
    y = np.empty((b, h, 1, v.shape[3]), q.dtype)
    if mask is not None:
        mask = np.broadcast_to(mask, (b, h, 1, s))
    least = np.finfo(q.dtype).min

    def block(start: int, stop: int) -> None:
        at = slice(start, stop)
        p = (q[at] * q.dtype.type(scale)) @ k[at].swapaxes(-1, -2)  # (b, H, 1, S)
        if mask is not None:
            p = np.where(mask[at], p, -np.inf) if mask.dtype == bool else p + mask[at]
        p -= np.maximum(p.max(axis=-1, keepdims=True), least)  # -inf where the query may look at nothing
        np.exp(p, out=p)
        np.matmul(p, v[at], out=y[at])
        y[at] /= np.maximum(p.sum(axis=-1, keepdims=True), -1 / least)  # so that it takes nothing there

    rows(block, b, h * s * (k.shape[3] + v.shape[3]) * q.itemsize)
    return y, None


_attention.kernel("cpu", _forward, d=_general.joint, residual=_general.residual)
