"""While a CUDA graph is recorded (graphs.py) nothing runs: what needs a number then, or would be done once and not at
each replay, is refused here."""

from __future__ import annotations

import threading


class _State(threading.local):
    recording = False


state = _State()


def refuse(what: str, instead: str) -> None:
    """RuntimeError if a graph is being recorded by this thread."""
    if state.recording:
        raise RuntimeError(f"cuda.graph: {what}; {instead}")
