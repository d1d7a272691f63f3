"""Measuring the gradient of each input, element by element or along random directions, and judging the engine's."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .engine import Arrays, First, Second, is_float
from .slopes import Line, Precision, Slope, complex_step, difference

EVERY_ELEMENT = {1: 64, 2: 4}  # per order: an input with more elements is measured along random directions
DIAGNOSED = 2000  # with more than this, also where the directions have found a mistake
DIRECTIONS = 3
FLOOR = 0.01  # the part of the outputs' size that counts as the scale of a gradient much smaller than they

Point = First | Second


@dataclass
class Measured:
    """The gradient of one input as the engine gives it and as measured."""

    point: Point
    place: int  # which of the point's inputs
    engine: np.ndarray
    u: Arrays
    method: str  # "complex step" or "differences"
    why: str  # why it is not the complex step
    directions: np.ndarray | None  # None: every element
    slopes: list[Slope]
    scale: float
    errors: np.ndarray  # per direction, relative to the scale
    low: np.ndarray = field(default_factory=lambda: np.zeros(0))
    high: np.ndarray = field(default_factory=lambda: np.zeros(0))
    along: np.ndarray = field(default_factory=lambda: np.zeros(0))  # the engine's slopes

    @property
    def name(self) -> str:
        return self.point.names[self.place]

    @property
    def kinked(self) -> np.ndarray:
        return np.array([bool((s.kinds != "").any()) for s in self.slopes], bool)

    def wrong(self, precision: Precision) -> np.ndarray:
        """Per direction, whether the engine's slope is not the measured one. A nan is."""
        agreement = precision.complex_step if self.method == "complex step" else precision.difference
        return ~(self.errors <= np.where(self.kinked, precision.kink, agreement))


def upstream(values: Arrays, rng: np.random.Generator) -> Arrays:
    """A random gradient for each output: an error in one cannot hide behind another."""
    return [np.asarray(rng.standard_normal(y.shape)).astype(y.dtype) for y in values]


def measure_all(
    point: Point, engine: Arrays, u: Arrays, method: str, precision: Precision, rng: np.random.Generator
) -> list[Measured]:
    """Each of the gradients `engine`, held against the slopes. Where directions find a mistake, every element is
    measured."""
    measured = [_measure(point, i, g, u, method, precision, rng) for i, g in zip(point.wrt, engine, strict=True)]
    return [
        _measure(point, m.place, m.engine, u, method, precision, rng, every=True)
        if m.directions is not None and m.wrong(precision).any() and m.engine.size <= DIAGNOSED
        else m
        for m in measured
    ]


def _measure(
    point: Point,
    i: int,
    engine: np.ndarray,
    u: Arrays,
    method: str,
    precision: Precision,
    rng: Any,
    every: bool = False,
) -> Measured:
    x = point.inputs[i]
    every = every or x.size <= EVERY_ELEMENT[point.order]
    units = np.where(np.isfinite(x), np.maximum(np.abs(x), 1), 1).astype(float)  # a step is relative to large numbers
    directions = _elements(units) if every else rng.standard_normal((DIRECTIONS, *x.shape)) * units
    why, slopes, used = "", None, "differences"
    if point.order == 2:
        why = "of gradients"
    elif method == "differences":
        why = "asked for"
    elif x.size:
        slopes, why = _by_complex_step(
            point, i, directions, np.asarray(rng.standard_normal(x.shape) * units), precision
        )
        if slopes is None and method == "complex":
            raise ValueError(f"the complex step cannot be used: {why}; method='auto' or 'differences' can")
    if slopes is not None or (x.size == 0 and not why):
        slopes, used = slopes or [], "complex step"
    else:
        slopes = [difference(_line(point, i, v), precision) for v in directions]
    return _judge(Measured(
        point, i, engine, u, used, why, None if every else directions, slopes, 0.0, np.zeros(0)
    ), directions, precision)  # fmt: skip


def _elements(units: np.ndarray) -> np.ndarray:
    """One direction per element."""
    return np.diag(units.ravel()).reshape(units.size, *units.shape)


def _by_complex_step(
    point: Point, i: int, directions: np.ndarray, trial: np.ndarray, precision: Precision
) -> tuple[list[Slope] | None, str]:
    """The slopes, or why they cannot be had. Differences along one direction, `trial`, must confirm them: NumPy's
    abs, sign and comparisons take complex numbers, but are no analytic functions of them."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            slopes = [complex_step(_line(point, i, v, True), precision) for v in directions]
            along = complex_step(_line(point, i, trial, True), precision).low
    except (TypeError, ValueError, RuntimeError, np.exceptions.ComplexWarning) as error:
        return None, "no complex numbers: " + str(error).partition("\n")[0]
    confirmed = difference(_line(point, i, trial), precision)
    if (confirmed.kinds != "").any():
        return None, "not smooth here"
    scale = max(_size([confirmed.low, confirmed.near]), FLOOR * _size(point.values(point.inputs)), precision.least)
    if not (np.abs(along - confirmed.low) <= 10 * precision.difference * scale).all():
        return None, "not analytic"
    return slopes, ""


def _line(point: Point, i: int, v: np.ndarray, steps: bool = False) -> Line:
    """t -> the outputs at x + t v, where x is input i; v = 0 leaves an infinite x as it is. `steps`: with complex t."""
    inputs = list(point.inputs)
    if steps:
        kinds = {"4": np.complex64, "8": np.complex128}
        inputs = [x.astype(kinds[str(x.itemsize)]) if is_float(x) else x for x in inputs]
    start = inputs[i]

    def at(t: float | complex) -> np.ndarray:
        moved = np.asarray(start + np.asarray(t * v, start.dtype))
        ys = point.values([moved if k == i else x for k, x in enumerate(inputs)])
        return np.concatenate([np.ravel(y) for y in ys]) if ys else np.zeros(0)

    return at


def _judge(m: Measured, directions: np.ndarray, precision: Precision) -> Measured:
    """Along each direction the interval of <u, slopes>, the engine's slope, and how far outside it lies.

    An error is relative to the largest absolute value among the gradient of this input, as the engine gives it and as
    measured, of the slopes beside the point (differences only), and a hundredth of the outputs.
    """
    u = np.concatenate([np.ravel(each) for each in m.u]) if m.u else np.zeros(0)
    units = (
        np.array([np.abs(v).max(initial=0) for v in directions]) if m.directions is None else np.ones(len(directions))
    )
    low, high, engine = (np.zeros(len(directions)) for _ in range(3))
    with np.errstate(invalid="ignore"):
        for k, (slope, v) in enumerate(zip(m.slopes, directions, strict=True)):
            ends = np.array([_times(u, slope.low), _times(u, slope.high)]) / units[k]
            low[k] = ends.min(0).sum()
            high[k] = ends.max(0).sum()
            engine[k] = _times(m.engine, v).sum() / units[k]
        numbers = np.concatenate([m.engine.ravel(), engine, low, high])
        m.scale = max(
            np.abs(numbers[np.isfinite(numbers)]).max(initial=0),
            _size([_times(u, slope.near) for slope in m.slopes]),
            FLOOR * _size(m.point.terms(m.u)),
            precision.least,
        )
        outside = np.maximum(np.maximum(low - engine, engine - high), 0)
        outside = np.where((engine == low) | (engine == high), 0, outside)  # also where both are infinite
        m.errors = np.where(np.isnan(engine), np.nan, outside) / m.scale
    m.low, m.high, m.along = low, high, engine
    return m


def _times(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a b, where 0 times infinity is 0: an output that does not depend on x, a direction that does not move it."""
    return np.where((a == 0) | (b == 0), 0, a * b)


def _size(values: Sequence[np.ndarray]) -> float:
    return max((np.abs(y).max(initial=0) for y in values), default=0.0)
