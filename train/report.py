"""Runs held against each other: `python -m train.report runs/A runs/B …`.

It reads metrics.jsonl and config.json, also of runs that were stopped or are still going on, prints a table and the
settings that differ, and draws the runs' curves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpt.options import UsageError, option, parse, run
from gpt.tokenizer import load_tokenizer
from train.curves import X, side_by_side
from train.record import Record, differing, find_records, labels
from train.tables import NOTHING, beside, duration, shown, table


@dataclass(frozen=True)
class Config:
    runs: tuple[str, ...] = option((), "folders of runs, or folders that hold them; --runs may be left out")
    x: X = option("step", "what the curves go over; time is that of training alone")
    out: Path = option(Path("report.png"), "file of the picture")


def main(argv: Sequence[str]) -> None:
    about = "Hold runs against each other, in a table and a picture."
    config = parse(Config, argv, {"report": Config()}, "report", "report", about, words="runs")
    if not config.runs:
        raise UsageError("which runs? name their folders: python -m train.report runs/A runs/B")
    records = find_records(list(map(Path, config.runs)))
    names = labels(records)
    print(results(records, names))
    if differ := differing(records):
        print("\nsettings that differ")
        print(beside(["", *names], [[name, *map(shown, values)] for name, values in differ.items()]))
    if note := incomparable(records):
        print(f"\n{note}")
    draw(records, names, config.out, config.x)
    print(f"\nwrote {config.out}")


def results(records: Sequence[Record], names: Sequence[str]) -> str:
    """A table with a row for each run: how far it came, its best validation, and what that took."""
    counted = any(record.points("val_accuracy") for record in records)
    header = ["run", "script", "state", "steps", "best val loss", "at step", "training loss"]
    header += ["best val accuracy", "at step"] * counted + ["tokens", "time", "tokens/s"]
    rows = []
    for record, name in zip(records, names, strict=True):
        best, step = _best(record, "val_loss")
        row = [name, record.kind, record.state, _steps(record), best, step, _last(record, "train_loss")]
        row += _best(record, "val_accuracy", highest=True) * counted
        speed, tokens = record.median("tokens_per_second"), record.last.get("tokens")
        row += [NOTHING if tokens is None else f"{tokens:,}", duration(record.last.get("seconds", 0.0))]
        rows.append([*row, NOTHING if speed is None else f"{speed:,.0f}"])
    return table(header, rows, left=3)


def draw(records: Sequence[Record], names: Sequence[str], path: Path, x: X) -> None:
    """Draw the runs that have logged something. Raises UsageError if there is nothing to draw, or no place for it."""
    if not any(record.metrics for record in records):
        raise UsageError("none of these runs has logged a line of metrics.jsonl yet, so there is nothing to draw")
    if x == "tokens" and (without := [r for r in records if r.metrics and not r.points("tokens")]):
        raise UsageError(
            f"--x tokens: {without[0].path}/metrics.jsonl does not say how many tokens, for an older version made it; "
            "take --x step or --x time"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        side_by_side(records, names, path, x)
    except OSError as error:
        raise UsageError(f"--out {path}: cannot be written: {error.strerror}") from None


def incomparable(records: Sequence[Record]) -> str | None:
    """Why the losses of these runs do not measure the same, if they do not."""
    if len({record.kind for record in records}) > 1:
        return "These runs are of several scripts, whose losses measure different things: compare them within one."
    if len({_vocabulary(record) for record in records}) > 1:
        return "These runs have different tokenizers: their losses per token do not measure the same."
    if any(record.config.get("data") != records[0].config.get("data") for record in records):
        return "These runs have different data: their losses do not measure the same."
    return None


def _vocabulary(record: Record) -> object:
    """Something that equal tokenizers have in common."""
    try:
        return repr(load_tokenizer(record.path / "tokenizer.json"))
    except (OSError, ValueError):
        return None


def _steps(record: Record) -> str:
    """600, or of a run that is not finished 120 of 600."""
    step, steps = record.last.get("step", 0), record.config.get("steps")
    return f"{step:,}" if record.state == "finished" or not isinstance(steps, int) else f"{step:,} of {steps:,}"


def _best(record: Record, name: str, highest: bool = False) -> list[str]:
    best = record.best(name, highest)
    return [NOTHING, NOTHING] if best is None else [f"{best[0]:.4f}", f"{best[1]:,}"]


def _last(record: Record, name: str) -> str:
    points = record.points(name)
    return f"{points[-1][1]:.4f}" if points else NOTHING


if __name__ == "__main__":
    run(main, "report")
