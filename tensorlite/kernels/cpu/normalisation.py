"""layer_norm and rms_norm on blocks of rows: one pass over main memory forward, one backward."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from ...block import Block
from ...ops.normalisation import _layer_norm, _rms_norm
from ...parallel import rows, sum_of_blocks


def _declines(x: Any, weight: Any, bias: Any) -> bool:
    return (
        x.dtype not in (np.float32, np.float64)
        or not x.flags.c_contiguous
        or not x.size
        or any(p is not None and p.dtype != x.dtype for p in (weight, bias))
    )


@Block
def normalise(x: Any, y: Any, mean: Any, rstd: Any, weight: Any, bias: Any, eps: float) -> None:
    """(n, C) x -> y = (x - mean) rstd weight + bias, with (n, 1) mean, None if x is not centred, and (n, 1) rstd."""
    width = x.shape[1]
    centred = x
    if mean is not None:
        np.matmul(x, _constant(width, 1 / width, x.dtype), out=mean[:, 0])  # the fastest average is a product
        centred = np.subtract(x, mean, out=y)
    np.vecdot(centred, centred, out=rstd[:, 0])
    rstd /= width
    rstd += eps
    np.sqrt(rstd, out=rstd)
    np.reciprocal(rstd, out=rstd)
    np.multiply(centred, rstd, out=y)
    if weight is not None:
        y *= weight
    if bias is not None:
        y += bias


@Block
def normalise_slope(g: Any, x: Any, mean: Any, rstd: Any, weight: Any, dx: Any, dweight: Any, dbias: Any) -> None:
    """The rule of ops/normalisation.py on (n, C): dx, and dweight and dbias, sums over the rows, None if not wanted."""
    width = x.shape[1]
    ones = _constant(len(x), 1.0, x.dtype)
    if mean is None:
        n = x * rstd
    else:
        n = x - mean
        n *= rstd
    np.multiply(g, n, out=dx)
    if dweight is not None:
        np.matmul(ones, dx, out=dweight)
    if dbias is not None:
        np.matmul(ones, g, out=dbias)
    n *= (dx @ weight / width)[:, None]  # n average(h n), with h = g weight
    np.multiply(g, weight, out=dx)
    if mean is not None:
        dx -= (g @ weight / width)[:, None]  # average(h)
    dx -= n
    dx *= rstd


@cache
def _constant(length: int, value: float, dtype: Any) -> Any:
    return np.full(length, value, dtype)


def _forward(x: Any, weight: Any, bias: Any, *, dims: int, eps: float, centre: bool = True) -> Any:
    if _declines(x, weight, bias):
        return NotImplemented
    width = math.prod(x.shape[x.ndim - dims :])
    source = x.reshape(-1, width)  # (N, C)
    target = np.empty_like(source)
    statistics = (*x.shape[: x.ndim - dims], *[1] * dims)
    rstd = np.empty((len(source), 1), x.dtype)
    mean = np.empty_like(rstd) if centre else None
    w = None if weight is None else weight.reshape(-1)
    b = None if bias is None else bias.reshape(-1)

    def block(start: int, stop: int) -> None:
        at = slice(start, stop)
        normalise(source[at], target[at], None if mean is None else mean[at], rstd[at], w, b, eps)

    rows(block, len(source), 3 * width * x.itemsize, normalise.compiled(x.dtype))
    return target.reshape(x.shape), None if mean is None else mean.reshape(statistics), rstd.reshape(statistics)


def _backward(g: Any, x: Any, weight: Any, mean: Any, rstd: Any, dims: int, wants: tuple[bool, ...]) -> tuple:
    """The rule of ops/normalisation.py; the sums for weight and bias are taken block by block."""
    width = math.prod(x.shape[x.ndim - dims :])
    source, arriving = x.reshape(-1, width), g.reshape(-1, width)  # (N, C)
    means, rstds = None if mean is None else mean.reshape(-1, 1), rstd.reshape(-1, 1)  # (N, 1)
    w = _constant(width, 1.0, x.dtype) if weight is None else weight.reshape(-1)
    dx = np.empty_like(source)

    def block(start: int, stop: int) -> tuple[Any, ...]:
        at = slice(start, stop)
        dweight, dbias = (np.empty(width, x.dtype) if wanted else None for wanted in (*wants[1:], False)[:2])
        mean = None if means is None else means[at]
        normalise_slope(arriving[at], source[at], mean, rstds[at], w, dx[at], dweight, dbias)
        return (dweight, dbias)[: len(wants) - 1]

    sums = sum_of_blocks(block, len(source), 4 * width * x.itemsize, normalise_slope.compiled(x.dtype))
    shape = x.shape[x.ndim - dims :]
    return (dx.reshape(x.shape), *[None if each is None else each.reshape(shape) for each in sums])


def _rms_forward(x: Any, weight: Any, *, dims: int, eps: float) -> Any:
    return _forward(x, weight, None, dims=dims, eps=eps, centre=False)


_layer_norm.kernel("cpu", _forward, d=_backward, residual=("mean", "rstd"))
_rms_norm.kernel("cpu", _rms_forward, d=_backward, residual=("mean", "rstd"))
