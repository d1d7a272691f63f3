"""Causal attention block by block: queries in blocks of rows, keys only as far as these rows may look.

Never more than one block of scores per thread is in memory, and about half of them are never computed. Short
sequences take several heads at once instead. FlashAttention's idea (Dao et al., 2022) with NumPy's products:
the softmax of a block of rows needs no rescaling here, since all its keys are at hand.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from ...ops.neural import _attention
from ...random import head_masks
from .blocks import cache_bytes, share

ROWS = 128  # of queries in a block


def _heads(q: Any, k: Any) -> tuple[int, int]:
    """How many heads, and how many rows of queries, one block takes."""
    t, s = q.shape[-2], k.shape[-2]
    rows = min(ROWS, t)
    return max(1, min(q.shape[1], cache_bytes() // (3 * rows * s * q.itemsize))) if rows == t else 1, rows


@cache
def _triangle(rows: int, dtype: Any) -> Any:
    """0 where row i may see column j <= i, -inf elsewhere."""
    return np.triu(np.full((rows, rows), -math.inf, dtype), 1)


def _blocks(t: int, s: int, rows: int, is_causal: bool) -> Iterator[tuple[int, int, int]]:
    """(first row, last row + 1, number of keys these rows see)"""
    for start in range(0, t, rows):
        stop = min(start + rows, t)
        yield start, stop, min(stop, s) if is_causal else s


def _scores(q: Any, k: Any, start: int, is_causal: bool) -> Any:
    """(G, R, D) scaled queries, the first of them number `start`; (G, S, D) keys they see -> (G, R, S)"""
    scores = q @ k.swapaxes(-1, -2)
    if is_causal and scores.shape[-1] > start:
        last = scores[..., start:]
        last += _triangle(q.shape[-2], q.dtype)[:, : last.shape[-1]]
    return scores


def _declines(q: Any, k: Any, v: Any, mask: Any) -> bool:
    return (
        mask is not None
        or q.ndim != 4
        or q.dtype not in (np.float32, np.float64)
        or not q.dtype == k.dtype == v.dtype
        or not q.shape[:2] == k.shape[:2] == v.shape[:2]
        or 0 in (*q.shape, *k.shape)
    )


def _like_heads(x: Any, width: int) -> Any:
    """(B, H, T, width) in memory as (B, T, H, width), so that joining the heads again copies nothing."""
    b, h, t, _ = x.shape
    return np.empty((b, t, h, width), x.dtype).transpose(0, 2, 1, 3)


def _forward(q: Any, k: Any, v: Any, mask: Any, *, is_causal: bool, scale: float, dropout_p: float, seed: int) -> Any:
    if _declines(q, k, v, mask):
        return NotImplemented
    (b, h, t, _), s = q.shape, k.shape[2]
    heads, rows = _heads(q, k)
    groups = -(-h // heads)
    y = _like_heads(q, v.shape[-1])
    logsumexp = np.empty((b, h, t, 1), q.dtype)

    def group(i: int) -> None:
        at = (i // groups, slice(i % groups * heads, (i % groups + 1) * heads))
        qs, ks, vs, ys = q[at] * q.dtype.type(scale), k[at], v[at], y[at]  # (G, T, D) …
        keep = head_masks(dropout_p, seed, i // groups * h + at[1].start, len(qs))
        for start, stop, seen in _blocks(t, s, rows, is_causal):
            p = _scores(qs[:, start:stop], ks[:, :seen], start, is_causal)  # (G, R, S)
            top = p.max(axis=-1, keepdims=True)  # (G, R, 1)
            p -= top
            np.exp(p, out=p)
            total = p.sum(axis=-1, keepdims=True)  # (G, R, 1)
            if dropout_p:
                p *= keep(stop - start, s)[..., :seen] * q.dtype.type(1 / (1 - dropout_p))
            np.matmul(p, vs[:, :seen], out=ys[:, start:stop])
            ys[:, start:stop] /= total
            logsumexp[at][:, start:stop] = np.log(total) + top

    share(group, b * groups)
    return y, logsumexp


def _backward(
    g: Any, q: Any, k: Any, v: Any, y: Any, logsumexp: Any, is_causal: bool, scale: float, dropout_p: float, seed: int
) -> tuple[Any, Any, Any, None]:
    (b, h, t, _), s = q.shape, k.shape[2]
    heads, rows = _heads(q, k)
    groups = -(-h // heads)
    dq, dk, dv = (_like_heads(x, x.shape[-1]) for x in (q, k, v))
    scale = q.dtype.type(scale)

    def group(i: int) -> None:
        at = (i // groups, slice(i % groups * heads, (i % groups + 1) * heads))
        qs, ks, vs, gs = q[at] * scale, k[at], v[at], g[at]
        inner = np.einsum("htd,htd->ht", gs, y[at])[..., None]  # rowsum(g y)
        keys, values = np.zeros(ks.shape, q.dtype), np.zeros(vs.shape, q.dtype)
        keep = head_masks(dropout_p, seed, i // groups * h + at[1].start, len(qs))
        for start, stop, seen in _blocks(t, s, rows, is_causal):
            p = _scores(qs[:, start:stop], ks[:, :seen], start, is_causal)  # (G, R, S)
            p -= logsumexp[at][:, start:stop]
            np.exp(p, out=p)
            gr = gs[:, start:stop]
            dp = gr @ vs[:, :seen].swapaxes(-1, -2)  # (G, R, S)
            if dropout_p:
                kept = keep(stop - start, s)[..., :seen] * q.dtype.type(1 / (1 - dropout_p))
                dp *= kept
                values[:, :seen] += (p * kept).swapaxes(-1, -2) @ gr
            else:
                values[:, :seen] += p.swapaxes(-1, -2) @ gr
            dp -= inner[:, start:stop]
            dp *= p
            np.matmul(dp, ks[:, :seen], out=dq[at][:, start:stop])
            keys[:, :seen] += dp.swapaxes(-1, -2) @ qs[:, start:stop]
        dq[at][...] *= scale
        dk[at], dv[at] = keys, values

    share(group, b * groups)
    return dq, dk, dv, None


_attention.kernel("cpu", _forward, d=_backward, residual=("logsumexp",))
