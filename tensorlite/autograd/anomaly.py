"""Where a nan came from: the op that gave it, and the line of the user's program that ran the op."""

from __future__ import annotations

import linecache
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from .. import mode
from ..device import xp
from ..dtype import is_floating
from ..mode import Hook
from ..tensor import array_of

if TYPE_CHECKING:
    from ..node import Node
    from ..op import Op

PACKAGE = f"{Path(__file__).parents[1]}{os.sep}"


def caller() -> str:
    """The line outside tensorlite that runs the op which a hook is looking at."""
    frame = sys._getframe(1)
    while frame.f_back is not None and not _ours(frame.f_code.co_filename):  # the hook, maybe somebody else's
        frame = frame.f_back
    while frame.f_back is not None and _ours(frame.f_code.co_filename):
        frame = frame.f_back
    path, line = frame.f_code.co_filename, frame.f_lineno
    return f"{path}:{line}, in {frame.f_code.co_name}: {linecache.getline(path, line).strip()}"


def _ours(path: str) -> bool:
    return path.startswith(PACKAGE) and path != __file__


def _holds(test: str, x: Any) -> bool:
    """Whether a number in x is what `test`, isnan or isinf, looks for."""
    array = array_of(x)
    floating = is_floating(array.dtype) if hasattr(array, "dtype") else isinstance(array, float)
    return floating and bool(getattr(xp(array), test)(array).any())


def finite(x: Any) -> bool:
    """Whether no number in x, an array or a Tensor, is nan or infinite."""
    return not (_holds("isnan", x) or _holds("isinf", x))


class AnomalyHook(Hook):
    """Remembers where each node was made, and raises RuntimeError where a backward gives nan.

    check_nan      look for nan in gradients
    check_forward  look in the forward too: for an op that makes nan or infinity of finite numbers
    """

    def __init__(self, check_nan: bool = True, check_forward: bool = False):
        self.check_nan, self.check_forward = check_nan, check_forward
        self.places: WeakKeyDictionary[Node, str] = WeakKeyDictionary()

    def after_forward(self, op: Op, inputs: Sequence[Any], attributes: dict[str, Any], output: Any) -> None:
        outputs = output if isinstance(output, tuple) else (output,)
        if outputs and outputs[0].node is not None:
            self.places[outputs[0].node] = caller()
        if self.check_forward and all(map(finite, inputs)) and not all(map(finite, outputs)):
            raise RuntimeError(f"detect_anomaly: [{op.name}] made nan or infinity of finite numbers\nat {caller()}")

    def after_backward(self, node: Node, gradient: Any, contributions: Sequence[Any]) -> None:
        for i, (parent, contribution) in enumerate(zip(node.parents, contributions)):
            if self.check_nan and parent is not None and _holds("isnan", contribution):
                arrived = any(_holds("isnan", g) for g in (gradient if isinstance(gradient, tuple) else (gradient,)))
                raise RuntimeError(
                    f"detect_anomaly: the backward of [{node.op.name}] gave nan as the gradient of its input "
                    f"{i} ({node.op.input_name(i)})"
                    f"{', and nan is what it was given' if arrived else ''}\n"
                    f"its forward ran at {self.places.get(node, 'a place not known: not under detect_anomaly')}"
                )


def is_anomaly_enabled() -> bool:
    return bool(_hooks())


class set_detect_anomaly:
    """Look for nan in the gradients from now on (True) or no more (False): a call or a `with` block."""

    def __init__(self, mode: bool, check_nan: bool = True, check_forward: bool = False):
        self.before = _hooks()
        _set([AnomalyHook(check_nan, check_forward)] if mode else [])

    def __enter__(self) -> None: ...

    def __exit__(self, *_: Any) -> None:
        _set(self.before)


class detect_anomaly(set_detect_anomaly):
    """`with detect_anomaly():` as `set_detect_anomaly(True)`. Slow: for the search of a fault, not for training."""

    def __init__(self, check_nan: bool = True, check_forward: bool = False):
        super().__init__(True, check_nan, check_forward)


def _hooks() -> list[AnomalyHook]:
    return [hook for hook in mode.hooks if isinstance(hook, AnomalyHook)]


def _set(hooks: list[AnomalyHook]) -> None:
    mode.hooks[:] = [*(hook for hook in mode.hooks if not isinstance(hook, AnomalyHook)), *hooks]
