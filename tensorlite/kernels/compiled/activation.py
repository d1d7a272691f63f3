"""GELU, SiLU, SwiGLU, softmax, log_softmax."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...ops.activation import _A, _C
from ..cpu import activation
from .loop import exp, f32, largest, loop_of

_ONE, _HALF, _THREE = f32(1), f32(0.5), f32(3)
_NEAR = f32(activation.LIMIT)
_CUBE, _LINE, _SLOPE = f32(-2 * _A * _C), f32(-2 * _C), f32(4 * _C)


@loop_of(activation.gelu_tanh)
def gelu_tanh(x: Any, y: Any, slope: Any) -> None:
    for i in range(x.size):
        near = min(max(x[i], -_NEAR), _NEAR)
        u = (_CUBE * near * near + _LINE) * near
        s = _ONE / (_ONE + exp(u))
        y[i] = x[i] * s
        if slope is not None:
            slope[i] = s - (_SLOPE * near + _THREE * u) * (s - s * s)


_P, (_A1, _A2, _A3, _A4, _A5) = f32(activation.P / math.sqrt(2)), (f32(term / 2) for term in activation.TERMS)
_DENSITY = f32(1 / math.sqrt(2 * math.pi))


@loop_of(activation.gelu_erf)
def gelu_erf(x: Any, y: Any, slope: Any) -> None:
    for i in range(x.size):
        near = min(max(x[i], -_NEAR), _NEAR)
        size = abs(near)
        t = _ONE / (_ONE + size * _P)
        e = exp(-_HALF * near * near)
        tail = ((((_A1 * t + _A2) * t + _A3) * t + _A4) * t + _A5) * t * e  # Φ(-|x|)
        top = (_ONE - tail) if near > 0 else tail  # Φ(x)
        far = x[i] if x[i] > 0 else x[i] * f32(0)
        y[i] = _HALF * (near + size) - size * tail if near == x[i] else far
        if slope is not None:
            slope[i] = top + near * e * _DENSITY


@loop_of(activation.silu)
def silu(x: Any, y: Any, slope: Any) -> None:
    for i in range(x.size):
        s = _ONE / (_ONE + exp(-x[i]))
        y[i] = x[i] * s
        if slope is not None:
            slope[i] = (_ONE - s) * y[i] + s


@loop_of(activation.swiglu)
def swiglu(gate: Any, up: Any, y: Any) -> None:
    for i in range(gate.size):
        y[i] = gate[i] / (_ONE + exp(-gate[i])) * up[i]


@loop_of(activation.swiglu_slopes)
def swiglu_slopes(g: Any, gate: Any, up: Any, dgate: Any, dup: Any) -> None:
    for i in range(gate.size):
        s = _ONE / (_ONE + exp(-gate[i]))
        y = gate[i] * s
        dgate[i] = g[i] * up[i] * (s + y * (_ONE - s))
        dup[i] = g[i] * y


@loop_of(activation.softmax, sums=True)
def softmax(x: Any, y: Any) -> None:
    for i in range(len(x)):
        top, total = largest(x[i]), f32(0)
        for c in range(x.shape[1]):
            y[i, c] = exp(x[i, c] - top)
            total += y[i, c]
        for c in range(x.shape[1]):
            y[i, c] *= _ONE / total


@loop_of(activation.softmax_slope, sums=True)
def softmax_slope(g: Any, y: Any, dx: Any) -> None:
    for i in range(len(g)):
        inner = f32(0)
        for c in range(g.shape[1]):
            inner += g[i, c] * y[i, c]
        for c in range(g.shape[1]):
            dx[i, c] = (g[i, c] - inner) * y[i, c]


@loop_of(activation.log_softmax, sums=True)
def log_softmax(x: Any, y: Any) -> None:
    for i in range(len(x)):
        top, total = largest(x[i]), f32(0)
        for c in range(x.shape[1]):
            total += exp(x[i, c] - top)
        logarithm = np.log(total)
        for c in range(x.shape[1]):
            y[i, c] = x[i, c] - top - logarithm


@loop_of(activation.log_softmax_slope, sums=True)
def log_softmax_slope(g: Any, y: Any, dx: Any) -> None:
    for i in range(len(g)):
        total = f32(0)
        for c in range(g.shape[1]):
            total += g[i, c]
        for c in range(g.shape[1]):
            dx[i, c] = g[i, c] - exp(y[i, c]) * total
