"""Samples of the ops in ops/reduction.py."""

from .sample import S, Table, booleans, distinct, integers, normal, reductions

# fmt: off
SAMPLES: Table = {
    "sum": reductions(normal),
    "mean": reductions(normal, empty=False),
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

NOT_ANALYTIC = {"amax", "amin"}
NO_DERIVATIVE = {"argmax", "argmin", "all", "any"}
