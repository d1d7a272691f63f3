"""What saving costs a run: `python -m benchmarks.saving`.

Trains a GPT and times its steps: those during which nothing is saved, those during which a thread writes a checkpoint,
and how long a step waits for the copy; beside them, what writing takes when training waits for it.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import tensorlite as tl
from benchmarks.turns import write as write_results
from gpt.checkpoint import save_model
from gpt.config import GPTConfig
from gpt.model import GPT
from gpt.options import option, parse, run
from train import checkpoint
from train.saving import Saver


@dataclass(frozen=True)
class Config:
    n_layer: int = option(6, "blocks")
    n_embd: int = option(384, "width of the model")
    batch_size: int = option(4, "sequences of 256 tokens in a step")
    saves: int = option(3, "checkpoints")


def main(argv: Sequence[str]) -> None:
    config = parse(Config, argv, {"saving": Config()}, "saving", "saving", "Time steps while checkpoints are written.")
    model = GPT(GPTConfig(vocab_size=5000, n_layer=config.n_layer, n_embd=config.n_embd, n_head=6, context_length=256))
    optimizer = tl.optim.AdamW(model.parameters(), lr=1e-4)
    ids = tl.randint(0, 5000, (config.batch_size, 257))

    def step() -> float:
        start = time.perf_counter()
        model.loss(ids[:, :-1], ids[:, 1:]).backward()
        optimizer.step()
        optimizer.zero_grad()
        return time.perf_counter() - start

    def write(model: GPT, folder: Path) -> None:
        save_model(model, folder / "model.safetensors")

    quiet, during, copies, waits = [step() for _ in range(9)][1:], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        saver = Saver(Path(folder), model, write, keep=1)
        for i in range(config.saves + 1):
            start = time.perf_counter()
            saver.save(checkpoint.name(i), {"optimizer": optimizer.state_dict()})
            copies.append(time.perf_counter() - start)
            while saver.busy:
                during.append(step())
            start = time.perf_counter()
            state = {"optimizer": optimizer.state_dict()}
            checkpoint.save(Path(folder, "waiting"), checkpoint.name(i), lambda here: write(model, here), state)
            waits.append(time.perf_counter() - start)
        size = sum(file.stat().st_size for file in Path(folder, "checkpoints").rglob("*.*") if file.is_file())
    print(f"a checkpoint has {size / 1e6:,.0f} MB, of a model with {model.num_parameters():,} parameters")
    print(f"a step takes {milli(quiet)}; {milli(during)} while a checkpoint is written beside it")
    print(f"saving stops training for {milli(copies[1:])} (the first time {1e3 * copies[0]:,.0f} ms)")
    print(f"it would for {milli(waits[1:])}, were it written at once")
    medians = {"step": quiet, "step_while_writing": during, "stop": copies[1:], "stop_if_written_at_once": waits[1:]}
    results = {f"{name}_ms": 1e3 * statistics.median(seconds) for name, seconds in medians.items()}
    print(f"wrote {write_results('saving', {**asdict(config), 'checkpoint_mb': size / 1e6, **results})}")


def milli(seconds: Sequence[float]) -> str:
    """The median, for people."""
    return f"{1e3 * statistics.median(seconds):,.0f} ms"


if __name__ == "__main__":
    run(main, "saving")
