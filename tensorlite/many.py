"""What is done to many arrays at once: to all gradients, to all parameters.

One by one these are a hundred small pieces of work, and on a GPU a launch and more for each. A kernel takes them as a
list, in one launch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from sys import modules
from typing import Any

from . import levels
from .device import device_of


class Many:
    """A function of a list, of arrays or Tensors on one device, and of what else it takes. Decorates the version that
    goes from one to the next; kernels/ attach those that take all at once."""

    def __init__(self, one_by_one: Callable[..., Any]):
        self.one_by_one = one_by_one
        self.kernels: dict[str, Callable[..., Any]] = {}
        self.__doc__ = one_by_one.__doc__

    def kernel(self, device: str, function: Callable[..., Any]) -> None:
        """Attach a version for "cpu" or "cuda". It may return NotImplemented: then the plain one runs."""
        self.kernels[device] = function

    def __call__(self, things: list[Any], *arguments: Any) -> Any:
        if self.kernels and things and levels.current in ("kernel", "compiled"):
            kernel = self.kernels.get(_where(things[0]).type)
            if kernel is not None and (result := kernel(things, *arguments)) is not NotImplemented:
                return result
        return self.one_by_one(things, *arguments)


def _where(thing: Any) -> Any:
    return device_of(getattr(thing, "array", thing))


def by_device(tensors: Iterable[Any]) -> list[list[Any]]:
    """The Tensors of each device, in their order."""
    tensors = list(tensors)
    if "cupy" not in modules:  # all are on the CPU
        return [tensors] if tensors else []
    found: dict[Any, list[Any]] = {}
    for x in tensors:
        found.setdefault(_where(x), []).append(x)
    return list(found.values())
