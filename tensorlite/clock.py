"""When something happens: on a CPU now; on a GPU, which works on while the program goes ahead, when it comes to it."""

from __future__ import annotations

import time
from typing import Any

from . import cuda
from .device import device, on


class Clock:
    """Moments of a CPU and of GPUs, which are told apart when all is over. Nothing waits before `wait`.

    A moment of a GPU is an event in its stream. Where a GPU has nothing to do, it is there at once: an op that takes it
    less time than the program to ask for it shows the program's time.
    """

    def __init__(self) -> None:
        self.first: dict[device, tuple[float, Any]] = {}  # of each GPU: the program's seconds, and an event of then

    def now(self, where: device) -> Any:
        if where.type == "cpu":
            return time.perf_counter()
        if where not in self.first:
            self.first[where] = time.perf_counter(), _event(where)
        return _event(where)

    def wait(self) -> None:
        """Until all moments have come, which the following two need."""
        for where in self.first:
            cuda.synchronize(where)

    def between(self, where: device, start: Any, end: Any) -> float:
        """The seconds from one moment to another of the same device."""
        if where.type == "cpu":
            return end - start
        with on(where) as library:
            return library.cuda.get_elapsed_time(start, end) / 1e3

    def seconds(self, where: device, moment: Any) -> float:
        """A moment by time.perf_counter(); of a GPU, as if it had come at once to the first that it was asked for."""
        if where.type == "cpu":
            return moment
        began, first = self.first[where]
        return began + self.between(where, first, moment)


def _event(where: device) -> Any:
    with on(where) as library:
        event = library.cuda.Event()
        event.record()
    return event
