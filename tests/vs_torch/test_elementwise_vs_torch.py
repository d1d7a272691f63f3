"""Functions of one number, against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compare import INF, NAN, Case, call, compare, method, table, torch

import tensorlite as tl
from tensorlite.check.samples.sample import booleans, distinct, integers, normal, positive

EDGES = np.array([-INF, -100.0, -20.0, -2.5, -1.0, -0.1, 0.0, 1e-8, 0.1, 1.0, 3.0, 6.5, 20.0, 100.0, INF])
ELEMENTWISE = [
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "rsqrt", "reciprocal", "square", "sin", "cos",
    "tanh", "sigmoid", "erf", "relu", "abs", "absolute", "neg", "negative", "sign", "floor", "ceil", "round", "trunc",
    "isnan", "isinf", "isfinite", "logical_not", "nan_to_num",
]  # fmt: skip


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise(name: str):
    for dtype in ("float64", "float32"):
        compare(call(name), EDGES.astype(dtype))
        compare(method(name), normal(2, 3).astype(dtype))
        compare(call(name), positive(0, 2).astype(dtype))
        compare(call(name), np.array(0.7, dtype))
        compare(call(name), np.array([NAN], dtype), differentiate=False)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16"])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_of(name: str, dtype: str):
    if dtype != "bool" or name not in ("relu", "abs", "absolute", "floor", "ceil", "round", "trunc", "nan_to_num"):
        # PyTorch refuses these.
        compare(call(name), np.array([1, 0, 1], dtype))


MASK = np.array([True, False, True])
BOUNDS = [-INF, -1.5, -1.0, 0.0, 1.0, 2.0, INF]

FUNCTIONS: dict[str, Case] = {
    "absolute": (lambda m, x: (abs(x), +x, -x, x.abs(), x.neg()), distinct(2, 3)),
    "round to decimals": (
        lambda m, x: [m.round(x, decimals=n) for n in (0, 1, 2, -1)], np.array([0.5, 1.5, 2.5, -0.25, 12.345, 155.0])
    ),
    "rounding integers": (lambda m, x: (x.floor(), x.ceil(), x.trunc(), x.round()), integers(9, 3)),
    "relu of nan": (call("relu"), np.array([NAN, 1.0, -1.0])),
    "abs of nan": (call("abs"), np.array([NAN, 0.0, -1.0])),
    "expm1, log1p near 0": (
        lambda m, x: (m.expm1(x) * 1e10, m.log1p(x) * 1e10), np.array([1e-10, -1e-12, 3e-7], "float32")
    ),
    # bounds
    "clamp": (lambda m, x: (x.clamp(-1, 1), x.clamp(-1.0, 2), m.clamp(x, min=0), m.clamp(x, max=0)), np.array(BOUNDS)),
    "clip": (lambda m, x: (x.clip(-1, 1), m.clip(x, -1, 1)), np.array(BOUNDS)),
    "clamp_min, clamp_max": (
        lambda m, x: (x.clamp_min(-1), x.clamp_max(1), m.clamp_min(x, 0), m.clamp_max(x, 0)), np.array(BOUNDS)
    ),
    "clamp of nan": (lambda m, x: x.clamp(1, 2), np.array([NAN, 3.0])),
    "clamp, crossed": (lambda m, x: x.clamp(2, 1), np.array([0.0, 1.5, 3.0])),
    "clamp by Tensors": (
        lambda m, x, a, b: (x.clamp(a, b), m.clamp(x, max=b)), normal(2, 3), -positive(3), positive(2, 1)
    ),
    "clamp by crossed Tensors": (
        lambda m, x, a, b: x.clamp(a, b), np.array([0.0, 1.5, 5.0]), np.full(3, 3.0), np.full(3, 1.0)
    ),
    "clamp by nothing": (lambda m, x: x.clamp(), normal(2)),
    "clamp of integers": (lambda m, x: (x.clamp(2, 3), x.clamp(2.5), x.clamp(0, 2.5)), np.array([1, 5])),
    "clamp mixes dtypes": (lambda m, x, y: (x.clamp(y), x.clamp(max=y)), np.array([1, 5]), np.array(2.5, "float32")),
    # truth
    "nan_to_num": (
        lambda m, x: (m.nan_to_num(x), m.nan_to_num(x, 1), x.nan_to_num(1.0, 2.0, 3.0), x.nan_to_num(posinf=5)),
        np.array([NAN, INF, -INF, 1.0]),
    ),
    "logical": (
        lambda m, x, y: (m.logical_and(x, y), x.logical_or(y), x.logical_xor(y), m.logical_not(x)),
        np.array([0.0, 1.0, NAN, 0.0]), np.array([0, 2, 0, 3]),
    ),
    "xor": (lambda m, x, y: (x ^ y, x ^ True, m.bitwise_xor(x, y), True ^ x), MASK, booleans(3)),
    "xor of integers": (lambda m, x, y: (x ^ y, x ^ 3, 6 ^ x), integers(9, 3), integers(9, 3)),
    "isclose": (
        lambda m, x, y: (
            m.isclose(x, y), x.isclose(y, equal_nan=True), x.isclose(y, 0.1, 0), x.isclose(y, rtol=0, atol=1)
        ),
        np.array([1.0, 1.0, NAN, INF, INF, -INF, 0.0, 2.0]), np.array([1.000001, 1.1, NAN, INF, 1.0, INF, 1e-9, 3.0]),
    ),
    "isclose of integers": (lambda m, x, y: (x.isclose(y), x.isclose(y, atol=1)), np.array([1, 5]), np.array([2, 5])),
    "isclose of bytes": (lambda m, x, y: x.isclose(y, atol=1), np.array([1, 5], "uint8"), np.array([2, 3], "uint8")),
    "isclose of booleans": (lambda m, x, y: x.isclose(y), MASK, ~MASK),
    "isclose of two dtypes": (lambda m, x, y: x.isclose(y), np.array([1, 2]), np.array([1.0, 2.0])),
    "isclose, negative tolerance": (lambda m, x: x.isclose(x, rtol=-1), normal(2)),
    "where as a method": (lambda m, x, c, y: (x.where(c, y), x.where(c, 0.0)), normal(3), MASK, normal(3)),
    "where of half its operands": (lambda m, c, x: m.where(c, x), MASK, normal(3)),
    "lerp": (lambda m, x, y, w: (m.lerp(x, y, 0.3), x.lerp(y, w), x.lerp(y, 0.0)), normal(3), normal(3), positive(3)),
}  # fmt: skip


@table(FUNCTIONS)
def test_functions(case: Case):
    compare(*case)


def test_allclose_and_equal():
    for a, b in (
        ([1.0, 2], [1.0, 2]),
        ([1.0, 2], [1.0, 2.1]),
        ([NAN], [NAN]),
        ([1.0], [1.0, 1.0]),
        ([], []),
        ([INF], [INF]),
    ):
        x, y, s, t = tl.tensor(a), tl.tensor(b), torch.tensor(a), torch.tensor(b)
        assert tl.equal(x, y) is x.equal(y) is torch.equal(s, t)
        for options in ({}, {"equal_nan": True}, {"rtol": 0, "atol": 0.2}):
            assert tl.allclose(x, y, **options) is x.allclose(y, **options) is torch.allclose(s, t, **options)
    assert tl.equal(tl.tensor([1]), tl.tensor([1.0]))


def test_relative_accuracy_of_sigmoid():
    """Far left the sigmoid is small, not 0: log(sigmoid(x)) depends on it."""
    x = tl.tensor([-80.0, -40.0, -20.0])
    np.testing.assert_allclose(tl.sigmoid(x).numpy(), np.exp(x.numpy()), rtol=1e-5)


def test_relative_accuracy_of_erf():
    """Near 0 erf(x) is small: 1 - erfc(x) would be the rounding of 1."""
    for dtype, tolerance in (("float32", 1e-6), ("float64", 2e-13)):
        x = np.concatenate([[0.0], np.logspace(-30, 0.8, 200)]).astype(dtype)
        x = np.concatenate([x, -x])
        np.testing.assert_allclose(tl.erf(tl.tensor(x)).numpy(), torch.erf(torch.tensor(x)).numpy(), rtol=tolerance)


ROOTS: dict[str, Any] = {
    "relu": lambda m, x: x.relu(),
    "clamp": lambda m, x: x.clamp(0, 9),
    "clamp by a Tensor": lambda m, x: x.clamp(m.zeros(3), m.full((3,), 9.0)),
    "maximum": lambda m, x: m.maximum(x, m.zeros(3)),
    "minimum": lambda m, x: -m.minimum(-x, m.zeros(3)),
    "where": lambda m, x: m.where(x > 0, x, m.zeros(3)),
    "masked_fill": lambda m, x: x.masked_fill(x < 0, 0),
}


@pytest.mark.parametrize("name", ["floor", "ceil", "trunc", "round", "sign"])
def test_steps_have_no_gradient(name: str):
    """Not even 0 times the infinite one that arrives here."""
    compare(lambda m, x: getattr(m, name)(x).sqrt().sum(), np.array([0.0, 0.3, 4.4]))


@pytest.mark.parametrize("name", ROOTS)
def test_what_is_not_chosen_has_no_gradient(name: str):
    """At 0 the slope of the root is infinite, and 0 times that would be nan."""
    compare(lambda m, x: ROOTS[name](m, x).sqrt().sum(), np.array([4.0, -1.0, 2.0]))
