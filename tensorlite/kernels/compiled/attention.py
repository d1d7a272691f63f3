"""Attention between its products."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from ...random import GOLDEN, MIX_1, MIX_2, threshold, words
from ..cpu import attention
from .loop import exp, f32, largest, loop_of


@njit(cache=True)
def _bounds(seen: int, C: int) -> tuple[int, int]:
    """How many of C keys are seen, and how far to compute: in whole turns of a loop that takes 32 numbers at a time."""
    stop = min(max(seen, 0), C)
    return stop, min(-(-stop // 32) * 32, C)


@loop_of(attention.exponentials, sums=True)
def exponentials(p: Any, seen: int, top: Any, kept: Any, sums: Any, weighted: Any) -> None:
    B, H, R, C = p.shape
    for b in range(B):
        for h in range(H):
            for i in range(R):
                stop, end = _bounds(seen + i, C)
                row, before, total = p[b, h, i], top[b, h, i, 0], f32(0)
                for c in range(stop, end):
                    row[c] = -np.inf
                for c in range(end, C):
                    row[c] = 0
                now = max(before, largest(row[:end]))
                for c in range(end):
                    e = exp(row[c] - now)
                    total += e
                    row[c] = e
                if kept is not None:
                    for c in range(end):
                        row[c] *= f32(kept[b, h, i, c])
                top[b, h, i, 0] = now
                if now > before and sums[b, h, i, 0] > 0:
                    factor = exp(before - now)
                    sums[b, h, i, 0] *= factor
                    for d in range(weighted.shape[3]):
                        weighted[b, h, i, d] *= factor
                sums[b, h, i, 0] += total


@njit(nogil=True, cache=True)
def _mix(x: Any) -> Any:
    x = np.uint32(x ^ (x >> 16))
    x = np.uint32(x * MIX_1)
    x = np.uint32(x ^ (x >> 15))
    x = np.uint32(x * MIX_2)
    return np.uint32(x ^ (x >> 16))


@njit(nogil=True, cache=True)
def _draw(kept: Any, heads: Any, low: Any, high: Any, least: Any, row: int, column: int) -> None:
    N, R, C = kept.shape
    for n in range(N):
        head = _mix(np.uint32(heads[n]) ^ low)
        for i in range(R):
            start = _mix(np.uint32(head + np.uint32(row + i)) ^ high)
            for c in range(C):
                place = np.uint32(np.uint32(column + c) * GOLDEN)
                kept[n, i, c] = _mix(np.uint32(start + place)) >= least


@loop_of(attention.draw_kept, compile=False)
def draw_kept(kept: Any, heads: Any, dropout_p: float, seed: int, row: int, column: int) -> None:
    _draw(kept, heads, *words(seed), threshold(dropout_p), row, column)


@loop_of(attention.inner_products, sums=True)
def inner_products(a: Any, b: Any, out: Any) -> None:
    B, H, T, D = a.shape
    for n in range(B):
        for h in range(H):
            for i in range(T):
                total = f32(0)
                for d in range(D):
                    total += a[n, h, i, d] * b[n, h, i, d]
                out[n, h, i, 0] = total


@loop_of(attention.divided)
def divided(weighted: Any, top: Any, sums: Any, y: Any, larger: Any) -> None:
    B, H, T, D = y.shape
    for b in range(B):
        for h in range(H):
            for i in range(T):
                factor = f32(larger) / sums[b, h, i, 0]
                for d in range(D):
                    y[b, h, i, d] = weighted[b, h, i, d] * factor
                sums[b, h, i, 0] = np.log(sums[b, h, i, 0])
                if top is not None:
                    sums[b, h, i, 0] += top[b, h, i, 0]


@loop_of(attention.weights_and_slope, sums=True)
def weights_and_slope(p: Any, dp: Any, seen: int, sums: Any, inner: Any, kept: Any, larger: Any) -> None:
    B, H, R, C = p.shape
    for b in range(B):
        for h in range(H):
            for i in range(R):
                weights, slopes, (stop, end) = p[b, h, i], dp[b, h, i], _bounds(seen + i, C)
                for c in range(stop, C):
                    weights[c] = -np.inf if c < end else 0
                    slopes[c] = 0
                logarithm, mean = sums[b, h, i, 0], inner[b, h, i, 0]
                for c in range(end):
                    e = exp(weights[c] - logarithm)
                    if kept is not None:
                        factor = f32(kept[b, h, i, c]) * f32(larger)
                        slopes[c] = (slopes[c] * factor - mean) * e
                        weights[c] = e * factor
                    else:
                        slopes[c] = (slopes[c] - mean) * e
                        weights[c] = e
