"""GELU in place on blocks, with its slope while the exponential is at hand: the backward is one product."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...mode import is_grad_enabled
from ...ops.activation import _A, _C, _gelu
from ...parallel import rows


def _forward(x: Any, *, approximate: str) -> Any:
    """x/2 (1 + tanh u) = x s,  with u = c (x + a x³) and s = 1/(1 + exp(-2u)), and its slope s + s (1 - s) 2 x u'."""
    if approximate != "tanh" or x.dtype not in (np.float32, np.float64) or not x.flags.c_contiguous:
        return NotImplemented
    y = np.empty_like(x)
    slope = np.empty_like(x) if is_grad_enabled() else None
    source, target, slopes = x.reshape(-1), y.reshape(-1), None if slope is None else slope.reshape(-1)

    def block(start: int, stop: int) -> None:
        x = np.clip(source[start:stop], -40, 40)  # beyond, s is 0 or 1; taken there, no power of x overflows
        s = x * x
        s *= -2 * _A * _C
        s += -2 * _C
        s *= x  # -2u
        if slopes is not None:
            d = np.multiply(s, 3, out=slopes[start:stop])
            x *= 4 * _C
            d += x  # -2 x u' = 4 c x - 6u
        with np.errstate(over="ignore"):  # exp(-2u) may be infinite, and then s is 0, as it should be
            np.exp(s, out=s)
        s += 1
        np.reciprocal(s, out=s)
        np.multiply(source[start:stop], s, out=target[start:stop])
        if slopes is not None:
            np.multiply(s, s, out=x)
            x -= s
            d *= x
            d += s

    rows(block, source.size, 5 * x.itemsize)
    return y, slope


def _backward(g: Any, slope: Any) -> Any:
    dx = np.empty_like(slope)
    a, b, c = g.reshape(-1), slope.reshape(-1), dx.reshape(-1)
    rows(lambda start, stop: np.multiply(a[start:stop], b[start:stop], out=c[start:stop]), c.size, 3 * c.itemsize)
    return dx


_gelu.kernel("cpu", _forward, dx=_backward, residual=("slope",))
