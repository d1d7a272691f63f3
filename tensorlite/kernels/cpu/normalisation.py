"""layer_norm on blocks of rows: one pass over main memory forward, one backward."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...ops.normalisation import _layer_norm
from ...parallel import rows, sum_of_blocks


def _declines(x: Any, weight: Any, bias: Any) -> bool:
    return (
        x.dtype not in (np.float32, np.float64)
        or not x.flags.c_contiguous
        or not x.size
        or any(p is not None and p.dtype != x.dtype for p in (weight, bias))
    )


def _forward(x: Any, weight: Any, bias: Any, *, dims: int, eps: float) -> Any:
    if _declines(x, weight, bias):
        return NotImplemented
    width = math.prod(x.shape[x.ndim - dims :])
    source = x.reshape(-1, width)  # (N, C)
    target = np.empty_like(source)
    statistics = (*x.shape[: x.ndim - dims], *[1] * dims)
    mean, rstd = np.empty((2, len(source), 1), x.dtype)
    w = None if weight is None else weight.reshape(-1)
    b = None if bias is None else bias.reshape(-1)
    average = np.full(width, 1 / width, x.dtype)  # a product with it is the fastest mean

    def block(start: int, stop: int) -> None:
        x, y, m, r = source[start:stop], target[start:stop], mean[start:stop], rstd[start:stop]
        np.matmul(x, average, out=m[:, 0])
        np.subtract(x, m, out=y)
        np.vecdot(y, y, out=r[:, 0])
        r /= width
        r += eps
        np.sqrt(r, out=r)
        np.reciprocal(r, out=r)
        y *= r
        if w is not None:
            y *= w
        if b is not None:
            y += b

    rows(block, len(source), 3 * width * x.itemsize)
    return target.reshape(x.shape), mean.reshape(statistics), rstd.reshape(statistics)


def _backward(g: Any, x: Any, weight: Any, mean: Any, rstd: Any, dims: int, wants: tuple[bool, ...]) -> tuple:
    """The rule of ops/normalisation.py; the sums for weight and bias are taken block by block."""
    width = math.prod(x.shape[x.ndim - dims :])
    source, arriving = x.reshape(-1, width), g.reshape(-1, width)  # (N, C)
    means, rstds = mean.reshape(-1, 1), rstd.reshape(-1, 1)  # (N, 1)
    w = np.ones(width, x.dtype) if weight is None else weight.reshape(-1)
    dx = np.empty_like(source)

    def block(start: int, stop: int) -> tuple[Any, Any]:
        g, r, out = arriving[start:stop], rstds[start:stop], dx[start:stop]
        ones = np.ones(stop - start, x.dtype)
        n = source[start:stop] - means[start:stop]
        n *= r
        np.multiply(g, n, out=out)
        dweight = ones @ out if wants[1] else None
        dbias = ones @ g if wants[2] else None
        n *= (out @ w / width)[:, None]  # n average(h n), with h = g w
        np.multiply(g, w, out=out)
        out -= (g @ w / width)[:, None]  # average(h)
        out -= n
        out *= r
        return dweight, dbias

    dweight, dbias = sum_of_blocks(block, len(source), 4 * width * x.itemsize)
    shape = x.shape[x.ndim - dims :]
    return (
        dx.reshape(x.shape),
        None if dweight is None else dweight.reshape(shape),
        None if dbias is None else dbias.reshape(shape),
    )


_layer_norm.kernel("cpu", _forward, d=_backward, residual=("mean", "rstd"))
