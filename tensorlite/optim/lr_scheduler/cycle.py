"""OneCycleLR: up once, and down once."""

from __future__ import annotations

from collections.abc import Sequence

from ..optimizer import Optimizer
from .decay import cosine
from .scheduler import LRScheduler


def line(start: float, end: float, progress: float) -> float:
    return start + (end - start) * progress


class OneCycleLR(LRScheduler):
    """Up to max_lr and down to almost nothing, in total_steps = epochs · steps_per_epoch steps; and the momentum down
    and up again.

    max_lr            the largest lr; it starts at max_lr / div_factor and ends final_div_factor below that
    pct_start         the part of the steps in which it rises
    anneal_strategy   on half a period of a cosine ("cos") or a straight line ("linear")
    cycle_momentum    move "momentum", or the first of "betas", from max_momentum to base_momentum and back
    three_phase       fall to where it began in as many steps as it rose, and only then to the end

    max_lr and the momenta may be lists with one for each group. Raises ValueError after the last step.

    Smith, Topin, Super-convergence, 2018.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.85,
        max_momentum: float | Sequence[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ):
        if total_steps is None and epochs is not None and steps_per_epoch is not None:
            total_steps = epochs * steps_per_epoch
        if total_steps is None or total_steps <= 0:
            raise ValueError(
                "OneCycleLR: give total_steps, or epochs and steps_per_epoch, all above 0; got "
                f"{total_steps}, {epochs} and {steps_per_epoch}"
            )
        if not 0 <= pct_start <= 1 or anneal_strategy not in ("cos", "linear"):
            raise ValueError(
                "OneCycleLR: pct_start is between 0 and 1, and anneal_strategy 'cos' or 'linear'; got "
                f"{pct_start} and {anneal_strategy!r}"
            )
        if cycle_momentum and not {"momentum", "betas"} & set(optimizer.defaults):
            raise ValueError("OneCycleLR: the optimiser has no momentum and no betas; give cycle_momentum=False")
        self.optimizer, self.total_steps, self.cycle_momentum = optimizer, total_steps, cycle_momentum
        self.anneal = cosine if anneal_strategy == "cos" else line
        rise = pct_start * total_steps - 1
        # Each phase: its last step, the lr it goes to, and the momentum.
        self.phases = [(rise, "max_lr", "base_momentum"), (total_steps - 1, "min_lr", "max_momentum")]
        if three_phase:
            self.phases.insert(1, (2 * rise, "initial_lr", "max_momentum"))
        if last_epoch == -1:
            given = zip(*(self._each(*x) for x in (
                ("max_lr", max_lr), ("max_momentum", max_momentum), ("base_momentum", base_momentum)
            )))  # fmt: skip
            for group, (top, most, least) in zip(optimizer.param_groups, given):
                first = top / div_factor
                group.update(initial_lr=first, max_lr=top, min_lr=first / final_div_factor)
                if cycle_momentum:
                    group.update(max_momentum=most, base_momentum=least)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self.last_epoch > self.total_steps:
            raise ValueError(f"OneCycleLR: this is step {self.last_epoch}, and it was made for {self.total_steps}")
        start, from_lr, from_momentum = 0.0, "initial_lr", "max_momentum"
        for end, to_lr, to_momentum in self.phases[:-1]:
            if self.last_epoch <= end:
                break
            start, from_lr, from_momentum = end, to_lr, to_momentum
        else:
            end, to_lr, to_momentum = self.phases[-1]
        progress = (self.last_epoch - start) / (end - start)
        if self.cycle_momentum:
            for group in self.optimizer.param_groups:
                momentum = self.anneal(group[from_momentum], group[to_momentum], progress)
                if "betas" in group:
                    group["betas"] = (momentum, *group["betas"][1:])
                else:
                    group["momentum"] = momentum
        return [self.anneal(group[from_lr], group[to_lr], progress) for group in self.optimizer.param_groups]
