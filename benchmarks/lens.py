"""What recording costs: a training step of a small GPT, forward and backward, with the lens and without.

`python -m benchmarks.lens`. The two take turns in one process; the quickest step of each is compared. Without the lens
there is nothing to measure: it is a Hook like the profiler, and the engine does not know it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import tensorlite as tl
from gpt.config import PRESETS
from gpt.model import GPT
from tensorlite import lens

LIMIT = 3.0  # times the step without


def timed(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    step()
    return 1e3 * (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.lens", description=__doc__, allow_abbrev=False)
    parser.add_argument("--preset", choices=PRESETS, default="shakespeare-char", help="the model")
    parser.add_argument("--turns", type=int, default=7, help="turns of each (default: 7)")
    given = parser.parse_args()
    tl.manual_seed(0)
    model = GPT(PRESETS[given.preset])
    shape = (4, min(model.config.context_length, 128))
    idx, targets = (tl.randint(0, model.config.vocab_size, shape) for _ in range(2))

    def step() -> None:
        model.loss(idx, targets).backward()
        model.zero_grad()

    def recorded() -> None:
        with lens.record():
            step()

    step(), recorded()
    off, on = zip(*[(timed(step), timed(recorded)) for _ in range(given.turns)])
    ratio = min(on) / min(off)
    print(f"{given.preset}, {shape[0]} x {shape[1]} tokens: {min(off):.1f} ms a step, {min(on):.1f} ms recorded")
    print(f"{ratio:.2f} times as long (limit {LIMIT})")
    raise SystemExit(ratio > LIMIT)


if __name__ == "__main__":
    main()
