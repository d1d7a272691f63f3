"""Arithmetic, against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
from compare import INF, NAN, Case, call, compare, functional, table, torch

import tensorlite as tl
from tensorlite.check.samples.sample import booleans, integers, normal, positive

SMOOTH = ["add", "subtract", "multiply", "divide", "true_divide", "maximum", "minimum"]


@pytest.mark.parametrize("name", [*SMOOTH, "pow", "remainder", "fmod", "floor_divide", "logaddexp"])
def test_two_operands(name: str):
    a, b = np.meshgrid([-INF, -2.0, -0.5, 0.0, 1.0, 3.0, INF], [-2.0, -1.0, 0.0, 0.5, 2.0, INF])
    compare(call(name), a, b, differentiate=name in SMOOTH)
    compare(call(name), positive(2, 1, 3), positive(4, 1) + 0.01, differentiate=name != "floor_divide")
    compare(call(name), np.array([NAN, NAN, 1.0]), np.array([1.0, NAN, NAN]), differentiate=False)


GRID = np.array([[0.0, 0.5, 1.0, 2.0], [0.0, -1.0, -2.0, 3.0]])
CONDITION = np.array([True, False])
MASK = np.array([True, False, True])
IDS = np.array([1, 2, 3])

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
    "alpha": (
        lambda m, x, y: (
            m.add(x, y, alpha=2), m.sub(x, y, alpha=0.5), x.add(y, alpha=-1), x.subtract(y, alpha=3), x.add(1, alpha=2)
        ),
        normal(2, 3), normal(3),
    ),
    "alpha of integers": (lambda m, x, y: (m.add(x, y, alpha=2), x.sub(y, alpha=3), x.add(2.5, alpha=2)), IDS, IDS),
    "alpha of integers, a fraction": (lambda m, x: m.add(x, x, alpha=1.5), IDS),
    **{f"rounding_mode {mode}": (
        lambda m, x, y, i, j, mode=mode: (
            m.div(x, y, rounding_mode=mode), i.div(j, rounding_mode=mode), i.divide(2, rounding_mode=mode),
            m.div(i, -2.0, rounding_mode=mode),
        ),
        np.array([5.0, -5.0, 5.0, -5.0]), np.array([3.0, 3.0, -3.0, -3.0]),
        np.array([7, -7, 7, -7]), np.array([2, 2, -2, -2]),
    ) for mode in (None, "floor", "trunc")},
    "division by 0, rounded": (
        lambda m, x: (m.div(x.detach(), 0, rounding_mode="floor"), m.div(x.detach(), 0, rounding_mode="trunc")),
        np.array([2.0, -2.0, 0.0]),
    ),
    "another rounding_mode": (lambda m, x: m.div(x, 2, rounding_mode="up"), normal(2)),
    "signs of remainders": (
        lambda m, x, y, i, j: (
            m.remainder(x, y), m.fmod(x, y), x % y, x.fmod(-3), m.remainder(i, j), m.fmod(i, j), i // j
        ),
        np.array([5.5, -5.5, 5.5, -5.5]), np.array([3.0, 3.0, -3.0, -3.0]),
        np.array([5, -5, 5, -5]), np.array([3, 3, -3, -3]),
    ),
    "nan beside a number": (
        lambda m, x, y: (m.maximum(x, y), m.minimum(x, y)), np.array([1.0, NAN, 2.0]), np.array([NAN, 2, 2])
    ),
    **{f"integers {name} zero": (lambda m, x, f=f: f(m, x), np.array([1, 2])) for name, f in {
        "// 0": lambda m, x: x // 0, "% 0": lambda m, x: x % 0, "fmod 0": lambda m, x: m.fmod(x, 0),
        "//": lambda m, x: 1 // (x - 1), "floor": lambda m, x: m.div(x, x - 1, rounding_mode="floor"),
        "trunc": lambda m, x: m.div(x, 0, rounding_mode="trunc"), "/ 0": lambda m, x: (x / 0, (x - 1) / (x - 1)),
    }.items()},
    "logaddexp of infinities": (
        lambda m, x, y: m.logaddexp(x, y), np.array([-INF, -INF, INF, 1000.0]), np.array([-INF, 1.0, 2.0, 1000.0])
    ),
    "sums and products of booleans": (lambda m, x, y: (x + y, x * y, x + 1, x * 2.0, x / y), MASK, MASK),
    **{f"booleans {name}": (f, MASK) for name, f in {
        "//": lambda m, x: x // x, "%": lambda m, x: x % x, "fmod": lambda m, x: m.fmod(x, x)
    }.items()},
    "masked_fill keeps the dtype": (
        lambda m, i, b, c: (
            i.masked_fill(c, 1.9), i.masked_fill(c, m.tensor(1.9)), i.masked_fill(c, True), b.masked_fill(c, 0),
            b.masked_fill(c, 0.5),
        ),
        np.array([1, 2, 3]), MASK, np.array([True, False, True]),
    ),
    "masked_fill by a Tensor": (lambda m, x, c, v: x.masked_fill(c, v), normal(2, 3), MASK, np.array(2.0, "float32")),
    "masked_fill by a vector": (lambda m, x, c, v: x.masked_fill(c, v), normal(3), MASK, np.array([2.0])),
    "masked_fill by too much": (lambda m, x, c: x.masked_fill(c, 300), np.array([1, 2, 3], "uint8"), MASK),
    "masked_fill of float16 by too much": (lambda m, x, c: x.masked_fill(c, -1e9), normal(3).astype("float16"), MASK),
    "masked_fill of float16 by infinity": (lambda m, x, c: x.masked_fill(c, -INF), normal(3).astype("float16"), MASK),
    "masked_fill of integers by infinity": (lambda m, x, c: x.masked_fill(c, INF), IDS, MASK),
    **{f"x {name}": (f, normal(2)) for name, f in {
        "< None": lambda m, x: x < None, "+ None": lambda m, x: x + None, "* text": lambda m, x: x * "a",
        "> text": lambda m, x: x > "a", "+ dict": lambda m, x: x + {},
    }.items()},
    **{f"mse_loss, {how}": (functional("mse_loss", reduction=how), normal(2, 3), normal(2, 3))
       for how in ("mean", "sum", "none")},
}  # fmt: skip


@table(ARITHMETIC)
def test_arithmetic(case: Case):
    compare(*case)


def test_what_is_no_number_equals_nothing():
    for x in (tl.ones(2), torch.ones(2)):
        assert (x == None) is False and (x != None) is True  # noqa: E711
        assert (x == "a") is False and x not in ["a", None]
