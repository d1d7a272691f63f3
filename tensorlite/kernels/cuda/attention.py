"""Attention in tiles: the scores are never in memory, and keys that the causal mask hides are not looked at. On tensor
cores for half precision (attention_mma.cu), on the ordinary ones for float32 (attention.cu)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...device import xp
from ...ops.attention import _attention
from ...random import threshold
from .module import HALVES, TYPES, blocks, launch, most_shared

TILE = 64  # rows of a block, and of what it meets on the ordinary cores: as in attention.cu
HEADS = (64, 128)  # what the kernels are compiled for: the most numbers that a query may have

_STRIDES = ("q", "k", "v", "y", "g", "dq", "dk", "dv")
PROBLEM = np.dtype(
    [(name, "i8", 3) for name in _STRIDES]
    + [(name, "i4") for name in ("heads", "t", "s", "d", "causal")]
    + [("scale", "f4"), ("seed_low", "u4"), ("seed_high", "u4"), ("threshold", "u4"), ("larger", "f4")]
)


def _head(d: int) -> int:
    return next(head for head in HEADS if d <= head)


def _shared(x: Any, head: int, own: int, scores: int) -> int:
    """Bytes of shared memory: of a block's own tiles and the two that it meets, and of scores on the ordinary cores."""
    if x.dtype.name not in HALVES:
        return 4 * TILE * ((own + 2) * (head + 4) + scores * (TILE + 4))
    meets = 32 if head > 64 else 64
    return 2 * (head + 8) * (own * TILE + 2 * meets) + 8 * meets


def _launch(name: str, q: Any, length: int, own: int, scores: int, *arguments: Any) -> None:
    """A kernel of either source, with a block for each TILE of `length` rows of each head."""
    head, grid = _head(q.shape[3]), (blocks(length, TILE), q.shape[0] * q.shape[1])
    fast = q.dtype.name in HALVES
    family, kernel, block = (
        ("attention_mma", f"attention_mma_{name}", (128,)) if fast else ("attention", f"attention_{name}", (16, 16))
    )
    launch(family, kernel, q, grid, block, *arguments, shared=_shared(q, head, own, scores), HEAD=head)


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
        and _shared(q, _head(q.shape[3]), 2, 2) <= most_shared(q)
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
    b, h, t, _ = q.shape
    y, logsumexp = _like_heads(q), xp(q).empty((b, h, t), np.float32)
    problem = _problem(is_causal, scale, dropout_p, seed, q=q, k=k, v=v, y=y)
    _launch("forward", q, t, 1, 1, q, k, v, y, logsumexp, problem)
    return y, logsumexp


def _backward(
    g: Any, q: Any, k: Any, v: Any, y: Any, logsumexp: Any, is_causal: bool, scale: float, dropout_p: float, seed: int
) -> tuple[Any, Any, Any, None]:
    g, q, k, v = _in_rows(g), _in_rows(q), _in_rows(k), _in_rows(v)
    b, h, t, d = q.shape
    dq, dk, dv = _like_heads(q), _like_heads(k), _like_heads(v)
    problem = _problem(is_causal, scale, dropout_p, seed, q=q, k=k, v=v, y=y, g=g, dq=dq, dk=dk, dv=dv)
    delta = xp(q).empty((b, h, t), np.float32)
    launch("attention", "attention_delta", q, (blocks(t, 8), b * h), (256,), g, y, delta, problem, HEAD=_head(d))
    seen = (g, q, k, v, logsumexp, delta)
    _launch("backward_queries", q, t, 2, 1, *seen, dq, problem)
    _launch("backward_keys", q, k.shape[2], 2, 2, *seen, dk, dv, problem)
    return dq, dk, dv, None


_attention.kernel("cuda", _forward, d=_backward, residual=("logsumexp",))
