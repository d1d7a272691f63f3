"""What brings numbers to mean 0 and size 1, or to size 1 alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import mode, reference
from ..device import xp
from ..dtype import HALVES
from ..mode import no_grad
from ..op import Op, OpError
from ..tensor import Tensor
from .activation import in_float32
from .arithmetic import maximum
from .elementwise import rsqrt
from .reduction import _floats_only, mean, norm, sum, var
from .shape import expand, reshape

# fmt: off
_layer_norm    = Op("layer_norm",        lambda x, weight, bias, *, dims, eps: _normalise(x, weight, bias, dims, eps, True),
                                         d=lambda g, x, weight, mean, rstd, dims: _normalise_backward(g, x, weight, mean, rstd, dims),
                                         residual=("mean", "rstd"), reference=reference.layer_norm)
_rms_norm      = Op("rms_norm",          lambda x, weight, *, dims, eps: _normalise(x, weight, None, dims, eps, False),
                                         d=lambda g, x, weight, mean, rstd, dims: _normalise_backward(g, x, weight, mean, rstd, dims)[:2],
                                         residual=("mean", "rstd"), reference=reference.rms_norm)
# fmt: on


def _normalise(x: Any, weight: Any, bias: Any, dims: int, eps: float, centre: bool) -> tuple[Any, Any, Any]:
    """y = (x - mean) rstd weight + bias, mean, and rstd, 1/sqrt(average((x - mean)²) + eps). centre=False: mean is 0."""
    last = tuple(range(-dims, 0))
    mean = x.mean(axis=last, keepdims=True) if centre else None
    y = x - mean if centre else x.copy()
    rstd = 1 / xp(x).sqrt((y * y).mean(axis=last, keepdims=True) + eps)
    y *= rstd
    if weight is not None:
        y *= weight
    if bias is not None:
        y += bias
    return y, mean, rstd


def _normalise_backward(g: Any, x: Any, weight: Any, mean: Any, rstd: Any, dims: int) -> tuple[Any, Any, Any]:
    """With n = (x - mean) rstd and h = g weight:  dx = rstd (h - average(h) - n average(h n)).

    The two averages are the paths through the mean and through the variance: what moves all x together, or
    away from their mean together, does not change n. Without a mean (None) only the second path is there.
    """
    last = tuple(range(-dims, 0))
    n = (x if mean is None else x - mean) * rstd
    h = g if weight is None else g * weight
    dx = h - n * (h * n).mean(axis=last, keepdims=True)
    if mean is not None:
        dx -= h.mean(axis=last, keepdims=True)
    dx *= rstd
    return dx, None if weight is None else g * n, g


def _dims_normalised(input: Tensor, normalized_shape: Any, op: str, **parameters: Tensor | None) -> int:
    """How many dimensions normalized_shape names. Raises unless the input ends in it and the parameters have it."""
    shape = (normalized_shape,) if isinstance(normalized_shape, (int, np.integer)) else tuple(normalized_shape)
    _floats_only(input, op)
    if not shape or input.shape[-len(shape) :] != shape:
        raise OpError(f"{op}: the input's shape {input.shape} does not end in normalized_shape {shape}")
    for name, x in parameters.items():
        if x is not None and (x.shape != shape or x.dtype != input.dtype):
            raise OpError(f"{op}: {name} has shape {x.shape} and {x.dtype}; it must have {shape} and {input.dtype}")
    return len(shape)


@in_float32
def layer_norm(
    input: Tensor, normalized_shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Normalised over the last dimensions, whose shape is given: mean 0, variance 1, then times weight plus bias.

    Raises OpError if the input's shape does not end in normalized_shape, or weight or bias have another shape or dtype.
    """
    dims = _dims_normalised(input, normalized_shape, "layer_norm", weight=weight, bias=bias)
    return _layer_norm(input, weight, bias, dims=dims, eps=eps)


@in_float32
def rms_norm(input: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    """Divided by the root of the mean square over the last dimensions, whose shape is given, then times weight.

    eps  added to the mean square; by default the distance from 1 to the next number of the dtype (float32's, for float16)

    Raises OpError as `layer_norm` does.
    """
    dims = _dims_normalised(input, normalized_shape, "rms_norm", weight=weight)
    return _rms_norm(input, weight, dims=dims, eps=float(np.finfo(input.dtype).eps) if eps is None else eps)


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Each channel of (N, C, …) brought to mean 0 and variance 1, then times weight plus bias, all (C,).

    training  normalise by the mean and variance of the input itself, and move the running ones, if given, towards them
              by the fraction `momentum` (the variance estimated with N - 1); else normalise by the running ones

    Raises ValueError when training on one number per channel, RuntimeError when evaluating without running numbers,
    OpError for shapes that do not fit. Ioffe, Szegedy, Batch Normalization, 2015.
    """
    _floats_only(input, "batch_norm")
    if input.ndim < 2:
        raise OpError(f"batch_norm: the input has shape {input.shape}; expected (N, C, …)")
    channels = (1, input.shape[1], *[1] * (input.ndim - 2))
    given = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    for name, x in given.items():
        if x is not None and x.shape != input.shape[1:2]:
            raise OpError(f"batch_norm: {name} has shape {x.shape}; the input {input.shape} needs {input.shape[1:2]}")
    x = input.float() if input.dtype in HALVES else input
    average, variance = running_mean, running_var
    if training:
        dims = (0, *range(2, x.ndim))
        count = math.prod([x.shape[i] for i in dims])
        if count == 1:
            raise ValueError(f"batch_norm: one number per channel, shape {input.shape}, has no variance to train on")
        average, variance = mean(x, dims), var(x, dims, correction=0)
        with no_grad():
            if running_mean is not None:
                running_mean.lerp_(average.detach(), momentum)
            if running_var is not None:
                running_var.lerp_(variance.detach() * (count / (count - 1)), momentum)
    if average is None or variance is None:
        raise RuntimeError("batch_norm: evaluating needs running_mean and running_var; or give training=True")
    y = (x - reshape(average, channels)) * rsqrt(reshape(variance, channels) + eps)
    y = y if weight is None else y * reshape(weight, channels)
    y = y if bias is None else y + reshape(bias, channels)
    return y.to(input.dtype)


def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """Divided by its p-norm along dim, or by eps where the norm is smaller."""
    return input / maximum(norm(input, p, dim, True), eps)


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The cosine of the angle between x1 and x2, vectors along dim; both broadcast. Norms below eps count as eps."""
    x1, x2 = mode.cast("cosine_similarity", x1, x2)
    shape = np.broadcast_shapes(x1.shape, x2.shape)
    a, b = [normalize(expand(x, shape), 2.0, dim, eps) for x in (x1, x2)]
    return sum(a * b, dim)
