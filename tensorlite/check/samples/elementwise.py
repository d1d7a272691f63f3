"""Samples of the ops in ops/elementwise.py."""

from math import inf

import numpy as np

from .sample import S, Table, awayfrom0, distinct, integers, normal, positive, unary

# fmt: off
SAMPLES: Table = {
    "neg": unary(normal),
    "abs": unary(distinct),
    "sign": unary(distinct),
    "exp": unary(normal),
    "log": unary(positive),
    "sqrt": unary(positive),
    "rsqrt": unary(positive),
    "sin": unary(normal),
    "cos": unary(normal),
    "tanh": unary(normal),
    "sigmoid": [*unary(normal), S(normal(4) * 20)],
    "erf": [*unary(awayfrom0), S(awayfrom0(4) * 3)],
    "relu": unary(distinct),
    "isnan": [S(np.array([1.0, np.nan, inf]))],
    "isinf": [S(np.array([1.0, np.nan, -inf]))],
    "isfinite": [S(np.array([1.0, np.nan, inf])), S(integers(3, 2))],
}

LARGE: Table = {
    "exp": [S(normal(300, 700))],
}

NOT_ANALYTIC = {"abs", "sign", "relu"}
NO_DERIVATIVE = {"isnan", "isinf", "isfinite"}
