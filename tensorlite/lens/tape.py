"""Recording a program, and the Tape on which it then stands."""

from __future__ import annotations

import sys
from difflib import get_close_matches
from html import escape
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from ..autograd import grad
from ..mode import hooked
from ..node import Node
from ..tensor import Tensor
from .names import name_all
from .program import Call, Step, Value, Visit
from .record import TAPES, Recorder


class Tape:
    """What a program computed, forward and backward.

    calls   the ops, in the order in which they ran
    steps   the rows that ran backward: each from the gradient of an output to a contribution to one input's
    values  the Tensors that took part

    `tape["h"]` is the Value called h, with its `array` and its `gradient`. `print(tape)` shows a line per step.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.steps: list[Step] = []
        self.values: list[Value] = []
        self.visits: list[Visit] = []
        self.walks: list[list[Visit]] = []

    def fill(self, record: Recorder, frame: FrameType | None) -> None:
        record.finish()
        name_all(record, frame)
        self.calls, self.values, self.steps = record.calls, record.values, record.steps
        self.visits, self.walks = record.visits, record.walks
        for call in self.calls:
            node = call.node
            if node is not None:
                TAPES[node] = self

    def __getitem__(self, name: str) -> Value:
        known = {n: v for v in self.values for n in (v.ident, v.name)}
        if name not in known:
            meant = get_close_matches(str(name), known, 3)
            raise KeyError(
                f"lens: nothing on this tape is called {name!r}"
                + (f"; did you mean {', '.join(meant)}?" if meant else f"; it has {', '.join(list(known)[:20])}")
            )
        return known[name]

    def last_walk(self, action: str) -> list[Visit]:
        """The visits of the last backward(). Raises RuntimeError if there was none."""
        if not self.walks:
            raise RuntimeError(
                f"lens.{action}: no backward() ran while this tape was recorded; call loss.backward() inside "
                "`with lens.record() as tape:`, or use lens.explain(loss)"
            )
        return self.walks[-1]

    # What can be made of it --------------------------------------------------------------------------

    def text(self, width: int | None = None) -> str:
        """A line per step of the backward walk. `width`: cut each line there."""
        from .text import text

        return text(self, width)

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return f"<Tape of {len(self.calls)} ops and {len(self.steps)} steps back>"

    def _repr_html_(self) -> str:
        """In a notebook, the page."""
        if not self.walks:
            return escape(repr(self))
        from .page import page

        text = escape(page(self, "Backprop, step by step"))
        return f'<iframe srcdoc="{text}" style="width: 100%; height: 46rem; border: 1px solid gray"></iframe>'

    def html(self, path: str | Path, title: str = "Backprop, step by step") -> Path:
        """Write the page: one file that needs no network, to be opened in a browser."""
        from .page import page

        path = writable_folder(Path(path), "html")
        path.write_text(page(self, title), encoding="utf-8")
        return path

    def as_numpy(self) -> str:
        """The program and its backward as straight-line NumPy, to be run with the names in `inputs()`."""
        from .emit import as_numpy

        return as_numpy(self)

    def inputs(self) -> dict[str, np.ndarray]:
        """By identifier, the arrays with which the program started: data, parameters, drawn random numbers."""
        from .emit import inputs

        return inputs(self)

    def exercise(self, path: str | Path, help: int = 0) -> Path:
        """As `lens.exercise`."""
        from .exercise import write

        return write(self, Path(path), help)

    def compare(self, name: str, mine: Any) -> Any:
        """As `lens.compare`."""
        from .exercise import compare_latest

        return compare_latest(name, mine, of=self)

    def memory(self) -> Any:
        """What is kept for the backward, by which op and until which step."""
        from .memory import Memory

        return Memory(self)

    def timeline(self) -> Any:
        """When each op ran forward and backward, and for how long."""
        from .memory import Timeline

        return Timeline(self)


def writable_folder(path: Path, action: str) -> Path:
    """`path`, if there is a folder for it. Raises FileNotFoundError."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"lens.{action}: there is no folder {path.parent} for {path.name}")
    return path


class record:
    """`with lens.record() as tape:` around a forward and its backward. Names are looked up when the block ends.

    >>> import tensorlite as tl
    >>> from tensorlite import lens
    >>> x = tl.tensor([[1.0, 2.0]], requires_grad=True)
    >>> with lens.record() as tape:
    ...     y = x.exp() * x
    ...     y.sum().backward()
    >>> tape
    <Tape of 3 ops and 4 steps back>
    >>> print(tape)
    1  sum       dx = spread(g, x_shape, dim, keepdim)  () -> (1, 2)      y      kept x_shape, dim, keepdim
    2  multiply  da = g * b                             (1, 2) -> (1, 2)  y_exp  kept b
    3  multiply  db = g * a                             (1, 2) -> (1, 2)  x      kept a
    4  exp       dx = g * y                             (1, 2) -> (1, 2)  x      kept y; meets the first contribution
    """

    def __enter__(self) -> Tape:
        self._frame: FrameType | None = sys._getframe(1)
        self._record, self._tape = Recorder(self._frame), Tape()
        self._hooked = hooked(self._record)
        self._hooked.__enter__()
        return self._tape

    def __exit__(self, *error: Any) -> None:
        self._hooked.__exit__(*error)
        frame, self._frame, self._record.base = self._frame, None, None
        self._tape.fill(self._record, frame)


def explain(loss: Tensor, gradient: Any = None) -> Tape:
    """The Tape of the backward of `loss`, for which that is run once more; no `.grad` changes, nothing is freed.

    If the forward was recorded, all is on the tape. Otherwise the graph tells what it knows: the ops, what they kept
    and the gradients, but neither source lines nor what nobody kept.

    gradient  the gradient that flows into loss; may be left out if it has one element

    Raises RuntimeError if loss requires no gradient, or if its graph was freed by a backward() that was not recorded.
    """
    if not isinstance(loss, Tensor):
        raise TypeError(f"lens.explain: expected the Tensor to go back from, not {type(loss).__name__}")
    if loss.node is None:
        raise RuntimeError(
            "lens.explain: there is nothing to explain: this Tensor is a leaf or was computed under no_grad(); "
            "compute it from Tensors with requires_grad=True"
        )
    known = TAPES.get(loss.node)
    if known is not None and any(visit.call.node is loss.node for walk in known.walks for visit in walk):
        return known
    frame = sys._getframe(1)
    record = Recorder(frame)
    if known is not None:
        record.go_on(known)
    with hooked(record):
        grad(loss, _leaves(loss.node), gradient, retain_graph=True)
    tape = known or Tape()
    tape.fill(record, frame)
    return tape


def _leaves(node: Node) -> list[Tensor]:
    found: dict[Any, None] = {}
    seen, stack = {node}, [node]
    while stack:
        for parent in stack.pop().parents:
            if isinstance(parent, Tensor):
                found[parent] = None
            elif parent is not None and parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return list(found)


def tape_of(loss: Tensor, action: str) -> Tape:
    """The Tape on which `loss` was recorded. Raises RuntimeError if there is none."""
    if not isinstance(loss, Tensor):
        raise TypeError(
            f"lens.{action}: expected the Tensor that backward() started from, or its tape, not {type(loss).__name__}"
        )
    node = getattr(loss, "node", None)
    if node is None or node not in TAPES:
        raise RuntimeError(
            f"lens.{action}: this Tensor was not recorded, so its forward is not known; compute it inside "
            "`with lens.record() as tape:`"
        )
    return explain(loss)
