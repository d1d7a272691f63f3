"""Layers that bring numbers to mean 0 and size 1."""

from __future__ import annotations

from typing import Any

from .. import reference
from ..device import xp
from ..op import Op
from ..tensor import Tensor
from .reduction import _floats_only

# fmt: off
_layer_norm    = Op("layer_norm",        lambda x, weight, bias, *, dims, eps: _normalise(x, weight, bias, dims, eps),
                                         d=lambda g, x, weight, mean, rstd, dims: _normalise_backward(g, x, weight, mean, rstd, dims),
                                         residual=("mean", "rstd"), reference=reference.layer_norm)
# fmt: on


def _normalise(x: Any, weight: Any, bias: Any, dims: int, eps: float) -> tuple[Any, Any, Any]:
    last = tuple(range(-dims, 0))
    mean = x.mean(axis=last, keepdims=True)
    y = x - mean
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
    away from their mean together, does not change n.
    """
    last = tuple(range(-dims, 0))
    n = (x - mean) * rstd
    h = g if weight is None else g * weight
    dx = rstd * (h - h.mean(axis=last, keepdims=True) - n * (h * n).mean(axis=last, keepdims=True))
    return dx, None if weight is None else g * n, g


def layer_norm(
    input: Tensor, normalized_shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Normalised over the last dimensions, whose shape is given: mean 0, variance 1, then times weight plus bias."""
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    _floats_only(input, "layer_norm")
    if input.shape[input.ndim - len(shape) :] != shape:
        raise ValueError(f"layer_norm: the input's shape {input.shape} does not end in normalized_shape {shape}")
    return _layer_norm(input, weight, bias, dims=len(shape), eps=eps)
