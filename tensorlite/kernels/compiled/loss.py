"""Softmax and cross-entropy."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..cpu import loss
from .loop import exp, f32, largest, loop_of


@loop_of(loss.logsumexp_rows, sums=True)
def logsumexp_rows(x: Any, out: Any) -> None:
    for i in range(len(x)):
        top, total = largest(x[i]), f32(0)
        for c in range(x.shape[1]):
            total += exp(x[i, c] - top)
        out[i, 0] = np.log(total) + top


@loop_of(loss.logits_slope)
def logits_slope(x: Any, logsumexp: Any, target: Any, scale: Any, out: Any) -> None:
    for i in range(len(x)):
        for c in range(x.shape[1]):
            out[i, c] = exp(x[i, c] - logsumexp[i, 0]) * scale[i]
        out[i, target[i]] -= scale[i]


@loop_of(loss.losses_and_slope, sums=True)
def losses_and_slope(p: Any, target: Any, share: Any, losses: Any, slope: bool) -> None:
    for i in range(len(p)):
        top, own, total = largest(p[i]), p[i, target[i]], f32(0)
        for c in range(p.shape[1]):
            p[i, c] = exp(p[i, c] - top)
            total += p[i, c]
        losses[i] = np.log(total) - (own - top)
        if slope:
            factor = share[i] / total
            for c in range(p.shape[1]):
                p[i, c] *= factor
            p[i, target[i]] -= share[i]
            if share[i] == 0:
                p[i] = 0  # also where logits are not finite
