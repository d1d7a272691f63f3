"""Causal attention tile by tile: a few rows of queries against as many keys as fit into the cache.

Never more than one tile of scores per thread is in memory, and about half of them are never computed. Short sequences
take several heads at once instead. FlashAttention's idea (Dao et al., 2022) with NumPy's products, and two savings:

* Scores are bounded by the norms of queries and keys. Where that bound is small, which is nearly always, their
  exponentials cannot overflow, and no row's maximum is taken and subtracted.
* What the backward of a long sequence subtracts from every score of a row, logsumexp and rowsum(g y), is a column more
  in the queries and gradients, beside ones in the keys and values: the product subtracts it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from ...block import Block
from ...ops.attention import _attention
from ...parallel import SMALL, cache_bytes, get_num_threads, share
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
    threads = get_num_threads() if b * h * t * s * q.itemsize > SMALL else 1
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


def _scores(q: Any, k: Any, tile: Tile) -> Any:
    """(b, h, T, D) scaled queries and (b, h, S, D) keys -> their (b, h, R, C) scores in a tile."""
    return q[:, :, tile[0]] @ k[:, :, tile[1]].swapaxes(-1, -2)


def _seen(tile: Tile, is_causal: bool) -> int:
    """How many keys of the tile its first query sees; each further one sees one more. May be negative."""
    (rows, columns), size = tile, tile[1].stop - tile[1].start
    return min(rows.start + 1 - columns.start, size) if is_causal else size


def _hide(p: Any, seen: int) -> None:
    """-inf in the place of scores that the mask hides."""
    R, C = p.shape[-2:]
    if seen < C:
        hidden = p[..., max(seen - 1, 0) :]  # (b, h, R, C'), columns that some rows do not see
        hidden += _triangle(R, p.dtype)[:, max(1 - seen, 0) : C - seen + 1]


@cache
def _ones(count: int, dtype: Any) -> Any:
    return np.ones((count, 1), dtype)


@Block
def exponentials(p: Any, seen: int, top: Any, kept: Any, sums: Any, weighted: Any) -> None:
    """(b, h, R, C) scores -> in their place exp(scores - top), of which dropout keeps some.

    top, (b, h, R, 1), is each row's largest score so far, and grows; sums, (b, h, R, 1), and weighted, (b, h, R, D),
    were made with the one before, so they shrink, and sums grows by what is new. Without top nothing is subtracted,
    without kept nothing is dropped. (Milakov, Gimelshein, Online normalizer calculation for softmax, 2018.)
    """
    _hide(p, seen)
    if top is not None:
        before = top.copy()
        np.maximum(top, p.max(axis=-1, keepdims=True), out=top)
        p -= top
        if sums.any():  # else nothing has been written there yet
            factor = np.exp(before - top)
            sums *= factor
            weighted *= factor
    np.exp(p, out=p)
    sums += p @ _ones(p.shape[-1], p.dtype)
    if kept is not None:
        p *= kept


@Block
def weights_and_slope(p: Any, dp: Any, seen: int, sums: Any, inner: Any, kept: Any, larger: float) -> None:
    """(b, h, R, C) scores p and slopes dp by the weights -> in their places the weights after dropout, and the slopes
    by the scores. sums and inner, (b, h, R, 1), are None where the products have subtracted them."""
    _hide(p, seen)
    if sums is not None:
        p -= sums
    np.exp(p, out=p)
    if kept is not None:
        factor = kept * p.dtype.type(larger)
        dp *= factor
    if inner is not None:
        dp -= inner
    dp *= p
    if kept is not None:
        p *= factor


@Block
def draw_kept(kept: Any, heads: Any, dropout_p: float, seed: int, row: int, column: int) -> None:
    """What dropout keeps of the tile that begins at (row, column) of the weights of n heads -> (n, R, C) booleans."""
    _, R, C = kept.shape
    kept[...] = attention_kept(dropout_p, seed, heads, slice(row, row + R), slice(column, column + C))


@Block
def inner_products(a: Any, b: Any, out: Any) -> None:
    """(…, D) twice -> out, (…, 1), of four dimensions"""
    np.vecdot(a, b, out=out[..., 0])


@Block
def divided(weighted: Any, top: Any, sums: Any, y: Any, larger: float) -> None:
    """(…, D) weighted values of four dimensions -> y = larger weighted / sums, which may be weighted itself, and
    (…, 1) sums -> logsumexp"""
    np.divide(weighted, sums / larger, out=y)
    np.log(sums, out=sums)
    if top is not None:
        sums += top


def _tops(q: Any, k: Any) -> Any:
    """(b, h, T, 1) to begin with, or None where no score is large. A loop finds the largest on its way."""
    if not exponentials.compiled(q.dtype):
        largest = [math.sqrt(float(np.vecdot(x, x).max())) for x in (q, k)]
        if largest[0] * largest[1] <= SAFE:  # Cauchy and Schwarz
            return None
    return np.full((*q.shape[:-1], 1), np.finfo(q.dtype).min, q.dtype)


def _kept(dropout_p: float, seed: int, at: tuple[slice, slice], q: Any, tile: Tile) -> Any:
    """(b, h, R, C) booleans: what dropout keeps of a tile of a group's weights; None for all."""
    if not dropout_p:
        return None
    numbers = np.arange(q.shape[0] * q.shape[1]).reshape(q.shape[:2])[at]
    rows, columns = tile
    kept = np.empty((*numbers.shape, rows.stop - rows.start, columns.stop - columns.start), bool)
    draw_kept(kept.reshape(-1, *kept.shape[2:]), numbers.reshape(-1), dropout_p, seed, rows.start, columns.start)
    return kept


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


def _as_heads(x: Any) -> Any:
    """(b, h, T, D) -> (b, T, h, D), the order in which it lies in memory; None stays."""
    return None if x is None else x.swapaxes(1, 2)


def _add_product(a: Any, b: Any, total: Any, alone: bool) -> None:
    """total += a @ b; total = a @ b if it is the only product."""
    if alone:
        np.matmul(a, b, out=total)
    else:
        total += a @ b


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
    alone = tiles == [(slice(0, t), slice(0, s))]
    y = _like_heads(q, v.shape[-1])
    logsumexp = np.zeros((b, h, t, 1), q.dtype)

    def group(i: int) -> None:
        at = groups[i]
        qs, ks, vs, sums = q[at] * q.dtype.type(scale), k[at], v[at], logsumexp[at]  # (b, h, T, D) …
        top = _tops(qs, ks)
        weighted = y[at] if alone else np.zeros((*qs.shape[:-1], vs.shape[-1]), q.dtype)
        for tile in tiles:
            r, c = tile
            p = _scores(qs, ks, tile)  # (b, h, R, C)
            kept = _kept(dropout_p, seed, at, q, tile)
            so_far = None if top is None else top[:, :, r]
            exponentials(p, _seen(tile, is_causal), so_far, kept, sums[:, :, r], weighted[:, :, r])
            _add_product(p, vs[:, :, c], weighted[:, :, r], alone)
        divided(*[_as_heads(x) for x in (weighted, top, sums, y[at])], 1 / (1 - dropout_p))

    share(group, len(groups))
    return y, logsumexp


def _backward(
    g: Any, q: Any, k: Any, v: Any, y: Any, logsumexp: Any, is_causal: bool, scale: float, dropout_p: float, seed: int
) -> tuple[Any, Any, Any, None]:
    """The rule of ops/attention.py, tile by tile; what the tiles say about a query, key or value adds up."""
    t, s = q.shape[2], k.shape[2]
    groups, rows, columns = _plan(q, k)
    tiles = list(_tiles(t, s, rows, columns, is_causal))
    alone = tiles == [(slice(0, t), slice(0, s))]
    dq, dk, dv = (_like_heads(x, x.shape[-1]) for x in (q, k, v))
    scale = q.dtype.type(scale)
    # Dropout multiplies before rowsum(g y) is subtracted; a loop subtracts on the way.
    by_product = s >= LONG and not dropout_p and not weights_and_slope.compiled(q.dtype)

    def group(i: int) -> None:
        at = groups[i]
        qs, ks, vs, gs, sums = q[at] * scale, k[at], v[at], g[at], logsumexp[at]
        if gs.strides[-1] != gs.itemsize:  # of a sum, it is one number over and over, which no product takes as it is
            gs = np.ascontiguousarray(gs)
        inner = np.empty_like(sums)  # rowsum(g y)
        inner_products(_as_heads(gs), _as_heads(y[at]), _as_heads(inner))
        q1, k1, g1, v1 = qs, ks, gs, vs
        if by_product:
            q1, k1, g1, v1 = _beside(qs, -sums), _beside(ks, 1), _beside(gs, -inner), _beside(vs, 1)
            qs, ks, gs = q1[..., :-1], k1[..., :-1], g1[..., :-1]
        queries = np.zeros(qs.shape, q.dtype)
        keys, values = (dk[at], dv[at]) if alone else (np.zeros(x.shape, q.dtype) for x in (ks, vs))
        for tile in tiles:
            r, c = tile
            p = _scores(q1, k1, tile)  # (b, h, R, C)
            dp = _scores(g1, v1, tile)  # (b, h, R, C)
            subtracted = (None, None) if by_product else (sums[:, :, r], inner[:, :, r])
            kept = _kept(dropout_p, seed, at, q, tile)
            weights_and_slope(p, dp, _seen(tile, is_causal), *subtracted, kept, 1 / (1 - dropout_p))
            _add_product(p.swapaxes(-1, -2), gs[:, :, r], values[:, :, c], alone)
            _add_product(dp, ks[:, :, c], queries[:, :, r], alone)
            _add_product(dp.swapaxes(-1, -2), qs[:, :, r], keys[:, :, c], alone)
        np.multiply(queries, scale, out=dq[at])
        if not alone:
            dk[at], dv[at] = keys, values

    share(group, len(groups))
    return dq, dk, dv, None


_attention.kernel("cpu", _forward, d=_backward, residual=("logsumexp",))
