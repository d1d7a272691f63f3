"""Reverse-mode automatic differentiation: record what was computed, then walk it backwards.

Applying an op to Tensors that require a gradient makes a `Node`: the op, pointers to the nodes its inputs
came from, and the arrays that the op's derivatives name. `backward` visits the nodes, each after everything
computed from it, and calls the derivatives (the rows in `../ops/`) with the gradient that has arrived:

    gradient of an input  =  row(gradient of the output, what the row's parameters name)

Contributions that meet at one node add up, because a small change of it changes the loss along every path.
That is all of it; the rest keeps the promises: nothing is kept that no row names, nothing is mutated that somebody else
can see (accumulate.py), derivatives can be differentiated again (replay.py), and no gradient is ever silently wrong.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from sys import modules
from typing import Any

import numpy as np

from .. import mode
from ..device import follow, on, wandering
from ..mode import set_grad_enabled
from ..node import Node
from ..tensor import Tensor, array_of, attach
from .accumulate import Sum, arrive, deposit, fill, fit, ours_alone
from .hooks import call_hooks
from .replay import gradients_with_graph

# Walking back ------------------------------------------------------------------------------------------


def _walk(
    outputs: Sequence[Tensor], seeds: Sequence[Any], targets: Sequence[Tensor] | None, retain: bool, graph: bool
) -> list[Any]:
    """The backward walk from `outputs`, at which the gradients `seeds` arrive.

    Adds to `.grad` of the leaves; with `targets`, goes only towards them and returns their gradients instead.
    """
    order = _newest_first([y.node or y for y in outputs])
    captured: dict[tuple[Any, int], Any] = {(x.node or x, x.index): None for x in targets or ()}
    if targets is not None:
        needed = _leading_to({place for place, _ in captured}, order)
        order = [place for place in order if place in needed]
    for place in order:
        if isinstance(place, Node) and (targets is None or not needed.isdisjoint(place.parents)):
            place.check()

    arrived: dict[Any, list[Sum]] = {}  # place -> per output of it, the gradient so far
    for y, seed in zip(outputs, seeds, strict=True):
        arrive(arrived, y.node or y, y.index, seed)
    with wandering():
        for place in order:
            sums = arrived.pop(place, None)
            if sums is None:
                continue
            if "cupy" in modules:
                follow(array_of(next(total.value for total in sums if total.value is not None)))
            if place.hooks:
                call_hooks(place, sums)
            if captured:
                for i, total in enumerate(sums):
                    if (place, i) in captured:
                        captured[place, i] = total.value
            if isinstance(place, Tensor):
                if targets is None:
                    deposit(place, sums[0])
                continue
            parents = place.parents
            if targets is not None:
                parents = [p if p in needed else None for p in parents]
                if all(parent is None for parent in parents):
                    continue
            g = fill(sums, place.outputs, graph) if place.op.several else sums[0].value
            for hook in mode.hooks:
                hook.before_backward(place, g)
            contributions = gradients_with_graph(place, g) if graph else place.gradients(g)
            for hook in mode.hooks:
                hook.after_backward(place, g, contributions)
            for i, parent in enumerate(parents):
                if parent is not None and contributions[i] is not None:
                    fitted = fit(contributions[i], place, i)
                    hidden = (
                        isinstance(parent, Tensor) and not graph and not mode.hooks
                    )  # a hook may have put it somewhere
                    ours = hidden and ours_alone(fitted, i, contributions, g, place, retain)
                    arrive(arrived, parent, place.indices[i], fitted, ours)
            if not retain:
                place.free()
    return [captured[x.node or x, x.index] for x in targets or ()]


def _newest_first(roots: Iterable[Any]) -> list[Any]:
    """The places below `roots`, each after all that was computed from it: when its turn comes, every
    contribution to its gradient has arrived. Loops, not a recursion: graphs are deeper than Python's stack."""
    roots = list(dict.fromkeys(roots))
    waiting: defaultdict[Any, int] = defaultdict(int)  # place -> its uses that have not had their turn
    seen, stack = set(roots), list(roots)
    while stack:
        for parent in stack.pop().parents:
            if parent is not None:
                waiting[parent] += 1
                if parent not in seen:
                    seen.add(parent)
                    stack.append(parent)
    ready, order = [root for root in roots if not waiting[root]], []
    while ready:
        place = ready.pop()
        order.append(place)
        for parent in place.parents:
            if parent is not None:
                waiting[parent] -= 1
                if not waiting[parent]:
                    ready.append(parent)
    return order


def _leading_to(targets: set[Any], order: list[Any]) -> set[Any]:
    """The places from which a target can be reached; the others need no gradient."""
    needed = set(targets)
    for place in reversed(order):
        if not needed.isdisjoint(place.parents):
            needed.add(place)
    return needed


# What a user calls -------------------------------------------------------------------------------------


def _list(tensors: Any) -> list[Any]:
    return [tensors] if not isinstance(tensors, (list, tuple)) else list(tensors)


def _seeds(outputs: list[Tensor], given: Any, graph: bool, caller: str) -> list[Any]:
    """The gradients with which the walk starts; with `graph` those given stay Tensors, to be differentiable."""
    gradients = [None] * len(outputs) if given is None else _list(given)
    if len(gradients) != len(outputs):
        raise RuntimeError(f"{caller}: {len(outputs)} Tensors, but {len(gradients)} gradients that flow into them")
    seeds = [_seed(y, g, caller) for y, g in zip(outputs, gradients, strict=True)]
    if graph:
        return [g if isinstance(g, Tensor) else Tensor._of(seed) for g, seed in zip(gradients, seeds, strict=True)]
    return seeds


def _seed(y: Tensor, gradient: Any, caller: str) -> Any:
    """The gradient with which the walk starts at y: ones for a scalar, the given one for the rest."""
    if not y.requires_grad:
        raise RuntimeError(
            f"{caller}: this Tensor does not require a gradient; set requires_grad=True on a leaf it is computed "
            "from, and do not compute it under no_grad()"
        )
    if gradient is None:
        if y.array.size != 1:
            raise RuntimeError(
                f"{caller}: only a Tensor with one element has a gradient by itself, and this one has shape {y.shape}; "
                "reduce it first, .sum() say, or give the gradient that flows into it"
            )
        with on(y.device) as library:
            return library.ones_like(y.array)
    array = array_of(gradient)
    shape = array.shape if hasattr(array, "shape") else np.shape(array)
    if shape != y.shape:
        raise RuntimeError(f"{caller}: the gradient given has shape {shape}; expected that of the Tensor, {y.shape}")
    if isinstance(gradient, Tensor) and gradient.device != y.device:
        raise RuntimeError(
            f"{caller}: the gradient given lies on {gradient.device} and the Tensor on {y.device}; move it with "
            f".to({str(y.device)!r})"
        )
    with on(y.device) as library:
        return library.asarray(array, dtype=y.dtype)


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Tensor | Sequence[Tensor] | None = None,
) -> None:
    """Add d(sum of tensors * grad_tensors)/d(leaf) to `.grad` of every leaf that the tensors were computed from.

    grad_tensors  per Tensor, the gradient flowing into it, of its shape; None for one with a single element
    retain_graph  keep what the nodes hold, for another backward(); default: as create_graph
    create_graph  record the backward itself, so that gradients can be differentiated again
    inputs        add to these only

    Raises RuntimeError if a Tensor requires no gradient, if the graph was freed by an earlier backward(), or if
    an array that the backward needs has been written in place.
    """
    outputs = _list(tensors)
    targets = None if inputs is None else list(dict.fromkeys(_list(inputs)))
    if targets == []:
        raise RuntimeError("backward: inputs is empty; leave it out for all leaves")
    seeds = _seeds(outputs, grad_tensors, create_graph, "backward")
    with set_grad_enabled(create_graph):
        found = _walk(outputs, seeds, targets, create_graph if retain_graph is None else retain_graph, create_graph)
        for leaf, g in zip(targets or (), found, strict=bool(targets)):
            if g is not None:
                total = Sum()
                total.add(g, False)
                deposit(leaf, total)


def _backward(
    self: Tensor,
    gradient: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Tensor | Sequence[Tensor] | None = None,
) -> None:
    """Add d(self)/d(leaf) to `.grad` of every leaf that self was computed from; as `autograd.backward`.

    gradient  the gradient flowing into self, of its shape; may be left out if self has one element
    """
    backward([self], [gradient], retain_graph, create_graph, inputs)


attach(backward=_backward)


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    materialize_grads: bool = False,
) -> tuple[Any, ...]:
    """d(sum of outputs * grad_outputs)/d(input) for each of `inputs`, leaves or not; `.grad` stays as it is.

    Arguments as in `backward`. Raises RuntimeError for an input that no output depends on, unless `allow_unused`,
    which gives None for it, or `materialize_grads`, which gives zeros.
    """
    if materialize_grads and allow_unused is False:
        raise ValueError("grad: materialize_grads=True gives zeros for unused inputs, so they must be allowed")
    outputs, inputs = _list(outputs), _list(inputs)
    if not inputs:
        raise RuntimeError("grad: inputs is empty; name the Tensors whose gradients are wanted")
    for i, x in enumerate(inputs):
        if not x.requires_grad:
            raise RuntimeError(
                f"grad: input {i} (shape {x.shape}) does not require a gradient; set requires_grad=True on it"
            )
    seeds = _seeds(outputs, grad_outputs, create_graph, "grad")
    with set_grad_enabled(create_graph):
        found = _walk(outputs, seeds, inputs, create_graph if retain_graph is None else retain_graph, create_graph)
    for i, (x, g) in enumerate(zip(inputs, found, strict=True)):
        if g is None and materialize_grads:
            with on(x.device) as library:
                found[i] = library.zeros_like(x.array)
        elif g is None and not allow_unused:
            raise RuntimeError(
                f"grad: no output depends on input {i} (shape {x.shape}); allow_unused=True gives None for it"
            )
    # Two inputs, or an input and the caller, may have been handed one array: each gets its own.
    return tuple([g if g is None else g.clone() if isinstance(g, Tensor) else Tensor._of(g.copy()) for g in found])
