"""Attention of a single query per head: the step of a generation that keeps keys and values.

The scores are a row per head, (B, H, 1, S), so there is nothing to divide into tiles but the batch; what it costs is
reading the keys and values once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...mode import is_grad_enabled
from ...parallel import rows


def fits(q: Any, k: Any, v: Any, is_causal: bool, dropout_p: float) -> bool:
    """Whether `attend` may be called. It leaves nothing for a backward."""
    return (
        q.ndim == 4
        and q.shape[2] == 1
        and not is_causal
        and not dropout_p
        and not is_grad_enabled()
        and q.dtype in (np.float32, np.float64)
        and q.dtype == k.dtype == v.dtype
        and q.shape[:2] == k.shape[:2] == v.shape[:2]
        and 0 not in (*q.shape, *k.shape)
        and k.shape[2:] == (v.shape[2], q.shape[3])
    )


def attend(q: Any, k: Any, v: Any, mask: Any, scale: float) -> Any:
    """(B, H, 1, D) queries, (B, H, S, D) keys, (B, H, S, Dv) values -> (B, H, 1, Dv)"""
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
    return y
