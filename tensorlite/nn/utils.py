"""What is done to many gradients or parameters at once."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..device import xp
from ..ops.joining import cat
from ..tensor import Tensor, written

BLOCK = 1 << 16  # elements that are worked on at a time: they fit in a core's L2 cache


def clear_gradients(parameters: Iterable[Tensor], set_to_none: bool = True) -> None:
    """Forget gradients, or (set_to_none=False) set them to zeros in their own memory."""
    for parameter in parameters:
        if set_to_none or parameter.grad is None:
            parameter.grad = None
        else:
            parameter.grad = parameter.grad.detach().zero_()


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    parameters = [parameters] if isinstance(parameters, Tensor) else parameters
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def _power_sum(g: Any, p: float) -> Any:
    """The sum of |g|^p, block by block: float32 within a block, float64 over the blocks."""
    flat = g.reshape(-1)
    blocks = [flat[i : i + BLOCK] for i in range(0, flat.size, BLOCK)] if xp(g) is np else [flat]
    if p == 2:
        return sum([(block @ block).astype(np.float64) for block in blocks])
    return sum([(abs(block) ** p).sum(dtype=np.float64) for block in blocks])


@np.errstate(over="ignore", invalid="ignore")  # the norm that is returned tells
def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> Tensor:
    """Scale all gradients by one number so that their norm, as if they were one vector, is at most max_norm.

    norm_type           p of the p-norm (sum of |g|^p)^(1/p); inf: the largest |g|
    error_if_nonfinite  raise RuntimeError, before any change, if the norm is nan or inf

    Returns the norm before clipping, a Tensor without dimensions. Pascanu et al., On the difficulty of
    training recurrent neural networks, 2013.
    """
    gradients = _gradients(parameters)
    arrays = [g.array for g in gradients if g.array.size]
    if not arrays:
        return Tensor._of(np.zeros((), np.float32))
    library, p = xp(arrays[0]), float(norm_type)
    if p == math.inf:
        total = library.stack([abs(g).max() for g in arrays]).max()
    else:
        total = library.asarray(sum([_power_sum(g, p) for g in arrays])) ** (1 / p)
    if error_if_nonfinite and not library.isfinite(total):
        raise RuntimeError(
            f"clip_grad_norm_: the norm of the gradients is {float(total)}; look for the cause with a NaN watch, or "
            "pass error_if_nonfinite=False to clip all the same"
        )
    scale = max_norm / (total + 1e-6)  # PyTorch's constant
    if not scale >= 1:  # also if it is nan
        for g in gradients:
            g.array *= float(scale)
            written(g)
    return Tensor._of(library.asarray(total, dtype=arrays[0].dtype))


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Bring every element of every gradient between -clip_value and clip_value."""
    for g in _gradients(parameters):
        xp(g.array).clip(g.array, -clip_value, clip_value, out=g.array)
        written(g)


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All parameters end to end, as one vector."""
    return cat([parameter.reshape(-1) for parameter in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """The reverse of `parameters_to_vector`: copy the vector's numbers into the parameters.

    Raises ValueError if the vector has not exactly as many elements.
    """
    parameters = list(parameters)
    count = sum(parameter.numel() for parameter in parameters)
    if vec.shape != (count,):
        raise ValueError(f"vector_to_parameters: expected a vector of {count} elements, got shape {vec.shape}")
    start = 0
    for parameter in parameters:
        parameter.array[...] = vec.array[start : start + parameter.numel()].reshape(parameter.shape)
        written(parameter)
        start += parameter.numel()
