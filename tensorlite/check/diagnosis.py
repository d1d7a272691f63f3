"""From a wrong gradient to the mistake that makes such a gradient.

Each hypothesis is a row of `HYPOTHESES`: a name, and a test that looks at the evidence and answers with a sentence, or
with None. The first that fits is the likeliest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np

from .engine import is_float
from .measure import Measured


@dataclass(frozen=True)
class Evidence:
    """All that is known about one wrong gradient, for every element."""

    engine: np.ndarray
    measured: np.ndarray  # at a kink the value between the two slopes that is nearest to the engine's
    kinked: np.ndarray  # booleans
    wrong: np.ndarray  # booleans
    scale: float
    order: int
    u: tuple[np.ndarray, ...]  # the upstream gradients
    jacobian: np.ndarray  # outputs × elements
    others: dict[str, np.ndarray]  # what is measured for the other inputs
    values: dict[str, np.ndarray]  # the inputs and the result, if of the gradient's shape
    sizes: tuple[int, ...]  # lengths of dimensions, of the input and of the outputs

    def same(self, a: np.ndarray, b: np.ndarray) -> bool:
        """Equal but for what the measurement may be off, and not equal for want of numbers."""
        if a.shape != b.shape or not np.isfinite(a).all():
            return False
        size = np.abs(b).max(initial=0)
        return bool(size > 1e-9 * self.scale and np.abs(a - b).max(initial=0) <= 1e-6 * size)

    def ratio(self) -> float | None:
        """engine / measured, where it is the same for every element."""
        k = int(np.argmax(np.abs(self.measured)))
        slope = self.measured.flat[k]
        if not np.isfinite(slope) or slope == 0:
            return None
        r = float(self.engine.flat[k] / slope)
        return r if self.same(self.engine, r * self.measured) else None


def evidence(m: Measured, all_measured: Sequence[Measured], wrong: np.ndarray) -> Evidence | None:
    """None where only some directions were measured."""
    if m.directions is not None:
        return None
    shape = m.engine.shape
    inside = np.clip(m.engine, m.low.reshape(shape), m.high.reshape(shape))
    units = np.maximum(np.abs(np.where(np.isfinite(m.point.inputs[m.place]), m.point.inputs[m.place], 1)), 1).ravel()
    with np.errstate(invalid="ignore"):
        jacobian = np.array([s.middle for s in m.slopes]).T / units if m.slopes else np.zeros((0, 0))
    others = {o.name: (0.5 * (o.low + o.high)).reshape(o.engine.shape) for o in all_measured
              if o is not m and o.directions is None and not o.kinked.any()}  # fmt: skip
    values = dict(zip(m.point.names, m.point.inputs, strict=True)) if m.point.order == 1 else {}
    if len(m.u) == 1:
        values["the result"] = m.point.values(m.point.inputs)[0]
    values = {name: x for name, x in values.items() if is_float(x) and x.shape == shape}
    sizes = tuple(dict.fromkeys([n for each in (shape, *(u.shape for u in m.u)) for n in _products(each)]))
    return Evidence(
        m.engine, np.where(np.isnan(inside), m.low.reshape(shape), inside), m.kinked.reshape(shape),
        wrong.reshape(shape), m.scale, m.point.order, tuple(m.u), jacobian, others, values, sizes,
    )  # fmt: skip


def _products(shape: tuple[int, ...]) -> list[int]:
    """The lengths of dimensions, and how many elements two or more of them hold."""
    some = [int(np.prod(c)) for k in range(1, len(shape) + 1) for c in combinations(shape, k)]
    return [n for n in some if n > 1]


def diagnose(e: Evidence) -> list[tuple[str, str]]:
    """The hypotheses that fit, by name, with what they say."""
    found = [(name, says) for name, test in HYPOTHESES for says in [test(e)] if says]
    first, others = found[:1], [each for each in found[1:] if each[0] not in GENERAL]
    return first + others or [
        ("unknown", "no simple mistake explains it: compare the row with the formula, term by term")
    ]


# The table -------------------------------------------------------------------------------------------------


def _not_a_number(e: Evidence) -> str | None:
    count = int((~np.isfinite(e.engine) & e.wrong).sum())
    return (
        f"{count} of {e.engine.size} elements are nan or infinite: a 0/0, or 0 times infinity, in the row"
        if count
        else None
    )


def _outside_a_kink(e: Evidence) -> str | None:
    if (e.kinked | ~e.wrong).all():
        return (
            "at a kink, the value lies outside the slopes on the two sides: check what the row gives for equal values"
        )
    return None


def _constant_in_second_order(e: Evidence) -> str | None:
    if e.order == 1:
        return None
    return (
        "the first derivative is right and its derivative is not: a row takes an array for a constant (a detach(), "
        "array_of(), .array or a residual), where create_graph needs the Tensor"
    )


def _stopped(e: Evidence) -> str | None:
    zero = (e.engine == 0) & e.wrong
    if not zero.any() or (zero != e.wrong).any():
        return None
    if (e.engine == 0).all():
        return "the gradient is stopped: 0 where the function has a slope; is a detach(), no_grad() or a row missing?"
    return f"the gradient of {int(zero.sum())} of {zero.size} elements is lost: 0 where the function has a slope"


def _sign(e: Evidence) -> str | None:
    return "the sign is wrong" if e.same(e.engine, -e.measured) else None


def _half(e: Evidence) -> str | None:
    r = e.ratio()
    if r is None or abs(r - 0.5) > 1e-6:
        return None
    return "half of the slope: a second contribution is missing (of an input that is used twice, as in x * x)"


def _count(e: Evidence) -> str | None:
    r = e.ratio()
    for n in e.sizes:
        what = f"and {n} is a length here"
        if r and abs(r - n) <= 1e-6 * n:
            return f"{n} times too large, {what}: a division by the count is missing (a mean taken for a sum)"
        if r and abs(r * n - 1) <= 1e-6:
            return f"{n} times too small, {what}: divided by the count without need (a sum taken for a mean)"
    return None


def _factor(e: Evidence) -> str | None:
    r = e.ratio()
    return f"a constant factor: every element is {r:.6g} times what it should be" if r and abs(r - 1) > 1e-9 else None


def _transposed(e: Evidence) -> str | None:
    for axes in permutations(range(e.engine.ndim)) if 1 < e.engine.ndim < 5 else ():
        if axes != tuple(range(e.engine.ndim)) and e.same(e.engine, e.measured.transpose(axes)):
            return f"transposed: it is the slope with its dimensions in the order {axes}"
    return None


def _other_operand(e: Evidence) -> str | None:
    for name, measured in e.others.items():
        if e.same(e.engine, measured):
            return f"it is the gradient of {name}: the row uses the other operand, or two rows are exchanged"
    return None


def _upstream_ignored(e: Evidence) -> str | None:
    ones = e.jacobian.sum(0).reshape(e.engine.shape) if e.jacobian.size else e.engine * np.nan
    return "the upstream gradient is left out: the row does not multiply by g" if e.same(e.engine, ones) else None


def _missing_sum(e: Evidence) -> str | None:
    if len(e.u) != 1 or not e.jacobian.size:
        return None
    contributions = (e.u[0].reshape(-1, 1) * e.jacobian).reshape(e.u[0].shape + e.engine.shape)
    for axis, n in enumerate(e.u[0].shape):
        for k in (0, n - 1) if n > 1 else ():
            part = np.take(contributions, [k], axis).sum(tuple(range(e.u[0].ndim)))
            if e.same(e.engine, part):
                return (
                    f"a sum is missing: only position {k} of the output's dimension {axis} contributes (an input that "
                    "was broadcast gets the sum over its copies; the engine takes it, so the row returns all of g)"
                )
    return None


def _reordered(e: Evidence) -> str | None:
    if e.engine.size > 2 and e.same(np.sort(e.engine, None), np.sort(e.measured, None)):
        return "the right numbers at the wrong places: an index, a flip or a permutation that should be undone"
    return None


def _offset(e: Evidence) -> str | None:
    if e.ratio() is not None:  # a factor explains it
        return None
    missing = e.measured - e.engine
    if e.engine.size > 2 and e.same(missing, np.full_like(missing, missing.flat[0])):
        return f"a constant is missing: every element should be larger by {missing.flat[0]:.6g}"
    if len(e.u) == 1 and e.u[0].size > 2 and e.u[0].shape == missing.shape:
        c = float((missing * e.u[0]).sum() / (e.u[0] ** 2).sum())
        if e.same(missing, c * e.u[0]):
            return f"a contribution is missing: {c:.6g} times the upstream gradient"
    return None


def _rounded(e: Evidence) -> str | None:
    return (
        "right to 6 digits: computed in float32, or with a rounded constant" if e.same(e.engine, e.measured) else None
    )


def _multiplied(e: Evidence) -> str | None:
    for name, value in e.values.items():
        if e.same(e.engine * value, e.measured):
            return f"a factor is missing: times {name} it would be right"
        if e.same(e.engine, e.measured * value):
            return f"a factor too many: divided by {name} it would be right"
    return None


def _part(e: Evidence) -> str | None:
    with np.errstate(divide="ignore", invalid="ignore"):
        r = (e.engine / e.measured)[e.wrong]
    if r.size > 1 and ((r > 0) & (r < 1)).all():
        return f"only a part of the slope ({r.min():.3g} to {r.max():.3g} of it): a contribution may be missing"
    return None


HYPOTHESES: tuple[tuple[str, Callable[[Evidence], str | None]], ...] = (
    ("not a number", _not_a_number),
    ("kink", _outside_a_kink),
    ("second order", _constant_in_second_order),
    ("stopped", _stopped),
    ("sign", _sign),
    ("transposed", _transposed),
    ("other operand", _other_operand),
    ("upstream ignored", _upstream_ignored),
    ("missing sum", _missing_sum),
    ("half", _half),
    ("count", _count),
    ("float32", _rounded),
    ("factor", _factor),
    ("multiplied", _multiplied),
    ("reordered", _reordered),
    ("offset", _offset),
    ("part", _part),
)
GENERAL = {"factor", "reordered", "part"}  # say nothing that a hypothesis above them has not said better
