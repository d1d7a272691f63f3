"""Jacobians, Hessians and their products with vectors, of a function of Tensors.

`inputs` is a Tensor or a tuple of them, and `func` returns the same; results have the form of what they belong to.
J is the matrix of d(output)/d(input): vjp gives vᵀ J, jvp J v, without the matrix, and likewise vhp and hvp for the
Hessian H of a function with one number as output. With create_graph=True results can be differentiated again, also
by the inputs given; with strict=True an output that does not depend on an input is an error, else it counts as zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..device import xp
from ..mode import enable_grad
from ..tensor import Tensor
from .walk import grad

Tensors = Any  # a Tensor, or a tuple of them


def _tuple(x: Tensors, what: str) -> tuple[Tensor, ...]:
    tensors = (x,) if isinstance(x, Tensor) else tuple(x) if isinstance(x, (tuple, list)) else ()
    if not tensors or not all(isinstance(each, Tensor) for each in tensors):
        raise TypeError(f"{what}: expected a Tensor or a tuple of Tensors, not {type(x).__name__}")
    return tensors


def _like(form: Tensors, results: tuple[Any, ...]) -> Any:
    return results if isinstance(form, (tuple, list)) else results[0]


def _run(func: Callable, inputs: Tensors, graph: bool, caller: str) -> tuple[tuple[Tensor, ...], Any]:
    """The Tensors by which to differentiate, and what func makes of them."""
    given = _tuple(inputs, f"{caller}: the inputs")
    xs = tuple([x.view_as(x) if graph and x.requires_grad else x.detach().requires_grad_() for x in given])
    return xs, func(*xs)


def _vector(v: Tensors | None, like: tuple[Tensor, ...], caller: str) -> tuple[Tensor, ...]:
    """v, of the shapes of `like`; ones if it was left out and there is one element."""
    if v is None:
        if len(like) > 1 or like[0].numel() != 1:
            raise RuntimeError(f"{caller}: v can only be left out for one Tensor with one element")
        return (_ones(like[0]),)
    vs = _tuple(v, f"{caller}: v")
    if [x.shape for x in vs] != [x.shape for x in like]:
        raise RuntimeError(f"{caller}: v has the shapes {[x.shape for x in vs]}; expected {[x.shape for x in like]}")
    return vs


def _ones(x: Tensor) -> Tensor:
    return Tensor._of(xp(x.array).ones_like(x.array))


def _scalar(y: Any, caller: str) -> Tensor:
    if not isinstance(y, Tensor) or y.numel() != 1:
        raise RuntimeError(f"{caller}: func must return a Tensor with one element, not {getattr(y, 'shape', type(y))}")
    return y


def _grad(
    ys: tuple[Tensor, ...], xs: tuple[Tensor, ...], vs: Any, graph: bool, strict: bool, caller: str
) -> tuple[Tensor, ...]:
    """vᵀ J. Outputs that depend on no input count as zero."""
    pairs = [(y, v) for y, v in zip(ys, vs, strict=True) if y.requires_grad]
    found = (
        grad([y for y, _ in pairs], xs, [v for _, v in pairs], True, graph, allow_unused=True)
        if pairs
        else (None,) * len(xs)
    )
    if strict and (None in [g if g is None else 0 for g in found] or len(pairs) < len(ys)):
        raise RuntimeError(f"{caller}: with strict=True, every output must depend on every input, and one does not")
    return tuple([Tensor._of(xp(x.array).zeros_like(x.array)) if g is None else g for g, x in zip(found, xs)])


def _detached(results: tuple[Tensor, ...], graph: bool) -> tuple[Tensor, ...]:
    return results if graph else tuple([x.detach() for x in results])


@enable_grad()
def vjp(
    func: Callable, inputs: Tensors, v: Tensors | None = None, create_graph: bool = False, strict: bool = False
) -> tuple[Tensors, Tensors]:
    """(func(*inputs), vᵀ J): one backward. v has the form of the outputs."""
    xs, y = _run(func, inputs, create_graph, "vjp")
    ys = _tuple(y, "vjp: what func returned")
    product = _grad(ys, xs, _vector(v, ys, "vjp"), create_graph, strict, "vjp")
    return _like(y, _detached(ys, create_graph)), _like(inputs, product)


@enable_grad()
def jvp(
    func: Callable, inputs: Tensors, v: Tensors | None = None, create_graph: bool = False, strict: bool = False
) -> tuple[Tensors, Tensors]:
    """(func(*inputs), J v): two backwards, since uᵀ J is linear in u and its derivative by u is J. v has the form of
    the inputs."""
    xs, y = _run(func, inputs, create_graph, "jvp")
    ys = _tuple(y, "jvp: what func returned")
    vs = _vector(v, xs, "jvp")
    us = tuple([Tensor._of(xp(each.array).zeros_like(each.array)).requires_grad_() for each in ys])
    rows = _grad(ys, xs, us, True, strict, "jvp")
    product = _grad(rows, us, vs, create_graph, False, "jvp")
    return _like(y, _detached(ys, create_graph)), _like(y, product)


@enable_grad()
def jacobian(func: Callable, inputs: Tensors, create_graph: bool = False, strict: bool = False) -> Any:
    """d(output)/d(input), of shape (*output's shape, *input's shape): one backward for each element of the outputs.

    With tuples, result[i][j] belongs to output i and input j.
    """
    xs, y = _run(func, inputs, create_graph, "jacobian")
    ys = _tuple(y, "jacobian: what func returned")
    return _like(y, tuple([_like(inputs, _matrix(each, xs, create_graph, strict)) for each in ys]))


def _matrix(y: Tensor, xs: tuple[Tensor, ...], graph: bool, strict: bool) -> tuple[Tensor, ...]:
    from ..ops.joining import stack

    rows = [_grad((each,), xs, (_ones(each),), graph, strict, "jacobian") for each in y.reshape(-1)]
    empty = [Tensor._of(xp(x.array).zeros((0, *x.shape), x.dtype)) for x in xs]
    columns = [stack(column) for column in zip(*rows, strict=True)] if rows else empty
    return tuple([column.reshape(*y.shape, *x.shape) for column, x in zip(columns, xs, strict=True)])


def hessian(func: Callable, inputs: Tensors, create_graph: bool = False, strict: bool = False) -> Any:
    """d²(output)/d(input i) d(input j), of shape (*shape of i, *shape of j): the Jacobian of the Jacobian."""

    def gradient(*xs: Tensor) -> Any:
        given = _like(inputs, xs)
        return jacobian(lambda *each: _scalar(func(*each), "hessian").reshape(()), given, True, strict)

    return jacobian(gradient, inputs, create_graph, strict)


@enable_grad()
def vhp(
    func: Callable, inputs: Tensors, v: Tensors | None = None, create_graph: bool = False, strict: bool = False
) -> tuple[Tensor, Tensors]:
    """(func(*inputs), vᵀ H): two backwards."""
    xs, y = _run(func, inputs, create_graph, "vhp")
    vs = _vector(v, xs, "vhp")
    gradient = _grad((_scalar(y, "vhp"),), xs, (_ones(y),), True, strict, "vhp")
    product = _grad(gradient, xs, vs, create_graph, strict, "vhp")
    return _detached((y,), create_graph)[0], _like(inputs, product)


def hvp(
    func: Callable, inputs: Tensors, v: Tensors | None = None, create_graph: bool = False, strict: bool = False
) -> tuple[Tensor, Tensors]:
    """(func(*inputs), H v), which is `vhp`, since a Hessian is symmetric."""
    return vhp(func, inputs, v, create_graph, strict)


__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]
