"""Tensors drawn at random, from a generator given or else from the device's default one."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import random
from .creation import _as, _made, _size
from .device import move, on, xp
from .dtype import kind, scalar
from .tensor import Tensor, array_of, attach


def rand(
    *numbers: Any,
    size: Any = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    generator: Any = None,
) -> Tensor:
    """Uniform on [0, 1)."""
    shape = _size(numbers, size)
    return _made(random.uniform(shape, 0, 1, dtype, random.source(generator, device)), requires_grad)


def randn(
    *numbers: Any,
    size: Any = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    generator: Any = None,
) -> Tensor:
    """Normal with mean 0 and variance 1."""
    shape = _size(numbers, size)
    return _made(random.normal(shape, 0, 1, dtype, random.source(generator, device)), requires_grad)


def randint(
    low: int = 0,
    high: Any = None,
    size: Any = None,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    generator: Any = None,
) -> Tensor:
    """randint(high, size) or randint(low, high, size): integers from [low, high), all equally likely.

    Raises RuntimeError if there are none, or if the dtype cannot hold them.
    """
    if size is None:
        high, size = None, high
    if high is None:
        low, high = 0, low
    if not low < high:
        raise RuntimeError(f"randint: there are no integers from {low} until before {high}")
    dtype = np.dtype(dtype or np.int64)
    for bound in (low, high - 1):
        scalar(bound, dtype, "randint")
    with on(device):
        drawn = random.source(generator, device).numbers.integers(low, high, _size((), size), dtype=np.int64)
        return _made(drawn.astype(dtype, copy=False), requires_grad)


def randperm(
    n: int,
    *,
    dtype: Any = np.int64,
    device: Any = None,
    requires_grad: bool = False,
    generator: Any = None,
) -> Tensor:
    """The numbers 0 … n-1 in random order."""
    (n,) = _size((n,))
    order = move((generator or random.default_generator(device)).numbers.permutation(n), device or "cpu")
    with on(device):
        return _made(order.astype(dtype, copy=False), requires_grad)


def bernoulli(input: Tensor, p: float | None = None, *, generator: Any = None) -> Tensor:
    """1 with the probability that stands in the place, or everywhere with probability p, else 0.

    Raises RuntimeError for what is no probability (on a GPU, which would have to be waited for, only for a number p).
    """
    x = array_of(input)
    chance = x if p is None else p
    if xp(chance) is np and not np.all((chance >= 0) & (chance <= 1)):
        raise RuntimeError(f"bernoulli: probabilities lie between 0 and 1, not at {chance}")
    if p is None and kind(x.dtype) != "f":
        raise TypeError(f"bernoulli: {x.dtype} cannot hold probabilities; use bernoulli(x, p) or x.float()")
    with on(input.device):
        draws = random.source(generator, input.device).numbers.random(x.shape, dtype=np.float64)
        return Tensor._of((draws < chance).astype(x.dtype))


def normal(
    mean: Any = 0.0,
    std: Any = 1.0,
    size: Any = None,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    generator: Any = None,
) -> Tensor:
    """Normally distributed numbers: of one mean and standard deviation, in a shape; or, each with its own, in the shape
    of the Tensors mean and std. Raises RuntimeError for a negative standard deviation (not for one on a GPU)."""
    given = [x.detach() for x in (mean, std) if isinstance(x, Tensor)]
    if (size is None) == (not given):
        raise TypeError("normal: expected a Tensor of means or of standard deviations, or two numbers and a size")
    if xp(array_of(std)) is np and not np.all(array_of(std) >= 0):
        raise RuntimeError("normal: a standard deviation is at least 0")
    if not given:
        drawn = random.normal(_size((), size), mean, std, dtype, random.source(generator, device))
        return _made(drawn, requires_grad)
    base = given[0] + given[-1]
    noise = randn(base.shape, dtype=base.dtype, device=base.device, generator=generator)
    return (noise * std + mean).detach()


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
    numbers = (generator or random.default_generator()).numbers
    if replacement or num_samples == 1:
        cumulative = np.cumsum(weights, axis=-1)
        draws = move(numbers.random((*weights.shape[:-1], num_samples)), "cpu") * cumulative[..., -1:]
        drawn = (draws[..., :, None] >= cumulative[..., None, :]).sum(-1)
    else:  # the largest of log(weight) + Gumbel noise are a sample without replacement (Vieira, 2014)
        with np.errstate(divide="ignore"):
            keys = np.log(weights) - np.log(-np.log(move(numbers.random(weights.shape), "cpu")))
        drawn = np.argsort(-keys, axis=-1, kind="stable")[..., :num_samples]
    return Tensor._of(move(drawn.astype(np.int64), input.device))


def rand_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    return rand(input.shape, requires_grad=requires_grad, **_as(input, dtype, device))


def randn_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    return randn(input.shape, requires_grad=requires_grad, **_as(input, dtype, device))


def randint_like(
    input: Tensor,
    low: int,
    high: int | None = None,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """randint_like(x, high) or randint_like(x, low, high)."""
    return randint(low, high, input.shape, requires_grad=requires_grad, **_as(input, dtype, device))


attach(bernoulli=bernoulli)

__all__ = [
    "bernoulli", "multinomial", "normal", "rand", "rand_like", "randint", "randint_like", "randn", "randn_like",
    "randperm",
]  # fmt: skip
