"""layer_norm and rms_norm."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..cpu import normalisation
from .loop import f32, loop_of


@loop_of(normalisation.normalise, sums=True)
def normalise(x: Any, y: Any, mean: Any, rstd: Any, weight: Any, bias: Any, eps: Any) -> None:
    N, C = x.shape
    each = f32(1 / C)
    for i in range(N):
        m = f32(0)
        if mean is not None:
            for c in range(C):
                m += x[i, c]
            m *= each
            mean[i, 0] = m
        square = f32(0)
        for c in range(C):
            square += (x[i, c] - m) * (x[i, c] - m)
        r = f32(1) / np.sqrt(square * each + f32(eps))
        rstd[i, 0] = r
        for c in range(C):
            n = (x[i, c] - m) * r
            if weight is not None:
                n *= weight[c]
            if bias is not None:
                n += bias[c]
            y[i, c] = n


@loop_of(normalisation.normalise_slope, sums=True)
def normalise_slope(g: Any, x: Any, mean: Any, rstd: Any, weight: Any, dx: Any, dweight: Any, dbias: Any) -> None:
    N, C = x.shape
    each = f32(1 / C)
    if dweight is not None:
        dweight[:] = 0
    if dbias is not None:
        dbias[:] = 0
    for i in range(N):
        m, r = f32(0), rstd[i, 0]
        if mean is not None:
            m = mean[i, 0]
        inner, total = f32(0), f32(0)  # the sums of h n and of h = g weight
        for c in range(C):
            h = g[i, c] * weight[c]
            inner += h * (x[i, c] - m) * r
            total += h
        inner *= each
        if mean is None:
            total = f32(0)
        total *= each
        for c in range(C):
            n = (x[i, c] - m) * r
            dx[i, c] = (g[i, c] * weight[c] - total - n * inner) * r
        if dweight is not None:
            for c in range(C):
                dweight[c] += g[i, c] * (x[i, c] - m) * r
        if dbias is not None:
            for c in range(C):
                dbias[c] += g[i, c]
