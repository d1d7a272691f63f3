"""Samples of the ops in ops/indexing.py."""

from typing import Any

import numpy as np

from .sample import S, Table, integers, normal, truth

# fmt: off
INDICES: list[tuple[tuple[int, ...], Any]] = [
    ((4,), 1), ((4,), -1), ((4, 3), slice(1, 3)), ((4, 3), (slice(None), 1)), ((4, 3), slice(None, None, -2)),
    ((4, 3), (..., None, slice(0, 2))), ((4, 3), None), ((4, 3), ()), ((4, 3), (1, 2)), ((4, 3), slice(2, 2)),
    ((0, 3), slice(None)), ((), ()), ((), None), ((), ...),
    ((4, 3), np.array([0, 2, 2])), ((4, 3), np.array([[3, -1], [0, 3]])), ((4, 3), np.array(2)),
    ((4, 3), np.zeros(0, int)), ((4, 3), (np.array([0, 0, 1]), np.array([2, 2, 0]))),
    ((4, 3), (slice(1, None), np.array([0, 0]))), ((4, 3), (np.array([[0], [3]]), np.array([0, 0, 1]))),
    ((2, 3, 4), (np.array([0, 1, 1]), slice(None), np.array([3, 0, 0]))), ((2, 3), (0, np.array([1, 1]))),
    ((4,), truth(1, 0, 1, 1)), ((4, 3), truth(1, 0, 0, 1)), ((2, 2), truth(1, 0, 1, 1).reshape(2, 2)),
    ((4, 3), (truth(1, 0, 1, 0), 1)), ((4, 3), (slice(None), truth(0, 1, 1))), ((4, 3), truth(0, 0, 0, 0)),
]


SAMPLES: Table = {
    "getitem": [S(normal(*shape), index=index) for shape, index in INDICES],
    "setitem": [S(normal(*np.zeros(shape)[index].shape), index=index, shape=shape) for shape, index in INDICES],
    "take_along_dim": [
        S(normal(2, 3), integers(3, 2, 5), dim=1), S(normal(2, 3), integers(2, 4, 3), dim=0),
        S(normal(2, 3), integers(3, 2, 1), dim=-1), S(normal(3), np.array([-1, 0, -1]), dim=0),
        S(normal(2, 3), integers(3, 1, 2), dim=1), S(normal(1, 3), integers(3, 4, 2), dim=1),
        S(normal(3, 2).T, integers(3, 2, 2), dim=1), S(normal(2, 3), integers(3, 2, 0), dim=1),
        S(normal(0, 3), integers(3, 0, 2), dim=1),
    ],
    "put_along_dim": [
        S(normal(*i), integers(high, *i), dim=dim, shape=(2, 3))
        for i, high, dim in (((2, 5), 3, 1), ((4, 3), 2, 0), ((2, 1), 3, -1), ((2, 0), 3, 1))
    ],
}
