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

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from .. import mode
from ..device import xp
from ..mode import set_grad_enabled
from ..node import Node
from ..tensor import Tensor, array_of, method
from .accumulate import Sum, arrive, deposit, fill, fit, ours_alone
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
    for place in order:
        sums = arrived.pop(place, None)
        if sums is None:
            continue
        if place.hooks:
            _call_hooks(place, sums)
        for i, total in enumerate(sums):
            if (place, i) in captured:
                captured[place, i] = total.value
        if isinstance(place, Tensor):
            if targets is None:
                deposit(place, sums[0])
            continue
        parents = place.parents if targets is None else [p if p in needed else None for p in place.parents]
        if all(parent is None for parent in parents):
            continue
        g = sums[0].value if place.outputs is None else fill(sums, place.outputs, graph)
        for hook in mode.hooks:
            hook.before_backward(place, g)
        contributions = gradients_with_graph(place, g) if graph else place.gradients(g)
        for hook in mode.hooks:
            hook.after_backward(place, g, contributions)
        for i, parent in enumerate(parents):
            if parent is not None and contributions[i] is not None:
                fitted = fit(contributions[i], place, i)
                hidden = isinstance(parent, Tensor) and not graph and not mode.hooks  # a hook may have put it somewhere
                ours = hidden and ours_alone(fitted, i, contributions, g, place)
                arrive(arrived, parent, place.indices[i], fitted, ours)
        if not retain:
            place.free()
    return [captured[x.node or x, x.index] for x in targets or ()]


def _newest_first(roots: Iterable[Any]) -> list[Any]:
    """The places below `roots`, each after all that was computed from it: when its turn comes, every
    contribution to its gradient has arrived. Loops, not a recursion: graphs are deeper than Python's stack."""
    roots = list(dict.fromkeys(roots))
    waiting: Counter = Counter()  # place -> its uses that have not had their turn
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


def _call_hooks(place: Any, sums: list[Sum]) -> None:
    """Let the hooks of a place see, and replace, the gradient that has arrived."""
    for index, hook in list(place.hooks):  # a hook may remove itself
        value = sums[index].value
        if value is None:
            continue
        changed = hook(value if isinstance(value, Tensor) else Tensor._of(value))
        sums[index].ours = False  # the hook may have put it somewhere
        if changed is not None:
            if changed.shape != value.shape or changed.dtype != value.dtype:
                raise RuntimeError(
                    f"register_hook: a hook gave a gradient of shape {changed.shape} and {changed.dtype} in the place "
                    f"of one of shape {value.shape} and {value.dtype}"
                )
            sums[index].value = changed if isinstance(value, Tensor) else array_of(changed)


# What a user calls -------------------------------------------------------------------------------------


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
        return xp(y.array).ones_like(y.array)
    array = array_of(gradient)
    if np.shape(array) != y.shape:
        raise RuntimeError(
            f"{caller}: the gradient given has shape {np.shape(array)}; expected that of the Tensor, {y.shape}"
        )
    return xp(y.array).asarray(array, dtype=y.dtype)


@method
def backward(
    self: Tensor,
    gradient: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Tensor | Sequence[Tensor] | None = None,
) -> None:
    """Add d(self)/d(leaf) to `.grad` of every leaf that self was computed from.

    gradient      the gradient flowing into self, of its shape; may be left out if self has one element
    retain_graph  keep what the nodes hold, for another backward(); default: as create_graph
    create_graph  record the backward itself, so that gradients can be differentiated again
    inputs        add to these leaves only

    Raises RuntimeError if self requires no gradient, if the graph was freed by an earlier backward(), or if
    an array that the backward needs has been written in place.
    """
    seed = _seed(self, gradient, "backward")
    inputs = [inputs] if isinstance(inputs, Tensor) else inputs and list(dict.fromkeys(inputs))
    retain = create_graph if retain_graph is None else retain_graph
    with set_grad_enabled(create_graph):
        seeds = [_tensor(gradient, seed) if create_graph else seed]
        found = _walk([self], seeds, inputs, retain, create_graph)
        for leaf, g in zip(inputs or (), found, strict=bool(inputs)):
            if g is not None:
                total = Sum()
                total.add(g, False)
                deposit(leaf, total)


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """d(sum of outputs * grad_outputs)/d(input) for each of `inputs`, leaves or not; `.grad` stays as it is.

    Arguments as in `backward`. Raises RuntimeError for an input that no output depends on, unless
    `allow_unused`, which gives None for it.
    """
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    given = grad_outputs if isinstance(grad_outputs, (list, tuple)) else [grad_outputs] * len(outputs)
    for i, x in enumerate(inputs):
        if not x.requires_grad:
            raise RuntimeError(
                f"grad: input {i} (shape {x.shape}) does not require a gradient; set requires_grad=True on it"
            )
    seeds = [_seed(y, g, "grad") for y, g in zip(outputs, given, strict=True)]
    with set_grad_enabled(create_graph):
        if create_graph:
            seeds = [_tensor(g, seed) for g, seed in zip(given, seeds, strict=True)]
        retain = create_graph if retain_graph is None else retain_graph
        found = _walk(outputs, seeds, inputs, retain, create_graph)
    for i, g in enumerate(found):
        if g is None and not allow_unused:
            raise RuntimeError(
                f"grad: no output depends on input {i} (shape {inputs[i].shape}); allow_unused=True gives None for it"
            )
    # Two inputs, or an input and the caller, may have been handed one array: each gets its own.
    return tuple([g if g is None else g.clone() if isinstance(g, Tensor) else Tensor._of(g.copy()) for g in found])


def _tensor(gradient: Any, seed: Any) -> Tensor:
    return gradient if isinstance(gradient, Tensor) else Tensor._of(seed)


@method
def retain_grad(self: Tensor) -> None:
    """Keep the gradient of this interior Tensor in its `.grad` too. For study; a leaf's is kept anyway."""
    if self.node is None:
        return
    reference = weakref.ref(self)  # the node must not keep the Tensor alive

    def keep(gradient: Tensor) -> None:
        tensor = reference()
        if tensor is not None:
            kept = gradient if gradient.node is not None else Tensor._of(gradient.array.copy())
            tensor.grad = kept if tensor.grad is None else tensor.grad + kept

    self.register_hook(keep)


@method
def register_hook(self: Tensor, hook: Callable[[Tensor], Tensor | None]) -> Handle:
    """Call `hook(gradient)` when the gradient of this Tensor is complete; what it returns, if anything,
    replaces it. Returns a handle with `remove()`. The hook must not write into its argument."""
    if not self.requires_grad:
        raise RuntimeError("register_hook: this Tensor does not require a gradient, so no hook would ever be called")
    place = self.node or self
    if place.hooks is None:
        place.hooks = []
    entry: Any = (self.index, hook)  # a leaf has one output, number 0
    place.hooks.append(entry)
    return Handle(place.hooks, entry)


class Handle:
    """Takes a hook off again."""

    def __init__(self, hooks: list, entry: Any):
        self.hooks, self.entry = hooks, entry

    def remove(self) -> None:
        if self.entry in self.hooks:
            self.hooks.remove(self.entry)
