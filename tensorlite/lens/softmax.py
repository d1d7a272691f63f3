"""What people do with softmax and p - y, and what is to be said about it: rows as in check/diagnosis.py."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .answers import Part, alike

Way = tuple[np.ndarray, str, str]  # a wrong gradient, the name of the mistake, what it says


def known_mistake(mine: np.ndarray, part: Part) -> tuple[str, str] | None:
    """The mistake of this table that `mine` shows, as a contribution through a softmax or a cross-entropy."""
    ways = _WAYS.get(part.op)
    if ways is None or mine.ndim != 2 or mine.shape != part.raw.shape:
        return None
    with np.errstate(all="ignore"):
        for wrong, name, says in ways(part):
            if alike(mine, wrong, part.raw, part.raw.dtype):
                return name, says
    return None


def _of_cross_entropy(part: Part) -> Iterator[Way]:
    z = next(x for x in part.values.values() if x.shape == part.raw.shape).astype(np.float64)  # (N, C)
    g = part.gradients[0].astype(np.float64)[:, None]  # (N, 1)
    p = _softmax(z, 1)
    target = np.argmin(part.raw * np.sign(g), axis=1)  # p - y is negative there only
    y = np.eye(z.shape[1])[target]
    d = p - y
    g = (part.raw * d).sum(1, keepdims=True) / (d * d).sum(1, keepdims=True)  # with the weights of the classes
    columns = p.copy()
    columns[:, target] -= 1
    yield g * p, "y forgotten", "this is p; 1 must be taken from the probability of the right class of each row"
    yield (
        g * (p - y) * y,
        "only the target",
        "only the right class has a gradient here; every other one is pushed down by its p",
    )
    yield (
        g * columns,
        "whole columns",
        "p[:, target] takes 1 from these columns in every row; p[range(N), target] from one element of each",
    )
    yield (
        g * (_softmax(z, 0) - y),
        "the wrong axis",
        "the softmax was taken over the rows; the classes are the last dimension",
    )
    yield (
        g * (_softmax(p, 1) - y),
        "softmax twice",
        "the softmax of p was taken for p; cross-entropy takes logits and has its own softmax",
    )
    yield g * p * (1 - p), "diagonal", _DIAGONAL


def _of_softmax(part: Part) -> Iterator[Way]:
    y, g = part.values[part.output], part.gradients[0]
    yield g * y * (1 - y), "diagonal", _DIAGONAL
    yield (
        g * y,
        "the average",
        "of what arrives the average is not subtracted: a score that grows takes from all other classes",
    )


_DIAGONAL = (
    "only the diagonal of softmax's Jacobian, p (1 - p), was used: a score that grows takes from all other classes"
)
_WAYS = {"cross_entropy": _of_cross_entropy, "softmax": _of_softmax}


def _softmax(x: np.ndarray, axis: int) -> np.ndarray:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)
