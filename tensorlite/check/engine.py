"""What is checked: a function at a point, with its values and with the gradients that the engine gives for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..autograd import grad
from ..creation import from_numpy
from ..dtype import is_floating
from ..levels import level, using
from ..tensor import Tensor, array_of

Function = Callable[..., Any]
Arrays = list[np.ndarray]


def is_float(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"


def tensors(inputs: Sequence[Any], wrt: Sequence[int] = ()) -> list[Any]:
    """The inputs with Tensors round their arrays (which are not copied: their layout may matter)."""
    made = [from_numpy(x) if isinstance(x, np.ndarray) else x for x in inputs]
    for i in wrt:
        made[i].requires_grad = True
    return made


def outputs(f: Function, inputs: Sequence[Any]) -> tuple[Any, ...]:
    """What f gives, as a tuple."""
    y = f(*inputs)
    return tuple(y) if isinstance(y, (tuple, list)) else (y,)


def differentiable(ys: Sequence[Any]) -> list[Any]:
    """The Tensors among the outputs that can have a gradient (an index or a truth has none)."""
    return [y for y in ys if isinstance(y, Tensor) and is_floating(y.dtype)]


class First:
    """f at a point: y = f(x), and the engine's gradient of <u, y>."""

    order = 1

    def __init__(self, f: Function, inputs: Sequence[Any], wrt: Sequence[int], names: Sequence[str]):
        self.f, self.inputs, self.wrt, self.names = f, list(inputs), list(wrt), list(names)

    def values(self, inputs: Sequence[Any]) -> Arrays:
        xs = tensors(inputs, self.wrt)
        steps = any(isinstance(x, np.ndarray) and x.dtype.kind == "c" for x in inputs)
        with using("plain" if steps else level()):  # the plain formulas take complex numbers too
            return [array_of(y) for y in differentiable(outputs(self.f, xs))]

    def terms(self, u: Sequence[np.ndarray]) -> Arrays:
        """What is added up to <u, y>: its size says how large rounding errors are."""
        return [y * each for y, each in zip(self.values(self.inputs), u, strict=True)]

    def gradients(self, u: Sequence[np.ndarray]) -> Arrays:
        return gradients(self.f, self.inputs, self.wrt, u)


class Second:
    """The gradient of f as a function of x and u, and the engine's gradient of it, through create_graph."""

    order = 2

    def __init__(self, first: First, u: Sequence[np.ndarray]):
        self.first, self.count = first, len(first.inputs)
        self.inputs = [*first.inputs, *u]
        self.wrt = [*first.wrt, *range(self.count, len(self.inputs))]
        self.names = [*first.names, *(["the upstream gradient"] * len(u))]

    def values(self, inputs: Sequence[Any]) -> Arrays:
        return gradients(self.first.f, inputs[: self.count], self.first.wrt, inputs[self.count :])

    def terms(self, w: Sequence[np.ndarray]) -> Arrays:
        terms = [g * each for g, each in zip(self.values(self.inputs), w, strict=True)]
        return [*terms, *self.first.terms(self.inputs[self.count :])]  # gradients may be the rest of a cancellation

    def gradients(self, w: Sequence[np.ndarray]) -> Arrays:
        xs = tensors(self.inputs, self.wrt)
        n, first = self.count, self.first
        gs = _grad(outputs(first.f, xs[:n]), [xs[i] for i in first.wrt], xs[n:], create_graph=True)
        sought = [xs[i] for i in self.wrt]
        alive = [(g, each) for g, each in zip(gs, w, strict=True) if g is not None]
        found = _grad([g for g, _ in alive], sought, [each for _, each in alive])
        return [_numbers(g, x) for g, x in zip(found, sought, strict=True)]


def gradients(f: Function, inputs: Sequence[Any], wrt: Sequence[int], u: Sequence[np.ndarray]) -> Arrays:
    """The engine's gradients of <u, f(inputs)>; zeros where it has none."""
    xs = tensors(inputs, wrt)
    sought = [xs[i] for i in wrt]
    return [_numbers(g, x) for g, x in zip(_grad(outputs(f, xs), sought, u), sought, strict=True)]


def _grad(ys: Sequence[Any], xs: Sequence[Tensor], u: Sequence[Any], create_graph: bool = False) -> Sequence[Any]:
    """`grad`, where also none of the ys may need a gradient: then all are None."""
    alive = [(y, each) for y, each in zip(differentiable(ys), u, strict=True) if y.requires_grad]
    if not alive:
        return [None] * len(xs)
    return grad([y for y, _ in alive], xs, [each for _, each in alive], create_graph=create_graph, allow_unused=True)


def _numbers(g: Tensor | None, x: Tensor) -> np.ndarray:
    return np.zeros_like(x.array) if g is None else g.detach().numpy()
