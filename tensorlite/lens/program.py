"""What a program is made of, once it has been recorded: values, the ops that made them, and the steps back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import CodeType
from typing import Any
from weakref import ReferenceType

import numpy as np

from ..device import move
from ..node import Node
from ..op import Op, Plan
from ..tensor import Tensor, array_of


@dataclass(eq=False)
class Value:
    """A Tensor of the program: what an op gave, or a leaf.

    array          its numbers; None where the graph was made before the recording and nobody kept them
    call           the op that made it, None for a leaf; `index` says which of its outputs it is
    needs          whether it wants a gradient
    name           as the program calls it: `h`, `blocks.0.weight`; found when the recording ends
    ident          the same as a name in Python, unlike all others on the tape
    contributions  the steps that add to its gradient, in the order of the walk
    """

    array: Any
    shape: tuple[int, ...]
    dtype: np.dtype
    call: Call | None = None
    index: int = 0
    needs: bool = False
    tensor: Tensor | None = None  # of a leaf
    name: str = ""
    ident: str = ""
    given: bool = False  # whether the name is the program's own
    contributions: list[Step] = field(default_factory=list)
    seed: Any = None  # the gradient that a backward() started with here

    @property
    def gradient(self) -> Any:
        """The sum of what arrived, added up in the walk's order; None if nothing did."""
        total = self.seed
        for step in self.contributions:
            total = step.result if total is None else total + step.result
        return total

    @property
    def grad_ident(self) -> str:
        return f"d{self.ident}"


@dataclass(eq=False)
class Call:
    """An op as it ran forward.

    made  points to its node, if it has one, but does not keep it alive: a tape lives as long as a node that is on it
    plan  of that node: which rows run, and what they keep
    """

    op: Op
    inputs: tuple[Any, ...]  # Values, and what is no Tensor as it was given
    attributes: dict[str, Any]
    outputs: list[Value]
    made: ReferenceType[Node] | None
    plan: Plan | None
    kept: Sequence[Any]  # in the order of plan.names
    code: CodeType | None = None  # of the user's function that ran it, and the instruction there
    instruction: int = -1
    frame: int = 0
    owners: tuple[Any, ...] = ()  # the modules within which it ran, the outermost first
    start: float = 0.0
    seconds: float = 0.0
    number: int = 0
    path: tuple[str, ...] = ()  # the owners' names
    file: str = ""  # the user's line, and the expression on it whose value this is or leads to
    line: int = 0
    source: str = ""
    expression: str = ""
    constants: list[tuple[str, Any]] = field(
        default_factory=list
    )  # variables that are no Tensors of its inputs: an index
    visits: list[Visit] = field(default_factory=list)

    @property
    def node(self) -> Node | None:
        """None where no gradient was wanted, or the graph is gone."""
        return self.made() if self.made is not None else None

    def input_name(self, i: int) -> str:
        """The name of input i in the op's row; `tensors[1]` where the op takes any number of them."""
        op, k = self.op, i - len(self.op.inputs) + 1
        return f"{op.variadic}[{k}]" if op.variadic and k >= 0 else op.input_name(i)

    def arrays(self) -> list[Any]:
        """What its forward computed with: the inputs, brought to one dtype where the op does that."""
        return self.op.mix([x.array if isinstance(x, Value) else array_of(x) for x in self.inputs])

    def kept_by_name(self) -> dict[str, Any]:
        """What the node kept. An input is shown as it was when the op ran, whatever was written into it since."""
        if self.plan is None:
            return {}
        names = self.plan.names
        kept = dict(zip(names, self.kept))
        if kept and all(x.array is not None for x in self.inputs if isinstance(x, Value)):
            arrays = self.arrays()
            for name in self.op.inputs:
                if name in kept:
                    where = arrays[self.op.position(name)]
                    kept[name] = tuple(where) if name == self.op.variadic else where[0]
        return kept


@dataclass(eq=False)
class Visit:
    """The turn of a node in the backward walk: its gradient is complete, and its rows run."""

    call: Call
    gradient: Any  # a tuple, if the op has several outputs
    start: float
    seconds: float = 0.0
    steps: list[Step] = field(default_factory=list)
    changed: bool = False  # whether a hook replaced the gradient that had arrived


@dataclass(eq=False)
class Step:
    """One row at work: from the gradient of an op's output to a contribution to the gradient of one of its inputs."""

    visit: Visit
    i: int
    to: Value
    raw: Any  # as the row gave it
    result: Any  # in the shape and dtype of the input
    number: int = 0
    order: int = 0  # how many contributions had arrived there before

    @property
    def call(self) -> Call:
        return self.visit.call

    @property
    def input(self) -> str:
        return self.call.input_name(self.i)

    @property
    def summed(self) -> tuple[int, ...]:
        """The axes over which the row's result was summed, because the input was broadcast along them."""
        return summed(np.shape(self.raw), self.to.shape)


def summed(shape: tuple[int, ...], target: tuple[int, ...]) -> tuple[int, ...]:
    """The axes to sum over to bring a gradient of what was broadcast to `shape` back to `target`."""
    extra = len(shape) - len(target)
    return tuple(k for k, n in enumerate(shape) if k < extra or (target[k - extra] == 1 and n != 1))


def numbers(array: Any) -> Any:
    """An array on the CPU; of a tuple or list, each that is in it."""
    if isinstance(array, (tuple, list)):
        return type(array)([numbers(x) for x in array])
    return move(array, "cpu") if hasattr(array, "shape") and not isinstance(array, Value) else array
