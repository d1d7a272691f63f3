"""What `train.plan` says of a run, and what the run takes: `python -m benchmarks.plan`.

Each case is planned in one process and trained in another, by the loop that all scripts train in, on random tokens.
They take turns, so that what disturbs the machine disturbs both. The figures of a case that is not run stay as they
were in the results' file.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import tensorlite as tl
from benchmarks.turns import machine, peak_bytes, write
from gpt.checkpoint import save_model
from gpt.config import GPTConfig
from gpt.model import GPT
from tensorlite.machine import resident_memory
from train import plan
from train.footprint import footprint
from train.loop import Loop, Task
from train.pace import measure
from train.run import Run

ONCE = "--checkpoint-every none --no-measure-peak"  # saved at the end
CASES = {  # what is asked for, and the steps in a turn, of which the last is not timed
    "4x128, 12 x 64": (f"--model shakespeare-char --batch 12 {ONCE}", 20),
    "6x384, 16 x 256": (f"--model shakespeare-char-gpu --batch 16 {ONCE}", 2),
    "6x384, 4 x 256, saving": ("--model shakespeare-char-gpu --batch 4 --checkpoint-every 1 --no-measure-peak", 3),
    "gpt2, 1 x 256": (f"--model gpt2 --context-length 256 --batch 1 {ONCE}", 2),
    "gpt2, 4 x 256": (f"--model gpt2 --context-length 256 --batch 4 {ONCE}", 2),
    "gpt2, 2 x 512": (f"--model gpt2 --context-length 512 --batch 2 {ONCE}", 2),
    "gpt2, 3 times 1 x 256": (f"--model gpt2 --context-length 256 --batch 1 --accumulation 3 {ONCE}", 2),
    "gpt2-medium in 2 blocks, 2 x 512": (f"--model gpt2-medium --n-layer 2 --context-length 512 --batch 2 {ONCE}", 2),
}
LIMITS = {"bytes": 0.15, "seconds": 0.25}


def planned(config: plan.Config, gpt: GPTConfig) -> None:
    """Answers with bytes, and then in each turn with the seconds of a step, without taking one."""
    needed = plan.total(footprint(gpt, config.micro_batch, config.accumulation), config, resident_memory())
    answer = str(needed)
    while _asked(answer):
        answer = str(measure(gpt, config.micro_batch).step(gpt.n_layer, config.accumulation))


def trained(config: plan.Config, gpt: GPTConfig) -> None:
    """Answers with the seconds of a step after each turn, and at the end with bytes."""
    model = GPT(gpt)
    ids = tl.randint(0, gpt.vocab_size, (4 * config.micro_batch, gpt.context_length))
    loader = tl.data.DataLoader(tl.data.TensorDataset(ids, ids), config.micro_batch)
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder, "run"), "{}")

        def seconds() -> str:
            """Of a step of the turn that is over."""
            speeds = [line["tokens_per_second"] for line in run.metrics[1 - config.eval_every :]]
            return str(config.tokens_per_step / statistics.median(speeds))

        def turn(step: int, last: bool) -> dict[str, float]:
            if not last:
                _asked(seconds() if step else "ready")
            return {}

        task = Task(
            model,
            loader,
            loss=lambda batch: model.loss(*batch),
            count=lambda batch: batch[0].numel(),
            evaluate=turn,
            write=lambda model, folder: save_model(model, folder / "model.safetensors"),
        )
        Loop(task, config, run).train()
        _asked(seconds())
    _asked(str(peak_bytes()))


def _asked(answer: str) -> bool:
    """Answer, and wait until the next question; False if there will be none."""
    print(f"answer {answer}", flush=True)
    return bool(sys.stdin.readline())


class Worker:
    """A process that plans or trains a case."""

    def __init__(self, how: str, flags: str):
        command = [sys.executable, "-m", "benchmarks.plan", "--worker", how, flags]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.first = self.answer()

    def answer(self) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("answer "):
                return line.split()[1]
        raise RuntimeError(f"{shlex.join(self.process.args)} ended")  # type: ignore[arg-type]

    def ask(self) -> float:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.answer())


def compare(flags: str, steps: int, turns: int) -> dict[str, dict[str, float]]:
    """Bytes, and seconds of a step: planned, and measured. The first turn, in which memory is fresh, does not count."""
    said = Worker("planned", flags)
    found = Worker("trained", f"{flags} --steps {steps * (turns + 1)} --eval-every {steps} --log-every 1")
    try:
        found.ask()
        seconds = [(said.ask(), found.ask()) for _ in range(turns)]
        peak = found.ask()
    finally:
        said.process.kill()
        found.process.kill()
    times = [statistics.median(column) for column in zip(*seconds)]
    return {
        "planned": {"bytes": float(said.first), "seconds": times[0]},
        "measured": {"bytes": peak, "seconds": times[1]},
        "off": {"bytes": float(said.first) / peak - 1, "seconds": times[0] / times[1] - 1},
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.plan", description=__doc__, allow_abbrev=False)
    parser.add_argument("--case", choices=CASES, action="append", help="one of them only (may be repeated)")
    parser.add_argument("--turns", type=int, default=3, help="turns of each process (default: 3)")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        how, flags = given.worker
        config = plan.asked(flags.split())
        {"planned": planned, "trained": trained}[how](config, config.gpt_config(plan.vocabulary(config)))
        return
    file = Path(__file__).parent / "results" / "plan.json"
    cases: dict[str, Any] = json.loads(file.read_text())["cases"] if file.exists() else {}
    print(machine()["cpu"])
    print(f"{'':<34}{'memory: planned':>17}{'measured':>12}{'':>6}{'time: planned':>18}{'measured':>12}")
    for name in given.case or CASES:
        cases[name] = found = compare(*CASES[name], given.turns)
        (bytes_said, said), (bytes_found, seconds), (off, off_time) = (each.values() for each in found.values())
        print(
            f"{name:<34}{bytes_said / 2**20:>13,.0f} MiB{bytes_found / 2**20:>8,.0f} MiB{off:>+6.0%}"
            f"{1e3 * said:>15,.0f} ms{1e3 * seconds:>9,.0f} ms{off_time:>+6.0%}",
            flush=True,
        )
        write("plan", {"cases": cases})
    wrong = [f"{name} ({what})" for name in cases for what in LIMITS if abs(cases[name]["off"][what]) > LIMITS[what]]
    print(f"further off than 15% of memory, 25% of time: {', '.join(wrong) or 'none'}; wrote {file}")


if __name__ == "__main__":
    main()
