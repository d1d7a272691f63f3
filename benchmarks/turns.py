"""Measuring two programs against each other on a noisy machine: own processes, in turns, medians.

Each engine runs in a process of its own, which sets itself up, warms up, and then waits for its turn. The turns go
A B A B …, so that what disturbs the machine disturbs both. A worker is a module's command line with `--worker NAME`;
it calls `serve(step)`, which times `step()` whenever it is told to.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from typing import Any


def serve(step: Callable[[], Any], warmup: int) -> None:
    """Warm up, then for each line on standard input (a number of steps) answer with a line of their times."""
    for _ in range(warmup):
        step()
    print("ready", flush=True)
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
        print(json.dumps({"seconds": times, "peak_bytes": peak_bytes()}), flush=True)


def peak_bytes() -> int:
    """The most memory this process has had. (What getrusage says of a child starts from what its parent had.)"""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) << 10 for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def compare(module: str, engines: Sequence[str], arguments: Sequence[str], turns: int, steps: int) -> dict[str, Any]:
    """Per engine: the median of all its steps, of each turn, and the largest memory its process had.

    An engine that cannot run the case has none of these.
    """
    command = [sys.executable, "-m", module, *arguments, "--worker"]
    workers = {
        name: subprocess.Popen(
            [*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_environment(name)
        )
        for name in engines
    }
    try:
        for name in list(workers):
            if _answer(workers[name]) != "ready":
                print(f"{name} did not start; run it alone: {' '.join([*command, name])}", file=sys.stderr)
                workers.pop(name).kill()
        seconds: dict[str, list[list[float]]] = {name: [] for name in engines}
        peaks = dict.fromkeys(engines, 0)
        for _ in range(turns):
            for name, worker in workers.items():
                assert worker.stdin is not None
                print(steps, file=worker.stdin, flush=True)
                answer = json.loads(_answer(worker))
                seconds[name].append(answer["seconds"])
                peaks[name] = answer["peak_bytes"]
    finally:
        for worker in workers.values():
            worker.kill()
    return {name: {} for name in engines} | {
        name: {
            "median_ms": 1e3 * statistics.median(chain(*seconds[name])),
            "turn_medians_ms": [round(1e3 * statistics.median(turn), 3) for turn in seconds[name]],
            "peak_mib": round(peaks[name] / 2**20),
        }
        for name in workers
    }


def _environment(engine: str) -> dict[str, str]:
    """A peer runs as its users run it: what tensorlite tells the C library is not for it."""
    return dict(os.environ) if engine.startswith("tensorlite") else os.environ | {"TENSORLITE_MALLOC": "system"}


def _answer(worker: subprocess.Popen) -> str:
    assert worker.stdout is not None
    return worker.stdout.readline().strip()


def machine() -> dict[str, Any]:
    """What a number must be read with: the processor, its cores, the versions and the date."""
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next((line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line), cpu)
    versions = {"python": platform.python_version()}
    for package in ("numpy", "torch", "transformers", "jax", "tensorlite"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {"date": date.today().isoformat(), "cpu": cpu, "cores": _cores(), "versions": versions}


def _cores() -> int:
    from tensorlite.parallel import get_num_threads

    return get_num_threads()


def write(name: str, results: dict[str, Any], path: str | None = None) -> Path:
    """Write `results` with the machine to `path`, or to benchmarks/results/<name>.json."""
    path = Path(path or Path(__file__).parent / "results" / f"{name}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine(), **results}, indent=2) + "\n", encoding="utf-8")
    return path
