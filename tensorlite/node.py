"""Recording: applying an op to Tensors that require a gradient makes a Node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from sys import modules
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
    if mode.state.autocast is not None:
        inputs = mode.state.autocast.cast(op.name, inputs)
    arrays, wants = [], []
    tensors = False
    for x in inputs:
        if isinstance(x, Tensor):
            tensors = True
            arrays.append(x.array)
            wants.append(x._requires_grad)
        else:
            arrays.append(x)
            wants.append(False)
    if "cupy" in modules and (gpu := op.elsewhere(arrays)) is not None:
        with gpu:
            return apply(op, inputs, attributes)
    arrays = op.mix(arrays)
    if not tensors:
        return op.compute(arrays, attributes)[1][0]
    for hook in mode.hooks:
        hook.before_forward(op, inputs, attributes)
    implementation, outputs = op.compute(arrays, attributes)

    node = None
    if True in wants and mode.state.recording:
        plan = implementation.plan(tuple(wants))
        if plan.rows:
            kept = [get(arrays, attributes, outputs) for get in plan.getters] if plan.getters else ()
            node = Node(op, plan, inputs, kept)
    if op.several:
        output: Any = tuple([_output(op, y, node, inputs[0], i) for i, y in enumerate(outputs[0])])
    else:
        output = _output(op, outputs[0], node, inputs[0])
    for hook in mode.hooks:
        hook.after_forward(op, inputs, attributes, output)
    return output


def _output(op: Op, y: Any, node: Node | None, source: Any, index: int = 0) -> Tensor:
    if isinstance(y, SCALARS):  # NumPy's reductions return scalars, not arrays
        y = np.asarray(y)
    output = Tensor._of(y, node)
    if node is not None:
        node.outputs += ((y.shape, y.dtype),)
        if index:
            output.index = index
    if op.view and isinstance(source, Tensor) and overlap(y, source.array):
        share(output, source)
    return output


def overlap(a: Any, b: Any) -> bool:
    """Whether two arrays are parts of one allocation."""
    return a is b or a.base is b or (b.base is not None and (b.base is a or b.base is a.base))


def _versions(plan: Plan, inputs: Sequence[Any]) -> Sequence[tuple[str, Any, int]]:
    """Of each input that is kept: its name, who counts the writes into its memory, and how many there were."""
    found: list[tuple[str, Any, int]] = []
    for name, where in plan.watch:
        for x in inputs[where]:
            if isinstance(x, Tensor):
                version = x.version
                if version is None and x.node is not None:
                    version = x.node.version  # of another Tensor of this node, if that was viewed
                    if version is None:
                        # A node's result has no version before its first view: then its node will have it, from 0.
                        found.append((name, x.node, 0))
                        continue
                if version is None:
                    version = x.version = Version()
                found.append((name, version, version.count))
    return found


class Node:
    """One step of a computation, with what its backward needs and nothing else.

    plan       of the implementation that ran forward: its rows must run backward
    parents    per input: the Node it came from, the leaf Tensor it is, or None if no gradient goes there.
               Never an interior Tensor, so that an array which no row names is freed with its Tensor
    indices    per input: which output of the parent it is
    outputs    shape and dtype of each output, which its gradient must have
    kept       what the rows name, in the order of `plan.names`; None once backward has freed it
    version    counts writes into the output's memory; None until there is a view of it, through which one could write
    versions   per kept input: its name, who counts its writes, and the count so far
    hooks      (number of the output, function) pairs
    """

    __slots__ = (
        "__weakref__", "hooks", "indices", "kept", "op", "outputs", "parents", "plan", "version", "versions",
    )  # fmt: skip

    def __init__(self, op: Op, plan: Plan, inputs: Sequence[Any], kept: Sequence[Any]):
        # Few and shared containers: Python's garbage collector counts and visits each.
        self.op = op
        self.plan = plan
        self.parents: list[Any] = [None] * len(inputs)
        self.indices = plan.zeros
        for i in plan.wanted:
            x = inputs[i]
            self.parents[i] = x.node or x
            if x.index:
                self.indices = (*self.indices[:i], x.index, *self.indices[i + 1 :])
        self.outputs: tuple[tuple[tuple[int, ...], Any], ...] = ()
        self.kept: Sequence[Any] | None = kept
        self.version: Version | None = None
        self.hooks: list[tuple[int, Callable]] | None = None
        self.versions = _versions(plan, inputs) if plan.watch else ()

    def __repr__(self) -> str:
        return f"<Node {self.op.name}>"

    def name(self) -> str:
        """The name of its op; as PyTorch's `grad_fn.name()`."""
        return self.op.name

    @property
    def next_functions(self) -> tuple[tuple[Any, int], ...]:
        """Per input: the Node it came from and which of its outputs it is; a leaf is itself, and None stands for what
        no gradient goes to.

        >>> import tensorlite as tl
        >>> x = tl.tensor(2.0, requires_grad=True)
        >>> y = x.exp() * x
        >>> y.grad_fn, y.grad_fn.name(), y.grad_fn.next_functions
        (<Node multiply>, 'multiply', ((<Node exp>, 0), (tensor(2., requires_grad=True), 0)))
        """
        return tuple(zip(self.parents, self.indices))

    def check(self) -> None:
        """Raise RuntimeError unless what was kept is still there and still what the forward saw."""
        if self.kept is None:
            raise RuntimeError(
                f"backward: [{self.op.name}] needs what it kept ({', '.join(self.plan.names)}), but an earlier "
                "backward() freed it. "
                "Call the first one as backward(retain_graph=True), or compute the forward anew"
            )
        for name, holder, count in self.versions:
            self._unwritten(f"input {name}", holder.version if isinstance(holder, Node) else holder, count)
        if self.version is not None and "y" in self.plan.names:
            self._unwritten("output y", self.version, 0)

    def _unwritten(self, name: str, version: Version | None, count: int) -> None:
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
        return self.plan.run(g, self.kept or ())
