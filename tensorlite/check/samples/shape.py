"""Samples of the ops in ops/shape.py."""

import numpy as np

from ...device import device
from .sample import S, Table, integers, normal, unary

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
    "split": [S(normal(5, 2), sizes=(2, 3), dim=0), S(normal(2, 6), sizes=(1, 2, 3), dim=-1),
              S(normal(3), sizes=(3,), dim=0), S(normal(2, 3), sizes=(0, 3), dim=1),
              S(normal(4, 2).T, sizes=(1, 3), dim=1)],
    "cat": [S(normal(2, 3), normal(1, 3), dim=0), S(normal(2, 1), normal(2, 2), normal(2, 3), dim=-1),
            S(normal(3), dim=0), S(normal(0, 2), normal(2, 2), dim=0), S(normal(3, 2).T, normal(2, 3), dim=1),
            S(normal(2), integers(4, 3), normal(1), dim=0)],
    "flip": [S(normal(2, 3, 2), dims=dims) for dims in ((0,), (-1,), (0, 2))] + [S(normal(0, 2), dims=(1,))],
    "tril": [S(normal(*shape), diagonal=k) for shape in ((3, 3), (2, 2, 4), (3, 2)) for k in (0, 1, -1)],
    "triu": [S(normal(*shape), diagonal=k) for shape in ((3, 3), (2, 2, 4), (3, 2)) for k in (0, 1, -1)],
    "clone": unary(normal),
    "to": [S(normal(2, 3), dtype=np.dtype("float64")), S(normal(), dtype=np.dtype("float64"))],
    "move": [S(normal(2, 3), source=device("cpu"), target=device("cpu"))],
}

NOT_ANALYTIC = {"to"}
