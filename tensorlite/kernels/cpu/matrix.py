"""linear: the product by BLAS on all threads; bias and its gradient without a pass of their own over main memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...ops.matrix import _linear
from ...ops.matrix import rows as as_rows
from ...parallel import rows


def _forward(x: Any, weight: Any, bias: Any) -> Any:
    fits = bias is not None and bias.shape == weight.shape[:1] and x.dtype == weight.dtype == bias.dtype
    if not fits or not x.size or x.shape[-1] != weight.shape[-1] or x.dtype not in (np.float32, np.float64):
        return NotImplemented  # what does not fit is for the plain level to complain about
    y = as_rows(x) @ weight.T  # (N, out)

    def block(start: int, stop: int) -> None:
        y[start:stop] += bias

    rows(block, len(y), y.shape[1] * y.itemsize)
    return y.reshape(*x.shape[:-1], len(weight))


def _dbias(g: Any) -> Any:
    g = as_rows(g)
    return np.ones(len(g), g.dtype) @ g


_linear.kernel("cpu", _forward, dx=_linear.plain.rows["x"], dweight=_linear.plain.rows["weight"], dbias=_dbias)
