"""A run as its folder tells of it, whichever script made it: read, and never written."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gpt.options import UsageError
from train.lock import holder
from train.run import METRICS, Line, read_metrics
from train.tables import NOTHING

SCRIPTS = ("pretrain", "classify", "instruct", "prefer", "arithmetic")  # the modules of train that leave runs
_PLACES = {"out", "resume", "name", "track"}  # where a run is, and who looks on: not what it is


@dataclass(frozen=True)
class Record:
    """kind: the script, or "unknown" if config.json is none of theirs."""

    path: Path
    kind: str
    config: dict[str, Any]
    metrics: list[Line]
    state: Literal["running", "finished", "stopped"]

    @property
    def last(self) -> Line:
        """The newest line of metrics.jsonl; empty if there is none."""
        return self.metrics[-1] if self.metrics else {}

    def points(self, name: str, over: str = "step") -> list[tuple[float, float]]:
        """The number `name` over another, where a line has both."""
        lines = ((_number(m.get(over)), _number(m.get(name))) for m in self.metrics)
        return [(x, y) for x, y in lines if x is not None and y is not None]

    def best(self, name: str, highest: bool = False) -> tuple[float, float] | None:
        """(value, step) of the lowest `name` that was logged, or the highest; the first of equals. None if there is
        none."""
        known = [(y, x) for x, y in self.points(name)]
        return (max if highest else min)(known, key=lambda point: point[0], default=None)

    def median(self, name: str) -> float | None:
        known = [y for _, y in self.points(name)]
        return float(np.median(known)) if known else None


def read_record(path: Path) -> Record:
    """The run in a folder. A torn line of its metrics is left out.

    Raises UsageError if this is not the folder of a run, or it cannot be read.
    """
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        metrics = read_metrics(path / METRICS) if (path / METRICS).exists() else []
    except OSError as error:
        there = "is not the folder of a run" if path.is_dir() else f"is no folder{_meant(path)}"
        raise UsageError(f"{path} {there} ({Path(error.filename or path).name}: {error.strerror})") from None
    except ValueError as error:
        raise UsageError(f"{path}/config.json is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise UsageError(f"{path}/config.json expects a JSON object, got {config!r}")
    state: Literal["running", "finished", "stopped"] = "stopped"
    if holder(path) is not None:
        state = "running"
    elif metrics and complete(config, metrics[-1]):
        state = "finished"
    return Record(path, _kind(frozenset(config)), config, metrics, state)


def find_records(paths: Sequence[Path]) -> list[Record]:
    """The runs in these folders, each once; a folder that only holds runs, as `runs` does, stands for them.

    Raises UsageError for a folder that is neither.
    """
    found: dict[Path, Record] = {}
    for path in paths:
        inner = [] if (path / "config.json").exists() else sorted(file.parent for file in path.glob("*/config.json"))
        for folder in inner or [path]:
            found.setdefault(folder.resolve(), read_record(folder))
    return list(found.values())


def complete(config: dict[str, Any], last: Line) -> bool:
    """Whether a run whose newest line is `last` has trained as long as it was to."""
    steps, epochs = config.get("steps"), config.get("epochs") or 1
    return last["step"] >= steps if isinstance(steps, int) else last.get("epoch", 0) >= epochs


def differing(records: Sequence[Record]) -> dict[str, list[Any]]:
    """The settings in which runs differ, each with the value of every run. Of runs of several scripts, those that all
    of them have; of those of one, NOTHING stands where an older version did not know a setting."""
    names = dict.fromkeys(name for record in records for name in record.config if name not in _PLACES)
    if len({record.kind for record in records}) > 1:
        names = {name: None for name in names if all(name in record.config for record in records)}
    values = {name: [record.config.get(name, NOTHING) for record in records] for name in names}
    return {name: these for name, these in values.items() if any(value != these[0] for value in these)}


def labels(records: Sequence[Record]) -> list[str]:
    """A name for each run: its path, without what all have in common."""
    paths = [record.path.resolve() for record in records]
    if len(paths) < 2:
        return [path.name for path in paths]
    common = Path(os.path.commonpath([path.parent for path in paths]))
    return [str(path.relative_to(common)) for path in paths]


def setting_names(script: str) -> set[str]:
    """What the configuration of a script is made of."""
    return {f.name for f in fields(import_module(f"train.{script}").Config)}


@cache
def _kind(names: frozenset[str]) -> str:
    """Which script has a configuration of these names; of an older version, which has the most of them."""
    known = {script: setting_names(script) for script in SCRIPTS}
    likest = min(SCRIPTS, key=lambda script: len(known[script] ^ names))
    return likest if len(known[likest] ^ names) < len(known[likest]) / 2 else "unknown"


def _meant(path: Path) -> str:
    close = get_close_matches(path.name, [run.parent.name for run in path.parent.glob("*/config.json")], 1)
    return "".join(f", did you mean {path.with_name(name)}?" for name in close)


def _number(x: Any) -> float | None:
    return x if isinstance(x, (int, float)) and math.isfinite(x) else None
