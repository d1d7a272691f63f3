"""The runs of a sweep: each in a process and a folder of its own."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Literal
from zlib import crc32

from tqdm import tqdm

from gpt.checkpoint import checkpoints
from gpt.options import UsageError
from train.curves import search_picture
from train.lock import holder
from train.record import Record, read_record
from train.run import METRICS, append, parsed
from train.space import Trial, flags, title
from train.tables import NOTHING, duration, table

FAILED, LOGS, PICTURE = "failed.jsonl", "logs", "sweep.png"
State = Literal["waiting", "stopped", "running", "finished", "failed"]


@dataclass
class Trials:
    """What a sweep tries, and how far it is.

    folder   of the sweep
    script   the module of train that trains
    fixed    what its command line is for every run
    trials   what is tried
    by       the number of metrics.jsonl that counts
    highest  whether the highest of it is the best
    """

    folder: Path
    script: str
    fixed: Sequence[str]
    trials: Sequence[Trial]
    by: str
    highest: bool
    stopping: bool = field(default=False, init=False)
    _child: subprocess.Popen | None = field(default=None, init=False)

    def __len__(self) -> int:
        return len(self.trials)

    def path(self, trial: Trial) -> Path:
        """The folder of a run, by what it tries, so that a sweep with more values finds it again."""
        name = ",".join(f"{option}={value}" for option, value in sorted(trial.items()))
        plain = re.sub(r"[^\w.,=+-]", "_", name)
        if plain != name or len(plain) > 120:
            plain = f"{plain[:100]}-{crc32(name.encode()):08x}"
        return self.folder / plain

    def arguments(self, trial: Trial) -> list[str]:
        """The script's command line of a run that begins."""
        own = flags(trial, import_module(f"train.{self.script}").Config)
        return [*self.fixed, *own, "--out", str(self.path(trial))]

    def record(self, trial: Trial) -> Record | None:
        """What is on the disk of a run; None if it has not begun."""
        folder = self.path(trial)
        return read_record(folder) if (folder / "config.json").exists() else None

    def state(self, trial: Trial) -> State:
        if self.failures().get(self.path(trial).name):
            return "failed"
        record = self.record(trial)
        return "waiting" if record is None else record.state

    def failures(self) -> dict[str, str | None]:
        """Why runs failed, by folder; None for one that failed first and went well later."""
        try:
            lines = (self.folder / FAILED).read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return {}
        found: dict[str, str | None] = {}
        for line in lines:
            with suppress(ValueError, LookupError, TypeError):  # a line that was torn
                content = json.loads(line)
                found[content["run"]] = content["why"]
        return found

    # Running --------------------------------------------------------------------------------------------

    def run(self, bar: tqdm, retry: bool = False) -> bool:
        """Train what is not finished, and has not failed unless `retry`. A run that fails is recorded, and the others
        follow. False if Ctrl-C or SIGTERM stopped it: the run that was training then has saved.

        Raises UsageError if another process trains one of the runs, or the folder cannot be written.
        """
        with self._interruptible():
            for trial in self.trials:
                state = self.state(trial)
                if state == "running":
                    who = holder(self.path(trial))
                    raise UsageError(f"{self.path(trial)} is in use by {who}; wait for it, or stop it")
                if state in ("waiting", "stopped") or (state == "failed" and retry):
                    try:
                        self._train(trial, bar)
                    except OSError as error:
                        raise UsageError(f"{self.folder}: cannot be written: {error.strerror}") from None
                if self.stopping:
                    return False
                bar.update(1)
        return True

    def _train(self, trial: Trial, bar: tqdm) -> None:
        """One run, from its beginning or on from its checkpoint."""
        folder, began = self.path(trial), time.monotonic()
        if checkpoints(folder):
            words = ["--resume", str(folder)]
        else:
            shutil.rmtree(folder, ignore_errors=True)  # it was stopped before it had trained anything
            words = self.arguments(trial)
        log = self.folder / LOGS / f"{folder.name}.txt"
        log.parent.mkdir(exist_ok=True)
        command = [sys.executable, "-m", f"train.{self.script}", *words]
        with log.open("ab") as output:
            # In a session of its own, so that Ctrl-C comes to us alone, and from us to it.
            self._child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
            while self._child.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    self._child.wait(0.5)
                if not bar.disable:
                    bar.set_postfix_str(f"{title(trial)}: {_newest(folder)}")
        if not self.stopping:
            self._judge(trial, self._child.returncode, log)
            bar.write(f"{title(trial)}: {self._outcome(trial)}, {duration(time.monotonic() - began)}")
            sys.stdout.flush()

    def _judge(self, trial: Trial, code: int, log: Path) -> None:
        """Record whether a run whose process has ended has failed, and why: the last line that it printed."""
        name, why = self.path(trial).name, None
        if code:
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
            why = next((line.strip() for line in reversed(lines) if line.strip()), f"exit code {code}")
        if code or name in self.failures():
            append(self.folder / FAILED, json.dumps({"run": name, "why": why}) + "\n")

    def _outcome(self, trial: Trial) -> str:
        if why := self.failures().get(self.path(trial).name):
            return f"failed: {why}"
        record = self.record(trial)
        best = record.best(self.by, self.highest) if record else None
        return f"{self.by} {best[0]:.4f} at step {best[1]:,}" if best else f"has logged no {self.by}"

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Inside, Ctrl-C and its like stop the run that trains, which saves, and then the sweep."""

        def stop(signum: int, frame: FrameType | None) -> None:
            if not self.stopping:
                print("\nthe run that trains is saved, then the sweep stops; Ctrl-C again: at once", file=sys.stderr)
            self.stopping = True
            if self._child is not None:
                self._child.send_signal(signal.SIGINT)

        signals = {signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}
        try:
            before = {number: signal.signal(number, stop) for number in signals}
        except ValueError:  # not the main thread: no signal comes here
            yield
            return
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    # Showing --------------------------------------------------------------------------------------------

    def show(self) -> None:
        """Print the table, the best first, and draw the picture of what there is. Raises UsageError if this cannot be
        written, or no run has logged the number that counts."""
        rows = sorted((_Row(self, trial) for trial in self.trials), key=lambda row: row.rank)
        words = self.by.replace("_", " ")
        header = [*self.trials[0], f"best {words}", "at step", "state", "tokens", "time"]
        print(table(header, [row.cells for row in rows], left=0))
        failures = self.failures()
        for row in rows:
            if why := failures.get(self.path(row.trial).name):
                print(f"failed: {title(row.trial)}: {why}")
        measured = [row for row in rows if row.best is not None]
        logged = dict.fromkeys(name for row in rows if row.record for line in row.record.metrics for name in line)
        if logged and not any(row.record.points(self.by) for row in rows if row.record):
            raise UsageError(f"--by {self.by}: no run has logged that; there are {', '.join(logged)}")
        if measured:
            found = [(row.trial, row.record, row.best[0]) for row in measured if row.record and row.best]
            try:
                search_picture(found, [title(row.trial) for row in measured], self.by, self.folder / PICTURE)
            except OSError as error:
                raise UsageError(f"{self.folder / PICTURE}: cannot be written: {error.strerror}") from None
            print(f"best    {title(measured[0].trial)}: {self.path(measured[0].trial)}")
            print(f"wrote   {self.folder / PICTURE}")


class _Row:
    """A run of the table."""

    def __init__(self, trials: Trials, trial: Trial):
        self.trial, self.record, self.state = trial, trials.record(trial), trials.state(trial)
        self.best = self.record.best(trials.by, trials.highest) if self.record and self.state != "failed" else None
        self.rank = math.inf if self.best is None else -self.best[0] if trials.highest else self.best[0]

    @property
    def cells(self) -> list[str]:
        last = self.record.last if self.record else {}
        value, step = (f"{self.best[0]:.4f}", f"{self.best[1]:,}") if self.best else (NOTHING, NOTHING)
        tokens = f"{last['tokens']:,}" if last.get("tokens") is not None else NOTHING
        spent = duration(last["seconds"]) if "seconds" in last else NOTHING
        return [*self.trial.values(), value, step, self.state, tokens, spent]


def _newest(folder: Path) -> str:
    """How far a run is."""
    try:
        with (folder / METRICS).open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 2000))
            lines = [line for text in file if (line := parsed(text.decode(errors="replace"))) is not None]
    except OSError:
        lines = []
    if not lines:
        return "starting"
    loss = lines[-1].get("train_loss")
    return f"step {lines[-1]['step']:,}" + (f", loss {loss:.3f}" if isinstance(loss, float) else "")
