"""What a backward costs in memory and time: what is kept for it, by which op and until when; and when each op ran."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..profiler import profile
from .program import Call, Value
from .text import size

if TYPE_CHECKING:
    from .tape import Tape

_BAR = 40  # characters


@dataclass(frozen=True)
class Kept:
    """One array that is kept for the backward.

    by     the op that kept it first       name   what its row calls it       of   the value that the op made
    until  number of the visit after which nobody keeps it; None if none has let it go
    """

    by: Call
    name: str
    of: str
    nbytes: int
    until: int | None


class Memory:
    """What is kept for the backward. Parameters and data live anyway, and an array that two ops keep counts once.

    kept  every array, in the order of the forward
    peak  the most bytes that are kept at once: at the end of the forward, since the walk only lets go
    """

    def __init__(self, tape: Tape):
        turn = {visit.call: k for k, visit in enumerate(tape.walks[-1])} if tape.walks else {}
        lasting = {id(_base(x.tensor.array)) for x in tape.values if isinstance(x, Value) and x.tensor is not None}
        first: dict[int, tuple[Call, str, int]] = {}
        until: dict[int, int | None] = {}
        for call in tape.calls:
            names = call.plan.names if call.plan is not None else ()
            for name, array in _arrays(names, call.kept):
                base = _base(array)
                if id(base) not in lasting:
                    first.setdefault(id(base), (call, name, base.nbytes))
                    ends = until.get(id(base), -1)
                    until[id(base)] = None if ends is None or call not in turn else max(ends, turn[call])
        self.kept = [Kept(c, name, c.outputs[0].name, n, until[key]) for key, (c, name, n) in first.items()]
        self._visits = [visit.call for visit in tape.walks[-1]] if tape.walks else []

    @property
    def peak(self) -> int:
        return sum(k.nbytes for k in self.kept)

    def after(self, visit: int) -> int:
        """Bytes still kept after the visit of that number."""
        return sum(k.nbytes for k in self.kept if k.until is None or k.until > visit)

    def __str__(self) -> str:
        lines = [f"{'kept':>10}  {'op':<16}{'as':<12}{'of':<24}until the turn of"]
        for k in sorted(self.kept, key=lambda k: -k.nbytes):
            ends = "the end" if k.until is None else f"{k.until + 1}: {self._visits[k.until].op.name}"
            lines.append(f"{size(k.nbytes):>10}  {k.by.op.name:<16}{k.name:<12}{k.of:<24}{ends}")
        lines.append(f"{size(self.peak):>10}  at the end of the forward, which is the peak")
        for part in (1, 2, 3):
            visit = len(self._visits) * part // 4 - 1
            if visit >= 0:
                lines.append(f"{size(self.after(visit)):>10}  after turn {visit + 1} of {len(self._visits)}")
        return "\n".join(lines)


class Timeline:
    """When each op ran forward and backward: `events` are (op, value, "forward" or "backward", start, seconds)."""

    def __init__(self, tape: Tape):
        forward = [(c.op.name, c.outputs[0].name, "forward", c.start, c.seconds) for c in tape.calls if c.seconds]
        turns = [(v.call.op.name, v.call.outputs[0].name, "backward", v.start, v.seconds) for v in tape.visits]
        events = sorted([*forward, *turns], key=lambda event: event[3])
        zero = events[0][3] if events else 0.0
        self.events = [(op, name, part, start - zero, seconds) for op, name, part, start, seconds in events]

    def __str__(self) -> str:
        if not self.events:
            return "nothing ran while this tape was recorded"
        longest = max(seconds for *_, seconds in self.events)
        lines = [f"{'at':>10}{'for':>11}  {'':<9} op"]
        for op, name, part, start, seconds in self.events:
            bar = "█" * max(round(_BAR * seconds / longest), 1)
            lines.append(f"{1e3 * start:>7.2f} ms{1e3 * seconds:>8.3f} ms  {part:<9} {f'{op} ({name})':<36} {bar}")
        for part in ("forward", "backward"):
            total = sum(seconds for *_, which, _, seconds in self.events if which == part)
            lines.append(f"{'':>10}{1e3 * total:>8.3f} ms  {part:<9} all ops")
        return "\n".join(lines)

    def write_trace(self, path: str | Path) -> None:
        """The events in Chrome's trace format, to be opened in https://ui.perfetto.dev."""
        found = profile(show=False)
        found.events = [(f"{op} ({name})", part, 0, start, seconds) for op, name, part, start, seconds in self.events]
        found.write_trace(path)


def _arrays(names: Any, kept: Any) -> Iterator[tuple[str, Any]]:
    for name, x in zip(names, kept):
        for each in x if isinstance(x, tuple) else (x,):
            if hasattr(each, "nbytes") and hasattr(each, "base"):
                yield name, each


def _base(array: Any) -> Any:
    return array if array.base is None else array.base
