"""SGD: against the gradient, with momentum if wanted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..device import xp
from ..tensor import Tensor
from .optimizer import Optimizer, in_blocks, not_differentiable, scratch


class SGD(Optimizer):
    """With gradient g, at each step:

        g ← g + weight_decay · p                  with maximize -g in the place of g
        b ← momentum · b + (1 - dampening) · g    ("momentum_buffer"; b = g at the first step)
        p ← p - lr · b                            without momentum g in the place of b,
                                                  with nesterov g + momentum · b

    Sutskever et al., On the importance of initialization and momentum in deep learning, 2013.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ):
        not_differentiable(self, differentiable)
        settings = dict(lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay, nesterov=nesterov)
        super().__init__(params, dict(**settings, maximize=maximize))

    def check(self, group: dict[str, Any]) -> None:
        self._check_at_least_0(group, "lr", "momentum", "weight_decay")
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError(
                "SGD: nesterov needs a momentum above 0 and no dampening, "
                f"not momentum={group['momentum']} and dampening={group['dampening']}"
            )

    def update(self, p: Any, g: Any, group: dict[str, Any], state: dict[str, Any]) -> None:
        momentum, keep, lr = group["momentum"], 1 - group["dampening"], float(group["lr"])
        if momentum and state.get("momentum_buffer") is None:
            state["momentum_buffer"] = Tensor._of(xp(p).zeros_like(p))
            keep = 1

        def change(p: Any, g: Any, b: Any = None) -> None:
            s = scratch(p)
            xp(p).multiply(p, group["weight_decay"], out=s)
            (xp(p).subtract if group["maximize"] else xp(p).add)(s, g, out=s)
            if b is not None:
                b *= momentum
                s *= keep
                b += s
                if group["nesterov"]:  # here the step by g, and below the one by momentum · b
                    s *= lr
                    p -= s
                xp(p).multiply(b, momentum if group["nesterov"] else 1, out=s)
            s *= lr
            p -= s

        in_blocks(change, p, g, *([state["momentum_buffer"].array] if momentum else []))
