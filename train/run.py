"""The folder of a run: runs/<name>/{config,tokenizer}.json, metrics.jsonl, loss.png, samples.txt, checkpoints/."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from gpt.options import UsageError


class Run:
    """A run's folder and what is written into it. Nothing in it is ever overwritten by another run."""

    def __init__(self, path: Path):
        self.path = path
        self.metrics: list[dict[str, Any]] = []

    @classmethod
    def create(cls, path: Path, config: str) -> Run:
        """Make the folder and write config.json. Raises UsageError if it holds something already."""
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UsageError(
                f"--out {path}: exists and is not empty; choose another --out, or go on with it: --resume {path}"
            )
        try:
            (path / "checkpoints").mkdir(parents=True, exist_ok=True)
            (path / "config.json").write_text(config, encoding="utf-8")
        except OSError as error:
            raise UsageError(f"--out {path}: cannot be written: {error.strerror}") from None
        return cls(path)

    @classmethod
    def open(cls, path: Path, step: int) -> Run:
        """A run that is to go on after `step`: what was logged after it is forgotten."""
        run = cls(path)
        file = path / "metrics.jsonl"
        if file.exists():
            lines = map(_parsed, file.read_text(encoding="utf-8").splitlines())
            run.metrics = [m for m in lines if m is not None and m["step"] <= step]
            partial = file.with_name(".metrics.jsonl.part")
            partial.write_text("".join(json.dumps(m) + "\n" for m in run.metrics), encoding="utf-8")
            os.replace(partial, file)
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
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def sample(self, step: int, text: str) -> None:
        """Add a text that the model wrote to samples.txt."""
        with (self.path / "samples.txt").open("a", encoding="utf-8") as file:
            file.write(f"--- step {step} ---\n{text}\n\n")


def unused(path: Path) -> Path:
    """`path`, or path-2, path-3 … if it is taken."""
    choices = [path, *(path.with_name(f"{path.name}-{i}") for i in range(2, 10_000))]
    return next(choice for choice in choices if not choice.exists())


def _parsed(line: str) -> dict[str, Any] | None:
    """A line of metrics.jsonl; None if the process died while it wrote it."""
    try:
        values: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return values
