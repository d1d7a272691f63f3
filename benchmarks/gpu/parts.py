"""Parts of a long measurement, each in its own process and with a time limit, so that one that fails loses only itself.

A part is a function that yields `Row`s. They are written as they come, and after each part so are the results.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Row:
    """One thing measured or checked.

    what    of what
    value   a number, or words
    unit    of the number
    wanted  what it should be, in words
    ok      whether it is; None where nothing is wanted
    """

    what: str
    value: float | str
    unit: str = ""
    wanted: str = ""
    ok: bool | None = None


@dataclass(frozen=True)
class Part:
    """A function "module:name", what it is called with, and how many seconds it may take. `always`: it reads what the
    others have left, so it runs each time."""

    name: str
    function: str
    arguments: dict[str, Any] = field(default_factory=dict)
    limit: float = 600
    always: bool = False


@dataclass
class Outcome:
    """What came of a part: "done", "failed", "out of time" or "skipped", and why."""

    status: str
    seconds: float
    rows: list[Row]
    error: str = ""

    @property
    def ok(self) -> bool:
        return self.status in ("done", "skipped") and all(row.ok is not False for row in self.rows)


class MissingError(Exception):
    """A part cannot be done here, and that is no fault: something it compares with is not installed."""


SKIPPED = 3  # the exit code of a process whose part cannot be done here


def run(part: Part, out: Path) -> Outcome:
    """Run a part in a process of its own. Whatever happens to it, the rows it has written are kept."""
    rows, errors = out / f"{part.name}.jsonl", out / f"{part.name}.log"
    rows.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.gpu.worker", part.function, json.dumps(part.arguments), str(rows)]
    start = time.monotonic()
    with errors.open("w", encoding="utf-8") as log:
        surroundings = os.environ | {"BENCHMARKS_GPU_OUT": str(out)}  # for a part that reads what others have left
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, env=surroundings
        )
        try:
            code: int | None = process.wait(part.limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # with all that it has started
                process.wait()
    seconds = time.monotonic() - start
    said = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    last = said[-1] if said else ""
    if code == 0:
        status, error = "done", ""
    elif code == SKIPPED:
        status, error = "skipped", last
    elif code is None:
        status, error = "out of time", f"stopped after {part.limit:g} s"
    else:
        status, error = "failed", last or f"ended with {code} and no word"
    return Outcome(status, round(seconds, 1), list(read(rows)), error)


def read(path: Path) -> Iterator[Row]:
    """The rows in a file, of which the last may not have been written whole."""
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                yield Row(**json.loads(line))
            except ValueError:
                return


def run_all(parts: Iterable[Part], out: Path, machine: dict[str, Any], again: bool = False) -> dict[str, Outcome]:
    """Run the parts one after the other, and write `gpu.json` and `gpu.md` into `out` after each of them.

    again  also those that `out` says are done; without it a run that was broken off goes on where it was
    """
    out.mkdir(parents=True, exist_ok=True)
    known = {} if again else load(out)
    outcomes = dict(known)
    for part in parts:
        if part.name in known and known[part.name].status == "done" and not part.always:
            continue
        print(f"{part.name} … ", end="", flush=True)
        outcomes[part.name] = outcome = run(part, out)
        wrong = sum(row.ok is False for row in outcome.rows)
        print(f"{outcome.status}, {outcome.seconds:g} s" + (f", {wrong} not as wanted" if wrong else ""), flush=True)
        write(out, machine, outcomes)
    return outcomes


def load(out: Path) -> dict[str, Outcome]:
    """The outcomes that an earlier run left in a folder."""
    try:
        parts = json.loads((out / "gpu.json").read_text(encoding="utf-8"))["parts"]
        return {name: Outcome(**{**x, "rows": [Row(**row) for row in x["rows"]]}) for name, x in parts.items()}
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def write(out: Path, machine: dict[str, Any], outcomes: dict[str, Outcome]) -> None:
    results = {"machine": machine, "parts": {name: asdict(outcome) for name, outcome in outcomes.items()}}
    for name, text in (("gpu.json", json.dumps(results, indent=1) + "\n"), ("gpu.md", table(machine, outcomes))):
        beside = out / f".{name}"
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, out / name)


def table(machine: dict[str, Any], outcomes: dict[str, Outcome]) -> str:
    """The results in Markdown: a line for each part, then a table for each."""
    lines = ["# Results on a GPU", "", ", ".join(f"{name} {value}" for name, value in machine.items()), ""]
    lines += ["| part | | seconds | as wanted |", "| --- | --- | --- | --- |"]
    for name, outcome in outcomes.items():
        checked = [row.ok for row in outcome.rows if row.ok is not None]
        wanted = f"{sum(checked)} of {len(checked)}" if checked else ""
        lines.append(f"| {name} | {_cell(outcome.status, outcome.error)} | {outcome.seconds:g} | {wanted} |")
    for name, outcome in outcomes.items():
        if outcome.rows:
            lines += ["", f"## {name}", "", "| what | value | wanted | |", "| --- | --- | --- | --- |"]
            marks = {None: "", True: "yes", False: "**no**"}
            lines += [
                f"| {_cell(r.what)} | {_cell(_value(r))} | {_cell(r.wanted)} | {marks[r.ok]} |" for r in outcome.rows
            ]
    return "\n".join(lines) + "\n"


def _cell(*words: str) -> str:
    return ": ".join(word for word in words if word).replace("|", "\\|").replace("\n", " ")


def _value(row: Row) -> str:
    if isinstance(row.value, str):
        return row.value
    digits = f"{row.value:,.0f}" if abs(row.value) >= 1000 else f"{row.value:.4g}"
    return f"{digits} {row.unit}".strip() if math.isfinite(row.value) else str(row.value)
