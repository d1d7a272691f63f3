"""layer_norm and rms_norm on blocks of rows: one pass over main memory forward, one backward."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from ...ops.normalisation import _layer_norm, _rms_norm
from ...parallel import rows, sum_of_blocks


def _declines(x: Any, weight: Any, bias: Any) -> bool:
    return (
        x.dtype not in (np.float32, np.float64)
        or not x.flags.c_contiguous
        or not x.size
        or any(p is not None and p.dtype != x.dtype for p in (weight, bias))
    )


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
    average = _constant(width, 1 / width, x.dtype)  # a product with it is the fastest mean

    def block(start: int, stop: int) -> None:
        x, y, r = source[start:stop], target[start:stop], rstd[start:stop]
        centred = x
        if mean is not None:
            m = mean[start:stop]
            np.matmul(x, average, out=m[:, 0])
            centred = np.subtract(x, m, out=y)
        np.vecdot(centred, centred, out=r[:, 0])
        r /= width
        r += eps
        np.sqrt(r, out=r)
        np.reciprocal(r, out=r)
        np.multiply(centred, r, out=y)
        if w is not None:
            y *= w
        if b is not None:
            y += b

    rows(block, len(source), 3 * width * x.itemsize)
    return target.reshape(x.shape), None if mean is None else mean.reshape(statistics), rstd.reshape(statistics)


def _backward(g: Any, x: Any, weight: Any, mean: Any, rstd: Any, dims: int, wants: tuple[bool, ...]) -> tuple:
    """The rule of ops/normalisation.py; the sums for weight and bias are taken block by block."""
    width = math.prod(x.shape[x.ndim - dims :])
    source, arriving = x.reshape(-1, width), g.reshape(-1, width)  # (N, C)
    means, rstds = None if mean is None else mean.reshape(-1, 1), rstd.reshape(-1, 1)  # (N, 1)
    w = _constant(width, 1.0, x.dtype) if weight is None else weight.reshape(-1)
    dx = np.empty_like(source)

    def block(start: int, stop: int) -> tuple[Any, ...]:
        g, r, out = arriving[start:stop], rstds[start:stop], dx[start:stop]
        ones = _constant(stop - start, 1.0, x.dtype)
        if means is None:
            n = source[start:stop] * r
        else:
            n = source[start:stop] - means[start:stop]
            n *= r
        np.multiply(g, n, out=out)
        sums = [ones @ each if wanted else None for each, wanted in zip((out, g), wants[1:])]
        n *= (out @ w / width)[:, None]  # n average(h n), with h = g w
        np.multiply(g, w, out=out)
        if means is not None:
            out -= (g @ w / width)[:, None]  # average(h)
        out -= n
        out *= r
        return tuple(sums)

    sums = sum_of_blocks(block, len(source), 4 * width * x.itemsize)
    shape = x.shape[x.ndim - dims :]
    return (dx.reshape(x.shape), *[None if each is None else each.reshape(shape) for each in sums])


def _rms_forward(x: Any, weight: Any, *, dims: int, eps: float) -> Any:
    return _forward(x, weight, None, dims=dims, eps=eps, centre=False)


_layer_norm.kernel("cpu", _forward, d=_backward, residual=("mean", "rstd"))
_rms_norm.kernel("cpu", _rms_forward, d=_backward, residual=("mean", "rstd"))
