"""Hooks of a Tensor: functions that see its gradient when it is complete, and may replace it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from ..tensor import Tensor, array_of, method
from .accumulate import Sum


class Handle:
    """Takes a hook off again."""

    def __init__(self, hooks: list, entry: Any):
        self.hooks, self.entry = hooks, entry

    def remove(self) -> None:
        if self.entry in self.hooks:
            self.hooks.remove(self.entry)


def _add(holder: Any, where: str, entry: Any) -> Handle:
    if getattr(holder, where) is None:
        setattr(holder, where, [])
    hooks = getattr(holder, where)
    hooks.append(entry)
    return Handle(hooks, entry)


@method
def register_hook(self: Tensor, hook: Callable[[Tensor], Tensor | None]) -> Handle:
    """Call `hook(gradient)` when the gradient of this Tensor is complete; what it returns, if anything,
    replaces it. Returns a handle with `remove()`. The hook must not write into its argument."""
    if not self.requires_grad:
        raise RuntimeError("register_hook: this Tensor does not require a gradient, so no hook would ever be called")
    return _add(self.node or self, "hooks", (self.index, hook))  # a leaf has one output, number 0


@method
def register_post_accumulate_grad_hook(self: Tensor, hook: Callable[[Tensor], None]) -> Handle:
    """Call `hook(self)` each time backward() has added to the `.grad` of this leaf. Returns a handle."""
    if self.node is not None or not self.requires_grad:
        raise RuntimeError(
            "register_post_accumulate_grad_hook: only a leaf that requires a gradient accumulates one; "
            "use register_hook for other Tensors"
        )
    return _add(self, "grad_hooks", hook)


@method
def retain_grad(self: Tensor) -> None:
    """Keep the gradient of this interior Tensor in its `.grad` too. For study; a leaf's is kept anyway."""
    if not self.requires_grad:
        raise RuntimeError("retain_grad: this Tensor does not require a gradient, so there will be none to keep")
    if self.node is None or self.retains_grad:
        return
    self.retains_grad = True
    self.register_hook(_Keep(self))


class _Keep:
    """The hook of `retain_grad`. Called last, so that what other hooks return is kept."""

    def __init__(self, tensor: Tensor):
        self.tensor, self.made_by = weakref.ref(tensor), weakref.ref(tensor.node)  # the node must not keep them alive

    def __call__(self, gradient: Tensor) -> None:
        tensor = self.tensor()
        if tensor is not None and tensor.node is self.made_by():  # not what it was before a write in place
            kept = gradient if gradient.node is not None else Tensor._of(gradient.array.copy())
            tensor.grad = kept if tensor.grad is None else tensor.grad + kept


def call_hooks(place: Any, sums: list[Sum]) -> None:
    """Let the hooks of a place see, and replace, the gradient that has arrived."""
    for index, hook in sorted(
        place.hooks, key=lambda entry: isinstance(entry[1], _Keep)
    ):  # a copy: one may remove itself
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
