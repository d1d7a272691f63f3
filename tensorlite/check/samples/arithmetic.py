"""Samples of the ops in ops/arithmetic.py."""

import numpy as np

from .sample import BROADCASTS, S, Table, apart, awayfrom0, booleans, distinct, integers, normal, pairs, positive

# fmt: off
SAMPLES: Table = {
    "add": pairs(normal, normal),
    "subtract": pairs(normal, normal),
    "multiply": pairs(normal, normal),
    "divide": pairs(normal, awayfrom0),
    "pow": [*pairs(positive, normal)] + [S(awayfrom0(2, 3), p) for p in (0, 1, 2, 3, -1, -2)] + [S(positive(3), 0.5)],
    "logaddexp": [*pairs(normal, normal), S(normal(3) * 100, normal(3) * 100)],
    "maximum": [S(*apart(m, n)) for m, n in BROADCASTS] + [S(distinct(2, 3), 0.33), S(0, distinct(3))],
    "minimum": [S(*apart(m, n)) for m, n in BROADCASTS] + [S(distinct(2, 3), 0.33), S(0, distinct(3))],
    "clamp_min": [S(*apart(m, n)) for m, n in BROADCASTS] + [S(distinct(2, 3), 0.33), S(distinct(3, 2).T, 0)],
    "clamp_max": [S(*apart(m, n)) for m, n in BROADCASTS] + [S(distinct(2, 3), 0.33), S(distinct(3, 2).T, 0)],
    "where": [S(booleans(*m), normal(*m), normal(*n)) for m, n in BROADCASTS]
    + [S(booleans(2, 1), normal(3), 1.0), S(booleans(3), -1.5, normal(2, 3)), S(booleans(2, 3), normal(), normal())],
    **{name: [S(np.array([[5.3, -4.1, 0.7], [2.9, -0.3, 7.7]]), np.array([2.0, -1.5, 0.4])), S(normal(2), 100.0),
              S(np.array(5.3), np.array(2.0)), S(normal(0), positive(1)), S(3.5, positive(2) + 1), S(integers(9, 4), 2)]
       for name in ("floor_divide", "remainder", "fmod")},
    **{name: [S(integers(2, 2, 3), integers(2, 3)), S(normal(3), 0), S(0.5, normal(2)), S(normal(0), normal(1))]
       for name in ("eq", "ne", "lt", "le", "gt", "ge")},
    "logical_and": [S(booleans(2, 3), booleans(3)), S(integers(2, 4), integers(2, 4))],
    "logical_or": [S(booleans(2, 3), booleans(3)), S(integers(2, 4), integers(2, 4))],
    "logical_xor": [S(booleans(2, 3), booleans(3)), S(integers(2, 4), integers(2, 4))],
    "logical_not": [S(booleans(2, 3)), S(integers(2, 4))],
    "bitwise_and": [S(booleans(2, 3), booleans(3)), S(integers(9, 4), integers(9, 2, 4)), S(integers(9, 4), 5)],
    "bitwise_or": [S(booleans(2, 3), booleans(3)), S(integers(9, 4), integers(9, 2, 4)), S(integers(9, 4), 5)],
    "bitwise_xor": [S(booleans(2, 3), booleans(3)), S(integers(9, 4), integers(9, 2, 4)), S(integers(9, 4), 5)],
    "bitwise_not": [S(booleans(2, 3)), S(integers(9, 4))],
}

NOT_ANALYTIC = {"maximum", "minimum", "clamp_min", "clamp_max", "floor_divide", "remainder", "fmod", "logaddexp"}
NO_DERIVATIVE = {
    "eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor", "logical_not", "bitwise_and",
    "bitwise_or", "bitwise_xor", "bitwise_not",
}
