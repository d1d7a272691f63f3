"""Attention in tiles: the scores are never in memory, and keys that the causal mask hides are not looked at."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...device import xp
from ...ops.attention import _attention
from ...random import threshold
from .module import TYPES, blocks, launch, most_shared

TILE, SIDE = 64, 16  # rows of a tile, and of the square of threads: as in attention.cu
HEADS = (64, 128)  # what the kernels are compiled for: the most numbers that a query may have

_STRIDES = ("q", "k", "v", "y", "g", "dq", "dk", "dv")
PROBLEM = np.dtype(
    [(name, "i8", 3) for name in _STRIDES]
    + [(name, "i4") for name in ("heads", "t", "s", "d", "causal")]
    + [("scale", "f4"), ("seed_low", "u4"), ("seed_high", "u4"), ("threshold", "u4"), ("larger", "f4")]
)


def _head(d: int) -> int:
    return next(head for head in HEADS if d <= head)


def _shared(head: int, rows: int, scores: int) -> int:
    """Bytes of tiles: of queries, keys …, and of scores."""
    return 4 * TILE * (rows * (head + 4) + scores * (TILE + 4))


def _takes(q: Any, k: Any, v: Any, mask: Any) -> bool:
    return (
        mask is None
        and q.dtype.name in TYPES
        and q.dtype == k.dtype == v.dtype
        and q.ndim == 4
        and q.shape[:2] == k.shape[:2] == v.shape[:2]
        and q.shape[3] == k.shape[3] == v.shape[3] <= HEADS[-1]
        and k.shape[2] == v.shape[2]
        and 0 not in (*q.shape, *k.shape)
        and q.shape[0] * q.shape[1] < 1 << 16  # blocks in the second dimension
        and _shared(_head(q.shape[3]), 4, 2) <= most_shared(q)
    )


def _in_rows(x: Any) -> Any:
    """x, or a copy, so that its last dimension is contiguous; the others may lie as they like."""
    return x if x.strides[-1] == x.itemsize or x.shape[-1] == 1 else xp(x).ascontiguousarray(x)


def _like_heads(x: Any) -> Any:
    """(B, H, T, D) in memory as (B, T, H, D), so that joining the heads again copies nothing."""
    b, h, t, d = x.shape
    return xp(x).empty((b, t, h, d), x.dtype).transpose(0, 2, 1, 3)


def _problem(is_causal: bool, scale: float, dropout_p: float, seed: int, **arrays: Any) -> Any:
    problem, q, k = np.zeros((), PROBLEM), arrays["q"], arrays["k"]
    for name, x in arrays.items():
        problem[name] = [stride // x.itemsize for stride in x.strides[:3]]
    problem["heads"], problem["t"], problem["s"], problem["d"] = q.shape[1], q.shape[2], k.shape[2], q.shape[3]
    problem["causal"], problem["scale"] = is_causal, scale
    problem["seed_low"], problem["seed_high"] = seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF
    problem["threshold"] = threshold(dropout_p) if dropout_p else 0
    problem["larger"] = 1 / (1 - dropout_p)
    return problem


def _forward(q: Any, k: Any, v: Any, mask: Any, *, is_causal: bool, scale: float, dropout_p: float, seed: int) -> Any:
    if not _takes(q, k, v, mask):
        return NotImplemented
    q, k, v = _in_rows(q), _in_rows(k), _in_rows(v)
    b, h, t, d = q.shape
    y, logsumexp = _like_heads(q), xp(q).empty((b, h, t), np.float32)
    problem = _problem(is_causal, scale, dropout_p, seed, q=q, k=k, v=v, y=y)
    head, grid = _head(d), (blocks(t, TILE), b * h)
    arrays, shared = (q, k, v, y, logsumexp), _shared(head, 3, 1)
    launch("attention", "attention_forward", q, grid, (SIDE, SIDE), *arrays, problem, shared=shared, HEAD=head)
    return y, logsumexp


def _backward(
    g: Any, q: Any, k: Any, v: Any, y: Any, logsumexp: Any, is_causal: bool, scale: float, dropout_p: float, seed: int
) -> tuple[Any, Any, Any, None]:
    g, q, k, v = _in_rows(g), _in_rows(q), _in_rows(k), _in_rows(v)
    b, h, t, d = q.shape
    dq, dk, dv = _like_heads(q), _like_heads(k), _like_heads(v)
    problem = _problem(is_causal, scale, dropout_p, seed, q=q, k=k, v=v, y=y, g=g, dq=dq, dk=dk, dv=dv)
    delta = xp(q).empty((b, h, t), np.float32)
    head, block, seen = _head(d), (SIDE, SIDE), (g, q, k, v, logsumexp, delta)
    launch("attention", "attention_delta", q, (blocks(t, 8), b * h), (256,), g, y, delta, problem, HEAD=head)
    for name, length, results, scores in (("queries", t, (dq,), 1), ("keys", k.shape[2], (dk, dv), 2)):
        grid, shared = (blocks(length, TILE), b * h), _shared(head, 4, scores)
        kernel = f"attention_backward_{name}"
        launch("attention", kernel, q, grid, block, *seen, *results, problem, shared=shared, HEAD=head)
    return dq, dk, dv, None


_attention.kernel("cuda", _forward, d=_backward, residual=("logsumexp",))
