"""The folder of a run: runs/<name>/{config,tokenizer}.json, metrics.jsonl, loss.png, samples.txt, checkpoints/."""

from __future__ import annotations

import json
import os
import re
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpt.options import UsageError
from tensorlite.serialize import replacing
from train.lock import hold

METRICS, SAMPLES = "metrics.jsonl", "samples.txt"
Line = dict[str, Any]  # of metrics.jsonl


class Run:
    """A run's folder and what is written into it. Nothing in it is ever overwritten by another run, and no other
    process writes there as long as this object lives.

    What the disk does not take is said on stderr, kept, and written with the next line that it takes. UsageError if
    another process has the folder.
    """

    def __init__(self, path: Path):
        self.path = path
        self.metrics: list[Line] = []
        self.listeners: list[Callable[[Line], None]] = []  # who is told of each new line
        self._lock = hold(path)
        self._waiting: dict[str, str] = defaultdict(str)  # what is still to be added, by file
        self._small: dict[str, str] = {}  # files without which nobody can use the run

    @classmethod
    def create(cls, path: Path, config: str) -> Run:
        """Make the folder and write config.json. Raises UsageError if it holds something already."""
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UsageError(
                f"--out {path}: exists and is not empty; choose another --out, or go on with it: --resume {path}"
            )
        try:
            (path / "checkpoints").mkdir(parents=True, exist_ok=True)
            run = cls(path)
            replace_text(path / "config.json", config)
        except OSError as error:
            raise UsageError(f"--out {path}: cannot be written: {error.strerror}") from None
        return run

    @classmethod
    def open(cls, path: Path, step: int) -> Run:
        """A run that is to go on after `step`: what was logged after it is forgotten."""
        run = cls(path)
        try:
            if (file := path / METRICS).exists():
                run.metrics = [m for m in read_metrics(file) if m["step"] <= step]
                replace_text(file, "".join(map(_line, run.metrics)))
            if (file := path / SAMPLES).exists():
                parts = re.split(r"^(?=--- step \d+ ---$)", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
                replace_text(file, "".join(p for p in parts if p and int(p.split(" ", 3)[2]) <= step))
        except OSError as error:
            raise UsageError(f"--resume {path}: cannot be written: {error.strerror}") from None
        return run

    @staticmethod
    def config_text(path: Path) -> str:
        """The config.json of an existing run. Raises UsageError if this is none."""
        try:
            return (path / "config.json").read_text(encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"--resume {path}: this is not the folder of a run (config.json: {error.strerror})"
            ) from None

    def log(self, **values: Any) -> None:
        """Add a line to metrics.jsonl."""
        self.metrics.append(values)
        self._add(METRICS, _line(values))
        for listener in self.listeners:
            listener(values)

    def sample(self, step: int, text: str) -> None:
        """Add a text that the model wrote to samples.txt."""
        self._add(SAMPLES, f"--- step {step} ---\n{text}\n\n")

    def remember(self) -> None:
        """Keep the folder's JSON files in memory, for the case that somebody deletes them while it trains."""
        self._small = {file.name: file.read_text(encoding="utf-8") for file in self.path.glob("*.json")}

    def restore(self) -> None:
        """If somebody deleted the folder, make it again with what is known. Raises OSError if that cannot be."""
        if self.path.exists():
            return
        (self.path / "checkpoints").mkdir(parents=True)
        for name, text in self._small.items():
            replace_text(self.path / name, text)
        self._waiting[METRICS] = "".join(map(_line, self.metrics))
        print(f"\n{self.path} was gone; it is there again, with what was in memory", file=sys.stderr)

    def _add(self, name: str, text: str) -> None:
        said = bool(self._waiting[name])
        self._waiting[name] += text
        try:
            self.restore()
            append(self.path / name, self._waiting[name])
        except OSError as error:
            if not said:
                print(f"\n{self.path / name} cannot be written: {error.strerror}; training goes on", file=sys.stderr)
        else:
            self._waiting[name] = ""


def append(path: Path, text: str) -> None:
    """Add `text` to a file by one write, all of it or, with an OSError, nothing."""
    data = text.encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        before = os.fstat(descriptor).st_size
        try:
            while data:
                data = data[os.write(descriptor, data) :]
        except OSError:
            os.ftruncate(descriptor, before)  # a full disk may have taken half a line
            raise
    finally:
        os.close(descriptor)


def replace_text(path: Path, text: str) -> None:
    """Write a file so that whoever reads it, also after a crash, finds all of the old text or all of the new."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def read_metrics(path: Path) -> list[Line]:
    """The lines of a metrics.jsonl, without one that a machine that went off tore."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [values for line in lines if (values := parsed(line)) is not None]


def unused(path: Path) -> Path:
    """`path`, or path-2, path-3 … if it is taken."""
    choices = [path, *(path.with_name(f"{path.name}-{i}") for i in range(2, 10_000))]
    return next(choice for choice in choices if not choice.exists())


def _line(values: Line) -> str:
    return json.dumps(values) + "\n"


def parsed(line: str) -> Line | None:
    """What a line of metrics.jsonl says; None if it is torn."""
    try:
        values = json.loads(line)
    except ValueError:
        return None
    return values if isinstance(values, dict) and "step" in values else None
