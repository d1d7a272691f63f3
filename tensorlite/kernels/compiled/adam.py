"""Adam and AdamW."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...optim import adamw
from .loop import f32, loop_of


@loop_of(adamw.adam_step)
def adam_step(
    p: Any, g: Any, m: Any, v: Any, largest: Any,
    beta1: Any, beta2: Any, eps: Any, step: Any, shrink: Any, decay: Any, sign: Any,
) -> None:  # fmt: skip
    old, new, rest = f32(beta2), f32(1 - beta1), f32(1 - beta2)
    for i in range(p.size):
        x = f32(sign) * g[i] + f32(decay) * p[i]
        m[i] += new * (x - m[i])
        v[i] = old * v[i] + rest * x * x
        top = v[i]
        if largest is not None:
            largest[i] = max(largest[i], top)
            top = largest[i]
        p[i] = f32(shrink) * p[i] - f32(step) * m[i] / (np.sqrt(top) + f32(eps))
