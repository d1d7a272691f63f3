"""Where numbers stop being finite: a step is computed once more, and every op of it is looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from tensorlite import nn
from tensorlite.autograd.anomaly import AnomalyHook, caller, finite
from tensorlite.mode import hooked
from tensorlite.node import Node
from tensorlite.op import Op


class Watch(AnomalyHook):
    """Finds the first op that makes nan or infinity of finite numbers, forward or backward.

    found  op, module and line, in words; None as long as all is well
    """

    def __init__(self, model: nn.Module):
        super().__init__(check_nan=False)  # which only remembers the line of each node
        self.names = {id(module): name or type(module).__name__ for name, module in model.named_modules()}
        self.inside = [type(model).__name__]  # the modules that are being called, the innermost last
        self.modules: WeakKeyDictionary[Node, str] = WeakKeyDictionary()
        self.found: str | None = None

    def after_forward(self, op: Op, inputs: Sequence[Any], attributes: dict[str, Any], output: Any) -> None:
        super().after_forward(op, inputs, attributes, output)
        outputs = output if isinstance(output, tuple) else (output,)
        node = outputs[0].node if outputs else None
        if node is not None:
            self.modules[node] = self.inside[-1]
        if self.found is None and all(map(finite, inputs)) and not all(map(finite, outputs)):
            self.found = f"[{op.name}] in {self.inside[-1]} made it of finite numbers, at {caller()}"

    def after_backward(self, node: Node, gradient: Any, contributions: Sequence[Any]) -> None:
        if self.found is not None or all(map(finite, (c for c in contributions if c is not None))):
            return
        given = gradient if isinstance(gradient, tuple) else (gradient,)
        where = f"[{node.op.name}] in {self.modules.get(node, 'no module')}"
        if all(map(finite, (g for g in given if g is not None))):
            self.found = f"the backward of {where} made it of finite gradients{self._line(node)}"
        else:
            self.found = f"the gradients that meet in {where} have no finite sum{self._line(node)}"

    def _line(self, node: Node | None) -> str:
        place = None if node is None else self.places.get(node)
        return "" if place is None else f", at {place}"


def diagnose(model: nn.Module, compute: Callable[[], None]) -> str:
    """The first op and module in which numbers stop being finite while `compute` does a forward and backward of
    `model`, in words."""
    for name, parameter in model.named_parameters():
        if not finite(parameter):
            return f"the weight {name} had it before the step"
    watch = Watch(model)
    with _following(model, watch), hooked(watch), np.errstate(all="ignore"):
        compute()
    if watch.found is not None:
        return watch.found
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not finite(parameter.grad):
            return f"the gradients of {name} are finite in each micro-batch, and their sum is not"
    return "computed once more, every op gave finite numbers; their squares do not, or the machine errs"


@contextmanager
def _following(model: nn.Module, watch: Watch) -> Iterator[None]:
    """Inside, `watch` knows which module is being called."""
    handles = []
    for module in model.modules():
        handles.append(module.register_forward_pre_hook(lambda m, _: watch.inside.append(watch.names[id(m)])))
        handles.append(module.register_forward_hook(lambda *_: watch.inside.pop() and None))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
