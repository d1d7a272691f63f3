"""Learning rates that change with the step: schedules, and LambdaLR, which applies one to an optimiser.

    >>> schedule = warmup_linear(warmup=2, total=7, floor=0.5)
    >>> [round(schedule(step), 2) for step in range(9)]
    [0.33, 0.67, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.5]

A schedule is a plain function; write your own where these do not do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from .optimizer import Optimizer

Schedule = Callable[[int], float]


class LambdaLR:
    """Sets the lr of each parameter group to its first lr times lr_lambda(step), from step 0 on.

    lr_lambda   step -> factor, or a list with one for each group
    last_epoch  the step to start after; -1 starts anew. PyTorch's name: steps need not be epochs

    Call `step()` after each `optimizer.step()`.
    """

    def __init__(self, optimizer: Optimizer, lr_lambda: Schedule | Sequence[Schedule], last_epoch: int = -1):
        groups = optimizer.param_groups
        self.optimizer = optimizer
        self.lr_lambdas = list(lr_lambda) if isinstance(lr_lambda, Sequence) else [lr_lambda] * len(groups)
        if len(self.lr_lambdas) != len(groups):
            raise ValueError(f"LambdaLR: got {len(self.lr_lambdas)} functions for {len(groups)} parameter groups")
        self.base_lrs = [group.setdefault("initial_lr", group["lr"]) for group in groups]
        self.last_epoch = last_epoch
        self.step()

    def step(self) -> None:
        self.last_epoch += 1
        self._apply()

    def _apply(self) -> None:
        for group, base, factor in zip(self.optimizer.param_groups, self.base_lrs, self.lr_lambdas, strict=True):
            group["lr"] = base * factor(self.last_epoch)

    def get_last_lr(self) -> list[float]:
        """The learning rate of each group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """The step and the first learning rates; the functions are code, not state."""
        return {"last_epoch": self.last_epoch, "base_lrs": list(self.base_lrs)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved step. Raises ValueError if there are other groups."""
        if len(state_dict["base_lrs"]) != len(self.base_lrs):
            raise ValueError(
                f"load_state_dict: the saved scheduler is for {len(state_dict['base_lrs'])} parameter groups, and this "
                f"one for {len(self.base_lrs)}"
            )
        self.last_epoch, self.base_lrs = state_dict["last_epoch"], list(state_dict["base_lrs"])
        self._apply()


# Schedules: functions of the step (0, 1, 2 …) that give the factor for the learning rate. It rises in equal parts,
# from the first step on, to 1 at step `warmup`; then it falls to `floor`, which is min_lr / lr, at step `total`.


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
