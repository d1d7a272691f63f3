"""Where the time of a step goes: a table per op, and a trace to look at in a browser.

    with tl.profile() as p:                  # prints the table at the end
        model.loss(x, y).backward()
    p.write_trace("step.json")               # open it in chrome://tracing or https://ui.perfetto.dev

It is a Hook, so only what runs as an op on Tensors is seen: not the optimizer, nor what lies between two ops; the line
"outside of ops" is the difference to the clock on the wall. On a GPU an op's time is the GPU's, which is not waited for
before the end (clock.py).
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from .clock import Clock
from .device import CPU, device, device_of
from .machine import Ceilings, ceilings
from .mode import Hook, hooked
from .tensor import Tensor, array_of

if TYPE_CHECKING:
    from .node import Node
    from .op import Op


def _matmul(a: Any, b: Any, **_: Any) -> int:
    rows = math.prod(a.shape[:-1])
    if b.ndim > 2:  # of b's leading dimensions, those along which a is repeated
        rows = a.shape[-2] * math.prod(max(m, n) for m, n in _aligned(a.shape[:-2], b.shape[:-2]))
    return 2 * rows * a.shape[-1] * b.shape[-1]


def _aligned(a: Sequence[int], b: Sequence[int]) -> list[tuple[int, int]]:
    n = max(len(a), len(b))
    return list(zip((1,) * (n - len(a)) + tuple(a), (1,) * (n - len(b)) + tuple(b)))


def _linear(x: Any, weight: Any, *_: Any, **__: Any) -> int:
    return 2 * math.prod(x.shape[:-1]) * math.prod(weight.shape)


def _linear_cross_entropy(x: Any, weight: Any, *_: Any, slopes: Sequence[bool]) -> int:
    return _linear(x, weight) * (1 + sum(slopes))


def _attention(q: Any, k: Any, v: Any, *_: Any, is_causal: bool, **__: Any) -> int:
    scores = math.prod(q.shape[:-1]) * k.shape[-2]
    return 2 * scores * (q.shape[-1] + v.shape[-1]) // (2 if is_causal else 1)


def _each_of_two(wants: Sequence[bool]) -> float:
    """A product with respect to either operand is a product as large as the first."""
    return sum(wants[:2])


# Floating-point operations of the products in an op's forward, and how many times as many there are in its backward,
# given which inputs want a gradient. Of other ops the bytes are counted: moving them is what takes the time.
PRODUCTS: dict[str, tuple[Callable[..., int], Callable[[Sequence[bool]], float]]] = {
    "matmul": (_matmul, _each_of_two),
    "linear": (_linear, _each_of_two),
    "linear_cross_entropy": (_linear_cross_entropy, lambda wants: 0),  # all in the forward
    "attention": (_attention, lambda wants: 2.5),  # the scores again, dV, dP, dQ, dK: five products for two
}


@dataclass
class Row:
    """What one op cost. Seconds without those of the ops that ran inside it."""

    calls: int = 0
    forward: float = 0.0
    backward: float = 0.0
    flops: float = 0.0
    bytes: float = 0.0
    kept: int = 0  # bytes that were kept for the backward, and not by an earlier op

    @property
    def seconds(self) -> float:
        return self.forward + self.backward


@dataclass
class _Call:
    name: str
    part: str  # forward or backward
    where: device
    start: Any  # a moment of the clock
    parent: _Call | None  # the op within which it ran
    end: Any = None
    thread: int = 0
    inside: float = 0.0  # seconds of the ops that ran within


class _Stack(threading.local):
    def __init__(self) -> None:
        self.calls: list[_Call] = []


@dataclass
class profile(Hook):
    """Watches the ops run inside the block; prints its table at the end, unless `show` is False.

    rows    name of the op -> Row
    events  (name, "forward" or "backward", thread, seconds at the start, seconds) of every call
    """

    show: bool = True
    rows: dict[str, Row] = field(default_factory=dict)
    events: list[tuple[str, str, int, float, float]] = field(default_factory=list)
    seconds: float = 0.0  # on the wall

    def __post_init__(self) -> None:
        self._stack = _Stack()
        self._clock = Clock()
        self._calls: list[_Call] = []  # that have ended, and are not in the table yet
        self._kept: WeakValueDictionary[int, Any] = WeakValueDictionary()  # the arrays counted that still live
        self._flops: WeakKeyDictionary[Node, int] = WeakKeyDictionary()  # of the forward

    def __enter__(self) -> profile:
        self._exit = ExitStack()
        self._exit.enter_context(hooked(self))
        self._start = time.perf_counter()
        return self

    def __exit__(self, *error: Any) -> None:
        self._exit.close()
        self._clock.wait()
        self.seconds += time.perf_counter() - self._start
        self._settle()
        if self.show and error[0] is None:
            print(self)

    # The hook ----------------------------------------------------------------------------------------

    def before_forward(self, op: Op, inputs: Sequence[Any], attributes: dict[str, Any]) -> None:
        self._open(op.name, "forward", *inputs)

    def after_forward(self, op: Op, inputs: Sequence[Any], attributes: dict[str, Any], output: Any) -> None:
        arrays = [array_of(x) for x in inputs]
        outputs = [y.array for y in (output if isinstance(output, tuple) else (output,))]
        row = self._close()
        row.calls += 1
        flops = PRODUCTS[op.name][0](*arrays, **attributes) if op.name in PRODUCTS else 0
        row.flops += flops
        if not op.view:
            row.bytes += _bytes(arrays) + _bytes(outputs)
        node = (output[0] if isinstance(output, tuple) else output).node
        if node is not None:
            row.kept += self._newly_kept(node, inputs)
            self._flops[node] = flops

    def before_backward(self, node: Node, gradient: Any) -> None:
        self._open(node.op.name, "backward", *(gradient if isinstance(gradient, tuple) else (gradient,)))

    def after_backward(self, node: Node, gradient: Any, contributions: Sequence[Any]) -> None:
        found = [array_of(c) for c in contributions if c is not None]
        row = self._close()
        if node.op.name in PRODUCTS:
            row.flops += self._flops.get(node, 0) * PRODUCTS[node.op.name][1](node.plan.wants)
        if not node.op.view:
            row.bytes += _bytes((gradient, *found, *(node.kept or ())))

    # Bookkeeping -------------------------------------------------------------------------------------

    def _open(self, name: str, part: str, *inputs: Any) -> None:
        arrays = [array_of(x) for x in inputs if hasattr(x, "dtype")]
        where = device_of(arrays[0]) if arrays else CPU
        calls = self._stack.calls
        calls.append(_Call(name, part, where, self._clock.now(where), calls[-1] if calls else None))

    def _close(self) -> Row:
        """The row of the call that ends now."""
        call = self._stack.calls.pop()
        call.end, call.thread = self._clock.now(call.where), threading.get_ident()
        self._calls.append(call)
        return self.rows.setdefault(call.name, Row())

    def _settle(self) -> None:
        """Take the calls' times into the table, each without those of the calls inside it, which ended before it."""
        for call in self._calls:
            seconds, row = self._clock.between(call.where, call.start, call.end), self.rows[call.name]
            if call.parent is not None and call.parent.where == call.where:
                call.parent.inside += seconds
            setattr(row, call.part, getattr(row, call.part) + seconds - call.inside)
            start = self._clock.seconds(call.where, call.start) - self._start
            self.events.append((call.name, call.part, call.thread, start, seconds))
        self._calls.clear()

    def _newly_kept(self, node: Node, inputs: Sequence[Any]) -> int:
        """Bytes that the node keeps alive. A parameter lives anyway, and an array that two nodes keep counts once."""
        leaves = {id(_base(x.array)) for x in inputs if isinstance(x, Tensor) and x.node is None}
        count = 0
        for x in node.kept or ():
            for array in x if isinstance(x, tuple) else (x,):
                base = _base(array)
                if hasattr(base, "nbytes") and id(base) not in self._kept and id(base) not in leaves:
                    self._kept[id(base)] = base
                    count += base.nbytes
        return count

    # What it found -----------------------------------------------------------------------------------

    def table(self) -> str:
        """A line per op, the costliest first: calls, milliseconds, the speed and its share of the machine's ceiling."""
        top = ceilings("cuda" if self._clock.first else "cpu")
        lines = [f"{'op':<22}{'calls':>7}{'forward':>12}{'backward':>12}{'':>7}{'speed':>16}{'of peak':>9}{'kept':>11}"]
        for name, row in sorted(self.rows.items(), key=lambda item: -item[1].seconds):
            lines.append(
                f"{name:<22}{row.calls:>7}{_ms(row.forward)}{_ms(row.backward)}"
                f"{row.seconds / self.seconds:>7.1%}{_speed(row, top)}{row.kept / 2**20:>7.1f} MiB"
            )
        forward, backward = (sum(getattr(row, part) for row in self.rows.values()) for part in ("forward", "backward"))
        rest = self.seconds - forward - backward
        calls, kept = sum(row.calls for row in self.rows.values()), sum(row.kept for row in self.rows.values())
        lines += [
            (
                f"{'all ops':<22}{calls:>7}{_ms(forward)}{_ms(backward)}{(forward + backward) / self.seconds:>7.1%}"
                f"{'':>25}{kept / 2**20:>7.1f} MiB"
            ),
            f"{'outside of ops':<22}{'':>7}{_ms(rest)}{'':>12}{rest / self.seconds:>7.1%}",
            f"{'on the wall':<22}{'':>7}{_ms(self.seconds)}",
            f"peaks, measured: products {top.flops / 1e9:,.0f} GFLOP/s, copying {top.bytes / 1e9:,.0f} GB/s",
        ]
        return "\n".join(lines)

    __str__ = table

    def write_trace(self, path: str | Path) -> None:
        """The calls in Chrome's trace format (JSON), one line of bars per thread."""
        events = [
            {"name": name, "cat": part, "ph": "X", "pid": 0, "tid": thread, "ts": start * 1e6, "dur": seconds * 1e6}
            for name, part, thread, start, seconds in self.events
        ]
        Path(path).write_text(json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}), encoding="utf-8")


def _bytes(arrays: Sequence[Any]) -> int:
    """What reading or writing the arrays moves; a number moves nothing, a broadcast array only what is there."""
    return sum(_bytes(x) if isinstance(x, tuple) else _stored(x) for x in arrays)


def _stored(x: Any) -> int:
    if not hasattr(x, "strides"):
        return 0
    return math.prod(n for n, step in zip(x.shape, x.strides) if step) * x.itemsize


def _base(array: Any) -> Any:
    return array if getattr(array, "base", None) is None else array.base


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:>9.2f} ms"


def _speed(row: Row, top: Ceilings) -> str:
    if not row.seconds or not row.bytes:  # a view moves nothing
        return f"{'':>25}"
    done, most, unit = (row.flops, top.flops, "GFLOP/s") if row.flops else (row.bytes, top.bytes, "GB/s")
    return f"{done / row.seconds / 1e9:>8,.1f} {unit:<7}{done / row.seconds / most:>9.0%}"
