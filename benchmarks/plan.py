"""What `train.plan` says of a run, and what the run takes: `python -m benchmarks.plan`.

Each case is planned in one process and trained in another, by the loop that all scripts train in, on random tokens. The
figures of a case that is not run stay as they were in the results' file.
"""

from __future__ import annotations

import argparse
import json
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

ALONE = "--checkpoint-every none --no-measure-peak"
CASES = {
    "4x128, 12 x 64": f"--model shakespeare-char --batch 12 {ALONE} --steps 40",
    "6x384, 16 x 256": f"--model shakespeare-char-gpu --batch 16 {ALONE} --steps 5",
    "6x384, 4 x 256, saving": "--model shakespeare-char-gpu --batch 4 --checkpoint-every 1 --no-measure-peak --steps 8",
    "gpt2, 1 x 256": f"--model gpt2 --context-length 256 --batch 1 {ALONE} --steps 5",
    "gpt2, 4 x 256": f"--model gpt2 --context-length 256 --batch 4 {ALONE} --steps 4",
    "gpt2, 2 x 512": f"--model gpt2 --context-length 512 --batch 2 {ALONE} --steps 4",
    "gpt2, 1 x 256, 3 times": f"--model gpt2 --context-length 256 --batch 1 --accumulation 3 {ALONE} --steps 3",
    "2 blocks of gpt2-medium, 2 x 512": f"--model gpt2-medium --n-layer 2 --context-length 512 --batch 2 {ALONE} --steps 5",
}
LIMITS = {"memory": 0.15, "time": 0.25}


def planned(config: plan.Config, gpt: GPTConfig) -> dict[str, float]:
    """Bytes, and seconds of a step, without taking one."""
    needed = plan.total(footprint(gpt, config.micro_batch, config.accumulation), config, resident_memory())
    return {"bytes": needed, "seconds": measure(gpt, config.micro_batch).step(gpt.n_layer, config.accumulation)}


def trained(config: plan.Config, gpt: GPTConfig) -> dict[str, float]:
    """The same, of a run. Its first step, for which all memory is fresh, is not timed."""
    model = GPT(gpt)
    ids = tl.randint(0, gpt.vocab_size, (4 * config.micro_batch, gpt.context_length))
    loader = tl.data.DataLoader(tl.data.TensorDataset(ids, ids), config.micro_batch)
    task = Task(
        model,
        loader,
        loss=lambda batch: model.loss(*batch),
        count=lambda batch: batch[0].numel(),
        evaluate=lambda step, last: {},
        write=lambda model, folder: save_model(model, folder / "model.safetensors"),
    )
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder, "run"), "{}")
        Loop(task, config, run).train()
        speeds = [line["tokens_per_second"] for line in run.metrics if line["step"] > 1]
    return {"bytes": peak_bytes(), "seconds": config.tokens_per_step / statistics.median(speeds)}


def worker(how: str, flags: str) -> None:
    config = plan.asked([*flags.split(), "--log-every", "1", "--eval-every", "1000000"])
    gpt = config.gpt_config(plan.vocabulary(config))
    print(json.dumps({"planned": planned, "trained": trained}[how](config, gpt)))


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.plan", description=__doc__, allow_abbrev=False)
    parser.add_argument("--case", choices=CASES, action="append", help="one of them only (may be repeated)")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        worker(*given.worker)
        return
    file = Path(__file__).parent / "results" / "plan.json"
    cases: dict[str, Any] = json.loads(file.read_text())["cases"] if file.exists() else {}
    print(
        f"{machine()['cpu']}\n{'':<40}{'memory: planned':>17}{'measured':>10}{'':>7}{'time: planned':>16}{'measured':>10}"
    )
    for name in given.case or CASES:
        said, found = (_in_a_process(how, CASES[name]) for how in ("planned", "trained"))
        off = {what: said[unit] / found[unit] - 1 for what, unit in (("memory", "bytes"), ("time", "seconds"))}
        cases[name] = {"planned": said, "trained": found, "off": off}
        print(
            f"{name:<40}{said['bytes'] / 2**20:>13,.0f} MiB{found['bytes'] / 2**20:>6,.0f} MiB{off['memory']:>+7.0%}"
            f"{1e3 * said['seconds']:>13,.0f} ms{1e3 * found['seconds']:>7,.0f} ms{off['time']:>+7.0%}"
        )
    wrong = [f"{name} ({what})" for name in cases for what in LIMITS if abs(cases[name]["off"][what]) > LIMITS[what]]
    print(
        f"more than {LIMITS['memory']:.0%} of memory or {LIMITS['time']:.0%} of time off: {', '.join(wrong) or 'none'}"
    )
    print(f"wrote {write('plan', {'cases': cases})}")


def _in_a_process(how: str, flags: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.plan", "--worker", how, flags]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(printed.splitlines()[-1])


if __name__ == "__main__":
    main()
