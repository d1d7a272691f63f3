"""A line per step of the backward walk, for a terminal, a notebook or a doctest."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from . import rows
from .program import Step

if TYPE_CHECKING:
    from .tape import Tape

_LEAST = 20  # characters of a row
_ROW = 68  # a row longer than this does not push the columns behind it to the right


def text(tape: Tape, width: int | None = None) -> str:
    """Number, op, the row as it stands in the source, shapes, the variable it reaches, and what else happens there."""
    if not tape.steps:
        return "an empty tape: no backward() ran while it was recorded"
    lines = [_cells(step) for step in tape.steps]
    widths = [max(len(line[k]) for line in lines) for k in range(5)]
    widths[2] = min(widths[2], _ROW)
    if width is not None:  # of a narrow terminal the rows give way, since where a step leads must be seen
        widths[2] = max(min(widths[2], width - sum(widths) + widths[2] - 2 * 5), _LEAST)
    printed = []
    for cells in lines:
        number, *rest = (_cut(cell, n if width is not None else None).ljust(n) for cell, n in zip(cells, widths))
        printed.append("  ".join([number.strip().rjust(widths[0]), *rest, cells[5]]).rstrip())
    return "\n".join(_cut(line, width) for line in printed)


def _cut(text: str, width: int | None) -> str:
    return text if width is None or len(text) <= width else f"{text[: max(width - 1, 0)]}…"


def _cells(step: Step) -> tuple[str, ...]:
    call = step.call
    shapes = " + ".join(map(str, [y.shape for y in call.outputs] if call.op.several else [call.outputs[0].shape]))
    return (
        str(step.number + 1),
        call.op.name,
        rule(step),
        f"{shapes} -> {step.to.shape}",
        step.to.name,
        "; ".join(notes(step)),
    )


def rule(step: Step) -> str:
    """`da = g @ b.mT`, as it stands in the source; of a joint rule, which of its results it is."""
    found = rows.derivative(step.call.op, step.i)
    return f"d{step.input} = {found.text}" + (f"[{step.i}]" if found.joint else "")


def kept_names(step: Step) -> list[str]:
    """What the rule of this step asked the node to keep."""
    plan = step.call.plan
    if plan is None:
        return []
    return [plan.names[k] for i, _, arguments in plan.rows if i in (step.i, -1) for k in arguments]


def notes(step: Step) -> list[str]:
    """What the row kept, which sums undo broadcasting, and where contributions meet."""
    found = []
    if kept := kept_names(step):
        found.append(f"kept {', '.join(kept)}")
    if step.summed:
        axes = ", ".join(map(str, step.summed))
        found.append(f"summed over {'axis' if len(step.summed) == 1 else 'axes'} {axes} of {_shape(step.raw)}")
    if hasattr(step.raw, "dtype") and step.raw.dtype != step.to.dtype:
        found.append(f"{step.raw.dtype} to {step.to.dtype}")
    if step.order:
        found.append(f"meets the {_ordinal(step.order)} contribution" if step.order == 1 else
                     f"meets {step.order} contributions")  # fmt: skip
    if step.visit.changed:
        found.append("a hook changed the gradient that arrived")
    return found


def _shape(x: object) -> tuple[int, ...]:
    return tuple(getattr(x, "shape", ()))


def _ordinal(n: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(n, f"{n}th")


def size(nbytes: float) -> str:
    """Bytes, in the unit that suits them."""
    k = min(int(math.log(nbytes, 1024)), 3) if nbytes >= 1 else 0
    return f"{nbytes / 1024**k:,.{1 if k else 0}f} {('B', 'KiB', 'MiB', 'GiB')[k]}"
