"""python -m benchmarks.gpu --all --out DIR: every check and every measurement that needs a GPU, in one command.

DIR gets gpu.json and gpu.md after each part, and each part's rows and log. Broken off, it goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import tensorlite as tl
from benchmarks.gpu.parts import Part, run_all
from tensorlite.device import library

CASES = [{"precision": "bf16", "batch": batch} for batch in (16, 32, 64)] + [{"precision": "fp32", "batch": 16}]
_RIGHT, _SPEED = "benchmarks.gpu.right", "benchmarks.gpu.speed"

PARTS = [
    *(
        Part(f"gradients-{dtype}", f"{_RIGHT}:gradients", {"dtype": dtype}, 900)
        for dtype in ("float64", "float32", "float16", "bfloat16")
    ),
    Part("devices", f"{_RIGHT}:devices"),
    Part("memory", f"{_RIGHT}:memory"),
    Part("out-of-memory", f"{_RIGHT}:out_of_memory"),
    Part("determinism", f"{_RIGHT}:determinism"),
    Part("cuda-graph", f"{_RIGHT}:cuda_graph"),
    Part("parity", f"{_RIGHT}:parity", limit=1800),
    Part("products", f"{_SPEED}:products"),
    Part("attention", f"{_SPEED}:attention"),
    Part("kernels", f"{_SPEED}:kernels", limit=900),
    *(
        Part(f"train-{precision}-{batch}-{engine}", f"{_SPEED}:train", {**case, "engine": engine}, 900)
        for case in CASES
        for precision, batch in [case.values()]
        for engine in ("tensorlite", "tensorlite.graph", "torch", "torch.compile")
    ),
    Part("against-torch", f"{_SPEED}:against_torch", always=True),
]  # fmt: skip


def missing() -> str | None:
    """What this machine lacks, in a sentence; None if it has a GPU that can be used."""
    try:
        library("cuda")
    except RuntimeError as error:
        return str(error)
    return None


def machine() -> dict[str, Any]:
    cupy = library("cuda")
    driver, runtime = cupy.cuda.runtime.driverGetVersion(), cupy.cuda.runtime.runtimeGetVersion()
    versions = {}
    for package in (
        "tensorlite",
        "numpy",
        "cupy-cuda13x",
        "cupy-cuda12x",
        "nvidia-cublas",
        "nvidia-cudnn-frontend",
        "torch",
    ):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "date": date.today().isoformat(),
        "GPU": tl.cuda.get_device_name(),
        "driver": driver,
        "CUDA": runtime,
        **versions,
    }


def main(argv: Sequence[str] | None = None) -> int:
    names = [part.name for part in PARTS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--all", action="store_true", help="every part")
    parser.add_argument(
        "--part", action="append", default=[], metavar="NAME", help=f"only this one: {', '.join(names)}"
    )
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parents[1] / "results" / "gpu", help="folder of the results"
    )
    parser.add_argument("--again", action="store_true", help="also what the folder says is done")
    asked = parser.parse_args(argv)
    unknown = [name for name in asked.part if name not in names]
    if unknown or not (asked.all or asked.part):
        parser.error(f"there is no part {', '.join(unknown)}" if unknown else "give --all, or --part NAME")
    if lacks := missing():
        print(f"benchmarks.gpu: {lacks}", file=sys.stderr)
        return 2
    if find_spec("torch") is None:
        print("PyTorch is not installed: nothing is compared with it")
    chosen = [part for part in PARTS if asked.all or part.name in asked.part]
    outcomes = run_all(chosen, asked.out, machine(), asked.again)
    wrong = [name for name, outcome in outcomes.items() if not outcome.ok]
    print(f"{asked.out / 'gpu.md'}: " + (f"not as wanted: {', '.join(wrong)}" if wrong else "all as wanted"))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
