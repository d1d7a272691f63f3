"""Samples of the ops in ops/activation.py."""

from math import inf

import numpy as np

from .sample import BROADCASTS, S, Table, awayfrom0, booleans, normal, over_a_dim, unary

# fmt: off
SAMPLES: Table = {
    "softmax": [*over_a_dim(), S(np.array([[0.3, -inf, 0.1]]), dim=1), S(normal(2, 3) + 1000, dim=-1)],
    "log_softmax": [*over_a_dim(), S(normal(2, 3) - 1000, dim=-1)],
    "gelu": [S(*s.inputs, approximate=form) for form in ("none", "tanh") for s in unary(awayfrom0)]
    + [S(awayfrom0(3) * 4, approximate=form) for form in ("none", "tanh")],
    "elu": [*(S(*s.inputs, alpha=1.0) for s in unary(awayfrom0)), S(awayfrom0(3) * 4, alpha=0.3)],
    "silu": [*unary(normal), S(normal(3) * 8)],
    "swiglu": [*(S(normal(*m), normal(*n)) for m, n in BROADCASTS), S(normal(3) * 8, normal(3)), S(normal(2, 3), 2.0),
               S(normal(3, 2).T, normal(2, 3)), S(normal(0, 3), normal(3))],
    "logsigmoid": [*unary(awayfrom0), S(awayfrom0(3) * 20)],
    "dropout": [S(normal(2, 3), booleans(2, 3), p=0.4), S(normal(3, 2).T, booleans(2, 3), p=0.1),
                S(normal(), booleans(), p=0.5)],
    "seeded_dropout": [S(normal(2, 3), p=0.4, seed=5), S(normal(3, 3).T, p=0.1, seed=1 << 61), S(normal(), p=0.5, seed=0),
                       S(normal(0, 2), p=0.5, seed=1)],
}

LARGE: Table = {
    "gelu": [S(normal(130, 1025), approximate=form) for form in ("none", "tanh")],
    "softmax": [S(normal(130, 513), dim=-1), S(normal(513, 40), dim=0)],
    "log_softmax": [S(normal(130, 513), dim=-1)],
    "silu": [S(normal(130, 1025))],
    "swiglu": [S(normal(130, 1025), normal(130, 1025))],
    "dropout": [S(normal(70, 1100), booleans(70, 1100), p=0.3)],
}
