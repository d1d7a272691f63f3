"""How a run survives kill -9: `python -m benchmarks.kill --kills 200`.

One run of `train.pretrain` that saves after every step is killed again and again at random moments and resumed, and
held against one that nobody disturbed. Each child is forked from a server that has everything imported, so that the
moments fall into training and saving, and not into Python's start.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import tensorlite as tl
from gpt.checkpoint import checkpoints, latest_weights
from gpt.options import UsageError, option, parse, run
from train import checkpoint, pretrain

SMALL = """
    --n-layer 1 --n-head 2 --n-embd 16 --context-length 16 --dropout 0.1 --batch-size 4 --accumulation 3 --warmup 2
    --eval-every 5 --eval-batches 2 --sample-every 0 --log-every 1 --checkpoint-every 1 --no-measure-peak
    --schedule constant
"""


@dataclass(frozen=True)
class Config:
    kills: int = option(200, "how often the run is killed")
    seed: int = option(0, "where the moments come from")


def main(argv: Sequence[str]) -> None:
    config = parse(Config, argv, {"kill": Config()}, "kill", "kill", "Kill a run at random moments and resume it.")
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        counts = kills(config.kills, Path(folder) / "run", config.seed)
    print(f"{counts['kills']} kills of a run that saves after every step, in {time.perf_counter() - start:.0f} s")
    print(f"{counts['loadable']} times it went on from a whole checkpoint, {counts['oldest']} steps old at most")
    print(f"{counts['while saving']} times it was writing a checkpoint; {counts['torn']} torn lines in metrics.jsonl")
    print(f"{counts['steps']} steps in the end, with the bits of an undisturbed run: {counts['same bits']}")


def kills(count: int, folder: Path, seed: int) -> dict[str, int]:
    """Kill and resume a run in `folder` so often; how that went, in numbers.

    oldest  the steps that were logged and had to be trained again, at most
    """
    rng = random.Random(seed)
    text = folder.with_name("text.txt")
    text.write_text("".join(f"{n} times {n} is {n * n}.\n" for n in range(60)), encoding="utf-8")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["train.pretrain"])
    new = [*SMALL.split(), "--data", str(text), "--out", str(folder), "--steps", "1000000"]
    counts = {"kills": 0, "loadable": 0, "oldest": 0, "while saving": 0, "torn": 0}
    while counts["kills"] < count:
        before = checkpoints(folder)[-1:]
        command = ["--resume", str(folder)] if before else new
        child = context.Process(target=_train, args=(command,), daemon=True)
        child.start()
        if before and rng.random() < 0.2:  # while it starts
            time.sleep(rng.uniform(0, 0.2))
        else:  # while it trains
            while checkpoints(folder)[-1:] in ([], before) and child.is_alive():
                time.sleep(0.0005)
            time.sleep(rng.uniform(0, 0.06))
        if not child.is_alive():
            raise RuntimeError(f"the run ended by itself, after {counts['kills']} kills, with code {child.exitcode}")
        child.kill()
        child.join()
        counts["kills"] += 1
        counts["while saving"] += any((folder / "checkpoints").glob(".step-*.part"))
        lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").split("\n")
        counts["torn"] += lines[-1] != ""
        logged = len(lines) - 2  # a line for step 0, and what comes after the last line's end
        with contextlib.suppress(UsageError):
            _, state = checkpoint.load(folder)
            counts["oldest"] = max(counts["oldest"], logged - state["step"])
            counts["loadable"] += not any(map(checkpoint.damage, checkpoints(folder)))
    counts["steps"] = steps = state["step"] + 1
    for command in (
        ["--resume", str(folder), "--steps", str(steps)],
        [*new, "--out", str(folder.with_name("whole")), "--steps", str(steps), "--checkpoint-every", "none"],
    ):
        child = context.Process(target=_train, args=(command,))
        child.start()
        child.join()
    a, b = (tl.load(latest_weights(path)) for path in (folder, folder.with_name("whole")))
    counts["same bits"] = all(np.array_equal(a[k].numpy(), b[k].numpy()) for k in b if isinstance(b[k], tl.Tensor))
    return counts


def _train(command: list[str]) -> None:
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        pretrain.main(command)


if __name__ == "__main__":
    run(main, "kill")
