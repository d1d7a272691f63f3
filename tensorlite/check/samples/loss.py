"""Samples of the ops in ops/loss.py."""

from math import inf

import numpy as np

from .sample import BROADCASTS, S, Table, integers, normal, positive


def probabilities(*shape: int) -> np.ndarray:
    return np.asarray(positive(*shape) * 0.4)


# fmt: off
SAMPLES: Table = {
    "cross_entropy": [
        S(normal(4, 5), integers(5, 4), None), S(normal(4, 5), integers(5, 4), positive(4), wrt=(0,)),
        S(normal(5, 4).T, integers(5, 4), None), S(normal(0, 5), integers(5, 0), None),
        S(normal(3, 1), integers(1, 3), None),
        S(np.array([[0.1, -inf, 0.4]]), np.array([2]), None), S(normal(2, 3) * 100, integers(3, 2), None),
        S(normal(3, 4), integers(4, 3).astype(np.uint16), np.array([1.0, 0.0, 2.0]), wrt=(0,)),
    ],
    "binary_cross_entropy": [S(probabilities(*m), probabilities(*n)) for m, n in BROADCASTS]
    + [S(probabilities(3, 2).T, np.array([[0.0, 1.0, 0.0]]))],
}

for _slopes in ((True, True), (False, True), (True, False)):
    SAMPLES.setdefault("linear_cross_entropy", []).extend([
        S(normal(4, 3), normal(5, 3), integers(5, 4), positive(4), wrt=tuple(np.flatnonzero(_slopes).tolist()), slopes=_slopes),
        S(normal(3, 4).T, normal(2, 3), integers(2, 4), np.array([1.0, 0.0, 2.0, 0.5]), wrt=tuple(np.flatnonzero(_slopes).tolist()), slopes=_slopes),
        S(normal(1, 1), normal(1, 1), integers(1, 1), positive(1), wrt=tuple(np.flatnonzero(_slopes).tolist()), slopes=_slopes),
    ])

LARGE: Table = {
    "linear_cross_entropy": [
        S(normal(70, 33), normal(3001, 33), integers(3001, 70), positive(70), wrt=(0, 1), slopes=(True, True)),
    ],
    "cross_entropy": [
        S(normal(70, 3001), integers(3001, 70), None), S(normal(70, 3001), integers(3001, 70), positive(70), wrt=(0,)),
    ],
}
