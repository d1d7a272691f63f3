"""The results of a run as a table for a terminal, and as JSON."""

from __future__ import annotations

from typing import Any

from . import source
from .run import METHODS, Entry, Run

DEFINITION = (
    "An error is |engine - measured| / scale. The scale is the largest absolute value among the gradient of that input "
    "(as the engine gives it, and as measured), a hundredth of the outputs and, for differences, the slopes beside the "
    "point. Kinks are judged apart: there the engine's value must lie between the slopes on the two sides."
)
_HEADS = ("complex", "differ.", "second")


def table(run: Run, width: int) -> str:
    """A line per op: its row as far as it fits, samples, worst errors, verdict."""
    name = max([len(e.op.name) for e in run.entries], default=2)
    room = max(width - name - 2 - 2 - 7 - 3 * 9 - 2 - 13, 12)
    lines = [f"{'op':{name}}  {'row':{room}}  samples {' '.join(f'{head:>8}' for head in _HEADS)}  verdict"]
    for e in run.entries:
        errors = " ".join(f"{_error(e.report.worst(*which)):>8}" for which in METHODS)
        row = source.one_line(e.op, room)
        lines.append(f"{e.op.name:{name}}  {row:{room}}  {len(e.report.reports):>7} {errors}  {verdict(e)}")
    return "\n".join(lines)


def verdict(e: Entry) -> str:
    if not e.report.ok:
        return (
            f"WRONG: {e.report.likely() or e.report.complaints[0].partition(':')[0]}"
            if e.report.reports
            else "NO SAMPLES"
        )
    return f"right, {e.report.kinks} kinks" if e.report.kinks else e.report.verdict


def total(run: Run) -> str:
    """One line: how many, how right, how long."""
    worst = [_error(run.worst(*which)) for which in METHODS]
    counts = f"{len(run.entries) - len(run.wrong)} of {len(run.entries)} ops right on {run.samples} samples"
    return (
        f"{counts}; worst error: complex step {worst[0]}, differences {worst[1]}, second order {worst[2]}; "
        f"{run.seconds:.1f} s"
    )


def _error(error: float | None) -> str:
    return "-" if error is None else f"{error:.1e}"


def as_json(run: Run) -> dict[str, Any]:
    """Everything, in numbers, strings, lists and dictionaries. An error that is nan or infinite becomes a string."""
    return {
        "definition": DEFINITION,
        "seconds": round(run.seconds, 3),
        "wrong": [e.op.name for e in run.wrong],
        "worst": {f"{method}, order {order}": _number(run.worst(method, order)) for method, order in METHODS},
        "ops": [_op(e) for e in run.entries],
    }


def _op(e: Entry) -> dict[str, Any]:
    row = source.row(e.op)
    return {
        "op": e.op.name,
        "verdict": e.report.verdict,
        "likely": e.report.likely(),
        "problems": e.report.problems(),
        "source": row and {"file": str(source.short(row.file)), "line": row.line, "text": row.text},
        "seconds": round(e.seconds, 3),
        "samples": [
            {
                "given": r.given,
                "verdict": r.verdict,
                "complaints": list(r.complaints),
                "notes": list(r.notes),
                "findings": [
                    {
                        "input": f.input, "order": f.order, "method": f.method, "why": f.why, "shape": list(f.shape),
                        "error": _number(f.error), "verdict": f.verdict, "kinks": len(f.kinks),
                        "mistake": f.mistake and str(f),
                    }
                    for f in r.findings
                ],
            }
            for r in e.report.reports
        ],
    }  # fmt: skip


def _number(x: float | None) -> float | str | None:
    return x if x is None or abs(x) < float("inf") else str(x)
