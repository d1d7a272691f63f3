"""Adam and AdamW: steps of about `lr` per element, whatever the size of the gradient."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from ..block import Block
from ..device import xp
from ..many import Many
from ..tensor import Tensor
from .optimizer import Optimizer, in_blocks, not_differentiable, one_by_one, scratch

_NAMES = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")


class Adam(Optimizer):
    """With gradient g, at step t:

        g ← g + weight_decay · p         with maximize -g in the place of g
        m ← β₁ m + (1 - β₁) g            average gradient          ("exp_avg")
        v ← β₂ v + (1 - β₂) g²           average squared gradient  ("exp_avg_sq")
        p ← p - lr · m̂ / (sqrt(v̂) + eps)

    where m̂ = m / (1 - β₁ᵗ) and v̂ = v / (1 - β₂ᵗ) make up for the averages having started at 0.

    amsgrad                 the largest v so far in the place of v ("max_exp_avg_sq")
    decoupled_weight_decay  decay the parameter instead of the gradient: then it is AdamW

    Kingma, Ba, Adam, 2015; Reddi et al., On the convergence of Adam and beyond, 2018.
    """

    together = Many(one_by_one)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ):
        not_differentiable(self, differentiable)
        settings = dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad, maximize=maximize)
        super().__init__(params, dict(**settings, decoupled_weight_decay=decoupled_weight_decay))

    def check(self, group: dict[str, Any]) -> None:
        self._check_at_least_0(group, "lr", "eps", "weight_decay")
        self._check_betas(group)

    def update(self, p: Any, g: Any, group: dict[str, Any], state: dict[str, Any]) -> None:
        averages, numbers = begin(p, group, state)

        def change(p: Any, g: Any, m: Any, v: Any, largest: Any = None) -> None:
            adam_step(p, g, m, v, largest, *numbers)

        in_blocks(change, p, g, *averages, one_pass=adam_step.compiled(p.dtype))


def begin(p: Any, group: dict[str, Any], state: dict[str, Any]) -> tuple[list[Any], Numbers]:
    """Count a step of the array p: its averages, of which there are three with amsgrad, and the step's numbers."""
    names = _NAMES[: 3 if group["amsgrad"] else 2]
    for name in names:
        if name not in state:
            state[name] = Tensor._of(xp(p).zeros_like(p))
    state["step"] = t = int(state.get("step", 0)) + 1
    beta1, beta2 = group["betas"]
    lr, decay, decoupled = float(group["lr"]), float(group["weight_decay"]), group["decoupled_weight_decay"]
    # m̂ / (sqrt(v̂) + eps) = m / (sqrt(v) + eps root) · root / (1 - β₁ᵗ), which is a pass less
    root = math.sqrt(1 - beta2**t)
    numbers = Numbers(
        float(beta1),
        float(beta2),
        eps=group["eps"] * root,
        step=lr * root / (1 - beta1**t),
        shrink=1 - lr * decay if decoupled else 1.0,
        decay=0.0 if decoupled else decay,
        sign=-1.0 if group["maximize"] else 1.0,
    )
    return [state[name].array for name in names], numbers


class Numbers(NamedTuple):
    """A step's settings: eps and step with both corrections in them, the factor of p, the decay that is part of the
    gradient, the gradient's sign."""

    beta1: float
    beta2: float
    eps: float
    step: float
    shrink: float
    decay: float
    sign: float


@Block
def adam_step(
    p: Any, g: Any, m: Any, v: Any, largest: Any,
    beta1: float, beta2: float, eps: float, step: float, shrink: float, decay: float, sign: float,
) -> None:  # fmt: skip
    """Adam's formulas on arrays of one shape; largest is None without amsgrad."""
    library, s = xp(p), scratch(p)

    def gradient() -> Any:
        """What the averages are of, in s if it is not g itself."""
        if sign == 1 and not decay:
            return g
        library.multiply(g, sign, out=s)
        if decay:
            s[...] += decay * p
        return s

    library.subtract(gradient(), m, out=s)
    s *= 1 - beta1
    m += s
    x = gradient()
    library.multiply(x, x, out=s)
    s *= 1 - beta2
    v *= beta2
    v += s
    if largest is not None:
        library.maximum(largest, v, out=largest)
    library.sqrt(v if largest is None else largest, out=s)
    s += eps
    library.divide(m, s, out=s)
    s *= step
    if shrink != 1:
        p *= shrink
    p -= s


class AdamW(Adam):
    """Adam with weight decay decoupled from the gradient, which is how large the steps are taken from:

        p ← p - lr · weight_decay · p - lr · m̂ / (sqrt(v̂) + eps)

    Loshchilov, Hutter, Decoupled weight decay regularization, 2019.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ):
        super().__init__(
            params, lr, betas, eps, weight_decay, amsgrad,
            maximize=maximize, differentiable=differentiable, decoupled_weight_decay=True,
        )  # fmt: skip
