"""GELU in place on blocks: six passes over a block in the cache instead of six over main memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...ops.activation import _A, _C, _gelu
from ...parallel import rows


def _declines(x: Any, approximate: str) -> bool:
    return approximate != "tanh" or x.dtype not in (np.float32, np.float64) or not x.flags.c_contiguous


def _forward(x: Any, *, approximate: str) -> Any:
    if _declines(x, approximate):
        return NotImplemented
    y = np.empty_like(x)
    source, target = x.reshape(-1), y.reshape(-1)

    def block(start: int, stop: int) -> None:
        """x/2 (1 + tanh(c (x + a x^3)))"""
        x, u = source[start:stop], target[start:stop]
        np.multiply(x, x, out=u)
        u *= _A * _C
        u += _C
        u *= x
        np.tanh(u, out=u)
        u += 1
        u *= x
        u *= 0.5

    rows(block, source.size, 2 * x.itemsize)
    return y


def _backward(g: Any, x: Any) -> Any:
    dx = np.empty_like(x)
    source, arriving, target = x.reshape(-1), g.reshape(-1), dx.reshape(-1)

    def block(start: int, stop: int) -> None:
        """With u = c (x + a x^3), t = tanh u:  g/2 ((1 + t) + (1 - t^2) x u'),  x u' = 3 u - 2 c x

        Beyond ±40 that is 0 or g; taken there, no power of x overflows.
        """
        x, t = np.clip(source[start:stop], -40, 40), target[start:stop]
        u = x * x
        u *= _A * _C
        u += _C
        u *= x
        np.tanh(u, out=t)
        u *= 3
        u -= (2 * _C) * x
        slope = t * t
        np.subtract(1, slope, out=slope)
        slope *= u
        t += 1
        t += slope
        t *= arriving[start:stop]
        t *= 0.5

    rows(block, source.size, 6 * x.itemsize)
    return dx


_gelu.kernel("cpu", _forward, dx=_backward)
