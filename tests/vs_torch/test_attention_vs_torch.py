"""Attention, against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from compare import INF, Case, compare, functional, table

from tensorlite.check.samples.sample import booleans, integers, normal


def attention(**options: Any) -> Callable[..., Any]:
    return functional("scaled_dot_product_attention", **options)


def qkv(t: int, s: int, d: int = 4, dv: int = 4, lead: tuple[int, ...] = (2, 3)) -> list[np.ndarray]:
    return [normal(*lead, t, d), normal(*lead, s, d), normal(*lead, s, dv)]


def cast(arrays: list[np.ndarray], *dtypes: Any) -> list[np.ndarray]:
    return [x.astype(dtype) for x, dtype in zip(arrays, dtypes, strict=True)]


def both(*shape: int) -> list[np.ndarray]:
    """k and v"""
    return [normal(*shape), normal(*shape)]


GROUPED = attention(enable_gqa=True)
CAUSAL = attention(is_causal=True)
SINGLE = [np.float32] * 3
MASK = np.array([[True, False, True, True], [False, False, False, False], [True, True, True, True]])

ATTENTION: dict[str, Case] = {
    "plain": (attention(), *qkv(3, 3)),
    "T and S differ": (attention(), *qkv(3, 5)),
    "width of v": (attention(), *qkv(3, 5, 4, 2)),
    "causal": (CAUSAL, *qkv(4, 4)),
    "causal, T < S": (CAUSAL, *qkv(3, 5)),
    "causal, T > S": (CAUSAL, *qkv(5, 3)),
    "scale": (attention(scale=0.3), *qkv(3, 3)),
    "one query": (attention(), *qkv(1, 5)),
    "without heads": (attention(), *qkv(3, 4, lead=())),
    "one leading dimension": (attention(), *qkv(3, 4, lead=(2,))),
    "boolean mask": (attention(), *qkv(3, 4), booleans(3, 4) | np.eye(3, 4, dtype=bool)),
    "boolean mask of a batch": (attention(), *qkv(3, 4), np.array([[[[True, False, True, True]]], [[[True] * 4]]])),
    "row that may look at nothing": (attention(), *qkv(3, 4), MASK),
    "numbers as a mask": (attention(), *qkv(3, 4), normal(3, 4)),
    "numbers as a mask, broadcast": (attention(), *qkv(3, 4), normal(2, 1, 1, 4)),
    "-inf in a mask": (attention(), *qkv(3, 4), np.where(np.tri(3, 4), 0, -INF)),
    "dtypes": (attention(), *cast(qkv(3, 3), np.float32, np.float64, np.float64)),
    "dtype of the mask": (attention(), *cast(qkv(3, 4), *SINGLE), normal(3, 4)),
    "integers as a mask": (attention(), *qkv(3, 4), integers(2, 3, 4)),
    "widths of q and k": (attention(), normal(1, 1, 3, 4), normal(1, 1, 3, 5), normal(1, 1, 3, 5)),
    "float32": (CAUSAL, *cast(qkv(40, 40, 16, 16), *SINGLE)),
    "large scores": (attention(), *[x * 10 for x in qkv(6, 6)]),
    "grouped queries": (GROUPED, normal(2, 6, 5, 4), normal(2, 2, 7, 4), normal(2, 2, 7, 3)),
    "grouped queries, causal": (attention(enable_gqa=True, is_causal=True), normal(2, 6, 5, 4), *both(2, 3, 5, 4)),
    "grouped queries, one head": (GROUPED, normal(2, 4, 5, 4), *both(2, 1, 5, 4)),
    "grouped queries, as many heads": (GROUPED, normal(2, 4, 5, 4), *both(2, 4, 5, 4)),
    "grouped queries, other heads for v": (GROUPED, normal(2, 4, 5, 4), normal(2, 2, 5, 4), normal(2, 1, 5, 4)),
    "grouped queries, mask": (GROUPED, normal(2, 4, 3, 4), *both(2, 2, 5, 4), normal(2, 4, 3, 5)),
    "grouped queries, float32": (GROUPED, *cast([normal(1, 8, 20, 16), *both(1, 2, 20, 16)], *SINGLE)),
    "grouped queries, no divisor": (GROUPED, normal(2, 5, 3, 4), *both(2, 2, 3, 4)),
    "fewer heads, not grouped": (attention(), normal(2, 4, 3, 4), *both(2, 2, 3, 4)),
    "as a GPT calls it": (
        lambda m, x: (
            m.nn.functional.scaled_dot_product_attention(
                *[part.view(2, 5, 2, 3).transpose(1, 2) for part in x.split(6, dim=2)], is_causal=True
            ).transpose(1, 2).contiguous().view(2, 5, 6)
        ),
        normal(2, 5, 18),
    ),
}  # fmt: skip


@table(ATTENTION)
def test_attention(case: Case):
    compare(*case)
