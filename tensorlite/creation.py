"""Making Tensors: from data, filled, counted, or drawn at random; with dtype=, device= and requires_grad= where PyTorch
has them."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import random
from .device import library, move
from .dtype import DEFAULT
from .ops.shape import _ints
from .tensor import Tensor


def _made(array: Any, requires_grad: bool) -> Tensor:
    tensor = Tensor._of(array)
    tensor.requires_grad = requires_grad
    return tensor


def tensor(data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A Tensor with a copy of `data` (numbers, nested lists, an array, a Tensor).

    Python floats become float32, integers int64; what has a dtype keeps it.
    """
    return Tensor(data, dtype=dtype, device=device, requires_grad=requires_grad)


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """`data` as a Tensor, without a copy where that is possible."""
    if isinstance(data, Tensor):
        return data.to(dtype=dtype, device=device)
    return (
        from_numpy(data).to(dtype=dtype, device=device)
        if isinstance(data, np.ndarray)
        else Tensor(data, dtype=dtype, device=device)
    )


def from_numpy(ndarray: np.ndarray) -> Tensor:
    """A Tensor that shares an array's memory. Raises TypeError for anything but a NumPy array."""
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(
            f"from_numpy: expected a NumPy array, not {type(ndarray).__name__}; tensor(…) copies other data"
        )
    return Tensor._of(ndarray)


def zeros(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    return _made(library(device).zeros(_ints(size), dtype or DEFAULT), requires_grad)


def ones(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    return _made(library(device).ones(_ints(size), dtype or DEFAULT), requires_grad)


def empty(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A Tensor whose numbers are whatever was in memory."""
    return _made(library(device).empty(_ints(size), dtype or DEFAULT), requires_grad)


def full(size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    default = DEFAULT if isinstance(fill_value, float) else np.asarray(fill_value).dtype
    return _made(library(device).full(tuple(size), fill_value, dtype or default), requires_grad)


def zeros_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    return zeros(input.shape, dtype=dtype or input.dtype, device=device or input.device, requires_grad=requires_grad)


def ones_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    return ones(input.shape, dtype=dtype or input.dtype, device=device or input.device, requires_grad=requires_grad)


def full_like(
    input: Tensor, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    dtype, device = dtype or input.dtype, device or input.device
    return full(input.shape, fill_value, dtype=dtype, device=device, requires_grad=requires_grad)


def arange(
    start: Any, end: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """arange(end), arange(start, end) or arange(start, end, step): the numbers from start until before end."""
    given = (0, start, step) if end is None else (start, end, step)
    bounds = [x.item() if isinstance(x, Tensor) else x for x in given]
    floats = any(isinstance(x, (float, np.floating)) for x in bounds)
    # In float64, because NumPy adds up a step that it has rounded to the dtype: in float32 its error would grow.
    numbers = library(device).arange(*bounds, dtype=np.float64 if floats else np.int64)
    return _made(numbers.astype(dtype or (DEFAULT if floats else np.int64), copy=False), requires_grad)


def linspace(
    start: float, end: float, steps: int, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """`steps` numbers from start to end, both included."""
    return _made(library(device).linspace(start, end, steps, dtype=dtype or DEFAULT), requires_grad)


def eye(n: int, m: int | None = None, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """The identity matrix."""
    return _made(library(device).eye(n, m, dtype=dtype or DEFAULT), requires_grad)


def _source(generator: random.Generator | None, device: Any) -> random.Generator:
    return generator or random.default_generator(device)


def rand(
    *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False, generator: Any = None
) -> Tensor:
    """Uniform on [0, 1)."""
    return _made(random.uniform(_ints(size), 0, 1, dtype, _source(generator, device)), requires_grad)


def randn(
    *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False, generator: Any = None
) -> Tensor:
    """Normal with mean 0 and variance 1."""
    return _made(random.normal(_ints(size), 0, 1, dtype, _source(generator, device)), requires_grad)


def rand_like(input: Tensor) -> Tensor:
    return rand(input.shape, dtype=input.dtype, device=input.device)


def randn_like(input: Tensor) -> Tensor:
    return randn(input.shape, dtype=input.dtype, device=input.device)


def randint(
    low: int, high: Any = None, size: Any = None, *, dtype: Any = None, device: Any = None, generator: Any = None
) -> Tensor:
    """randint(high, size) or randint(low, high, size): integers from [low, high), all equally likely."""
    if size is None:
        low, high, size = 0, low, high
    return Tensor._of(_source(generator, device).numbers.integers(low, high, tuple(size), dtype=dtype or np.int64))


def randperm(n: int, *, device: Any = None, generator: Any = None) -> Tensor:
    """The numbers 0 … n-1 in random order."""
    return Tensor._of(move(_source(generator, device).numbers.permutation(n), device or "cpu"))


def multinomial(input: Tensor, num_samples: int, replacement: bool = False, *, generator: Any = None) -> Tensor:
    """Indices drawn with probabilities proportional to each row of input: (C,) or (B, C) -> (…, num_samples).

    Without replacement each index is drawn at most once. Raises ValueError for negative or non-finite weights,
    a row without any, or more samples than there are non-zero weights.
    """
    weights = input.detach().cpu().array.astype(np.float64)
    if (
        weights.ndim not in (1, 2)
        or not np.isfinite(weights).all()
        or (weights < 0).any()
        or (weights.sum(-1) <= 0).any()
    ):
        raise ValueError(
            "multinomial: each row must hold finite weights >= 0, not all of them 0, in one or two dimensions"
        )
    if not replacement and num_samples > np.count_nonzero(weights, axis=-1).min():
        raise ValueError(f"multinomial: cannot draw {num_samples} different indices, fewer have a weight above 0")
    numbers = _source(generator, "cpu").numbers
    if replacement or num_samples == 1:
        cumulative = np.cumsum(weights, axis=-1)
        draws = move(numbers.random((*weights.shape[:-1], num_samples)), "cpu") * cumulative[..., -1:]
        drawn = (draws[..., :, None] >= cumulative[..., None, :]).sum(-1)
    else:  # the largest of log(weight) + Gumbel noise are a sample without replacement (Vieira, 2014)
        with np.errstate(divide="ignore"):
            keys = np.log(weights) - np.log(-np.log(move(numbers.random(weights.shape), "cpu")))
        drawn = np.argsort(-keys, axis=-1, kind="stable")[..., :num_samples]
    return Tensor._of(move(drawn.astype(np.int64), input.device))


__all__ = [
    "arange", "as_tensor", "empty", "eye", "from_numpy", "full", "full_like", "linspace", "multinomial", "ones",
    "ones_like", "rand", "rand_like", "randint", "randn", "randn_like", "randperm", "tensor", "zeros",
    "zeros_like",
]  # fmt: skip
