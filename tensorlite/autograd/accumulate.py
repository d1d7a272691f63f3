"""Where gradients meet: they are added up, brought to the form of what they belong to, and left in `.grad`.

Nothing is written here that somebody else can see, and nothing is copied that nobody else can.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..device import xp
from ..dtype import widened
from ..node import SCALARS, Node, overlap
from ..tensor import Tensor, array_of, writable, written


class Sum:
    """The gradient that has arrived at one place so far.

    The first contribution may be somebody else's array too (a sum hands its gradient to both its terms), so
    the second makes a fresh sum; that one is ours, and later ones are added to it in place.
    """

    value: Any = None
    ours = False

    def add(self, contribution: Any, ours: bool) -> None:
        if self.value is None:
            self.value, self.ours = contribution, ours
        elif self.ours and not isinstance(contribution, Tensor):
            self.value += contribution
        else:
            self.value, self.ours = _array(self.value + contribution), True


def arrive(arrived: dict[Any, list[Sum]], place: Any, index: int, contribution: Any, ours: bool = False) -> None:
    sums = arrived.get(place)
    if sums is None:
        several = isinstance(place, Node) and place.op.several
        sums = arrived[place] = [Sum() for _ in place.outputs] if several else [Sum()]
    sums[index].add(contribution, ours)


def fill(sums: list[Sum], outputs: list[tuple[tuple[int, ...], Any]], graph: bool) -> tuple[Any, ...]:
    """The gradients of all outputs of a node, with zeros for those that nobody used."""
    library = xp(array_of(next(total.value for total in sums if total.value is not None)))
    return tuple(
        total.value if total.value is not None else Tensor._of(zeros) if graph else zeros
        for total, zeros in zip(sums, (library.zeros(*output) for output in outputs), strict=True)
    )


def _array(x: Any) -> Any:
    """What NumPy computes from 0-dimensional arrays is a scalar; here it is an array again."""
    return np.asarray(x) if isinstance(x, SCALARS) else x


def fit(gradient: Any, node: Node, i: int) -> Any:
    """The gradient of input i in that input's shape and dtype: undoes broadcasting and promotion.

    An input that was broadcast was used once per copy, so its gradient is the sum over the copies.
    """
    place = node.parents[i]
    if isinstance(place, Node):
        shape, dtype = place.outputs[node.indices[i]]
    else:
        shape, dtype = place.array.shape, place.array.dtype
    gradient = _array(gradient)
    if gradient.shape != shape:
        extra = gradient.ndim - len(shape)
        copies = [k for k, n in enumerate(gradient.shape) if k < extra or (shape[k - extra] == 1 and n != 1)]
        if extra < 0 or any(n != shape[k - extra] for k, n in enumerate(gradient.shape) if k not in copies):
            raise RuntimeError(
                f"backward: the row d{node.op.input_name(i)} of [{node.op.name}] gave a gradient of shape "
                f"{tuple(gradient.shape)} for an input of shape {shape}; expected that shape, or one it broadcasts to"
            )
        wide = gradient if isinstance(gradient, Tensor) else widened(gradient)
        gradient = _array(wide.sum(tuple(copies))).reshape(shape)
    if gradient.dtype != dtype:
        gradient = gradient.to(dtype) if isinstance(gradient, Tensor) else gradient.astype(dtype)
    return gradient


def ours_alone(gradient: Any, i: int, contributions: Sequence[Any], g: Any, node: Node, retain: bool) -> bool:
    """Whether nobody else can see this gradient's memory, so that a leaf may have it without a copy.

    retain  whether the node keeps what it kept; if not, its residuals are nobody's from now on
    """
    if not writable(gradient):
        return False
    kept = [x for k, x in enumerate(node.kept or ()) if retain or k not in node.plan.residuals]
    others = [g, *kept, *(c for k, c in enumerate(contributions) if k != i)]
    arrays = [a for x in others for a in (x if isinstance(x, tuple) else (x,)) if hasattr(a, "base")]
    return not any(overlap(gradient, a) for a in arrays)


def deposit(leaf: Tensor, total: Sum) -> None:
    """Add to a leaf's `.grad`."""
    gradient = total.value
    if leaf.grad is not None and leaf.grad.shape != leaf.shape:
        raise RuntimeError(f"backward: a leaf of shape {leaf.shape} was given a .grad of shape {leaf.grad.shape}")
    if isinstance(gradient, Tensor):
        leaf.grad = gradient.clone() if leaf.grad is None else leaf.grad + gradient
    elif leaf.grad is None:
        leaf.grad = Tensor._of(gradient if total.ours else gradient.copy())
    elif leaf.grad.node is not None:  # from create_graph=True: the graph may keep its array
        leaf.grad = Tensor._of(_array(leaf.grad.array + gradient))
    else:
        leaf.grad.array += gradient
        written(leaf.grad)
    for hook in list(leaf.grad_hooks or ()):  # a hook may remove itself
        hook(leaf)
