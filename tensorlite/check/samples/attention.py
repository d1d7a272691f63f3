"""Samples of the ops in ops/attention.py."""

from math import inf
from typing import Any

import numpy as np

from .sample import S, Sample, Table, booleans, normal


def attend(q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: Any = None, **options: Any) -> Sample:
    return S(q, k, v, mask, **{"is_causal": False, "scale": 0.7, "dropout_p": 0.0, "seed": 0} | options)


ROW_OF_NOTHING = np.array([[True, False, True], [False, False, False]])

# fmt: off
SAMPLES: Table = {
    "attention": [
        attend(normal(3, 2), normal(3, 2), normal(3, 2)),
        attend(normal(3, 2), normal(3, 2), normal(3, 2), is_causal=True),
        attend(normal(2, 2), normal(4, 2), normal(4, 3), is_causal=True),
        attend(normal(4, 2), normal(2, 2), normal(2, 3), is_causal=True, scale=1.5),
        attend(normal(2, 2, 2), normal(2, 3, 2), normal(2, 3, 1), booleans(2, 3)),
        attend(normal(2, 2), normal(3, 2), normal(3, 2), ROW_OF_NOTHING),
        attend(normal(2, 1, 2, 2), normal(1, 2, 3, 2), normal(3, 2), booleans(2, 1, 1, 3)),
        attend(normal(2, 2, 2), normal(2, 3, 2), normal(2, 3, 2), normal(2, 3)),
        attend(normal(2, 2, 2), normal(2, 3, 2), normal(2, 3, 2), normal(2, 1, 3), is_causal=True),
        attend(normal(2, 2), normal(3, 2), normal(3, 2), np.where(ROW_OF_NOTHING, 0.5, -inf), wrt=(0, 1, 2)),
        attend(normal(2, 3, 2), normal(2, 3, 2), normal(2, 3, 2), is_causal=True, dropout_p=0.4, seed=7),
        attend(normal(2, 2), normal(3, 2), normal(3, 2), normal(2, 3), dropout_p=0.2, seed=2**40),
        attend(normal(2, 3).T, normal(2, 3).T, normal(3, 2)[:, ::-1]),
        attend(normal(1, 1), normal(1, 1), normal(1, 1)),
        attend(normal(0, 2), normal(3, 2), normal(3, 2)),
        attend(normal(0, 2, 2), normal(0, 3, 2), normal(0, 3, 2), is_causal=True),
    ],
}

LARGE: Table = {
    "attention": [
        attend(normal(2, 3, 150, 16), normal(2, 3, 150, 16), normal(2, 3, 150, 16), is_causal=True, scale=0.25),
        attend(normal(2, 3, 300, 8), normal(2, 3, 270, 8), normal(2, 3, 270, 5), scale=0.3),
        attend(normal(3, 140, 8), normal(3, 200, 8), normal(3, 200, 8), booleans(140, 200)),
        attend(normal(3, 140, 8), normal(3, 140, 8), normal(3, 140, 8), is_causal=True, dropout_p=0.2, seed=3),
        attend(normal(140, 2, 2, 8).transpose(1, 2, 0, 3), normal(2, 2, 140, 8), normal(2, 2, 140, 8), is_causal=True),
        attend(normal(1, 2, 200, 8), normal(1, 2, 200, 8), normal(1, 2, 200, 8), is_causal=True, scale=9.0),  # scores above 60
        attend(normal(1, 1, 520, 4), normal(1, 1, 560, 4), normal(1, 1, 560, 4), is_causal=True),
    ],
}
