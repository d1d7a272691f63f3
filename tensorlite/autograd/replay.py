"""Gradients of gradients: with `create_graph` a node's rows run once more, on Tensors, and are recorded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..node import Node
from ..tensor import Tensor


def gradients_with_graph(node: Node, g: Any) -> Sequence[Any]:
    """`node.gradients` computed with Tensors, so that it can be differentiated in turn.

    What was kept must be tied to the nodes it came from: an array alone would be a constant, and second
    derivatives silently wrong.
    """
    kept = dict(zip(node.plan.names, node.kept or ()))
    for name in kept.keys() & set(node.op.inputs):
        first = node.op.inputs.index(name)
        if name == node.op.variadic:
            kept[name] = tuple([_tie(node, value, first + k) for k, value in enumerate(kept[name])])
        else:
            kept[name] = _tie(node, kept[name], first)
    if "y" in kept:
        kept["y"] = Tensor._of(kept["y"], node)
    if not node.op.replays:
        plan = node.op.plain.plan(node.plan.wants)
        return plan.run(g, [kept[name] for name in plan.names])
    from .walk import grad  # the walk needs this file first

    # A joint rule with residuals: compose the op anew, from stand-ins at which the walk can stop.
    assert node.op.reference is not None
    inputs = [kept[name] for name in node.op.inputs]
    inputs = [x.reshape(x.shape) if p is not None else x for x, p in zip(inputs, node.parents, strict=True)]
    y = node.op.reference(*inputs, **{name: kept[name] for name in node.op.attributes})
    wanted = [x for x, p in zip(inputs, node.parents, strict=True) if p is not None]
    found = iter(grad(y, wanted, g, create_graph=True))
    return [next(found) if p is not None else None for p in node.parents]


def _tie(node: Node, value: Any, i: int) -> Any:
    """Input number i, as the Tensor it was."""
    parent = node.parents[i]
    if parent is None or isinstance(parent, Tensor):
        return value if parent is None else parent
    _, dtype = parent.outputs[node.indices[i]]
    tensor = Tensor._of(value.astype(dtype, copy=False), parent)
    tensor.index = node.indices[i]
    return tensor
