"""ReduceLROnPlateau: the learning rate follows what is measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..optimizer import Optimizer


class ReduceLROnPlateau:
    """Times factor when a metric has not improved for more than `patience` calls of step(metric).

    mode            "min": a smaller metric is better; "max": a larger one
    threshold       by how much it must improve: relative to the best ("rel"), or as a difference ("abs")
    cooldown        calls after a reduction in which none counts as bad
    min_lr          the least lr, a number or one for each group
    eps             a reduction by less than this is left out
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0,
        eps: float = 1e-8,
    ):
        if not factor < 1:
            raise ValueError(f"ReduceLROnPlateau: factor must be below 1, not {factor}")
        if mode not in ("min", "max") or threshold_mode not in ("rel", "abs"):
            raise ValueError(
                f"ReduceLROnPlateau: mode is 'min' or 'max' and threshold_mode 'rel' or 'abs', not {mode!r} and "
                f"{threshold_mode!r}"
            )
        groups = optimizer.param_groups
        self.min_lrs = list(min_lr) if isinstance(min_lr, Sequence) else [min_lr] * len(groups)
        if len(self.min_lrs) != len(groups):
            raise ValueError(f"ReduceLROnPlateau: got {len(self.min_lrs)} min_lr for {len(groups)} parameter groups")
        self.optimizer, self.mode, self.factor, self.patience = optimizer, mode, factor, patience
        self.threshold, self.threshold_mode, self.cooldown, self.eps = threshold, threshold_mode, cooldown, eps
        self.best = math.inf if mode == "min" else -math.inf
        self.last_epoch = self.num_bad_epochs = self.cooldown_counter = 0

    def step(self, metrics: Any) -> None:
        """Take note of a metric, a number or a Tensor with one element."""
        metric = float(metrics)
        self.last_epoch += 1
        self.num_bad_epochs += 1
        if self._better(metric):
            self.best, self.num_bad_epochs = metric, 0
        if self.cooldown_counter:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            for group, least in zip(self.optimizer.param_groups, self.min_lrs):
                lr = max(group["lr"] * self.factor, least)
                if group["lr"] - lr > self.eps:
                    group["lr"] = lr
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0

    def _better(self, metric: float) -> bool:
        sign = -1 if self.mode == "min" else 1
        if self.threshold_mode == "rel":
            return sign * metric > sign * self.best * (1 + sign * self.threshold)
        return sign * metric > sign * self.best + self.threshold

    def get_last_lr(self) -> list[float]:
        """The learning rate of each group now."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """What it remembers of the metrics; the learning rates are in the optimiser's state."""
        return {name: getattr(self, name) for name in ("best", "last_epoch", "num_bad_epochs", "cooldown_counter")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what was remembered."""
        vars(self).update({name: state_dict[name] for name in self.state_dict()})
