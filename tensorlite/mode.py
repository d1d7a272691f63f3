"""Whether ops are recorded, and who watches them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ContextDecorator, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .node import Node
    from .op import Op


class _Mode(threading.local):
    recording = True


state = _Mode()


def is_grad_enabled() -> bool:
    return state.recording


class set_grad_enabled(ContextDecorator):
    """Record (True) or do not record (False) nodes: a call, a `with` block or a decorator."""

    def __init__(self, recording: bool):
        self.before = state.recording
        self.recording = state.recording = bool(recording)

    def __enter__(self) -> None:
        state.recording = self.recording

    def __exit__(self, *_: Any) -> None:
        state.recording = self.before

    def __call__(self, function: Any) -> Any:
        state.recording = self.before  # a decorator changes nothing until the function runs
        return super().__call__(function)

    def _recreate_cm(self) -> set_grad_enabled:
        return set_grad_enabled(self.recording)  # one for each call: calls nest, and threads overlap


class no_grad(ContextDecorator):
    """Inside, nothing is recorded and leaves may be written in place."""

    recording = False

    def __init__(self) -> None:
        self.before: list[bool] = []  # a stack: one object may be entered twice

    def __enter__(self) -> None:
        self.before.append(state.recording)
        state.recording = self.recording

    def __exit__(self, *_: Any) -> None:
        state.recording = self.before.pop()

    def _recreate_cm(self) -> no_grad:
        return type(self)()  # a decorated function may run in several threads at once


class enable_grad(no_grad):
    """Inside, recording is on, also within `no_grad`."""

    recording = True


class Hook:
    """Watches every op: derive from it, override what you need, and use it with `with hooked(hook):`.

    The profiler, the NaN watch and the lens are hooks; the engine does not know them.
    """

    def before_forward(self, op: Op, inputs: Sequence[Any], attributes: dict[str, Any]) -> None: ...
    def after_forward(self, op: Op, inputs: Sequence[Any], attributes: dict[str, Any], output: Any) -> None: ...
    def before_backward(self, node: Node, gradient: Any) -> None: ...
    def after_backward(self, node: Node, gradient: Any, contributions: Sequence[Any]) -> None: ...


hooks: list[Hook] = []


@contextmanager
def hooked(hook: Hook) -> Iterator[Hook]:
    """`hook` sees the forward and backward of every op run inside the block."""
    hooks.append(hook)
    try:
        yield hook
    finally:
        hooks.remove(hook)
