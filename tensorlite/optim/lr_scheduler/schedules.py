"""Schedules: functions of the step (0, 1, 2 …) that give the factor for the learning rate. It rises in equal parts,
from the first step on, to 1 at step `warmup`; then it falls to `floor`, which is min_lr / lr, at step `total`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[int], float]


def warmup_constant(warmup: int) -> Schedule:
    """Rises to 1 and stays there."""
    return lambda step: min(1.0, (step + 1) / (warmup + 1))


def warmup_linear(warmup: int, total: int, floor: float = 0.0) -> Schedule:
    """Rises to 1, then falls on a straight line."""
    return _rise_and_fall(warmup, total, floor, lambda progress: 1 - progress)


def warmup_cosine(warmup: int, total: int, floor: float = 0.0) -> Schedule:
    """Rises to 1, then falls on half a period of a cosine. Loshchilov, Hutter, SGDR, 2017."""
    return _rise_and_fall(warmup, total, floor, lambda progress: 0.5 * (1 + math.cos(math.pi * progress)))


def _rise_and_fall(warmup: int, total: int, floor: float, fall: Callable[[float], float]) -> Schedule:
    rise = warmup_constant(warmup)

    def factor(step: int) -> float:
        if step < warmup:
            return rise(step)
        progress = min(1.0, (step - warmup) / max(1, total - warmup))
        return floor + (1 - floor) * fall(progress)

    return factor
