"""Learning rates that change with the step.

    >>> schedule = warmup_linear(warmup=2, total=7, floor=0.5)
    >>> [round(schedule(step), 2) for step in range(9)]
    [0.33, 0.67, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.5]

A schedule is a plain function, which LambdaLR applies to an optimiser; write your own where these do not do. The other
classes are PyTorch's, by name and by value. Each computes a learning rate from the first one and the step alone, so
a rate that somebody sets by hand lasts until the next `step()`; and so it can go on anywhere.

Call `step()` after each `optimizer.step()`.
"""

from .cycle import OneCycleLR
from .decay import (
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    ExponentialLR,
    LinearLR,
    MultiStepLR,
    StepLR,
)
from .plateau import ReduceLROnPlateau
from .scheduler import LambdaLR, LRScheduler, SequentialLR
from .schedules import Schedule, warmup_constant, warmup_cosine, warmup_linear

__all__ = [
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "OneCycleLR",
    "ReduceLROnPlateau",
    "Schedule",
    "SequentialLR",
    "StepLR",
    "warmup_constant",
    "warmup_cosine",
    "warmup_linear",
]
