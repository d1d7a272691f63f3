"""Causal attention tile by tile: a few rows of queries against as many keys as fit into the cache.

Never more than one tile of scores per thread is in memory, and about half of them are never computed. Short sequences
take several heads at once instead. FlashAttention's idea (Dao et al., 2022) with NumPy's products, and two savings:

* Scores are bounded by the norms of queries and keys. Where that bound is small, which is nearly always, their
  exponentials cannot overflow, and no row needs its maximum taken first and subtracted.
* What the backward of a long sequence subtracts from every score of a row, logsumexp and rowsum(g y), is a column more
  in the queries and gradients, beside ones in the keys and values: the product subtracts it.
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
from . import one_query

ROWS = 128  # of queries in a tile of a long sequence
LONG = 512  # keys from which on the copies with a column more cost less than the subtractions
SAFE = 60.0  # largest score whose exponential needs no care: sums of many are still far from float32's limits
Tile = tuple[slice, slice]  # rows of queries, and the keys that they meet


def _plan(q: Any, k: Any) -> tuple[list[tuple[slice, slice]], int, int]:
    """The groups of (sequences, heads) that threads take in turn, and the rows and columns of a tile.

    A tile's scores take about twice a core's L2 cache: larger ones go to main memory, smaller ones wait more often for
    the interpreter's lock. A group holds as many heads, and then sequences, as fit into one. Every thread gets as many
    groups as the others, if that can be.
    """
    (b, h, t, _), s = q.shape, k.shape[2]
    threads = get_num_threads()
    room = 4 * cache_bytes() // q.itemsize
    rows = min(t, max(ROWS // 2, min(ROWS, t // 4)))
    columns = max(ROWS, room // rows)
    fits = max(1, min(room // (rows * min(s, columns)), b * h // threads))  # heads
    if fits < h:
        least = -(-h // fits)  # groups that a sequence is divided into
        pieces = next((n for n in range(least, h + 1) if b * n % threads == 0), least)
        ends = [h * i // pieces for i in range(pieces + 1)]
        return [(slice(i, i + 1), slice(*ends[j : j + 2])) for i in range(b) for j in range(pieces)], rows, columns
    groups = -(-b // (fits // h))
    ends = [b * i // groups for i in range(groups + 1)]
    return [(slice(*ends[i : i + 2]), slice(0, h)) for i in range(groups)], rows, columns


def _tiles(t: int, s: int, rows: int, columns: int, is_causal: bool) -> Iterator[Tile]:
    """All of the T x S scores that the mask leaves, and a triangle's other half along the diagonal."""
    for start in range(0, t, rows):
        stop = min(start + rows, t)
        seen = min(stop, s) if is_causal else s
        for first in range(0, seen, columns):
            yield slice(start, stop), slice(first, min(first + columns, seen))


@cache
def _triangle(rows: int, dtype: Any) -> Any:
    """0 where row i may see column j <= i, -inf elsewhere."""
    return np.triu(np.full((rows, rows), -math.inf, dtype), 1)


def _scores(q: Any, k: Any, tile: Tile, is_causal: bool) -> Any:
    """(b, h, T, D) scaled queries and (b, h, S, D) keys -> their (b, h, R, C) scores in a tile."""
    (rows, columns), start = tile, tile[0].start
    scores = q[:, :, rows] @ k[:, :, columns].swapaxes(-1, -2)
    if is_causal and columns.stop > start:
        hidden = scores[..., max(0, start - columns.start) :]  # (b, h, R, C')
        hidden += _triangle(rows.stop - start, q.dtype)[:, max(0, columns.start - start) : columns.stop - start]
    return scores


def _highest(q: Any, k: Any, tiles: list[Tile], is_causal: bool) -> Any:
    """(b, h, T, 1): each row's largest score, which is to be subtracted, or None where no score is large."""
    largest = [math.sqrt(float(np.vecdot(x, x).max())) for x in (q, k)]
    if largest[0] * largest[1] <= SAFE:  # Cauchy and Schwarz
        return None
    top = np.full((*q.shape[:-1], 1), -math.inf, q.dtype)
    for tile in tiles:
        part = top[:, :, tile[0]]
        np.maximum(part, _scores(q, k, tile, is_causal).max(axis=-1, keepdims=True), out=part)
    return top


def _kept(dropout_p: float, seed: int, at: tuple[slice, slice], q: Any, tile: Tile) -> Any:
    """(b, h, R, C) booleans: what dropout keeps of a tile of a group's weights."""
    numbers = np.arange(q.shape[0] * q.shape[1]).reshape(q.shape[:2])[at]
    kept = attention_kept(dropout_p, seed, numbers.reshape(-1), *tile)
    return kept.reshape(*numbers.shape, *kept.shape[1:])


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


def _beside(x: Any, column: Any) -> Any:
    """(b, h, T, D) and a column, (b, h, T, 1) or a number -> (b, h, T, D + 1)"""
    out = np.empty((*x.shape[:-1], x.shape[-1] + 1), x.dtype)
    out[..., :-1], out[..., -1:] = x, column
    return out


def _forward(q: Any, k: Any, v: Any, mask: Any, *, is_causal: bool, scale: float, dropout_p: float, seed: int) -> Any:
    if one_query.fits(q, k, v, is_causal, dropout_p):
        return one_query.attend(q, k, v, mask, scale), None
    if _declines(q, k, v, mask):
        return NotImplemented
    (b, h, t, _), s = q.shape, k.shape[2]
    groups, rows, columns = _plan(q, k)
    tiles = list(_tiles(t, s, rows, columns, is_causal))
    y = _like_heads(q, v.shape[-1])
    logsumexp = np.empty((b, h, t, 1), q.dtype)
    ones = np.ones((min(s, columns), 1), q.dtype)

    def group(i: int) -> None:
        at = groups[i]
        qs, ks, vs, sums = q[at] * q.dtype.type(scale), k[at], v[at], logsumexp[at]  # (b, h, T, D) …
        top = _highest(qs, ks, tiles, is_causal)
        weighted = np.zeros((*qs.shape[:-1], vs.shape[-1]), q.dtype)
        sums[...] = 0
        for tile in tiles:
            r, c = tile
            p = _scores(qs, ks, tile, is_causal)  # (b, h, R, C)
            if top is not None:
                p -= top[:, :, r]
            np.exp(p, out=p)
            sums[:, :, r] += p @ ones[: p.shape[-1]]
            if dropout_p:
                p *= _kept(dropout_p, seed, at, q, tile)
            weighted[:, :, r] += p @ vs[:, :, c]
        if dropout_p:
            weighted *= 1 / (1 - dropout_p)
        np.divide(weighted, sums, out=y[at])
        np.log(sums, out=sums)
        if top is not None:
            sums += top

    share(group, len(groups))
    return y, logsumexp


def _backward(
    g: Any, q: Any, k: Any, v: Any, y: Any, logsumexp: Any, is_causal: bool, scale: float, dropout_p: float, seed: int
) -> tuple[Any, Any, Any, None]:
    """The rule of ops/attention.py, tile by tile; what the tiles say about a query, key or value adds up."""
    groups, rows, columns = _plan(q, k)
    tiles = list(_tiles(q.shape[2], k.shape[2], rows, columns, is_causal))
    dq, dk, dv = (_like_heads(x, x.shape[-1]) for x in (q, k, v))
    scale, larger = q.dtype.type(scale), q.dtype.type(1 / (1 - dropout_p))
    by_product = k.shape[2] >= LONG and not dropout_p  # which multiplies before rowsum(g y) is subtracted

    def group(i: int) -> None:
        at = groups[i]
        qs, ks, vs, gs, sums = q[at] * scale, k[at], v[at], g[at], logsumexp[at]
        if gs.strides[-1] != gs.itemsize:  # of a sum, it is one number over and over, which no product takes as it is
            gs = np.ascontiguousarray(gs)
        inner = np.vecdot(gs, y[at])[..., None]  # rowsum(g y)
        q1, k1, g1, v1 = qs, ks, gs, vs
        if by_product:
            q1, k1, g1, v1 = _beside(qs, -sums), _beside(ks, 1), _beside(gs, -inner), _beside(vs, 1)
            qs, ks, gs = q1[..., :-1], k1[..., :-1], g1[..., :-1]
        queries, keys, values = (np.zeros(x[at].shape, q.dtype) for x in (q, k, v))
        for tile in tiles:
            r, c = tile
            p = _scores(q1, k1, tile, is_causal)  # (b, h, R, C)
            if not by_product:
                p -= sums[:, :, r]
            np.exp(p, out=p)
            dp = g1[:, :, r] @ v1[:, :, c].swapaxes(-1, -2)  # (b, h, R, C)
            dropped = p
            if dropout_p:
                kept = _kept(dropout_p, seed, at, q, tile) * larger
                dropped = p * kept
                dp *= kept
            values[:, :, c] += dropped.swapaxes(-1, -2) @ gs[:, :, r]
            if not by_product:
                dp -= inner[:, :, r]
            dp *= p
            queries[:, :, r] += dp @ ks[:, :, c]
            keys[:, :, c] += dp.swapaxes(-1, -2) @ qs[:, :, r]
        np.multiply(queries, scale, out=dq[at])
        dk[at], dv[at] = keys, values

    share(group, len(groups))
    return dq, dk, dv, None


_attention.kernel("cpu", _forward, d=_backward, residual=("logsumexp",))
