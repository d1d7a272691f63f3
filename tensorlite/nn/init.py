"""Filling Tensors with first values, in place; all return the Tensor.

fan_in is the number of inputs that each output sums over, fan_out the reverse: for a weight (out, in, …)
they are in · … and out · …
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from statistics import NormalDist
from typing import Any

from ..creation import eye
from ..device import xp
from ..mode import no_grad
from ..tensor import Tensor

_skipping = ContextVar("skipping", default=False)


@contextmanager
def skipped() -> Iterator[None]:
    """Inside, the functions of this file leave Tensors as they are: all numbers will come from a file, say."""
    token = _skipping.set(True)
    try:
        yield
    finally:
        _skipping.reset(token)


def _fills(fill: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`fill` as the functions of this file are: without recording, and nothing at all where that is `skipped`."""

    @wraps(fill)
    def filled(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if _skipping.get():
            return tensor
        with no_grad():
            return fill(tensor, *args, **kwargs)

    return filled


@_fills
def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Any = None) -> Tensor:
    """Normally distributed."""
    return tensor.normal_(mean, std, generator=generator)


@_fills
def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Any = None) -> Tensor:
    """Equally likely anywhere in [a, b)."""
    return tensor.uniform_(a, b, generator=generator)


@_fills
def trunc_normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0, generator: Any = None
) -> Tensor:
    """Normally distributed, but drawn anew until within [a, b].

    Raises ValueError if fewer than one number in a hundred would be.
    """
    whole = NormalDist(mean, std)
    if (inside := whole.cdf(b) - whole.cdf(a)) < 0.01:
        raise ValueError(
            f"trunc_normal_: with mean {mean} and std {std} only {inside:.2%} of the numbers lie between a={a} and "
            f"b={b}; choose bounds around the mean"
        )
    x = tensor.normal_(mean, std, generator=generator).array
    while (outside := (x < a) | (x > b)).any():
        x[outside] = Tensor._of(x[outside]).normal_(mean, std, generator=generator).array
    return tensor


@_fills
def constant_(tensor: Tensor, val: float) -> Tensor:
    return tensor.fill_(val)


def zeros_(tensor: Tensor) -> Tensor:
    return constant_(tensor, 0.0)


def ones_(tensor: Tensor) -> Tensor:
    return constant_(tensor, 1.0)


@_fills
def eye_(tensor: Tensor) -> Tensor:
    """The identity matrix, or as much of it as fits."""
    if tensor.ndim != 2:
        raise ValueError(f"eye_: expected a matrix, not shape {tensor.shape}")
    return tensor.copy_(eye(*tensor.shape, dtype=tensor.dtype, device=tensor.device))


@_fills
def orthogonal_(tensor: Tensor, gain: float = 1, generator: Any = None) -> Tensor:
    """As a matrix (out, in · …): rows, or columns if there are fewer, of length `gain` and at right angles, with
    every such matrix equally likely.

    Saxe et al., Exact solutions to the nonlinear dynamics of learning in deep linear neural networks, 2014.
    """
    if tensor.ndim < 2:
        raise ValueError(f"orthogonal_: expected two dimensions or more, not shape {tensor.shape}")
    x = tensor.normal_(generator=generator).array
    if not x.size:
        return tensor
    x = x.reshape(len(x), -1).astype(x.dtype if x.dtype == "float64" else "float32", copy=False)
    wide = x.shape[0] < x.shape[1]
    q, r = xp(x).linalg.qr(x.T if wide else x)
    q *= gain * xp(x).sign(xp(x).diagonal(r))  # else the signs that QR chooses would favour some matrices
    tensor.array[...] = (q.T if wide else q).reshape(tensor.shape)
    return tensor


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """Uniform, with the variance of `xavier_normal_`."""
    bound = math.sqrt(3) * _xavier_std(tensor, gain)
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """Normal with variance gain² · 2 / (fan_in + fan_out): activations and gradients keep their size alike.

    Glorot, Bengio, Understanding the difficulty of training deep feedforward neural networks, 2010.
    """
    return normal_(tensor, 0.0, _xavier_std(tensor, gain), generator)


def kaiming_uniform_(
    tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Any = None
) -> Tensor:
    """Uniform, with the variance of `kaiming_normal_`."""
    bound = math.sqrt(3) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Any = None
) -> Tensor:
    """Normal with variance gain² / fan: behind the nonlinearity, activations (mode "fan_in") or gradients
    ("fan_out") keep their size. `a` is the slope of leaky_relu below 0.

    He et al., Delving deep into rectifiers, 2015.
    """
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """By how much weights should be larger to make up for what a nonlinearity takes away.

    param  the slope of "leaky_relu" below 0, by default 0.01
    """
    slope = 0.01 if param is None else param
    layers = ("linear", *(f"conv{what}{n}d" for n in (1, 2, 3) for what in ("", "_transpose")))
    gains = {
        **dict.fromkeys(layers, 1.0),
        "sigmoid": 1.0,
        "tanh": 5 / 3,
        "relu": math.sqrt(2),
        "leaky_relu": math.sqrt(2 / (1 + slope**2)),
        "selu": 3 / 4,
    }
    if nonlinearity not in gains:
        raise ValueError(f"calculate_gain: {nonlinearity!r} is not one of {', '.join(gains)}")
    return gains[nonlinearity]


def _fans(tensor: Tensor) -> tuple[int, int]:
    if tensor.ndim < 2:
        raise ValueError(f"fan_in and fan_out need a weight of shape (out, in, …), not {tensor.shape}")
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def _xavier_std(tensor: Tensor, gain: float) -> float:
    return gain * math.sqrt(2 / sum(_fans(tensor)))


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"kaiming: mode is 'fan_in' or 'fan_out', not {mode!r}")
    fan_in, fan_out = _fans(tensor)
    return calculate_gain(nonlinearity, a) / math.sqrt(fan_in if mode == "fan_in" else fan_out)
