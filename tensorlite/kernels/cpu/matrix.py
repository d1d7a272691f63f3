"""linear: the product by BLAS on all threads; bias and its gradient without a pass of their own over main memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...ops.matrix import _linear
from ...ops.matrix import rows as as_rows
from ...parallel import rows

# A few rows cost what reading the weight costs, and for a product of matrices BLAS copies it first. So up to this many
# each row is a product of its own.
FEW = 3


def _forward(x: Any, weight: Any, bias: Any) -> Any:
    fits = x.dtype == weight.dtype and (bias is None or (bias.shape == weight.shape[:1] and bias.dtype == x.dtype))
    if not fits or not x.size or x.shape[-1] != weight.shape[-1] or x.dtype not in (np.float32, np.float64):
        return NotImplemented  # what does not fit is for the plain level to complain about
    source = as_rows(x)  # (N, in)
    if len(source) <= FEW:
        y = np.empty((len(source), len(weight)), x.dtype)  # (N, out)
        for row, out in zip(source, y):
            np.matmul(weight, row, out=out)
    else:
        y = source @ weight.T  # (N, out)

    def block(start: int, stop: int) -> None:
        y[start:stop] += bias

    if bias is not None:
        rows(block, len(y), y.shape[1] * y.itemsize)
    return y.reshape(*x.shape[:-1], len(weight))


def _dbias(g: Any) -> Any:
    g = as_rows(g)
    return np.ones(len(g), g.dtype) @ g


_linear.kernel("cpu", _forward, dx=_linear.plain.rows["x"], dweight=_linear.plain.rows["weight"], dbias=_dbias)
