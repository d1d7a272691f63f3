"""Looking at the graph: what PyTorch's `grad_fn` answers, a Node answers too.

>>> import tensorlite as tl
>>> x = tl.tensor(2.0, requires_grad=True)
>>> y = x.exp() * x
>>> y.grad_fn, y.grad_fn.name(), y.grad_fn.next_functions
(<Node multiply>, 'multiply', ((<Node exp>, 0), (tensor(2., requires_grad=True), 0)))
"""

from __future__ import annotations

from typing import Any

from ..node import Node


def _name(self: Node) -> str:
    """The name of its op."""
    return self.op.name


def _next_functions(self: Node) -> tuple[tuple[Any, int], ...]:
    """Per input: the Node it came from and which of its outputs it is; a leaf is itself, and None stands for what no
    gradient goes to."""
    return tuple(zip(self.parents, self.indices, strict=True))


for attribute, value in {"name": _name, "next_functions": property(_next_functions)}.items():
    setattr(Node, attribute, value)

__all__ = ["Node"]
