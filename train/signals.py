"""Ctrl-C and SIGTERM: the first asks a run to stop where it can go on from, the second stops it at once."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Inside, the first SIGINT or SIGTERM only makes the function that this yields return True, so that a step is
    never cut in half; the second one ends the program with SystemExit, 128 and the signal's number as a shell says it.
    """
    asked = False

    def ask(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            print("\nstopped at once; the last checkpoint is whole, and --resume goes on from it", file=sys.stderr)
            raise SystemExit(128 + signum)
        asked = True
        print("\nfinishing this step, then saving; press Ctrl-C again to stop at once", file=sys.stderr)

    try:
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: no signal comes here
        yield lambda: False
        return
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
