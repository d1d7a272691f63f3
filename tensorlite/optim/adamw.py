"""AdamW: steps of about `lr` per element, whatever the size of the gradient."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from ..device import xp
from ..tensor import Tensor
from .optimizer import Optimizer, in_blocks, scratch


class AdamW(Optimizer):
    """Adam with weight decay decoupled from the gradient. With gradient g, at step t:

        m ← β₁ m + (1 - β₁) g            average gradient          ("exp_avg")
        v ← β₂ v + (1 - β₂) g²           average squared gradient  ("exp_avg_sq")
        p ← p - lr · weight_decay · p - lr · m̂ / (sqrt(v̂) + eps)

    where m̂ = m / (1 - β₁ᵗ) and v̂ = v / (1 - β₂ᵗ) make up for the averages having started at 0.

    Kingma, Ba, Adam, 2015; Loshchilov, Hutter, Decoupled weight decay regularization, 2019.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
    ):
        if amsgrad:
            raise NotImplementedError("AdamW: amsgrad=True is not supported")
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay))

    def check(self, group: dict[str, Any]) -> None:
        for name in ("lr", "eps", "weight_decay"):
            if not group[name] >= 0:
                raise ValueError(f"AdamW: {name} must be at least 0, not {group[name]}")
        for i, beta in enumerate(group["betas"]):
            if not 0 <= beta < 1:
                raise ValueError(f"AdamW: betas[{i}] must be at least 0 and less than 1, not {beta}")

    def update(self, p: Any, g: Any, group: dict[str, Any], state: dict[str, Any]) -> None:
        if not state:
            zeros = xp(p).zeros_like
            state.update(step=0, exp_avg=Tensor._of(zeros(p)), exp_avg_sq=Tensor._of(zeros(p)))
        state["step"] = t = int(state["step"]) + 1
        beta1, beta2 = group["betas"]
        lr, root = group["lr"], math.sqrt(1 - beta2**t)

        def change(p: Any, g: Any, m: Any, v: Any) -> None:
            library, s = xp(p), scratch(p)
            library.subtract(g, m, out=s)
            s *= 1 - beta1
            m += s
            library.multiply(g, g, out=s)
            s *= 1 - beta2
            v *= beta2
            v += s
            # m̂ / (sqrt(v̂) + eps) = m / (sqrt(v) + eps root) · root / (1 - β₁ᵗ), which is a pass less
            library.sqrt(v, out=s)
            s += group["eps"] * root
            library.divide(m, s, out=s)
            s *= lr * root / (1 - beta1**t)
            if group["weight_decay"]:
                p *= 1 - lr * group["weight_decay"]
            p -= s

        in_blocks(change, p, g, state["exp_avg"].array, state["exp_avg_sq"].array)
