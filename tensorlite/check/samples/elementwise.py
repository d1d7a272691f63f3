"""Samples of the ops in ops/elementwise.py."""

from math import inf

import numpy as np

from .sample import S, Table, awayfrom0, booleans, distinct, integers, normal, positive, unary

# fmt: off
SAMPLES: Table = {
    "neg": unary(normal),
    "abs": unary(distinct),
    "sign": unary(distinct),
    "exp": unary(normal),
    "exp2": unary(normal),
    "expm1": [*unary(normal), S(normal(3) * 1e-6)],
    "log": unary(positive),
    "log2": unary(positive),
    "log10": unary(positive),
    "log1p": [*unary(positive), S(normal(3) * 1e-6)],
    "reciprocal": unary(awayfrom0),
    "sqrt": unary(positive),
    "rsqrt": unary(positive),
    "sin": unary(normal),
    "cos": unary(normal),
    "tanh": unary(normal),
    "sigmoid": [*unary(normal), S(normal(4) * 20)],
    "erf": [*unary(awayfrom0), S(awayfrom0(4) * 3)],
    "relu": unary(distinct),
    "masked": [S(normal(*n), booleans(*m)) for n, m in (((2, 3), (2, 3)), ((), ()), ((1,), (1,)), ((0, 3), (3,)), ((2, 3), (2, 1)))]
    + [S(normal(3, 2).T, booleans(2, 3)), S(normal(3), np.array(False)), S(normal(2, 3), booleans(3, 2).T)],
    "floor": [*unary(distinct), S(integers(3, 2))],
    "ceil": [*unary(distinct), S(integers(3, 2))],
    "trunc": [*unary(distinct), S(integers(3, 2))],
    "round": [S(np.asarray(distinct(*shape) + 0.03), decimals=n)
              for shape in ((2, 3), (), (1,), (0, 3)) for n in (0, 1, -1)]
    + [S(distinct(3, 2).T + 0.03, decimals=0)],
    "isnan": [S(np.array([1.0, np.nan, inf]))],
    "isinf": [S(np.array([1.0, np.nan, -inf]))],
    "isfinite": [S(np.array([1.0, np.nan, inf])), S(integers(3, 2))],
}

LARGE: Table = {
    "exp": [S(normal(300, 700))],
}

NOT_ANALYTIC = {"abs", "sign", "relu", "floor", "ceil", "trunc", "round"}
NO_DERIVATIVE = {"isnan", "isinf", "isfinite"}
