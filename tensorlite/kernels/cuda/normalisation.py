"""layer_norm and rms_norm, alone and of a sum. The row is in shared memory forward, its sums by column backward."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...device import xp
from ...ops.normalisation import _layer_norm, _rms_norm
from .matrix import sum_of_parts
from .module import blocks, launch, supported

WARPS = 4  # to a block, each with a row
ROOM = 96 * 1024  # bytes of shared memory that a block may take on every GPU of compute capability 8.0 and above
BLOCKS = 512  # backward, at most: enough for every GPU, and the same number on all, so that all give the same bits


def _room(width: int, x: Any) -> int:
    """The bytes that a row takes in shared memory: of float32, rounded up to what a warp reads at a time."""
    return blocks(width, 32 * 16 // x.itemsize) * (32 * 16 // x.itemsize) * 4


def normalise(x: Any, residual: Any, weight: Any, bias: Any, dims: int, eps: float, centre: bool) -> Any:
    """y, x + residual (None without one), mean (None unless `centre`) and rstd, of the last `dims` dimensions.

    mean and rstd are float32. NotImplemented for what the kernels cannot do.
    """
    width = math.prod(x.shape[x.ndim - dims :])
    if not supported(x, residual, weight, bias) or 2 * _room(width, x) > ROOM:
        return NotImplemented
    library, count = xp(x), x.size // width
    y = library.empty_like(x)
    total = None if residual is None else library.empty_like(x)
    statistics = (*x.shape[: x.ndim - dims], *[1] * dims)
    mean = library.empty(statistics, np.float32) if centre else None
    rstd = library.empty(statistics, np.float32)
    arrays = (x, residual, weight, bias, total, y, mean, rstd)
    shared = WARPS * _room(width, x)
    if shared <= ROOM:
        launch(
            "normalisation", "layer_norm_forward_2", x, (blocks(count, WARPS),), (32 * WARPS,),
            *arrays, np.int32(count), np.int32(width), np.float32(eps), shared=shared,
        )  # fmt: skip
    else:
        sizes = (np.int32(width), np.float32(eps))
        launch("normalisation", "layer_norm_forward_1", x, (count,), (512,), *arrays, *sizes)
    return y, total, mean, rstd


def normalise_backward(
    g: Any, x: Any, weight: Any, mean: Any, rstd: Any, dsum: Any, dims: int, wants: tuple[bool, bool]
) -> tuple[Any, Any, Any]:
    """dx + dsum (None for 0), and if `wants` them the gradients of weight and bias, else None.

    x  what was normalised: the sum, where there was a residual
    """
    library, width = xp(x), math.prod(x.shape[x.ndim - dims :])
    g, count = library.ascontiguousarray(g), x.size // width
    room = 2 * _room(width, x)
    warps = min(WARPS, ROOM // room)
    grid = min(BLOCKS, blocks(count, warps))
    dx = library.empty_like(x)
    parts = [library.empty((grid, width), np.float32) if wanted else None for wanted in wants]
    arrays, sizes = (g, x, weight, mean, rstd, dsum, dx, *parts), (np.int32(count), np.int32(width))
    launch("normalisation", "layer_norm_backward", x, (grid,), (32 * warps,), *arrays, *sizes, shared=warps * room)
    shape = x.shape[x.ndim - dims :]
    dweight, dbias = [None if part is None else sum_of_parts(part, x.dtype, x).reshape(shape) for part in parts]
    return dx, dweight, dbias


def _without_sum(found: Any) -> Any:
    return found if found is NotImplemented else (found[0], *found[2:])


_layer_norm.kernel(
    "cuda",
    lambda x, weight, bias, *, dims, eps: _without_sum(normalise(x, None, weight, bias, dims, eps, True)),
    d=lambda g, x, weight, mean, rstd, dims, wants: normalise_backward(g, x, weight, mean, rstd, None, dims, wants[1:]),
    residual=("mean", "rstd"),
)
_rms_norm.kernel(
    "cuda",
    lambda x, weight, *, dims, eps: _without_sum(normalise(x, None, weight, None, dims, eps, False)),
    d=lambda g, x, weight, mean, rstd, dims, wants: normalise_backward(
        g, x, weight, mean, rstd, None, dims, (wants[1], False)
    )[:2],
    residual=("mean", "rstd"),
)
