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

from ...ops.attention import _attention
from ...parallel import cache_bytes, get_num_threads, share
from ...random import attention_kept

ROWS = 128  # of queries in a block


def _plan(q: Any, k: Any) -> tuple[list[tuple[slice, slice]], int]:
    """The groups of (sequences, heads) that threads take in turn, and the rows of queries in a block.

    A group holds as many heads, and then sequences, as keep a block of its scores in the cache: in a thread's share of
    the L3, for the reason that parallel.rows gives. Every thread gets as many groups as the others, if that can be.
    """
    (b, h, t, _), s = q.shape, k.shape[2]
    rows, threads = min(ROWS, t), get_num_threads()
    room = cache_bytes() if threads == 1 else cache_bytes(3) // threads
    fits = max(1, min(room // (3 * rows * s * q.itemsize), b * h // threads))  # heads
    if fits < h:
        least = -(-h // fits)  # groups that a sequence is divided into
        pieces = next((n for n in range(least, h + 1) if b * n % threads == 0), least)
        ends = [h * i // pieces for i in range(pieces + 1)]
        return [(slice(i, i + 1), slice(*ends[j : j + 2])) for i in range(b) for j in range(pieces)], rows
    groups = -(-b // (fits // h))
    ends = [b * i // groups for i in range(groups + 1)]
    return [(slice(*ends[i : i + 2]), slice(0, h)) for i in range(groups)], rows


def _kept(dropout_p: float, seed: int, at: tuple[slice, slice], q: Any, start: int, stop: int, seen: int) -> Any:
    """(b, h, R, S) booleans: what dropout keeps of a block of a group's weights."""
    numbers = np.arange(q.shape[0] * q.shape[1]).reshape(q.shape[:2])[at]
    return attention_kept(dropout_p, seed, numbers.reshape(-1), start, stop - start, seen).reshape(
        *numbers.shape, -1, seen
    )


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
    """(b, h, R, D) scaled queries, the first of them number `start`; (b, h, S, D) keys they see -> (b, h, R, S)"""
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
    groups, rows = _plan(q, k)
    y = _like_heads(q, v.shape[-1])
    logsumexp = np.empty((b, h, t, 1), q.dtype)

    def group(i: int) -> None:
        at = groups[i]
        qs, ks, vs, ys, totals = q[at] * q.dtype.type(scale), k[at], v[at], y[at], logsumexp[at]  # (b, h, T, D) …
        for start, stop, seen in _blocks(t, s, rows, is_causal):
            p = _scores(qs[:, :, start:stop], ks[:, :, :seen], start, is_causal)  # (b, h, R, S)
            top = p.max(axis=-1, keepdims=True)  # (b, h, R, 1)
            p -= top
            np.exp(p, out=p)
            total = p.sum(axis=-1, keepdims=True)  # (b, h, R, 1)
            np.add(np.log(total), top, out=totals[:, :, start:stop])
            if dropout_p:
                p *= _kept(dropout_p, seed, at, q, start, stop, seen)
                total *= 1 - dropout_p
            np.divide(p @ vs[:, :, :seen], total, out=ys[:, :, start:stop])

    share(group, len(groups))
    return y, logsumexp


def _backward(
    g: Any, q: Any, k: Any, v: Any, y: Any, logsumexp: Any, is_causal: bool, scale: float, dropout_p: float, seed: int
) -> tuple[Any, Any, Any, None]:
    """The rule of ops/attention.py, a block of rows at a time; what the blocks say about keys and values adds up."""
    t, s = q.shape[2], k.shape[2]
    groups, rows = _plan(q, k)
    dq, dk, dv = (_like_heads(x, x.shape[-1]) for x in (q, k, v))
    scale, larger = q.dtype.type(scale), q.dtype.type(1 / (1 - dropout_p))

    def group(i: int) -> None:
        at = groups[i]
        qs, ks, vs, gs, totals = q[at] * scale, k[at], v[at], g[at], logsumexp[at]
        inner = np.einsum("bhtd,bhtd->bht", gs, y[at])[..., None]  # rowsum(g y)
        queries, keys, values = dq[at], np.zeros(ks.shape, q.dtype), np.zeros(vs.shape, q.dtype)
        for start, stop, seen in _blocks(t, s, rows, is_causal):
            qr, gr = qs[:, :, start:stop], gs[:, :, start:stop]
            p = _scores(qr, ks[:, :, :seen], start, is_causal)  # (b, h, R, S)
            p -= totals[:, :, start:stop]
            np.exp(p, out=p)
            dp = gr @ vs[:, :, :seen].swapaxes(-1, -2)  # (b, h, R, S)
            dropped = p
            if dropout_p:
                kept = _kept(dropout_p, seed, at, q, start, stop, seen)
                dropped = p * kept
                dropped *= larger
                dp *= kept
                dp *= larger
            values[:, :, :seen] += dropped.swapaxes(-1, -2) @ gr
            dp -= inner[:, :, start:stop]
            dp *= p
            np.multiply(dp @ ks[:, :, :seen], scale, out=queries[:, :, start:stop])
            keys[:, :, :seen] += dp.swapaxes(-1, -2) @ qr
        dk[at], dv[at] = keys, values

    share(group, len(groups))
    return dq, dk, dv, None


_attention.kernel("cpu", _forward, d=_backward, residual=("logsumexp",))
