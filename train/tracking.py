"""A run's numbers in another program too: TensorBoard, Weights & Biases.

metrics.jsonl is the truth, and a tracker a copy of it. When a run goes on, the copy is made to agree with the file, in
which the lines after the checkpoint are no more: nothing is there twice. Where a tracker fails, it is given up, and
training goes on.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol

from gpt.options import UsageError
from train.run import Line, Run

Kind = Literal["tensorboard", "wandb"]
FLUSH = 10.0  # seconds between two times that TensorBoard's file is brought to the disk
FINISH = 60.0  # seconds that a run which is done waits for Weights & Biases to take what it was sent


class Tracker(Protocol):
    """Takes a run's folder and its configuration; then its lines, all there are, in order; then it is closed. Any of
    this may fail with any exception."""

    def __init__(self, run: Path, config: dict[str, Any]): ...

    def log(self, line: Line) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """An event file in the run's folder: `tensorboard --logdir runs`. It is written anew when a run goes on.

    The library's own thread is not used: where the disk is full it dies, and whoever writes then waits for ever.
    """

    def __init__(self, run: Path, config: dict[str, Any]):
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.summary import text

        for old in run.glob("events.out.tfevents.*"):
            old.unlink()
        self._event = Event
        self._writer = EventsWriter(str(run / "events"), f".{os.getpid()}")
        self._flushed = now = time.time()
        self._began: float | None = None  # when training would have begun, had it never paused
        # A TensorBoard that is open forgets what it knew from step 0 on.
        self._writer.write_event(Event(wall_time=now, step=0, session_log=SessionLog(status=SessionLog.START)))
        table = "\n".join(["| option | value |", "| --- | --- |", *(f"| {k} | {v} |" for k, v in config.items())])
        self._writer.write_event(Event(wall_time=now, step=0, summary=text("config", table)))

    def log(self, line: Line) -> None:
        from tensorboardX.proto.summary_pb2 import Summary

        now, seconds = time.time(), line.get("seconds", 0.0)
        if self._began is None:
            self._began = now - seconds
        values = [Summary.Value(tag=name, simple_value=value) for name, value in _numbers(line).items()]
        wall = min(now, self._began + seconds)
        self._writer.write_event(self._event(wall_time=wall, step=line["step"], summary=Summary(value=values)))
        if now - self._flushed > FLUSH:
            self._writer.flush()
            self._flushed = now

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """A run of the project `tensorlite`, or WANDB_PROJECT; WANDB_MODE=offline keeps it on this machine.

    The run's `wandb.json` has its id there, and the last step that it was given: of steps that come again after a
    checkpoint, it is not given a second time those it has.
    """

    def __init__(self, run: Path, config: dict[str, Any]):
        import wandb

        self._path = run / "wandb.json"
        known = self._read()
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or "tensorlite",
            name=run.name,
            id=known.get("id"),
            resume="allow",
            dir=run,
            config=config,
            settings=wandb.Settings(finish_timeout=FINISH),
        )
        self._last = max(known.get("last", -1), self._run.step - 1)

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def log(self, line: Line) -> None:
        if line["step"] > self._last:
            self._run.log(_numbers(line), step=line["step"])
            self._last = line["step"]
            self._path.write_text(json.dumps({"id": self._run.id, "last": self._last}) + "\n", encoding="utf-8")

    def close(self) -> None:
        self._run.finish()


_TRACKERS: dict[str, tuple[type[Tracker], str]] = {
    "tensorboard": (TensorBoard, "tensorboardX"),
    "wandb": (WeightsAndBiases, "wandb"),
}


def check_tracker(kind: Kind | None) -> None:
    """UsageError if the library that --track needs is not installed."""
    if kind is None:
        return
    library = _TRACKERS[kind][1]
    try:
        import_module(library)
    except ImportError:
        raise UsageError(f"--track {kind} needs {library}: pip install 'tensorlite[{kind}]'") from None


@contextmanager
def tracked(run: Run, kind: Kind | None) -> Iterator[None]:
    """Inside, what `run` logs goes to the tracker too, after what it has logged before."""
    if kind is None:
        yield
        return
    guard = _Guard(kind, run)
    run.listeners.append(guard.log)
    try:
        yield
    finally:
        run.listeners.remove(guard.log)
        guard.close()


class _Guard:
    """A tracker whose failure is said once on stderr; from then on it is told nothing more."""

    def __init__(self, kind: Kind, run: Run):
        self.kind, self.failed = kind, False
        self.tracker: Tracker | None = None
        with self._forgiven():
            config = json.loads((run.path / "config.json").read_text(encoding="utf-8"))
            self.tracker = _TRACKERS[kind][0](run.path, config)
            for line in run.metrics:
                self.tracker.log(line)

    def log(self, line: Line) -> None:
        with self._forgiven():
            if self.tracker is not None and not self.failed:
                self.tracker.log(line)

    def close(self) -> None:
        with self._forgiven():
            if self.tracker is not None:
                self.tracker.close()

    @contextmanager
    def _forgiven(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not self.failed:
                words = f"--track {self.kind} is given up: {type(error).__name__}: {error}"
                print(f"\n{words}; training goes on, and metrics.jsonl has all of it", file=sys.stderr)
            self.failed = True


def _numbers(line: Line) -> dict[str, float]:
    """What a line says, without its step and what it does not know."""
    return {name: x for name, x in line.items() if isinstance(x, (int, float)) and name != "step"}
