"""The norm of all gradients, and AdamW on all parameters, in one launch each and without waiting for the GPU."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ...device import xp
from .module import launch, supported

CHUNK = 16384  # elements to a block: as in optim.cu
THREADS = 256


def fits(*lists: Sequence[Any]) -> bool:
    """Whether the kernels take these arrays: of each list one dtype, which has kernels, all contiguous."""
    return all(len({x.dtype for x in arrays}) == 1 and all(map(supported, arrays)) for arrays in lists)


@lru_cache(maxsize=16)  # a training step asks for the same few
def _on_device(library: Any, device: int, kind: str, numbers: tuple[int, ...]) -> Any:
    return library.asarray(np.array(numbers, kind))


def _table(like: Any, kind: str, numbers: Any) -> Any:
    """Numbers in the memory of the GPU on which `like` lies; copied there once, while they stay the same."""
    return _on_device(xp(like), getattr(like.device, "id", 0), kind, tuple(numbers))


def _addresses(arrays: Sequence[Any | None]) -> list[int]:
    return [0 if x is None else x.data.ptr for x in arrays]


def _chunks(arrays: Sequence[Any]) -> list[int]:
    """(tensor, part) for each block, end to end."""
    return [n for i, x in enumerate(arrays) for part in range(-(-x.size // CHUNK)) for n in (i, part)]


def norm_and_scale(gradients: Sequence[Any], max_norm: float = math.inf) -> Any:
    """(2,) float32 on the GPU: the norm of all gradients as one vector, and min(1, max_norm / (norm + 1e-6)).

    The gradients must `fits`. Clipping is multiplying by the second number, which `adamw` can do along the way.
    """
    like = gradients[0]
    chunks = _chunks(gradients)
    addresses, sizes = _table(like, "u8", _addresses(gradients)), _table(like, "i8", [x.size for x in gradients])
    count = len(chunks) // 2
    parts, result = xp(like).empty(count, np.float32), xp(like).empty(2, np.float32)
    places = _table(like, "i4", chunks)
    launch("optim", "norm_parts", like, (count,), (THREADS,), addresses, sizes, places, parts)
    launch("optim", "norm_total", like, (1,), (1024,), parts, np.int32(count), np.float32(max_norm), result)
    return result


def adamw(
    params: Sequence[Any],
    gradients: Sequence[Any],
    averages: Sequence[Any],
    squares: Sequence[Any],
    originals: Sequence[Any] | None,
    scale: Any,
    *,
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> None:
    """Step number `step` of AdamW, written into all but the gradients.

    averages, squares  float32, in the shapes of the parameters
    originals          float32 parameters, from which those of half precision are rounded; None for float32 parameters
    scale              an array of one float32 on the GPU, which the gradients are multiplied by, or None
    """
    like = params[0]
    lists = (params, gradients, averages, squares, originals or [None] * len(params))
    table = _table(like, "u8", [address for row in zip(*map(_addresses, lists)) for address in row])
    sizes, chunks = _table(like, "i8", [x.size for x in params]), _chunks(params)
    root = math.sqrt(1 - betas[1] ** step)
    numbers = (*betas, lr * root / (1 - betas[0] ** step), eps * root, 1 - lr * weight_decay)
    arrays = (table, sizes, _table(like, "i4", chunks), scale)
    launch("optim", "adamw", like, (len(chunks) // 2,), (THREADS,), *arrays, *map(np.float32, numbers))
