"""Muon: the momentum of a matrix, made orthogonal, so that a step moves all directions alike."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..device import xp
from ..tensor import Tensor
from .optimizer import Optimizer


class Muon(Optimizer):
    """For the matrices of hidden layers; embeddings, the head and vectors belong to AdamW. With gradient G:

        M ← momentum · M + (1 - momentum) · G    ("momentum_buffer")
        U = M, with nesterov momentum · M + (1 - momentum) · G
        P ← P - lr · weight_decay · P - lr · ratio · orthogonal(U)

    ns_coefficients, ns_steps, eps  of `orthogonal`, below
    adjust_lr_fn  ratio for a matrix (out, in): "original" (the default, None) sqrt(max(1, out/in)); "match_rms_adamw"
                  0.2 sqrt(max(out, in)), which makes steps as large as AdamW's

    Raises ValueError for a parameter that is no matrix. PyTorch computes `orthogonal` in bfloat16, which NumPy lacks;
    here it is in the parameter's own dtype (float16 in float32), so steps differ by up to a percent.

    Jordan, Muon: an optimizer for hidden layers in neural networks, 2024; Liu et al., Muon is scalable for LLM
    training, 2025.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ):
        settings = dict(lr=lr, weight_decay=weight_decay, momentum=momentum, nesterov=nesterov)
        newton = dict(ns_coefficients=ns_coefficients, eps=eps, ns_steps=ns_steps)
        super().__init__(params, dict(**settings, **newton, adjust_lr_fn=adjust_lr_fn))

    def check(self, group: dict[str, Any]) -> None:
        self._check_at_least_0(group, "lr", "weight_decay", "momentum")
        for p in group["params"]:
            if p.ndim != 2:
                raise ValueError(
                    f"Muon: a parameter has shape {p.shape}, and only matrices can be made orthogonal; give it to AdamW"
                )
        if len(group["ns_coefficients"]) != 3 or not 0 <= group["ns_steps"] < 100:
            raise ValueError(
                "Muon: expected three ns_coefficients and ns_steps from 0 to 99, not "
                f"{group['ns_coefficients']} and {group['ns_steps']}"
            )
        if group["adjust_lr_fn"] not in (None, "original", "match_rms_adamw"):
            raise ValueError(
                f"Muon: adjust_lr_fn is None, 'original' or 'match_rms_adamw', not {group['adjust_lr_fn']!r}"
            )

    def update(self, p: Any, g: Any, group: dict[str, Any], state: dict[str, Any]) -> None:
        if not state:
            state["momentum_buffer"] = Tensor._of(xp(p).zeros_like(p))
        m, momentum, lr = state["momentum_buffer"].array, group["momentum"], float(group["lr"])
        m += (1 - momentum) * (g - m)
        direction = g + momentum * (m - g) if group["nesterov"] else m
        rows, columns = p.shape
        if group["adjust_lr_fn"] == "match_rms_adamw":
            ratio = 0.2 * math.sqrt(max(rows, columns))
        else:
            ratio = math.sqrt(max(1, rows / columns)) if columns else 1.0
        p *= 1 - lr * group["weight_decay"]
        p -= lr * ratio * orthogonal(direction, group["ns_coefficients"], group["ns_steps"], group["eps"])


def orthogonal(x: Any, coefficients: tuple[float, float, float], steps: int, eps: float) -> Any:
    """Near to U Vᵀ, for a matrix x = U S Vᵀ: singular values become about 1 (with the defaults 0.7 to 1.2).

    A polynomial of odd degree acts on the singular values alone: with the smaller Gram matrix A = x xᵀ,

        x ← a x + (b A + c A²) x        takes each s to a s + b s³ + c s⁵,

    and does so `steps` times, from x / max(‖x‖, eps), where all are at most 1.
    """
    a, b, c = coefficients
    tall = x.shape[0] > x.shape[1]
    x = (x.T if tall else x).astype(np.promote_types(x.dtype, np.float32))
    x /= xp(x).maximum(xp(x).sqrt((x * x).sum(dtype=np.float64)), eps)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.T if tall else x
