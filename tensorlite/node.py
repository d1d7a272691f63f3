"""Recording: applying an op to Tensors that require a gradient makes a Node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import mode
from .tensor import Tensor, Version, share

if TYPE_CHECKING:
    from .op import Op, Plan

SCALARS = (np.generic, float, int)


def apply(op: Op, inputs: Sequence[Any], attributes: dict[str, Any]) -> Any:
    """Run `op`. Among arrays that is all; where a Tensor takes part the result is a Tensor, and remembers
    how it was made if a gradient may be asked for."""
    arrays = []
    tensors = wanted = False
    for x in inputs:
        if isinstance(x, Tensor):
            tensors = True
            wanted = wanted or x._requires_grad
            x = x.array
        arrays.append(x)
    arrays = op.mix(arrays)
    if not tensors:
        return op.compute(arrays, attributes)[1][0]
    for hook in mode.hooks:
        hook.before_forward(op, inputs, attributes)
    implementation, outputs = op.compute(arrays, attributes)

    node = None
    if wanted and mode.state.recording:
        wants = tuple(
            [
                isinstance(x, Tensor) and x._requires_grad and implementation.differentiable(i)
                for i, x in enumerate(inputs)
            ]
        )
        if True in wants:
            node = Node(op, implementation.plan(wants), inputs, wants)
            node.keep(inputs, [get(arrays, attributes, outputs, wants) for _, get in node.plan.keep])
    if op.several:
        output: Any = tuple([_output(op, y, node, inputs[0], i) for i, y in enumerate(outputs[0])])
        if node is not None:
            node.outputs = [(y.shape, y.dtype) for y in outputs[0]]
    else:
        output = _output(op, outputs[0], node, inputs[0])
    for hook in mode.hooks:
        hook.after_forward(op, inputs, attributes, output)
    return output


def _output(op: Op, y: Any, node: Node | None, source: Any, index: int = 0) -> Tensor:
    if isinstance(y, SCALARS):  # NumPy's reductions return scalars, not arrays
        y = np.asarray(y)
    output = Tensor._of(y, node)
    if index:
        output.index = index
    if op.view and isinstance(source, Tensor) and overlap(y, source.array):
        share(output, source)
    return output


def overlap(a: Any, b: Any) -> bool:
    """Whether two arrays are parts of one allocation."""
    return a is b or a.base is b or (b.base is not None and (b.base is a or b.base is a.base))


class Node:
    """One step of a computation, with what its backward needs and nothing else.

    parents    per input: the Node it came from, the leaf Tensor it is, or None if no gradient goes there.
               Never an interior Tensor, so that an array which no row names is freed with its Tensor
    indices    per input: which output of the parent it is
    formats    per input: shape and dtype, which its gradient must have
    kept       what the rows name (Op explains the names); None once backward has freed it
    version    counts writes into the output's memory; None until there is a view of it, through which one could write
    """

    __slots__ = (
        "__weakref__", "formats", "hooks", "indices", "kept", "op", "outputs", "parents", "plan", "version", "versions",
    )  # fmt: skip

    def __init__(self, op: Op, plan: Plan, inputs: Sequence[Any], wants: tuple[bool, ...]):
        pairs = list(zip(inputs, wants, strict=True))
        self.op = op
        self.plan = plan  # of the implementation that ran forward: its rows must run backward
        self.parents = tuple([(x.node or x) if wanted else None for x, wanted in pairs])
        self.indices = tuple([x.index if wanted else 0 for x, wanted in pairs])
        self.formats = [(x.array.shape, x.array.dtype) if wanted else None for x, wanted in pairs]
        self.kept: dict[str, Any] | None = None
        self.version: Version | None = None
        self.versions: list[tuple[str, Any, int]] = []  # kept input, who counts its writes, count so far
        self.outputs: list[tuple[tuple[int, ...], Any]] | None = None  # shape and dtype of each, if several
        self.hooks: list[tuple[int, Callable]] | None = None

    def __repr__(self) -> str:
        return f"<Node {self.op.name}>"

    def keep(self, inputs: Sequence[Any], values: list[Any]) -> None:
        self.kept = {name: value for (name, _), value in zip(self.plan.keep, values, strict=True)}
        for name, where in self.plan.watch:
            for x in inputs[where]:
                if isinstance(x, Tensor):
                    if x.version is None and x.node is None:
                        x.version = Version()
                    # A node's result has no version before its first view: then its node will have it, from 0.
                    self.versions.append((name, x.version or x.node, x.version.count if x.version else 0))

    def check(self) -> None:
        """Raise RuntimeError unless what was kept is still there and still what the forward saw."""
        if self.kept is None:
            names = ", ".join(name for name, _ in self.plan.keep)
            raise RuntimeError(
                f"backward: [{self.op.name}] needs what it kept ({names}), but an earlier backward() freed it. "
                "Call the first one as backward(retain_graph=True), or compute the forward anew"
            )
        kept = [(f"input {name}", holder, count) for name, holder, count in self.versions]
        if "y" in self.kept:
            kept.append(("output y", self, 0))
        for name, holder, count in kept:
            version = holder.version if isinstance(holder, Node) else holder
            if version is not None and version.count != count:
                raise RuntimeError(
                    f"backward: [{self.op.name}] kept its {name}, which has been written in place "
                    f"{version.count - count} time(s) since, so the gradient would be wrong. Write after backward(), "
                    f"or give the op a copy: {name.split()[1]}.clone()"
                )

    def free(self) -> None:
        if self.plan.holds:
            self.kept = None

    def gradients(self, g: Any) -> Sequence[Any]:
        """Per input its gradient, or None if it wants none. `g`: gradient of the output (a tuple, if several)."""
        return self.run(self.plan, g, self.kept or {})

    def run(self, plan: Plan, g: Any, kept: dict[str, Any]) -> Sequence[Any]:
        result: list[Any] = [None] * len(self.parents)
        for i, row, names in plan.rows:
            gradient = row(g, *[kept[name] for name in names])
            if i < 0:
                return gradient
            result[i] = gradient
        return result
