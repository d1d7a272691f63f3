"""Which text a step was trained on: `python -m train.seen runs/NAME --step 120`, where the loss has a spike say.

The order of the data depends on the run's seed and options alone, so that it is found without training anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorlite as tl
from gpt.checkpoint import latest_weights
from gpt.options import UsageError, from_json, option, parse, run
from gpt.tokenizer import load_tokenizer
from tensorlite.data.sampler import after
from tensorlite.serialize import peek
from train import pretrain
from train.checkpoint import TRAINING
from train.corpus import Corpus
from train.record import read_record
from train.run import Run
from train.tables import shown


@dataclass(frozen=True)
class Config:
    run: tuple[str, ...] = option((), "folder of a run of train.pretrain; --run may be left out")
    step: int = option(1, "the step, as metrics.jsonl counts them")
    windows: int = option(4, "windows of each micro-batch that are printed")


def main(argv: Sequence[str]) -> None:
    about = "Print what a step was trained on."
    config = parse(Config, argv, {"seen": Config()}, "seen", "seen", about, words="run")
    if len(config.run) != 1:
        raise UsageError("which run? name its folder: python -m train.seen runs/NAME --step 120")
    folder = Path(config.run[0])
    record = read_record(folder)
    if record.kind != "pretrain":
        raise UsageError(f"{folder} is a run of train.{record.kind}; of train.pretrain alone the text can be shown")
    if not 1 <= config.step <= record.last.get("step", 0):
        raise UsageError(f"--step is from 1 to {record.last.get('step', 0):,}, as far as {folder} has logged")
    options, corpus = _reopened(folder)
    loader = pretrain.loader_of(options, corpus)
    for line in record.metrics:
        if line["step"] == config.step:
            print(", ".join(f"{name} {shown(value)}" for name, value in line.items() if value is not None))
    for epoch, batch, numbers in micro_batches(loader, config.step, options.accumulation):
        print(f"\nepoch {epoch}, micro-batch {batch}: {len(numbers)} windows")
        for number in numbers[: max(config.windows, 0)]:
            x, y = loader.dataset[number]  # (T,), (T,)
            first = number * loader.dataset.stride
            text = corpus.tokenizer.decode([*x.tolist(), *y.tolist()[-1:]])
            print(f"  tokens {first:,} to {first + len(x):,}: {text!r}")


def micro_batches(loader: tl.data.DataLoader, step: int, accumulation: int) -> Iterator[tuple[int, int, list[int]]]:
    """The micro-batches of a step, from 1 on: the epoch, the number in it, and the numbers of the samples. `loader` is
    as it was when training began."""
    sampler: Any = loader.batch_sampler
    epoch, batch = divmod((step - 1) * accumulation, len(loader))
    for _ in range(epoch):
        after(sampler, 0)  # an epoch's order is drawn from where the one before left the generator
    order = after(sampler, batch)
    for _ in range(accumulation):
        numbers = next(order, None)
        if numbers is None:
            epoch, batch, order = epoch + 1, 0, after(sampler, 0)
            numbers = next(order)
        yield epoch, batch, numbers
        batch += 1


def _reopened(folder: Path) -> tuple[pretrain.Config, Corpus]:
    """The options of a run, and the text that it was trained on. Raises UsageError if that is another text now."""
    options = from_json(
        pretrain.Config, Run.config_text(folder), f"{folder}/config.json", optional=pretrain.Config.MAY_CHANGE
    )
    try:
        corpus = pretrain.read_corpus(options, load_tokenizer(folder / "tokenizer.json"))
        known = peek(latest_weights(folder, TRAINING))["data"]
    except (OSError, ValueError, LookupError) as error:
        raise UsageError(f"{folder}: {error}") from None
    if known != corpus.checksum:
        raise UsageError(f"{folder}: its data are others now (checksum {corpus.checksum}, it was {known})")
    return options, corpus


if __name__ == "__main__":
    run(main, "seen")
