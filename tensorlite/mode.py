"""Whether ops are recorded, and who watches them."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .amp.casting import Casting
    from .node import Node
    from .op import Op


class _Mode(threading.local):
    recording = True
    inference = False
    autocast: Casting | None = None


state = _Mode()


def is_grad_enabled() -> bool:
    return state.recording


def is_inference_mode_enabled() -> bool:
    return state.inference


def cast(name: str, *inputs: Any) -> Sequence[Any]:
    """The inputs of a function in the dtype in which autocast wants it computed."""
    return inputs if state.autocast is None else state.autocast.cast(name, inputs)


class _Switch:
    """A mode that holds inside a `with` block, or while a decorated function runs."""

    recording = False
    inference: bool | None = None  # None leaves it as it is

    def __enter__(self) -> None:
        # A stack, because one object may be entered twice.
        vars(self).setdefault("before", []).append((state.recording, state.inference))
        state.recording = self.recording
        if self.inference is not None:
            state.inference = self.inference

    def __exit__(self, *_: Any) -> None:
        state.recording, state.inference = vars(self)["before"].pop()

    def again(self) -> _Switch:
        """Another of the same kind: each call of a decorated function has its own, since threads overlap."""
        return type(self)()

    def __call__(self, function: Callable) -> Any:
        if inspect.isgeneratorfunction(function):
            return _wrapped_generator(function, self.again)

        @functools.wraps(function)
        def switched(*args: Any, **options: Any) -> Any:
            with self.again():
                return function(*args, **options)

        return switched


def _wrapped_generator(function: Callable, switch: Callable[[], _Switch]) -> Callable:
    """The mode holds while the generator runs, not while it waits for whoever iterates over it."""

    @functools.wraps(function)
    def switched(*args: Any, **options: Any) -> Any:
        generator = function(*args, **options)
        resume, value = generator.send, None
        while True:
            try:
                with switch():
                    given = resume(value)
            except StopIteration as end:
                return end.value
            try:
                resume, value = generator.send, (yield given)
            except GeneratorExit:
                with switch():
                    generator.close()
                raise
            except BaseException as error:
                resume, value = generator.throw, error

    return switched


class set_grad_enabled(_Switch):
    """Record (True) or do not record (False) nodes: a call, a `with` block or a decorator."""

    def __init__(self, mode: bool):
        self.previous = state.recording
        self.recording = state.recording = bool(mode)

    def __enter__(self) -> None:
        state.recording = self.recording

    def __exit__(self, *_: Any) -> None:
        state.recording = self.previous

    def __call__(self, function: Callable) -> Any:
        state.recording = self.previous  # a decorator changes nothing until the function runs
        return super().__call__(function)

    def again(self) -> set_grad_enabled:
        return set_grad_enabled(self.recording)


class no_grad(_Switch):
    """Inside, nothing is recorded and leaves may be written in place. `with no_grad():`, `@no_grad()`, `@no_grad`."""

    def __new__(cls, function: Callable | None = None) -> Any:
        return super().__new__(cls) if function is None else cls()(function)


class enable_grad(no_grad):
    """Inside, recording is on, also within `no_grad`."""

    recording = True


class inference_mode(_Switch):
    """As `no_grad`; mode=False ends it inside. What is made here may be used in a graph later, unlike PyTorch's."""

    def __new__(cls, mode: bool | Callable = True) -> Any:
        return super().__new__(cls) if isinstance(mode, bool) else cls()(mode)

    def __init__(self, mode: bool = True):
        self.recording, self.inference = not mode, mode

    def again(self) -> inference_mode:
        return inference_mode(bool(self.inference))


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
