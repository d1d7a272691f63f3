"""Steps that are unlike the others: a loss or a gradient many standard deviations above its recent mean."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np

WINDOW = 128  # the steps that a new one is held against
LEAST = 32  # before so many are known, nothing counts as an outlier


class Outliers:
    """Knows the loss and the gradient norm of the last steps.

    threshold  standard deviations above the mean from which on a number is an outlier; None: there are none
    """

    def __init__(self, threshold: float | None):
        self.threshold = threshold
        self.skipped = 0
        self.recent: dict[str, deque[float]] = {}

    def look(self, **numbers: float) -> str | None:
        """Remember a step's numbers; what is wrong with them in words, if one is an outlier, which then counts.

        Outliers are remembered like the rest: where the numbers have risen for good, they soon count as usual.
        """
        if self.threshold is None:
            return None
        wrong = None
        for name, value in numbers.items():
            known = self.recent.setdefault(name, deque(maxlen=WINDOW))
            z = deviations(value, known)
            if len(known) >= LEAST and z > self.threshold:
                wrong = wrong or f"{name.replace('_', ' ')} {value:.4g} is {z:.1f} deviations above its recent mean"
            known.append(value)
        self.skipped += wrong is not None
        return wrong

    def state_dict(self) -> dict:
        return {"skipped": self.skipped, "recent": {name: list(known) for name, known in self.recent.items()}}

    def load_state_dict(self, state: Mapping) -> None:
        self.skipped = state["skipped"]
        self.recent = {name: deque(known, maxlen=WINDOW) for name, known in state["recent"].items()}


def deviations(value: float, known: Sequence[float]) -> float:
    """How many standard deviations `value` lies above the mean of `known`; 0 where these are all alike."""
    spread = float(np.std(known)) if known else 0.0
    return (value - float(np.mean(known))) / spread if spread and math.isfinite(spread) else 0.0
