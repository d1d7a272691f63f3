"""Check many ops, and keep the results with where each op is written."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from ..op import OPS, Op
from .checker import op as check_op
from .result import OpReport

METHODS = (("complex step", 1), ("differences", 1), ("differences", 2))  # the columns of errors


@dataclass(frozen=True)
class Entry:
    op: Op
    report: OpReport
    seconds: float


@dataclass(frozen=True)
class Run:
    entries: tuple[Entry, ...]
    seconds: float

    @property
    def wrong(self) -> list[Entry]:
        return [e for e in self.entries if not e.report.ok]

    @property
    def samples(self) -> int:
        return sum(len(e.report.reports) for e in self.entries)

    def worst(self, method: str, order: int) -> float | None:
        errors = [error for e in self.entries for error in [e.report.worst(method, order)] if error is not None]
        return max(errors) if errors else None


def run(names: Iterable[str], progress: Callable[[Sequence[str]], Iterable[str]] = iter) -> Run:
    """Check the ops of these names on their samples. `progress` may show how far the loop is, as tqdm does."""
    start = time.perf_counter()
    entries = []
    for name in progress(list(names)):
        began = time.perf_counter()
        try:
            report = check_op(name, raise_exception=False)
        except Exception as error:  # one op that cannot run must not hide the others
            report = OpReport(name, (), (f"a sample raised {type(error).__name__}: {error}",))
        entries.append(Entry(OPS[name], report, time.perf_counter() - began))
    return Run(tuple(entries), time.perf_counter() - start)


def load(name: str) -> ModuleType:
    """The module `name`, or the one in the file `name`, imported for the ops it declares."""
    if not name.endswith(".py"):
        return importlib.import_module(name)
    path = Path(name).resolve()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {name}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
