"""What the page shows, as data: the graph in its boxes, a card per step, and the arrays that they refer to."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..check import source
from . import mathematics, rows
from .emit import Emission
from .jacobian import checked, jacobian, structure
from .program import Call, Step, Value, Visit, numbers
from .text import kept_names, size

if TYPE_CHECKING:
    from .tape import Tape

BUDGET = 300_000  # numbers in a page
STEPS = 200  # of so many steps the Jacobian is computed and the row checked


class Arrays:
    """The arrays of a page, each once, by number."""

    def __init__(self) -> None:
        self.found: list[np.ndarray] = []
        self._numbers: dict[int, int] = {}

    def __call__(self, array: Any) -> int | None:
        if array is None:
            return None
        array = np.asarray(numbers(array))
        if id(array) not in self._numbers:
            self._numbers[id(array)] = len(self.found)
            self.found.append(array)
        return self._numbers[id(array)]

    def data(self) -> list[dict[str, Any]]:
        """All of them: whole where there is room, else as a coarse picture."""
        sizes = [a.size for a in self.found]
        largest = next((n for n in (4096, 1024, 256, 64) if sum(k for k in sizes if k <= n) <= BUDGET), 16)
        large = sum(k > largest for k in sizes)
        side = next((n for n in (48, 32, 24) if large * n * n <= 4 * BUDGET), 16)  # of three digits each
        return [_array(a, a.size <= largest, side) for a in self.found]


def _array(a: np.ndarray, whole: bool, side: int) -> dict[str, Any]:
    flat = a.reshape(-1, a.shape[-1]) if a.ndim and a.size else a.reshape(1, -1)
    told: dict[str, Any] = {"shape": list(a.shape), "dtype": a.dtype.name, "rows": flat.shape[0], "cols": flat.shape[1]}
    if a.size and a.dtype.kind in "fiu":
        finite = a[np.isfinite(a)] if a.dtype.kind == "f" else a
        if finite.size:
            told |= {"low": float(finite.min()), "high": float(finite.max()), "mean": float(finite.mean())}
    if whole:
        return told | {"full": [_number(x) for x in a.ravel()]}
    wide = np.nan_to_num(flat.astype(np.float64), nan=0, posinf=0, neginf=0)
    for axis, n in enumerate(wide.shape):
        starts = np.linspace(0, n, min(n, side), endpoint=False).astype(int)
        lengths = np.diff(np.append(starts, n))
        wide = np.add.reduceat(wide, starts, axis) / np.expand_dims(lengths, 1 - axis)
    return told | {"coarse": [[float(f"{x:.3g}") for x in row] for row in wide]}


def _number(x: np.generic) -> Any:
    """In as many digits as its dtype takes to be told from its neighbours."""
    if x.dtype.kind != "f":
        return x.item()
    return float(str(x)) if np.isfinite(x) else str(x)


# The graph -------------------------------------------------------------------------------------------------


def graph(calls: list[Call]) -> dict[str, Any]:
    """Nodes (ops, and the leaves that want a gradient), edges, and the boxes of modules within modules."""
    boxes: list[dict[str, Any]] = []
    nodes: list[dict[str, Any]] = []
    edges: list[list[int]] = []
    number: dict[Any, int] = {}
    opened: list[int] = []  # the boxes around the last op
    owners: tuple[int, ...] = ()
    for call in calls:
        # A module that runs twice gets two boxes: in one, arrows would run in circles.
        mine = tuple(map(id, call.owners))
        same = next((k for k, (a, b) in enumerate(zip(owners, mine)) if a != b), min(len(owners), len(mine)))
        opened = opened[:same]
        for k in range(same, len(mine)):
            boxes.append({"name": call.path[k], "parent": opened[-1] if opened else None})
            opened.append(len(boxes) - 1)
        owners = mine
        around = opened[-1] if opened else None
        for x in call.inputs:
            if isinstance(x, Value) and x.call is None and x.needs and x not in number:
                number[x] = len(nodes)
                nodes.append(_node("leaf", _within(x.name, call), "", around, x.shape))
        number[call] = len(nodes)
        nodes.append(_node("op", _within(_names(call), call), call.op.name, around, call.outputs[0].shape))
        nodes[-1]["quiet"] = not any(y.needs for y in call.outputs)
        for x in call.inputs:
            before = number.get(x.call or x) if isinstance(x, Value) else None
            if before is not None and [before, number[call]] not in edges[-8:]:
                edges.append([before, number[call]])
    return {"nodes": nodes, "edges": edges, "boxes": boxes, "number": number}


def _node(kind: str, name: str, op: str, box: int | None, shape: tuple[int, ...]) -> dict[str, Any]:
    return {"kind": kind, "name": name, "op": op, "box": box, "shape": list(shape)}


def _within(name: str, call: Call) -> str:
    """A name without that of the box in which it stands."""
    for around in (".".join(call.path), ".".join(call.path[1:])):
        if around:
            name = name.removeprefix(f"{around}.")
    return name


# The cards -------------------------------------------------------------------------------------------------


def cards(tape: Tape, emission: Emission | None, number: dict[Any, int], arrays: Arrays) -> Iterator[dict[str, Any]]:
    """What there is to see, in the order of the walk: rows, sums that undo broadcasting, contributions that meet."""
    totals: dict[Value, Any] = {}
    few = len(tape.steps) <= STEPS
    for visit in tape.walks[-1]:
        call = visit.call
        for y in call.outputs:
            if y.seed is not None:
                totals[y] = y.seed
                words = "The slope of a number by itself is 1." if np.size(y.seed) == 1 else ""
                yield _card("start", call, number, title=f"The walk starts at {y.name}", to=number[call], words=words,
                            result=arrays(y.seed))  # fmt: skip
        lines = emission.backward.get(visit, []) if emission is not None else []
        for step in visit.steps:
            yield _row(step, number, arrays, lines, few)
            if step.summed:
                yield _card("sum", call, number, **_sum(step, number, arrays))
            if step.to in totals:
                before, totals[step.to] = totals[step.to], totals[step.to] + step.result
                yield _card("meet", call, number, **_meeting(step, number, arrays, before, totals[step.to]))
            else:
                totals[step.to] = step.result


def _sum(step: Step, number: dict[Any, int], arrays: Arrays) -> dict[str, Any]:
    x, axes = step.to, " and ".join(map(str, step.summed))
    words = (
        f"{x.name} has shape {x.shape} and was used once per copy, so its gradient is the sum over the copies. "
        "Rows do not undo broadcasting; the engine does."
    )
    return {"title": f"Undo broadcasting: sum over axis {axes}", "words": words, "to": number.get(x.call or x),
            "before": arrays(step.raw), "result": arrays(step.result), "name": x.grad_ident}  # fmt: skip


def _meeting(step: Step, number: dict[Any, int], arrays: Arrays, before: Any, total: Any) -> dict[str, Any]:
    x = step.to
    words = (
        f"{x.name} is used more than once; it moves the loss along every path, so what comes along them adds up. "
        f"This is contribution {step.order + 1}."
    )
    return {"title": f"Contributions meet at {x.name}", "words": words, "to": number.get(x.call or x),
            "before": arrays(before), "second": arrays(step.result), "result": arrays(total),
            "name": x.grad_ident}  # fmt: skip


def _row(step: Step, number: dict[Any, int], arrays: Arrays, lines: list[str], few: bool) -> dict[str, Any]:
    call, rule = step.call, rows.derivative(step.call.op, step.i)
    known = call.kept_by_name()
    g = step.visit.gradient
    one_of_several = step.summed or len(step.to.contributions) > 1
    told = _card(
        "row", call, number, title=f"{call.op.name}: from {_names(call)} to {step.to.name}",
        to=number.get(step.to.call or step.to), words=_changed(step.visit), result=arrays(step.raw),
        name=f"{'contribution to ' if one_of_several else ''}{step.to.grad_ident}",
        g=[[y.grad_ident, arrays(each)] for y, each in zip(call.outputs, g if isinstance(g, tuple) else (g,))],
        rule=f"d{step.input} = {rule.text}" + (f"[{step.i}]" if rule.joint else ""), where=rule.where,
        math=mathematics.derivative(rule, step.input), line=[x for x in lines if _leads_to(x, step)],
        kept=[_kept(name, known[name], call, arrays) for name in dict.fromkeys(kept_names(step)) if name in known],
        bytes=_freed(call), here=_here(call, rule), derived=_derived(call, rule),
    )  # fmt: skip
    if few:
        j = jacobian(step)
        if j is not None:
            found = np.concatenate([np.ravel(numbers(each)) for each in (g if isinstance(g, tuple) else (g,))]) @ j
            apart = float(np.abs(found - np.ravel(numbers(step.result))).max(initial=0))
            told["jacobian"] = {
                "array": arrays(j),
                "structure": structure(j),
                "apart": f"{apart:.1e}" if apart else "0",
                "product": arrays(found.reshape(step.to.shape)),
                "fitted": arrays(step.result),
            }
        told["check"] = checked(step)
    return told


def _card(kind: str, call: Call, number: dict[Any, int], **more: Any) -> dict[str, Any]:
    place = f"{source.short(Path(call.file))}:{call.line}" if call.line else ""
    where = {"place": place, "source": call.source, "expression": call.expression}
    return {"kind": kind, "node": number[call]} | where | more


def _here(call: Call, rule: rows.Rule) -> list[list[str]]:
    """What the names in a rule stand for: [a, bngain]."""
    used = set() if rule.body is None else {x.id for x in ast.walk(rule.body) if isinstance(x, ast.Name)}
    found = [["g", ", ".join(y.grad_ident for y in call.outputs)], ["y", _names(call)]]
    found += [[call.input_name(i), x.name] for i, x in enumerate(call.inputs) if isinstance(x, Value)]
    return [pair for pair in found if pair[0] in used]


def _derived(call: Call, rule: rows.Rule) -> list[list[str]]:
    """The functions that a rule calls, with what they say of their derivation."""
    functions = [f for f in source.rules(call.op) if f"{f.__name__}(" in rule.text]
    return [[f.__name__, inspect.getdoc(f) or ""] for f in functions]


def _names(call: Call) -> str:
    return ", ".join(y.name for y in call.outputs)


def _changed(visit: Visit) -> str:
    return "A hook replaced the gradient that had arrived here." if visit.changed else ""


def _leads_to(line: str, step: Step) -> bool:
    name = line.partition(" = ")[0].partition("[")[0]
    return name == step.to.grad_ident or name.startswith(f"{step.to.grad_ident}_part")


def _kept(name: str, x: Any, call: Call, arrays: Arrays) -> list[Any]:
    """[what the rule calls it, what the program calls it, the array or the value in words]"""
    named = ""
    if name == "y":
        named = call.outputs[0].name
    elif name in call.op.inputs:
        given = call.inputs[call.op.position(name)]
        named = given[0].name if len(given) == 1 and isinstance(given[0], Value) else ""
    if hasattr(x, "shape"):
        return [name, named, arrays(x), None]
    return [name, named, None, str(x) if len(str(x)) < 200 else f"{str(x)[:200]}…"]


def _freed(call: Call) -> str:
    held = [numbers(x) for x in call.kept if hasattr(x, "nbytes")]
    if not held:
        return "It kept no array."
    total = size(sum(x.nbytes for x in held))
    return f"It kept {total} in {len(held)} array{'s' * (len(held) > 1)}, let go after this turn."
