"""Samples of the ops in ops/shape.py."""

import numpy as np

from ...device import device
from .sample import S, Table, normal, unary

# fmt: off
SAMPLES: Table = {
    "reshape": [S(normal(2, 3), shape=(3, 2)), S(normal(3, 2).T, shape=(6,)), S(normal(2, 3), shape=(-1, 1, 3)),
                S(normal(1), shape=()), S(normal(), shape=(1, 1)), S(normal(0, 3), shape=(3, 0))],
    "permute": [S(normal(2, 3, 4), dims=dims) for dims in ((2, 0, 1), (0, 2, 1), (-1, 0, 1), (0, -1, -2))]
    + [S(normal(2, 2, 2), dims=(0, -1, 1)), S(normal(2, 2, 2), dims=(-1, 0, -2)), S(normal(), dims=())],
    "transpose": [S(normal(2, 3, 4), dim0=i, dim1=j) for i, j in ((0, 1), (-1, 0), (-2, -1), (1, 1))]
    + [S(normal(0, 3), dim0=0, dim1=1)],
    "expand": [S(normal(1, 3), shape=(2, 3)), S(normal(3), shape=(2, 3)), S(normal(), shape=(2, 2)),
               S(normal(2, 1), shape=(2, 0)), S(normal(2, 1), shape=(3, 2, 1)),
               S(normal(2), shape=(2,)), S(normal(1, 3), shape=(0, 3))],
    "clone": unary(normal),
    "to": [S(normal(2, 3), dtype=np.dtype("float64")), S(normal(), dtype=np.dtype("float64"))],
    "move": [S(normal(2, 3), source=device("cpu"), target=device("cpu"), non_blocking=False)],
}

NOT_ANALYTIC = {"to"}
