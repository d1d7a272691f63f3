"""GELU and SiLU in place on blocks, with their slope while the exponential is at hand, so that the backward is one
product; SwiGLU, whose backward computes it again; softmax and log_softmax on blocks of rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...block import Block
from ...mode import is_grad_enabled
from ...op import Op
from ...ops.activation import _A, _C, _gelu, _log_softmax, _silu, _softmax, _swiglu
from ...parallel import rows

# Beyond ±40, GELU's factor and slope are 0 or 1 to the last bit of float64; taken there, no power of x overflows.
LIMIT = 40.0


def _with_slope(block: Block, x: Any) -> tuple[Any, Any]:
    """What block(x, y, slope) writes into y and slope, which is None where no gradient will be asked for."""
    y = np.empty_like(x)
    slope = np.empty_like(x) if is_grad_enabled() else None
    source, target, slopes = x.reshape(-1), y.reshape(-1), None if slope is None else slope.reshape(-1)

    def part(start: int, stop: int) -> None:
        block(source[start:stop], target[start:stop], None if slopes is None else slopes[start:stop])

    rows(part, source.size, 5 * x.itemsize, block.compiled(x.dtype))
    return y, slope


def _by_slope(g: Any, slope: Any) -> Any:
    dx = np.empty_like(slope)
    a, b, c = g.reshape(-1), slope.reshape(-1), dx.reshape(-1)

    def part(start: int, stop: int) -> None:
        np.multiply(a[start:stop], b[start:stop], out=c[start:stop])

    rows(part, c.size, 3 * c.itemsize, one_pass=True)
    return dx


def _sigmoid_of_minus(u: Any) -> Any:
    """1/(1 + exp(u)), in the place of u."""
    with np.errstate(over="ignore"):  # where exp(u) is infinite, it is 0, as it should be
        np.exp(u, out=u)
    u += 1
    return np.reciprocal(u, out=u)


@Block
def gelu_tanh(x: Any, y: Any, slope: Any) -> None:
    """x/2 (1 + tanh u) = x s,  with u = c (x + a x³) and s = 1/(1 + exp(-2u)), and its slope s + s (1 - s) 2 x u'."""
    near = x if slope is None else np.clip(x, -LIMIT, LIMIT)  # s alone is right also where a power overflows
    with np.errstate(over="ignore"):
        u = near * near
    u *= -2 * _A * _C
    u += -2 * _C
    u *= near  # -2u
    if slope is not None:
        np.multiply(u, 3, out=slope)
        near *= 4 * _C
        slope += near  # -2 x u' = 4 c x - 6u
    s = _sigmoid_of_minus(u)
    np.multiply(x, s, out=y)
    if slope is not None:
        np.multiply(s, s, out=near)
        near -= s
        slope *= near
        slope += s


# erf(z) = 1 - (a₁ t + … + a₅ t⁵) exp(-z²) with t = 1/(1 + p z), for z >= 0, to 1.5e-7: Abramowitz and Stegun, 7.1.26.
P, *TERMS = 0.3275911, 1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592


@Block
def gelu_erf(x: Any, y: Any, slope: Any) -> None:
    """x Φ(x), and its slope Φ(x) + x φ(x). Φ comes from its tail Φ(-|x|), so that no tail is rounded away."""
    near = np.clip(x, -LIMIT, LIMIT)
    size = np.abs(near)
    t = size * (P / math.sqrt(2))
    t += 1
    np.reciprocal(t, out=t)
    e = near * near
    e *= -0.5
    np.exp(e, out=e)
    tail = t * (TERMS[0] / 2)
    for term in TERMS[1:]:
        tail += term / 2
        tail *= t
    tail *= e  # Φ(-|x|)
    np.multiply(size, tail, out=t)
    np.add(near, size, out=y)
    y *= 0.5
    y -= t  # max(x, 0) - |x| Φ(-|x|)
    if slope is not None:
        np.subtract(0.5, tail, out=tail)
        np.copysign(tail, near, out=slope)
        slope += 0.5  # Φ(x)
        e *= near
        e *= 1 / math.sqrt(2 * math.pi)
        slope += e
    if not np.array_equal(near, x):
        np.multiply(x, near > 0, out=y, where=near != x)  # x, 0 or nan


@Block
def silu(x: Any, y: Any, slope: Any) -> None:
    """x s with s = 1/(1 + exp(-x)), and its slope s + x s (1 - s)."""
    s = _sigmoid_of_minus(np.negative(x))
    np.multiply(x, s, out=y)
    if slope is not None:
        np.subtract(1, s, out=slope)
        slope *= y
        slope += s


def _declines(x: Any) -> bool:
    return x.dtype not in (np.float32, np.float64) or not x.flags.c_contiguous


def _gelu_forward(x: Any, *, approximate: str) -> Any:
    if _declines(x) or (approximate == "none" and x.dtype != np.float32):
        return NotImplemented
    return _with_slope(gelu_tanh if approximate == "tanh" else gelu_erf, x)


def _silu_forward(x: Any) -> Any:
    return NotImplemented if _declines(x) else _with_slope(silu, x)


_gelu.kernel("cpu", _gelu_forward, dx=_by_slope, residual=("slope",))
_silu.kernel("cpu", _silu_forward, dx=_by_slope, residual=("slope",))


# Two inputs --------------------------------------------------------------------------------------------


@Block
def swiglu(gate: Any, up: Any, y: Any) -> None:
    s = _sigmoid_of_minus(np.negative(gate))
    np.multiply(gate, s, out=y)
    y *= up


@Block
def swiglu_slopes(g: Any, gate: Any, up: Any, dgate: Any, dup: Any) -> None:
    """g up (s + x s (1 - s)) and g x s, of x = gate and s = 1/(1 + exp(-x))."""
    s = _sigmoid_of_minus(np.negative(gate))
    np.multiply(gate, s, out=dup)
    np.subtract(1, s, out=dgate)
    dgate *= dup
    dgate += s
    dup *= g
    dgate *= up
    dgate *= g


def _elementwise(block: Block, outputs: int, *arrays: Any) -> list[Any]:
    """What block(*arrays, *outputs) fills, element by element."""
    like = arrays[-1]
    results = [np.empty_like(like) for _ in range(outputs)]
    flat = [x.reshape(-1) for x in (*arrays, *results)]

    def part(start: int, stop: int) -> None:
        block(*[x[start:stop] for x in flat])

    rows(part, like.size, len(flat) * like.itemsize, block.compiled(like.dtype))
    return results


def _swiglu_forward(gate: Any, up: Any) -> Any:
    both = isinstance(gate, np.ndarray) and isinstance(up, np.ndarray) and gate.shape == up.shape
    if not both or gate.dtype != up.dtype or _declines(gate) or _declines(up):
        return NotImplemented
    return _elementwise(swiglu, 1, gate, up)[0]


_swiglu.kernel("cpu", _swiglu_forward, d=lambda g, gate, up: _elementwise(swiglu_slopes, 2, g, gate, up))


# Rows that are normalised ------------------------------------------------------------------------------


def _in_rows(block: Block, dim: int, *arrays: Any) -> Any:
    """What block(*rows of arrays, rows of the result) fills; NotImplemented where rows do not lie in order."""
    x = arrays[0]
    if any(_declines(each) or each.shape != x.shape for each in arrays) or dim not in (-1, x.ndim - 1) or not x.size:
        return NotImplemented
    out = np.empty_like(x)
    flat = [each.reshape(-1, x.shape[-1]) for each in (*arrays, out)]

    def part(start: int, stop: int) -> None:
        block(*[each[start:stop] for each in flat])

    rows(part, len(flat[0]), len(flat) * flat[0][0].nbytes, block.compiled(x.dtype))
    return out


@Block
def softmax(x: Any, y: Any) -> None:
    np.subtract(x, x.max(axis=1, keepdims=True), out=y)
    np.exp(y, out=y)
    y *= 1 / y.sum(axis=1, keepdims=True)


@Block
def softmax_slope(g: Any, y: Any, dx: Any) -> None:
    np.subtract(g, np.vecdot(g, y)[:, None], out=dx)
    dx *= y


@Block
def log_softmax(x: Any, y: Any) -> None:
    np.subtract(x, x.max(axis=1, keepdims=True), out=y)
    y -= np.log(np.exp(y).sum(axis=1, keepdims=True))


@Block
def log_softmax_slope(g: Any, y: Any, dx: Any) -> None:
    np.exp(y, out=dx)
    dx *= -g.sum(axis=1, keepdims=True)
    dx += g


def _attach(op: Op, forward: Block, slope: Block) -> None:
    def rule(g: Any, y: Any, dim: int) -> Any:
        dx = _in_rows(slope, dim, g, y)
        return op.plain.rows["x"](g, y, dim) if dx is NotImplemented else dx

    op.kernel("cpu", lambda x, *, dim: _in_rows(forward, dim, x), dx=rule)


_attach(_softmax, softmax, softmax_slope)
_attach(_log_softmax, log_softmax, log_softmax_slope)
