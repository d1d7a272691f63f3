"""Two ways of measuring a slope, against which the rows of the ops are held.

The complex step: for an analytic f, f(x + ih) = f(x) + ih f'(x) + …, so f'(x) is the imaginary part over h.
Nothing is subtracted, so h can be 1e-30 and the slope is right to the last digits of float64
(Squire and Trapp, Using complex variables to estimate derivatives of real functions, 1998).

Central differences of fourth order, for what is not analytic and for gradients of gradients:
f'(x) = (8 (f(x+h) - f(x-h)) - (f(x+2h) - f(x-2h))) / 12h + O(h^4).

`f` is anything that takes arrays to arrays and Tensors to Tensors, as ops do. It is contracted with a fixed
upstream gradient u: what is measured is the slope of <u, f(x)>, and the engine's is <gradient of x, direction>.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..autograd import grad
from ..creation import from_numpy
from ..op import using

COMPLEX_STEP, DIFFERENCES, SECOND_ORDER = 1e-12, 1e-7, 1e-6  # agreement, relative to the largest gradient

Function = Callable[..., Any]


def check(
    f: Function, inputs: Sequence[Any], wrt: Sequence[int], *, analytic: bool = True, second: bool = True
) -> None:
    """Raise AssertionError unless the engine's gradients of f, by the inputs numbered in `wrt`, are right."""
    rng = np.random.default_rng(0)
    u = [rng.standard_normal(y.shape) for y in outputs(f, tensors(inputs, wrt))]
    engine = gradients(f, inputs, wrt, u)
    slope = complex_step if analytic else difference
    for g, i in zip(engine, wrt, strict=True):
        for v in directions(inputs[i], rng):
            name = f"gradient of input {i}, along {v.tolist() if v.size < 7 else 'a random direction'}"
            measured = slope(lambda *xs: contract(arrays(f, xs), u), inputs, i, v)
            agree(name, np.sum(g * v), measured, COMPLEX_STEP if analytic else DIFFERENCES, g)
    if second:
        check_second(f, inputs, wrt, u)


def check_second(f: Function, inputs: Sequence[Any], wrt: Sequence[int], u: Sequence[Any]) -> None:
    """The gradient of s = <w, gradient of <u, f(x)>>, by x and by u, against differences of s."""
    rng = np.random.default_rng(1)
    w = [rng.standard_normal(np.shape(inputs[i])) for i in wrt]
    n, places = len(inputs), [*wrt, *range(len(inputs), len(inputs) + len(u))]

    xs = tensors([*inputs, *u], places)
    first = grad(outputs(f, xs[:n]), [xs[i] for i in wrt], xs[n:], create_graph=True)
    s = sum((g * each).sum() for g, each in zip(first, w, strict=True))
    sought = [xs[i] for i in places]
    found = grad(s, sought, allow_unused=True) if s.requires_grad else [None] * len(sought)

    for i, x, g in zip(places, sought, found, strict=True):
        engine = np.zeros(x.shape) if g is None else g.numpy()
        for v in directions(x.detach().numpy(), rng):
            measured = difference(lambda *ys: contract(gradients(f, ys[:n], wrt, ys[n:]), w), [*inputs, *u], i, v)
            agree(f"second order: input {i}", np.sum(engine * v), measured, SECOND_ORDER, engine)


# Slopes ----------------------------------------------------------------------------------------------------


def complex_step(f: Function, inputs: Sequence[Any], i: int, v: np.ndarray, h: float = 1e-30) -> float:
    """The slope of f by input i in direction v."""
    moved = [x.astype(complex) if floating(x) else x for x in inputs]
    moved[i] = moved[i] + 1j * h * v
    return f(*moved).imag / h


def difference(f: Function, inputs: Sequence[Any], i: int, v: np.ndarray, h: float = 1e-3) -> float:
    """The slope of f by input i in direction v."""

    def at(t: float) -> float:
        return f(*[np.asarray(x + t * v) if k == i else x for k, x in enumerate(inputs)])

    return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)


def directions(x: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Along each element, where there are few; else three random ones."""
    if x.size > 32:
        yield from rng.standard_normal((3, *x.shape))
    else:
        yield from np.eye(x.size).reshape(x.size, *x.shape)


def agree(what: str, engine: float, measured: float, tolerance: float, gradient: np.ndarray) -> None:
    scale = 1 + np.abs(gradient).max(initial=abs(measured))
    if not abs(engine - measured) <= tolerance * scale:  # not >: a nan must not pass
        raise AssertionError(
            f"{what}: the engine says {engine}, measured is {measured}, tolerance {tolerance * scale:.1e}"
        )


# The engine's side -----------------------------------------------------------------------------------------


def floating(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"


def tensors(inputs: Sequence[Any], wrt: Sequence[int] = ()) -> list[Any]:
    """The inputs with Tensors round their arrays (which are not copied: their layout may matter)."""
    made = [from_numpy(x) if isinstance(x, np.ndarray) else x for x in inputs]
    for i in wrt:
        made[i].requires_grad = True
    return made


def outputs(f: Function, inputs: Sequence[Any]) -> tuple[Any, ...]:
    y = f(*inputs)
    return y if isinstance(y, tuple) else (y,)


def arrays(f: Function, inputs: Sequence[Any]) -> tuple[np.ndarray, ...]:
    """f computed by the formulas that also take complex numbers."""
    with using("plain"):
        return outputs(f, inputs)


def contract(ys: Sequence[np.ndarray], weights: Sequence[np.ndarray]) -> Any:
    return sum(np.sum(y * w) for y, w in zip(ys, weights, strict=True))


def gradients(f: Function, inputs: Sequence[Any], wrt: Sequence[int], u: Sequence[Any]) -> list[np.ndarray]:
    """The engine's gradients of <u, f(inputs)>, as arrays."""
    xs = tensors(inputs, wrt)
    return [g.numpy() for g in grad(outputs(f, xs), [xs[i] for i in wrt], list(u)) if g is not None]
