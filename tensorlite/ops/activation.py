"""What stands between the products of a network: softmax, GELU, dropout. The simplest, tanh and relu say, are in
elementwise.py. A fused op is composed of simple ones in ../reference.py, which says what it means; here is the whole
formula at once with its derivative, because that is faster and keeps less."""

from __future__ import annotations

import math
from typing import Any

from .. import reference
from ..device import device_of, xp
from ..op import Analytic, Op
from ..random import default_generator, keep_mask
from ..tensor import Tensor, method
from .elementwise import erf as erf_
from .elementwise import exp, tanh
from .reduction import _floats_only, sum

# fmt: off
_softmax       = Analytic("softmax",     lambda x, *, dim: _exponentials(x, dim),
                                         dx=lambda g, y, dim: (g - sum(g * y, dim, True)) * y,
                                         reference=reference.softmax)
_log_softmax   = Analytic("log_softmax", lambda x, *, dim: x - _logsumexp(x, dim),
                                         dx=lambda g, y, dim: g - exp(y) * sum(g, dim, True),
                                         reference=reference.log_softmax)
_gelu          = Analytic("gelu",        lambda x, *, approximate: _gelu_tanh(x) if approximate == "tanh" else _gelu_erf(x),
                                         dx=lambda g, x, approximate: g * _gelu_slope(x, approximate),
                                         reference=reference.gelu)
_dropout       = Op("dropout",           lambda x, mask, *, p: x * mask * (1 / (1 - p)),
                                         dx=lambda g, mask, p: _dropout(g, mask, p=p))
# fmt: on


def _exponentials(x: Any, dim: int) -> Any:
    e = x - x.max(axis=dim, keepdims=True)
    xp(x).exp(e, out=e)
    e /= e.sum(axis=dim, keepdims=True)
    return e


def _logsumexp(x: Any, dim: int) -> Any:
    top = x.max(axis=dim, keepdims=True)
    e = x - top
    xp(x).exp(e, out=e)
    return xp(x).log(e.sum(axis=dim, keepdims=True)) + top


_C = math.sqrt(2 / math.pi)
_A = 0.044715


def _gelu_tanh(x: Any) -> Any:
    """x/2 (1 + tanh(c (x + a x^3))), in one buffer."""
    u = xp(x).multiply(x, x, out=xp(x).empty_like(x))
    u *= _A * _C
    u += _C
    u *= x
    xp(u).tanh(u, out=u)
    u += 1
    u *= x
    u *= 0.5
    return u


def _gelu_erf(x: Any) -> Any:
    return 0.5 * x * (1 + erf_(x * math.sqrt(0.5)))


def _gelu_slope(x: Any, approximate: str) -> Any:
    """exact: Φ(x) + x φ(x).   tanh, t = tanh(c (x + a x^3)):  (1 + t)/2 + x/2 (1 - t^2) c (1 + 3 a x^2)"""
    if approximate == "tanh":
        t = tanh(_C * (x + _A * x * x * x))
        return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * (_C * (1 + 3 * _A * x * x))
    return 0.5 * (1 + erf_(x * math.sqrt(0.5))) + x * exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))


@method
def softmax(input: Tensor, dim: int = -1) -> Tensor:
    """exp(x) / sum(exp(x)) along dim."""
    return _softmax(input, dim=dim)


@method
def log_softmax(input: Tensor, dim: int = -1) -> Tensor:
    """log(softmax(x)) along dim, without overflow."""
    return _log_softmax(input, dim=dim)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x Φ(x); approximate="tanh" is the form GPT-2 was trained with."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate is 'none' or 'tanh', not {approximate!r}")
    return _gelu(input, approximate=approximate)


def dropout(input: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Each element set to 0 with probability p, the rest scaled by 1/(1-p); the input itself if not training.

    Srivastava et al., Dropout, 2014.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: p is a probability, and {p} is not between 0 and 1")
    _floats_only(input, "dropout")
    if not training or p == 0:
        return input
    if p == 1:
        return input * 0
    return _dropout(input, keep_mask(input.shape, p, default_generator(device_of(input.array))), p=p)


__all__ = ["log_softmax", "softmax"]
