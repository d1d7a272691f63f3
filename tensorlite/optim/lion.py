"""Lion: steps of exactly `lr` per element, of which only the sign is computed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..device import xp
from ..tensor import Tensor
from .optimizer import Optimizer, in_blocks, scratch


class Lion(Optimizer):
    """With gradient g, at each step:

        p ← p - lr · weight_decay · p - lr · sign(β₁ m + (1 - β₁) g)
        m ← β₂ m + (1 - β₂) g            average gradient ("exp_avg")

    One array less than AdamW. As every step is of full size, lr is three to ten times smaller than AdamW's, and
    weight_decay larger by as much.

    Chen et al., Symbolic discovery of optimization algorithms, 2023.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ):
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay))

    def check(self, group: dict[str, Any]) -> None:
        self._check_at_least_0(group, "lr", "weight_decay")
        self._check_betas(group)

    def update(self, p: Any, g: Any, group: dict[str, Any], state: dict[str, Any]) -> None:
        if not state:
            state["exp_avg"] = Tensor._of(xp(p).zeros_like(p))
        (beta1, beta2), lr = group["betas"], float(group["lr"])

        def change(p: Any, g: Any, m: Any) -> None:
            library, s = xp(p), scratch(p)
            library.subtract(g, m, out=s)
            s *= 1 - beta1
            s += m
            library.sign(s, out=s)
            s *= lr
            p *= 1 - lr * group["weight_decay"]
            p -= s
            library.subtract(g, m, out=s)
            s *= 1 - beta2
            m += s

        in_blocks(change, p, g, state["exp_avg"].array)
