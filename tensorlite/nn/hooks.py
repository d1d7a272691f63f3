"""Hooks of a module: they see, and may replace, what goes in, what comes out, and the gradients of both.

Gradients are seen by an op that computes nothing: all Tensors that go in (or come out) pass through one node, whose
derivative calls the hook.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..autograd import Handle
from ..op import Op
from ..tensor import Tensor, array_of, share

watch = Op("watch", lambda *xs, seen: xs, d=lambda g, seen: seen(g), view=True, several=True)


class Hooked:
    """What calling a module means."""

    # Defaults on the class, so that a module without hooks is called without a detour.
    _pre_hooks: Sequence[tuple[Callable, bool]] = ()
    _hooks: Sequence[tuple[Callable, bool]] = ()
    _backward_hooks: Sequence[Callable] = ()

    forward: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not (self._pre_hooks or self._hooks or self._backward_hooks):
            return self.forward(*args, **kwargs)
        for hook, with_kwargs in tuple(self._pre_hooks):  # a copy: a hook may remove itself
            changed = hook(self, args, kwargs) if with_kwargs else hook(self, args)
            if changed is not None and with_kwargs:
                args, kwargs = changed
            elif changed is not None:
                args = changed if isinstance(changed, tuple) else (changed,)
        backward = _Backward(self) if self._backward_hooks else None
        if backward:
            args = backward.enter(args)
        output = self.forward(*args, **kwargs)
        for hook, with_kwargs in tuple(self._hooks):
            changed = hook(self, args, kwargs, output) if with_kwargs else hook(self, args, output)
            output = output if changed is None else changed
        return backward.leave(output) if backward else output

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> Handle:
        """Call hook(module, args) before `forward`; what it returns, if anything, replaces the arguments.

        with_kwargs  call hook(module, args, kwargs), which returns None or both
        prepend      before the hooks that are there already

        Returns a handle with `remove()`.
        """
        return self._hook("_pre_hooks", (hook, with_kwargs), prepend)

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> Handle:
        """Call hook(module, args, output), with_kwargs hook(module, args, kwargs, output), after `forward`; what it
        returns, if anything, replaces the output. Returns a handle with `remove()`."""
        return self._hook("_hooks", (hook, with_kwargs), prepend)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> Handle:
        """Call hook(module, grad_input, grad_output) when the gradients of all that went in are complete.

        grad_input   a tuple, per positional argument its gradient; None for what is no Tensor or requires none
        grad_output  the same of the output, or of each part of a tuple

        What the hook returns, if anything, replaces grad_input; it must not write into its arguments. It is not
        called for gradients that reach the inputs by another way than the output. Returns a handle with `remove()`.
        """
        return self._hook("_backward_hooks", hook, prepend)

    def _hook(self, where: str, entry: Any, prepend: bool) -> Handle:
        hooks = vars(self).setdefault(where, [])
        hooks.insert(0 if prepend else len(hooks), entry)
        return Handle(hooks, entry)


class _Backward:
    """One call of a module, from its inputs to its outputs, and the way of the gradients back."""

    def __init__(self, module: Hooked):
        self.module = module
        self.inputs = 0
        self.watched: list[int] = []  # the arguments that require a gradient
        self.grad_output: tuple[Any, ...] | None = None

    def enter(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        args, self.watched = _pass(args, self._call)
        self.inputs = len(args)
        return args

    def leave(self, output: Any) -> Any:
        parts = output if isinstance(output, (tuple, list)) else (output,)
        if not all(isinstance(x, Tensor) for x in parts):
            raise TypeError(
                f"{type(self.module).__name__} has a backward hook, so its output must be a Tensor or a tuple of "
                f"Tensors, not {type(output).__name__}"
            )

        def seen(g: Sequence[Any]) -> Sequence[Any]:
            self.grad_output = _spread(g, places, len(parts))
            if not self.watched:
                self._call(())
            return g

        passed, places = _pass(tuple(parts), seen)
        if isinstance(output, Tensor):
            return passed[0]
        return type(output)(*passed) if hasattr(output, "_fields") else type(output)(passed)

    def _call(self, g: Sequence[Any]) -> Sequence[Any]:
        if self.grad_output is None:
            return g
        grad_input = _spread(g, self.watched, self.inputs)
        for hook in tuple(self.module._backward_hooks):
            changed = hook(self.module, grad_input, self.grad_output)
            if changed is not None:
                changed = changed if isinstance(changed, tuple) else (changed,)
                shapes, given = ([None if x is None else x.shape for x in grads] for grads in (grad_input, changed))
                if self.watched and given != shapes:
                    raise RuntimeError(
                        f"register_full_backward_hook: the hook of {type(self.module).__name__} gave gradients of the "
                        f"shapes {given}; expected {shapes}, those of the inputs"
                    )
                grad_input = changed
        self.grad_output = None
        return [grad_input[i] if isinstance(x, Tensor) else array_of(grad_input[i]) for i, x in zip(self.watched, g)]


def _pass(values: tuple[Any, ...], seen: Callable[[Sequence[Any]], Sequence[Any]]) -> tuple[tuple[Any, ...], list[int]]:
    """The same values, those that require a gradient through a node that shows it to `seen`; and which these are."""
    places = [i for i, x in enumerate(values) if isinstance(x, Tensor) and x.requires_grad]
    passed = list(values)
    if places:
        for i, y in zip(places, watch(*[values[i] for i in places], seen=seen)):
            passed[i] = share(y, values[i])
    return tuple(passed), places


def _spread(gradients: Sequence[Any], places: list[int], count: int) -> tuple[Any, ...]:
    """Gradients as Tensors at their places among `count`, with None at the others."""
    found = {i: g if isinstance(g, Tensor) else Tensor._of(g) for i, g in zip(places, gradients)}
    return tuple([found.get(i) for i in range(count)])
