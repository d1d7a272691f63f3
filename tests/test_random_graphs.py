"""Random programs give the same values and gradients in tensorlite and in the naive engine of naive.py.

A program computes on `LANES` columns at once: tensorlite with arrays, the naive engine with one number per column.
Some inputs are one number for all columns, so that gradients must be summed over a broadcast.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import Number

import tensorlite as tl

LANES = 3

STEPS: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "power": lambda a, b: a**b,
    "maximum": lambda a, b: a.maximum(b),
    "exp": lambda a, _: a.exp(),
    "log": lambda a, _: a.log(),
    "tanh": lambda a, _: a.tanh(),
    "square": lambda a, _: a**2,
    "cube": lambda a, _: a**3,
    "power of two": lambda a, _: 2.0**a,
    "reciprocal": lambda a, _: 1 / a,
    "line": lambda a, _: 1.5 - 0.5 * a,
    "positive part": lambda a, _: a.maximum(0.0),
}


@dataclass(frozen=True)
class Program:
    leaves: list[list[float]]  # one number per lane, or one for all
    steps: list[tuple[str, int, int]]  # what to do with which two of the numbers so far
    outputs: tuple[int, int]  # backward() is called on these

    def run(self, numbers: list[Any]) -> list[Any]:
        """All the numbers, from the leaves to the last result."""
        numbers = list(numbers)
        for name, i, j in self.steps:
            numbers.append(STEPS[name](numbers[i], numbers[j]))
        return numbers


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Programs that stay away from poles, kinks and numbers too large to compare; the naive engine tells where."""
    tenths = st.integers(-30, 30).map(lambda n: n / 10)
    leaves = draw(st.lists(st.lists(tenths, min_size=1, max_size=1) | st.lists(tenths, min_size=LANES, max_size=LANES),
                           min_size=1, max_size=4))  # fmt: skip
    values = [leaf * (LANES // len(leaf)) for leaf in leaves]
    steps = []
    for name in draw(st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=15)):
        i, j = (draw(st.integers(0, len(values) - 1)) for _ in range(2))
        tie = i == j or max(i, j) < len(leaves)  # equal in both engines, not up to rounding
        if not all(tame(name, a, b, tie) for a, b in zip(values[i], values[j], strict=True)):
            name = "tanh"
        values.append([STEPS[name](Number(a), Number(b)).value for a, b in zip(values[i], values[j], strict=True)])
        steps.append((name, i, j))
    return Program(leaves, steps, draw(st.tuples(*[st.integers(0, len(values) - 1)] * 2)))


def tame(name: str, a: float, b: float, tie: bool) -> bool:
    near = {"divide": b, "power": a, "log": a, "reciprocal": a, "positive part": a}.get(name, 1.0)
    if abs(near) < 0.1 or (name in ("power", "log") and near < 0):
        return False
    if name == "maximum" and abs(a - b) < 1e-6:
        return tie
    try:
        return abs(STEPS[name](Number(a), Number(b)).value) < 100
    except OverflowError:
        return False


@settings(max_examples=500)
@given(programs())
def test_random_programs(program: Program):
    numbers = [[Number(x) for x in leaf] for leaf in program.leaves]
    columns = [program.run([leaf[lane % len(leaf)] for leaf in numbers]) for lane in range(LANES)]
    for output in program.outputs:
        for column in columns:
            column[output].backward()

    leaves = [tl.tensor(x if len(x) > 1 else x[0], dtype=tl.float64, requires_grad=True) for x in program.leaves]
    results = program.run(leaves)
    for i, result in enumerate(results):
        same(np.broadcast_to(result.detach().numpy(), LANES), [column[i].value for column in columns])

    ends = [results[output].expand(LANES).sum() for output in program.outputs]
    again = [tl.grad(end, leaves, create_graph=True, allow_unused=True) for end in ends]
    ends[0].backward(retain_graph=True)
    ends[1].backward()
    for i, leaf in enumerate(leaves):
        expected = [number.grad for number in numbers[i]]
        found = np.zeros(leaf.shape) if leaf.grad is None else leaf.grad.numpy()
        same(np.atleast_1d(found), expected)
        twice = sum((gs[i].detach().numpy() for gs in again if gs[i] is not None), np.zeros(leaf.shape))
        same(twice, found)


def same(found: Any, expected: Any) -> None:
    """Equal but for rounding, which differences of large numbers may magnify."""
    largest = max(map(abs, np.ravel(expected)), default=0.0)
    assert math.isfinite(largest)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-8 * (1 + largest))
