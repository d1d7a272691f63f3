"""The record of a program: each op with what went in and came out, and each step of the backward walk.

A Hook, so the engine knows nothing of it. While it watches, it keeps every array that it has seen, and a copy of every
leaf, which an optimiser may write into later.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary, ref

import numpy as np

from ..autograd.accumulate import fit
from ..mode import Hook
from ..node import Node
from ..op import Op
from ..tensor import Tensor, array_of
from .program import Call, Step, Value, Visit, numbers

PACKAGE = f"{Path(__file__).parents[1]}{os.sep}"
_LENS = f"{Path(__file__).parent}{os.sep}"  # its example is a user's program

TAPES: WeakKeyDictionary[Node, Any] = WeakKeyDictionary()  # the Tape on which a node was recorded


class Recorder(Hook):
    """Fills the lists `calls`, `values` and `steps` of a tape."""

    def __init__(self, base: FrameType | None) -> None:
        self.base = base  # the frame of the user's `with`: above it nobody looks for modules
        self.calls: list[Call] = []
        self.values: list[Value] = []
        self.steps: list[Step] = []
        self.visits: list[Visit] = []
        self.walks: list[list[Visit]] = []
        self._at: dict[Any, Value] = {}  # (node or tensor, output, version) -> its Value; holds on to all of them
        self._of: dict[Node, Call] = {}
        self._recalled: list[Call] = []
        self._starts: list[float] = []
        self._touched: list[Value] = []  # in this walk
        self._pending: set[Value] = set()  # interior values with a gradient that has not had its turn
        self.zero = time.perf_counter()

    # Forward -----------------------------------------------------------------------------------------

    def before_forward(self, op: Op, inputs: Sequence[Any], attributes: dict[str, Any]) -> None:
        self._starts.append(time.perf_counter())

    def after_forward(self, op: Op, inputs: Sequence[Any], attributes: dict[str, Any], output: Any) -> None:
        now, start = time.perf_counter(), self._starts.pop()
        known = tuple([self._value(x) if isinstance(x, Tensor) else x for x in inputs])
        outputs = output if isinstance(output, tuple) else (output,)
        node = outputs[0].node if outputs else None
        kept = node.kept if node is not None and isinstance(node.kept, list) else ()
        made, plan = (None, None) if node is None else (ref(node), node.plan)
        call = Call(op, known, attributes, [], made, plan, kept, start=start - self.zero, seconds=now - start)
        call.number = len(self.calls)
        self._locate(call)
        fresh = op.view and isinstance(known[0], Value) and known[0].call is None  # a view of a leaf changes with it
        for i, y in enumerate(outputs):
            array = y.array.copy() if fresh else y.array
            value = Value(array, y.shape, y.dtype, call, i, y.requires_grad)
            self._at[self._key(y)] = value
            call.outputs.append(value)
            self.values.append(value)
        if node is not None:
            self._of[node] = call
        self.calls.append(call)

    @staticmethod
    def _key(x: Tensor) -> Any:
        return (x.node, x.index) if x.node is not None else (x, x.version.count if x.version else 0)

    def _value(self, x: Tensor) -> Value:
        key = self._key(x)
        value = self._at.get(key)
        if value is None:
            if x.node is None:
                value = Value(x.array.copy(), x.shape, x.dtype, needs=x.requires_grad, tensor=x)
                self.values.append(value)
                self._at[key] = value
            else:
                value = self._output(x.node, x.index)
                value.array = x.array
        return value

    def _locate(self, call: Call) -> None:
        """Which line of the user's program runs, and within which modules."""
        frame: FrameType | None = sys._getframe(2)
        owners: list[Any] = []
        while frame is not None:
            code = frame.f_code
            theirs = not code.co_filename.startswith(PACKAGE) or code.co_filename.startswith(_LENS)
            if theirs and call.code is None:
                call.code, call.instruction, call.frame = code, frame.f_lasti, id(frame)
            if frame is self.base:
                break
            if code.co_name in ("__call__", "forward") and code.co_argcount and code.co_varnames[0] == "self":
                owner = frame.f_locals.get("self")
                if not isinstance(owner, Op) and not (owners and owners[-1] is owner):
                    owners.append(owner)
            frame = frame.f_back
        call.owners = tuple(reversed(owners))

    # Backward ----------------------------------------------------------------------------------------

    def before_backward(self, node: Node, gradient: Any) -> None:
        self._starts.append(time.perf_counter())

    def after_backward(self, node: Node, gradient: Any, contributions: Sequence[Any]) -> None:
        now, start = time.perf_counter(), self._starts.pop()
        call = self._of.get(node)
        if call is None or not call.inputs:  # not seen forward
            call = self._recall(node)
        g = tuple(map(array_of, gradient)) if isinstance(gradient, tuple) else array_of(gradient)
        visit = Visit(call, g, start - self.zero, now - start)
        self._arrived(visit)
        for i, (parent, c) in enumerate(zip(node.parents, contributions)):
            if parent is None or c is None:
                continue
            x = call.inputs[i]
            assert isinstance(x, Value)  # what has a parent is a Tensor
            step = Step(visit, i, x, array_of(c), fit(array_of(c), node, i), len(self.steps), len(x.contributions))
            x.contributions.append(step)
            if x.call is not None:
                self._pending.add(x)
                self._touched.append(x)
            visit.steps.append(step)
            self.steps.append(step)
        call.visits.append(visit)
        self.visits.append(visit)
        self.walks[-1].append(visit)

    def _arrived(self, visit: Visit) -> None:
        """Hold what the walk brings against what was seen to arrive: a place where nothing did is where it starts."""
        outputs = visit.call.outputs
        gradients = visit.gradient if visit.call.op.several else (visit.gradient,)
        if not any(y in self._pending for y in outputs):
            if not self._pending or not self.walks:
                self._begin()
            for y, g in zip(outputs, gradients):
                y.seed = g
                self._touched.append(y)
            return
        for y, g in zip(outputs, gradients):
            self._pending.discard(y)
            total = y.gradient
            if total is not None and not np.array_equal(numbers(total), numbers(g), equal_nan=True):
                visit.changed = True

    def _begin(self) -> None:
        """Another backward(): the gradients of what is no leaf start anew."""
        self.walks.append([])
        for y in self._touched:
            if y.call is not None:
                y.contributions, y.seed = [], None
        self._touched = []

    def go_on(self, tape: Any) -> None:
        """Start with what stands on a tape."""
        self.calls, self.values = list(tape.calls), list(tape.values)
        self.steps, self.visits, self.walks = list(tape.steps), list(tape.visits), list(tape.walks)
        for call in self.calls:
            node = call.node
            if node is not None:
                self._of[node] = call
                self._at |= {(node, y.index): y for y in call.outputs}
        for x in self.values:
            if x.tensor is not None:
                self._at.setdefault(self._key(x.tensor), x)

    def _fetch(self) -> None:
        for x in self.values:
            x.array, x.seed = numbers(x.array), numbers(x.seed)
        for step in self.steps:
            step.raw, step.result = numbers(step.raw), numbers(step.result)
        for visit in self.visits:
            visit.gradient = numbers(visit.gradient)
        for call in self.calls:
            call.inputs, call.kept = numbers(call.inputs), numbers(call.kept)
            call.attributes = {name: numbers(x) for name, x in call.attributes.items()}

    # A graph that was made before the recording --------------------------------------------------------

    def _recall(self, node: Node) -> Call:
        """What a node alone can tell about its op: what it kept, and where its inputs came from."""
        kept = list(node.kept or ())
        known = dict(zip(node.plan.names, kept))
        inputs: list[Any] = []
        for i, parent in enumerate(node.parents):
            name = node.op.input_name(i)
            array = known.get(name)
            if name == node.op.variadic and array is not None:
                array = array[i - len(node.op.inputs) + 1]
            if isinstance(parent, Node):
                x = self._output(parent, node.indices[i])
                x.array = array if x.array is None else x.array
                inputs.append(x)
            else:
                inputs.append(array if parent is None else self._value(parent))
        outputs = [self._output(node, i) for i in range(len(node.outputs))]
        if "y" in known and not node.op.several:
            outputs[0].array = known["y"]
        attributes = {name: known[name] for name in node.op.attributes if name in known}
        call = outputs[0].call
        assert call is not None
        call.inputs, call.attributes, call.kept = tuple(inputs), attributes, kept
        return call

    def _output(self, node: Node, index: int) -> Value:
        if (node, index) not in self._at:
            call = Call(node.op, (), {}, [], ref(node), node.plan, (), number=-1)
            for i, (shape, dtype) in enumerate(node.outputs):
                value = Value(None, shape, dtype, call, i, True)
                call.outputs.append(value)
                self.values.append(value)
                self._at[node, i] = value
            self._of[node] = call
            self._recalled.append(call)
        return self._at[node, index]

    def finish(self) -> None:
        """Put what was recalled before what was recorded, in an order in which it can have run; and what lies on a GPU
        on the CPU, where it is looked at."""
        if "cupy" in sys.modules:
            self._fetch()
        turn = {visit.call: i for i, visit in enumerate(self.visits)}
        self._recalled.sort(key=lambda call: -turn.get(call, len(turn)))
        self.calls = [*self._recalled, *(call for call in self.calls if call.number >= 0)]
        for i, call in enumerate(self.calls):
            call.number = i
        self._recalled = []
