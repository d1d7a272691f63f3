"""What all schedulers share, and the two that are made of something else: functions, or other schedulers."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from ..optimizer import Optimizer
from .schedules import Schedule


class LRScheduler:
    """Sets the lr of each parameter group at each step, from step 0 on. A subclass defines `factor`, or `get_lr`.

    last_epoch  the step to start after; -1 starts anew. PyTorch's name: steps need not be epochs
    base_lrs    the first lr of each group, which the group remembers as "initial_lr"
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1):
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(self).__name__}: expected an Optimizer, not {type(optimizer).__name__}")
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(
                    f"{type(self).__name__}: group {i} has no 'initial_lr', from which to go on after step "
                    f"{last_epoch}; load the optimiser's state first, or start with last_epoch=-1"
                )
        self.optimizer = optimizer
        self.base_lrs: list[float] = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self.step()

    def factor(self, step: int) -> float:
        """What the first lr is multiplied with."""
        raise NotImplementedError(f"{type(self).__name__} has neither factor(step) nor get_lr()")

    def get_lr(self) -> list[float]:
        """The learning rate of each group at step `last_epoch`."""
        return [base * self.factor(self.last_epoch) for base in self.base_lrs]

    def step(self) -> None:
        self._go_to(self.last_epoch + 1)

    def _go_to(self, step: int) -> None:
        self.last_epoch = step
        for group, lr in zip(self.optimizer.param_groups, self.get_lr(), strict=True):  # no group may go unnoticed
            group["lr"] = lr

    def get_last_lr(self) -> list[float]:
        """The learning rate of each group now."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """The step and the first learning rates; all else is said when a scheduler is made."""
        return {"last_epoch": self.last_epoch, "base_lrs": list(self.base_lrs)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved step. Raises ValueError if there are other groups."""
        if len(state_dict["base_lrs"]) != len(self.base_lrs):
            raise ValueError(
                f"load_state_dict: the saved scheduler is for {len(state_dict['base_lrs'])} parameter groups, and this "
                f"one for {len(self.base_lrs)}"
            )
        self.base_lrs = list(state_dict["base_lrs"])
        self._go_to(state_dict["last_epoch"])

    def _each(self, name: str, value: Any) -> list[Any]:
        """A value for each group: a list as it is, a number for all."""
        groups = len(self.optimizer.param_groups)
        values = list(value) if isinstance(value, Sequence) else [value] * groups
        if len(values) != groups:
            raise ValueError(f"{type(self).__name__}: got {len(values)} {name} for {groups} parameter groups")
        return values


class LambdaLR(LRScheduler):
    """The first lr times lr_lambda(step).

    lr_lambda  step -> factor, or a list with one for each group
    """

    def __init__(self, optimizer: Optimizer, lr_lambda: Schedule | Sequence[Schedule], last_epoch: int = -1):
        self.optimizer = optimizer
        self.lr_lambdas = self._each("functions", lr_lambda)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return [base * factor(self.last_epoch) for base, factor in zip(self.base_lrs, self.lr_lambdas)]


class SequentialLR(LRScheduler):
    """One scheduler after the other: at each of the milestones the next begins, with its step 0."""

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int], last_epoch: int = -1
    ):
        count = len(schedulers)
        if count != len(milestones) + 1:
            raise ValueError(f"SequentialLR: {count} schedulers need {count - 1} milestones, not {len(milestones)}")
        for scheduler in schedulers:
            if not isinstance(scheduler, LRScheduler) or scheduler.optimizer is not optimizer:
                raise ValueError("SequentialLR: expected schedulers of this optimiser that need nothing to be told")
        self._schedulers, self._milestones = list(schedulers), list(milestones)
        super().__init__(optimizer, last_epoch)

    def _go_to(self, step: int) -> None:
        self.last_epoch = step
        i = bisect_right(self._milestones, step)
        self._schedulers[i]._go_to(step - self._milestones[i - 1] if i else step)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for scheduler, base in zip(self._schedulers, state_dict.get("schedulers", ())):
            scheduler.load_state_dict(base)
        super().load_state_dict(state_dict)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "schedulers": [scheduler.state_dict() for scheduler in self._schedulers]}
