"""Two ways of measuring a slope from values alone, against which the engine's gradients are held.

The complex step: for an analytic f, f(x + ih) = f(x) + ih f'(x) + …, so f'(x) is the imaginary part over h.
Nothing is subtracted, so h can be 1e-30 and the slope is right to the last digits
(Squire and Trapp, Using complex variables to estimate derivatives of real functions, 1998).

Central differences of fourth order, for what is not analytic and for gradients of gradients:
f'(x) = (8 (f(x+h) - f(x-h)) - (f(x+2h) - f(x-2h))) / 12h + O(h^4)
(Fornberg, Generation of finite difference formulas on arbitrarily spaced grids, 1988).

The same five values tell whether there is a slope at all. The derivatives at x from the right and from the left, of
second order (Fornberg again), are (4 f(x+h) - f(x+2h) - 3 f(x)) / 2h and (3 f(x) - 4 f(x-h) + f(x-2h)) / 2h. Where f
is smooth their gap is O(h^3) and vanishes; at a kink (relu at 0) it stays however small h is, and the derivative
may be anything between the slopes of the two branches. A measurement is therefore an interval, for a smooth f of
length 0.

Here f is a function of one number t, the distance along a direction, to an array: a slope per output.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Line = Callable[[float | complex], np.ndarray]  # t -> the outputs at x + t v, as one vector


@dataclass(frozen=True)
class Precision:
    """What may be expected of numbers of one dtype. Agreement is relative to the scale of the gradient."""

    eps: float
    tiny: float  # the complex step
    steps: tuple[float, ...]  # of the differences: the next is taken where the last did not settle
    gap: float  # between the slopes from right and left, up to which f counts as smooth
    bend: float  # between the differences of second and fourth order; the error of the latter is about its square
    complex_step: float  # agreement
    difference: float
    least: float  # the smallest scale: below it the complex step underflows
    kink: float  # agreement with the interval at a kink, where formulas of first order must do


FLOAT64 = Precision(2.0**-52, 1e-30, (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9), 1e-6, 3e-6, 1e-12, 1e-7, 1e-240, 1e-4)
FLOAT32 = Precision(2.0**-23, 1e-15, (5e-2, 1e-2, 2e-3), 2e-2, 2e-2, 1e-4, 2e-2, 1e-16, 1e-1)


@dataclass(frozen=True)
class Slope:
    """The slope of each output along a direction: between low and high, which are equal where it is smooth."""

    low: np.ndarray
    high: np.ndarray
    kinds: np.ndarray  # "" where it is smooth, else a key of KINDS
    near: np.ndarray  # how steep it is beside the point: rounding there is an error of a difference

    @property
    def middle(self) -> np.ndarray:
        return np.where(self.low == self.high, self.low, 0.5 * (self.low + self.high))


KINDS = {
    "kink": "the slopes on the two sides differ",
    "jump": "the function jumps",
    "edge": "the function is defined on one side only",
    "steep": "the slope grows without limit",
}


def complex_step(f: Line, precision: Precision = FLOAT64) -> Slope:
    slope = f(1j * precision.tiny).imag / precision.tiny
    return Slope(slope, slope, np.full(slope.shape, "", "<U5"), np.zeros(slope.shape))


def difference(f: Line, precision: Precision = FLOAT64) -> Slope:
    """The slopes at t = 0, with the largest step at which they settle; where none does, the kind of the kink."""
    with np.errstate(all="ignore"):  # log left of 0 gives nan, which never settles
        return _difference(f, precision)


def _difference(f: Line, precision: Precision) -> Slope:
    y = f(0.0)
    slope, near, unsettled = np.zeros(y.shape), np.zeros(y.shape), np.ones(y.shape, bool)
    branches, steps = [], []
    for h in precision.steps:
        left2, left, right, right2 = f(-2 * h), f(-h), f(h), f(2 * h)
        simple = (right - left) / (2 * h)
        central = (8 * (right - left) - (right2 - left2)) / (12 * h)
        gap = np.abs(4 * (left + right) - (left2 + right2) - 6 * y) / (2 * h)
        branches.append(((left - left2) / h, (right2 - right) / h))  # without f(x), which may lie on neither branch
        steps.append(np.maximum(np.abs(right - y), np.abs(y - left)))
        beside = np.maximum(*np.abs(branches[-1]))
        scale = _largest(central, beside)
        noise = 32 * precision.eps * _largest(y, left2, right2) / h
        smooth = (gap <= precision.gap * scale + noise) & (np.abs(central - simple) <= precision.bend * scale + noise)
        slope = np.where(unsettled & smooth, central, slope)
        near = np.where(unsettled & np.isfinite(beside), beside, near)
        unsettled &= ~smooth
        if not unsettled.any():
            return Slope(slope, slope, np.full(slope.shape, "", "<U5"), near)
    low, high, kinds = _kink(branches, steps)
    low, high = np.where(unsettled, low, slope), np.where(unsettled, high, slope)
    return Slope(low, high, np.where(unsettled, kinds, "").astype("<U5"), near)


def _largest(*arrays: np.ndarray) -> float:
    return max(float(np.abs(x[np.isfinite(x)]).max(initial=0)) for x in arrays)


def _kink(branches: list, steps: list) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The interval between the slopes of the branches, and the kind, from the smallest steps."""
    (left_before, right_before), (left, right) = branches[-2:]
    steep = [np.abs(now) > 2 * np.abs(before) + 1 for now, before in ((left, left_before), (right, right_before))]
    left = np.where(steep[0], np.copysign(np.inf, left), left)
    right = np.where(steep[1], np.copysign(np.inf, right), right)
    kinds = np.where(steep[0] | steep[1], "steep", "kink")
    kinds = np.where(steps[-1] > 0.5 * steps[0], "jump", kinds)
    kinds = np.where(np.isnan(left) | np.isnan(right), "edge", kinds)
    return np.fmin(left, right), np.fmax(left, right), kinds
