"""Arithmetic, against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
from compare import INF, NAN, Case, call, compare, functional, table

from tensorlite.check.samples.sample import booleans, integers, normal, positive

KNOWN = {"relu of nan": "nan > 0 is false, so no gradient passes; PyTorch lets it pass"}

SMOOTH = ["add", "subtract", "multiply", "divide", "maximum", "minimum"]


@pytest.mark.parametrize("name", [*SMOOTH, "pow", "remainder", "floor_divide"])
def test_two_operands(name: str):
    a, b = np.meshgrid([-INF, -2.0, -0.5, 0.0, 1.0, 3.0, INF], [-2.0, -1.0, 0.0, 0.5, 2.0, INF])
    compare(call(name), a, b, differentiate=name in SMOOTH)
    compare(call(name), positive(2, 1, 3), positive(4, 1) + 0.01, differentiate=name != "floor_divide")
    compare(call(name), np.array([NAN, NAN, 1.0]), np.array([1.0, NAN, NAN]), differentiate=False)


GRID = np.array([[0.0, 0.5, 1.0, 2.0], [0.0, -1.0, -2.0, 3.0]])
CONDITION = np.array([True, False])

ARITHMETIC: dict[str, Case] = {
    **{f"x ** {p}": (lambda m, x, p=p: x**p, GRID) for p in (0, 1, 2, 3, 0.5, -1, -2, 0.0, 1.5)},
    **{f"{b} ** x": (lambda m, x, b=b: b**x, GRID) for b in (2, 0.5, 1, 0.0, 3)},
    "0 to powers": (lambda m, a, b: a**b, np.zeros(4), np.array([0.0, 0.5, 1.0, 2.0])),
    "operators": (
        lambda m, x, y: (x + y, x - y, x * y, x / y, x % y, x**y, -x, abs(x), 1 + x, 2 - x, 2 * x, 2 / x),
        positive(2, 3), positive(3) + 0.01,
    ),
    "operators of integers": (lambda m, x, y: (x // y, 7 // y, 7 % y, x // 2), integers(9, 3), integers(9, 3) + 1),
    "comparisons": (
        lambda m, x, y: (x == y, x != y, x < y, x <= y, x > y, x >= y, x == 1, x < 1), integers(2, 2, 3), integers(2, 3)
    ),
    "and, or, not of booleans": (lambda m, x, y: (x & y, x | y, ~x, True & x), booleans(2, 3), booleans(3)),
    "and, or, not of integers": (lambda m, x, y: (x & y, x | y, ~x, x & 3, 4 | x), integers(9, 2, 3), integers(9, 3)),
    "and of floats": (lambda m, x: x & x, normal(3)),
    "logical_and, logical_or": (lambda m, x, y: (m.logical_and(x, y), m.logical_or(x, y)), normal(3), np.zeros(3)),
    "where": (
        lambda m, c, x, y: (m.where(c, x, y), m.where(c, x, 0.0), m.where(c, -INF, y), m.where(c, 1, 0)),
        booleans(2, 3), normal(3), normal(2, 1),
    ),
    "where does not pass nan on": (lambda m, c, x: m.where(c, x, 0.0), CONDITION, np.array([1.0, NAN])),
    "where of floats": (lambda m, x: m.where(x, x, x), normal(3)),
    "masked_fill": (
        lambda m, x, c: (x.masked_fill(c, -INF), x.masked_fill(c, 2), x.masked_fill(~c, 0.0)), normal(2, 3), booleans(3)
    ),
    "masked_fill of floats": (lambda m, x: x.masked_fill(x, 0.0), normal(3)),
    "integer division": (lambda m, x: (x / 2, x // 2, x % 3, -x // 2, -x % 3, x / x), np.array([1, 2, 3, 7])),
    "negative integer power": (lambda m, x: x**-1, np.array([1, 2])),
    "minus of booleans": (lambda m, x: -x, booleans(3)),
    "difference of booleans": (lambda m, x: x - x, booleans(3)),
    "broadcasting": (lambda m, x, y, z: x * y + z, normal(2, 1, 3), normal(4, 1), normal()),
    "no broadcasting": (lambda m, x, y: x + y, normal(2, 3), normal(2)),
    "size 0": (lambda m, x, y: (x * y, (x + y).sum()), normal(0, 3), normal(1, 3)),
    "relu of nan": (call("relu"), np.array([NAN, 1.0])),
    **{f"mse_loss, {how}": (functional("mse_loss", reduction=how), normal(2, 3), normal(2, 3))
       for how in ("mean", "sum", "none")},
}  # fmt: skip


@table(ARITHMETIC, KNOWN)
def test_arithmetic(case: Case):
    compare(*case)
