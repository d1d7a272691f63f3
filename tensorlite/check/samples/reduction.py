"""Samples of the ops in ops/reduction.py."""

import numpy as np

from .sample import S, Table, awayfrom0, booleans, distinct, integers, normal, over_a_dim, reductions

# fmt: off
SAMPLES: Table = {
    "sum": reductions(normal),
    "mean": reductions(normal, empty=False),
    "prod": [S(normal(*shape), dim=dim, keepdim=keepdim) for keepdim in (False, True)
             for shape, dim in (((2, 3), 1), ((2, 3), 0), ((5,), 0), ((7, 2), 0), ((2, 1), 1), ((0, 3), 1), ((0,), 0))]
    + [S(normal(3, 4).T, dim=0, keepdim=False)]
    + [S(np.array(row), dim=0, keepdim=False) for row in ([0.0, 2, 3, 4], [2.0, 0, 0, 4, 5], [0.0])],
    "cumsum": over_a_dim(),
    "norm": [*reductions(normal, p=2.0, empty=False), *reductions(awayfrom0, p=3.0, empty=False),
             *(S(awayfrom0(2, 3), p=p, dim=dim, keepdim=keep) for p in (0.5, 1.0, 1.5, 4.0, -1.0, -2.0)
               for dim, keep in (((1,), False), (None, True)))],
    "var": [*reductions(normal, empty=False, correction=0), *reductions(normal, empty=False, correction=0.5),
            *(S(normal(2, 3), dim=dim, correction=1, keepdim=keep) for dim, keep in (((1,), False), (None, True)))],
    "amax": reductions(distinct, empty=False),
    "amin": reductions(distinct, empty=False),
    "argmax": [S(normal(2, 3), dim=dim, keepdim=keepdim) for dim in (None, 0, -1) for keepdim in (False, True)],
    "argmin": [S(normal(2, 3), dim=dim, keepdim=keepdim) for dim in (None, 0, -1) for keepdim in (False, True)],
    "all": [S(booleans(2, 3), dim=dim, keepdim=dim is None) for dim in (None, (0,), (0, 1))]
    + [S(integers(2, 3), dim=None, keepdim=True)],
    "any": [S(booleans(2, 3), dim=dim, keepdim=dim is None) for dim in (None, (0,), (0, 1))]
    + [S(integers(2, 3), dim=None, keepdim=True)],
}

NOT_ANALYTIC = {"amax", "amin", "norm"}
NO_DERIVATIVE = {"argmax", "argmin", "all", "any"}
