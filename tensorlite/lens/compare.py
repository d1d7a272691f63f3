"""Is my gradient right, and if not, what did I forget?

The table of likely mistakes is that of the gradient checker (check/diagnosis.py): here it looks at somebody's answer in
the place of the engine's, and at the engine's in the place of the slope. Before it come the mistakes of shapes and of
meeting contributions, of which a checker of single rows does not know.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from ..check.diagnosis import GENERAL, Evidence, diagnose
from ..tensor import array_of
from .answers import Answer, Part, alike
from .program import numbers, summed
from .softmax import known_mistake


@dataclass(frozen=True)
class Comparison:
    """What is to be said about one answer: exact, close, wrong or missing, and why.

    likely  the mistakes that explain it, the likeliest first: (name, what it says)
    error   the largest difference, relative to the largest number of the right gradient
    """

    name: str
    verdict: str
    error: float | None = None
    likely: tuple[tuple[str, str], ...] = ()
    help: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.verdict in ("exact", "close")

    def __str__(self) -> str:
        head = f"{self.name:<20} {self.verdict}"
        if self.error and np.isfinite(self.error):
            head += f", largest difference {self.error:.1e} of the largest number"
        lines = [f"{'' if self else 'or ' * bool(i)}{name}: {says}" for i, (name, says) in enumerate(self.likely[:2])]
        return "\n    ".join([head, *lines, *(f"help: {each}" for each in self.help)])

    __repr__ = __str__


def compare(answer: Answer, mine: Any, help: int = 0) -> Comparison:
    """`mine`, an array or a Tensor, beside the right gradient. `help`: 1 to 4, as in `Answer.help`."""
    told = tuple(answer.help(help))
    if mine is None or mine is ...:
        return Comparison(answer.name, "not filled in yet", help=told)
    try:
        given = np.asarray(numbers(array_of(mine)))
        if given.dtype.kind == "c":
            expected = f"expected real numbers, not {given.dtype}"
            return Comparison(answer.name, "wrong", None, (("dtype", expected),), told)
        mine = given.astype(np.float64)
    except (TypeError, ValueError):
        kind = type(mine).__name__
        return Comparison(answer.name, "wrong", None, (("shape", f"expected an array, not {kind}"),), told)
    right = answer.right.astype(np.float64)
    if mine.shape != right.shape:
        return Comparison(answer.name, "wrong", None, tuple(_of_another_shape(answer, mine, right)), told)
    scale = float(np.abs(right).max(initial=0))
    apart = float(np.abs(mine - right).max(initial=0))
    if np.array_equal(mine, right):
        return Comparison(answer.name, "exact", 0.0, help=told)
    near = 1e-4 if answer.right.dtype.itemsize < 8 else 1e-8
    largest = max([scale, *(float(np.abs(g).max(initial=0)) for part in answer.parts for g in part.gradients)])
    error = apart / max(scale if scale > near * largest else largest, 1e-300)
    if apart <= near * scale or (apart <= 1e-3 * near * largest and scale <= near * largest):
        return Comparison(answer.name, "close", error, tuple(_vanishing(answer)), told)
    return Comparison(answer.name, "wrong", error, tuple(_mistakes(answer, mine, right)), told)


def _of_another_shape(answer: Answer, mine: np.ndarray, right: np.ndarray) -> Iterator[tuple[str, str]]:
    shapes = f"yours has shape {mine.shape}, and {answer.of} has {right.shape}"
    for part in answer.parts:
        axes = tuple(k for k in range(part.raw.ndim) if _summed(part, k))
        if mine.shape == part.raw.shape != right.shape and axes:
            words = " and ".join(map(str, axes))
            yield ("missing sum", f"the sum over axis {words} is missing: {answer.of} was broadcast along it; {shapes}")
            return
    if mine.ndim == right.ndim == 2 and mine.T.shape == right.shape:
        same = np.allclose(mine.T, right, rtol=1e-6)
        yield ("transposed", f"{'the right numbers' if same else 'a matrix'} in the shape of the transpose; {shapes}")
    elif mine.size == right.size:
        same = np.allclose(mine.ravel(), right.ravel(), rtol=1e-6)
        yield ("shape", f"{'the right numbers in another shape' if same else 'another shape'}: {shapes}")
    else:
        yield ("shape", f"a gradient has the shape of what it belongs to; {shapes}")


def _summed(part: Part, k: int) -> bool:
    extra = part.raw.ndim - part.result.ndim
    return k < extra or (part.result.shape[k - extra] == 1 and part.raw.shape[k] != 1)


def _vanishing(answer: Answer) -> Iterator[tuple[str, str]]:
    """A part that is 0 but for rounding: what comes through a maximum that was subtracted."""
    sizes = [float(np.abs(part.result).max(initial=0)) for part in answer.parts]
    incoming = max((float(np.abs(g).max(initial=0)) for part in answer.parts for g in part.gradients), default=0.0)
    top = max(sizes, default=0.0)
    for part, size in zip(answer.parts, sizes):
        if len(sizes) > 1 and size <= 1e-6 * top and part.op in _PICKS:
            says = (
                f"the contribution through {part.output} ({part.op}) makes the difference, and is 0 but for rounding: "
                "what is subtracted from all logits of a row does not change their softmax"
            )
            yield ("the subtracted maximum", says)
        elif len(sizes) == 1 and size <= 1e-6 * incoming and part.op == "subtract" and incoming > 0:
            says = (
                "this gradient is 0 but for rounding: what is subtracted from a whole row, as "
                f"{answer.of}, does not change its softmax"
            )
            yield ("the subtracted maximum", says)


_PICKS = ("amax", "take_along_dim", "subtract")  # how a maximum is taken, and used


def _mistakes(answer: Answer, mine: np.ndarray, right: np.ndarray) -> Iterator[tuple[str, str]]:
    parts = answer.parts
    vanishing = list(_vanishing(answer))
    if vanishing and len(parts) == 1:
        yield from vanishing
        return
    for lost in _some(len(parts)):
        left = [p.result.astype(np.float64) for i, p in enumerate(parts) if i not in lost]
        if alike(mine, np.sum(left, axis=0), right, answer.right.dtype):
            words = _those([parts[i] for i in lost], parts)
            yield ("missing contribution", f"{len(parts)} contributions meet here, and {words} missing")
            return
    found = list(_diagnosed(answer, mine, right, parts[0] if len(parts) == 1 else None))
    if len(parts) > 1 and (not found or found[0][0] in {*GENERAL, "unknown", "offset"}):
        for part in parts:  # as if the others were right
            rest = mine - (right - part.result)
            for name, says in _diagnosed(answer, rest, part.result.astype(np.float64), part):
                if name not in {*GENERAL, "unknown", "offset"}:
                    yield (name, f"in the contribution through {part.output} ({part.op}): {says}")
                    return
    yield from found


def _some(n: int) -> Iterator[Sequence[int]]:
    """Which of n contributions may be missing, the fewest first. Of many, which a loop makes, a few or all but one."""
    for k in range(1, n) if n <= 8 else (1, 2) if n <= 64 else (1,):
        yield from combinations(range(n), k)
    if n > 8:
        yield from ([i for i in range(n) if i != kept] for kept in range(n))


def _those(lost: Sequence[Part], parts: Sequence[Part]) -> str:
    """Which are missing: "that through s (sum) is", "both through u (multiply) and that through s (sum) are"."""
    if len(lost) > 4:
        return f"{len(lost)} of them are"
    words = []
    for (output, op), n in Counter((p.output, p.op) for p in lost).items():
        uses = sum(p.output == output for p in parts)
        some = "that" if uses == 1 else "both" if n == uses == 2 else f"{'one' if n == 1 else n} of the {uses}"
        words.append(f"{some} through {output} ({op})")
    return f"{' and '.join(words)} {'is' if len(lost) == 1 else 'are'}"


def _diagnosed(answer: Answer, mine: np.ndarray, right: np.ndarray, part: Part | None) -> list[tuple[str, str]]:
    scale = float(np.abs(right).max(initial=0)) or 1.0
    values, others, u, j = {}, {}, [], np.zeros((0, 0))
    if part is not None:
        values = {name: x for name, x in part.values.items() if x.shape == right.shape and x.dtype.kind == "f"}
        others = {name.removeprefix("d"): np.asarray(x, np.float64) for name, x in part.others.items()}
        u = [np.asarray(g, np.float64) for g in part.gradients]
        j = part.jacobian if part.jacobian is not None else j
        if (known := known_mistake(mine, part)) is not None:
            return [known]
        if not alike(mine, -right, right, part.raw.dtype) and (simple := _product(mine, part)) is not None:
            return [simple]
        if part.raw.shape != right.shape and part.raw.ndim:  # a sum that undoes broadcasting
            for k in range(part.raw.ndim):
                n = part.raw.shape[k]
                if _summed(part, k) and alike(mine * n, right, right, part.raw.dtype):
                    return [
                        ("count", f"{n} times too small: a mean over axis {k}, of length {n}, where a sum is right")
                    ]
    shapes = [n for x in (right, *u) for n in _lengths(x.shape)]
    e = Evidence(
        mine, right, np.zeros(right.shape, bool), ~np.isclose(mine, right, rtol=1e-8, atol=1e-12 * scale), scale, 1,
        tuple(u), j, others, values, tuple(dict.fromkeys([*sorted(shapes), *answer.lengths])),
    )  # fmt: skip
    with np.errstate(all="ignore"):
        found = diagnose(e)
    if all(g.size and (g == g.flat[0]).all() for g in u):  # as below a mean, whose 1/n is then the whole difference
        found.sort(key=lambda each: each[0] != "count")
    arrives = f"d{part.output}" if part is not None else "what arrives"
    return [(name, _TO_A_LEARNER.get(name, "{says}").format(says=says, start=says.partition(" (")[0], arrives=arrives))
            for name, says in found]  # fmt: skip


_TO_A_LEARNER = {  # where the table speaks of rows, to somebody who writes one
    "not a number": "nan or infinite: a 0/0, or 0 times infinity, on the way here",
    "stopped": "0 where the right gradient is not",
    "upstream ignored": "{arrives}, what arrives, is left out: this is the slope alone",
    "missing sum": "{start}: what was broadcast gets the sum over its copies",
    "unknown": "no simple mistake explains it: compare it with the rule, term by term (help=3 shows it)",
}


def _product(mine: np.ndarray, part: Part) -> tuple[str, str] | None:
    """Whether `mine` is what arrived, handed on as it was or times the wrong one of the op's arrays."""
    for g in part.gradients:
        for name, x in {"": np.ones(()), **part.values}.items():
            try:
                found = g * x
                axes = summed(found.shape, mine.shape)
                found = found.sum(axes).reshape(mine.shape)
            except (ValueError, TypeError):
                continue
            if alike(mine, found, part.result, part.raw.dtype):
                if not name:
                    return (
                        "passed on",
                        f"this is d{part.output} as it arrived: the factor of {part.op}'s rule is missing",
                    )
                return ("other operand", f"this is d{part.output} times {name}: {part.op}'s rule has another factor")
    return None


def _lengths(shape: tuple[int, ...]) -> list[int]:
    some = [int(np.prod(c)) for k in range(1, len(shape) + 1) for c in combinations(shape, k)]
    return [n for n in some if n > 1]
