"""What is done to many gradients or parameters at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ...device import follow, on, wandering, xp
from ...many import Many, by_device
from ...ops.arithmetic import clamp
from ...ops.joining import cat
from ...tensor import Tensor, written
from .. import init
from . import rnn

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
    blocks = [block.astype(np.promote_types(block.dtype, np.float32), copy=False) for block in blocks]
    if p == 2:
        return sum([(block @ block).astype(np.float64) for block in blocks])
    return sum([(abs(block) ** p).sum(dtype=np.float64) for block in blocks])


@Many
def norm_of(arrays: list[Any]) -> Any:
    """Their norm, as if they were one vector: an array without dimensions."""
    return xp(arrays[0]).asarray(sum([_power_sum(x, 2) for x in arrays])) ** 0.5


@Many
def scale(arrays: list[Any], factor: Any) -> None:
    """Multiply each, in place, by a number or an array without dimensions."""
    for x in arrays:
        x *= factor


@np.errstate(over="ignore", invalid="ignore")  # the norm that is returned tells
def get_total_norm(
    tensors: Tensor | Iterable[Tensor],
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """The norm of all Tensors as if they were one vector, without dimensions; of float16 in float32.

    norm_type           p of the p-norm (sum of |x|^p)^(1/p); inf: the largest |x|
    error_if_nonfinite  raise RuntimeError if the norm is nan or inf
    foreach             as in PyTorch, where it chooses between two ways to the same number; here it does nothing
    """
    tensors = [tensors] if isinstance(tensors, Tensor) else tensors
    arrays = [x.array for x in tensors if x.array.size]
    if not arrays:
        return Tensor._of(np.zeros((), np.float32))
    library, p = xp(arrays[0]), float(norm_type)
    with wandering():
        follow(*arrays)
        if p == math.inf:
            total = library.stack([abs(x).max() for x in arrays]).max()
        elif p == 2:
            total = norm_of(arrays)
        else:
            total = library.asarray(sum([_power_sum(x, p) for x in arrays])) ** (1 / p)
        if error_if_nonfinite and not library.isfinite(total):
            raise RuntimeError(
                f"the norm of the gradients is {float(total)}; look for the cause with a NaN watch, or pass "
                "error_if_nonfinite=False to go on all the same"
            )
        return Tensor._of(library.asarray(total, dtype=np.promote_types(arrays[0].dtype, np.float32)))


@np.errstate(over="ignore", invalid="ignore")
def clip_grads_with_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, total_norm: Tensor, foreach: bool | None = None
) -> None:
    """Scale all gradients by max_norm / total_norm, if that is less than 1 (or nan)."""
    if total_norm.is_cuda:  # a factor of 1 costs less than to wait for the number
        factor = clamp(float(max_norm) / (total_norm.detach() + 1e-6), max=1.0).array
    elif (factor := float(max_norm) / (total_norm.item() + 1e-6)) >= 1:  # PyTorch's constant
        return
    with wandering():
        for gradients in by_device(_gradients(parameters)):
            follow(gradients[0].array)
            scale([g.array for g in gradients], factor)
            for g in gradients:
                written(g)


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale all gradients by one number so that their norm, as if they were one vector, is at most max_norm.

    Arguments as in `get_total_norm`; with error_if_nonfinite it raises before any change. Returns the norm before
    clipping. Pascanu et al., On the difficulty of training recurrent neural networks, 2013.
    """
    parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    norm = get_total_norm(_gradients(parameters), norm_type, error_if_nonfinite)
    clip_grads_with_norm_(parameters, max_norm, norm)
    return norm


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None) -> None:
    """Bring every element of every gradient between -clip_value and clip_value."""
    with wandering():
        for g in _gradients(parameters):
            follow(g.array)
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
        with on(parameter.device):
            parameter.array[...] = vec.array[start : start + parameter.numel()].reshape(parameter.shape)
        written(parameter)
        start += parameter.numel()


def skip_init(module_cls: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """module_cls(*args, **kwargs) without first values: its numbers are whatever was in memory, and no memory is
    touched nor random number drawn for them. For a module whose numbers all come from elsewhere."""
    with init.skipped():
        return module_cls(*args, **kwargs)
