"""Let a GPT prefer what people prefer: `python -m train.prefer --start RUN --data FILE --out DIR`.

Direct preference optimisation: answers that were chosen become likelier than those rejected, held to the model that it
starts from, the reference. What the reference thinks of each answer is computed once and kept in the run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import tensorlite as tl
from gpt.checkpoint import load_model, save_model
from gpt.model import GPT
from gpt.options import UsageError, option, run, to_json
from gpt.sequences import evaluating
from gpt.template import template_named
from gpt.tokenizer import Tokenizer
from train import checkpoint, checksum, tuning
from train.ask import tokenizer_of
from train.batching import LengthBuckets, by_length
from train.collate import Sample, collate, encode
from train.instruct import end_of
from train.instructions import Dialogue, OnAnswers, read_entries, single, split
from train.loop import Loop, Task
from train.pictures import curves, loss_curve
from train.preference import Loss, log_probabilities, preference_loss
from train.recipe import AS_IN_THE_BOOK, check_device, configured
from train.run import Run, unused
from train.start import start


@dataclass(frozen=True)
class Config(OnAnswers):
    data: Path | None = option(
        None, "JSON entries with instruction, chosen, rejected and, if need be, input; or preference-1100"
    )
    loss: Loss = option("dpo", "what is minimised: dpo, or ipo, which aims at a fixed difference")
    beta: float = option(0.1, "how strongly the model is held to the one that it starts from")
    label_smoothing: float = option(0.0, "the probability that a pair is the wrong way round, below 0.5 (dpo)")
    average: bool = option(False, "divide an answer's log-probability by its length, as the book does")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beta <= 0:
            raise UsageError(f"--beta is above 0, not {self.beta}")
        if not 0 <= self.label_smoothing < 0.5:
            raise UsageError(f"--label-smoothing is at least 0 and below 0.5, not {self.label_smoothing}")


# The bonus chapter of the book, which starts from its instruction-tuned GPT-2 medium.
BOOK = Config(
    steps=None,
    epochs=1,
    batch_size=8,
    lr=5e-6,
    min_lr=5e-6,
    weight_decay=0.01,
    **AS_IN_THE_BOOK,
    average=True,
    eval_every=5,
    log_every=1,
    seed=123,
)
PRESETS = {
    "book": BOOK,
    # For a small model that train.instruct made here.
    "small": replace(BOOK, average=False, lr=5e-5, min_lr=5e-6, schedule="cosine", warmup=10, clip=1.0, eval_every=10),
}


@dataclass(frozen=True)
class Pair:
    """Two answers to one question, and the reference's log-probabilities of them, (2,)."""

    answers: tuple[Sample, Sample]
    reference: np.ndarray

    def __len__(self) -> int:
        return max(map(len, self.answers))


def configuration(argv: Sequence[str]) -> Config:
    """What the command line asks for."""
    return configured(Config, argv, PRESETS, "small", "prefer", "Let a GPT prefer what people prefer.")


def main(argv: Sequence[str]) -> None:
    config = configuration(argv)
    if config.data is None:
        raise UsageError(
            "--data is missing: name a JSON file of instructions with chosen and rejected answers, or say --data "
            "preference-1100"
        )
    if config.start is None:
        raise UsageError("--start is missing: name a run of train.instruct, which knows how to answer")
    check_device(config.device)
    entries = read_pairs(config.data)
    if (folder := config.resume) is None:
        tl.manual_seed(config.seed)
        model, tokenizer = start(config, [])
        model.to(config.device)
        pairs = encoded(entries, tokenizer, config, model.config.context_length)
        reference = reference_of(model, pairs, config, end_of(tokenizer))
        tuning.prepare(model, config)
        out = Run.create(config.out or unused(Path("runs/prefer")), to_json(config))
        tokenizer.save(out.path / "tokenizer.json")
        tl.save({"log_probabilities": reference}, out.path / "reference.safetensors")
        if config.train == "lora":
            save_model(model, out.path / "base.safetensors")
        train(config, pairs, reference, model, tokenizer, out, {})
    else:
        saved, state = checkpoint.load(folder)
        tokenizer = tokenizer_of(folder, "--resume")
        model = tuning.reload(folder, saved, config, load_model)
        pairs = encoded(entries, tokenizer, config, model.config.context_length)
        try:
            reference = tl.load(folder / "reference.safetensors")["log_probabilities"].numpy()
        except (OSError, ValueError) as error:
            raise UsageError(f"--resume {folder}: {error}") from None
        if len(reference) != len(pairs):
            raise UsageError(f"--resume {folder}: {config.data} is another file than before")
        train(config, pairs, reference, model, tokenizer, Run.open(folder, state["step"]), state)


def read_pairs(path: Path) -> list[tuple[Dialogue, Dialogue]]:
    """The chosen and the rejected dialogue of each entry. Raises UsageError with the entry that has none."""
    pairs = [
        tuple(Dialogue((single(entry, where, key),), "", where, entry) for key in ("chosen", "rejected"))
        for entry, where in read_entries(path)
    ]
    if not pairs:
        raise UsageError(f"--data {path}: there is nothing in it")
    return [(chosen, rejected) for chosen, rejected in pairs]


def encoded(
    entries: Sequence[tuple[Dialogue, Dialogue]], tokenizer: Tokenizer, config: Config, longest: int
) -> list[tuple[Sample, Sample]]:
    """Tokens. Raises UsageError for a pair that is longer than the context: cut, it would compare something else."""
    template, pairs = template_named(config.template), []
    for chosen, rejected in entries:
        pair = encode(chosen, template, tokenizer), encode(rejected, template, tokenizer)
        if max(map(len, pair)) > longest:
            raise UsageError(
                f"{chosen.where}: {max(map(len, pair)):,} tokens are more than the model's context of {longest:,}; "
                "leave this entry out, or start from a model with a longer context"
            )
        pairs.append(pair)
    return pairs


@tl.no_grad()
def reference_of(model: GPT, pairs: Sequence[tuple[Sample, Sample]], config: Config, end: int) -> np.ndarray:
    """What the model, as it is, thinks of each answer: (N, 2) log-probabilities, chosen and rejected."""
    found = np.empty((len(pairs), 2), np.float32)
    numbers = by_length([max(map(len, pair)) for pair in pairs], config.batch_size)
    with evaluating(model):
        for some in tqdm(numbers, "reference", disable=None):
            found[some] = _both(model, [pairs[i] for i in some], config, end).T.cpu().numpy()
    return found


def _both(model: GPT, pairs: Sequence[tuple[Sample, Sample]], config: Config, end: int) -> tl.Tensor:
    """(2, B) log-probabilities of the chosen and of the rejected answers, in one forward."""
    rows = [pair[0] for pair in pairs] + [pair[1] for pair in pairs]
    ids, targets = (x.to(config.device) for x in collate(rows, end, mask_prompt=True))
    return log_probabilities(model, ids, targets, config.average).view(2, len(pairs))


def train(
    config: Config,
    samples: Sequence[tuple[Sample, Sample]],
    reference: np.ndarray,
    model: GPT,
    tokenizer: Tokenizer,
    out: Run,
    state: dict[str, Any],
) -> None:
    """Train `model`, from the beginning or from `state`."""
    end = end_of(tokenizer)
    pairs = [Pair(two, known) for two, known in zip(samples, reference, strict=True)]
    training, validation, test = split(pairs, config.train_fraction, config.test_fraction)

    def gained(some: Sequence[Pair]) -> tl.Tensor:
        """(2, B): how much likelier the answers have become."""
        known = tl.from_numpy(np.stack([pair.reference for pair in some], axis=1)).to(config.device)  # (2, B)
        return _both(model, [pair.answers for pair in some], config, end) - known

    def compared(both: tl.Tensor) -> tl.Tensor:
        return preference_loss(both[0], both[1], config.beta, config.label_smoothing, config.loss)

    @tl.no_grad()
    def measure(part: Sequence[Pair]) -> dict[str, float]:
        batches = by_length([len(pair) for pair in part], config.batch_size)
        with evaluating(model):
            both = tl.cat([gained([part[i] for i in some]) for some in batches], dim=1)  # (2, N)
        chosen, rejected = config.beta * both  # (N,) each: DPO's implicit rewards
        return {
            "loss": compared(both).item(),
            "chosen_reward": chosen.mean().item(),
            "rejected_reward": rejected.mean().item(),
            "margin": (chosen - rejected).mean().item(),
            "accuracy": float((chosen.numpy() > rejected.numpy()).mean()),
        }

    generator = tl.Generator().manual_seed(config.seed)
    lengths = [len(pair) for pair in training]
    loader = tl.data.DataLoader(
        training,
        batch_sampler=LengthBuckets(lengths, config.batch_size, generator),
        collate_fn=list,
        generator=generator,
    )
    task = Task(
        model,
        loader,
        loss=lambda some: compared(gained(some)),
        count=lambda some: sum(int(one.answer.sum()) for pair in some for one in pair.answers),
        evaluate=lambda step, last: {f"val_{name}": value for name, value in measure(validation).items()},
        write=tuning.writer(config, save_model),
        data=checksum.of_arrays(x for pair in training for one in pair.answers for x in (one.ids, one.answer)),
    )
    loop = Loop(task, config, out, state)
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    print(f"data      {config.data}: {len(training):,} pairs to train on, {len(validation):,} to validate")
    print(f"model     {config.start}: {model.num_parameters():,} parameters, {learning:,} learn")
    print(f"training  {loop.steps:,} steps of {config.batch_size * config.accumulation} pairs, {config.loss}")
    finished = loop.train()
    tuning.finish(model, config, save_model, out.path)
    chance = math.log(2) if config.loss == "dpo" else None
    title = f"{config.loss}, beta {config.beta:g}"
    loss_curve(out.metrics, out.path / "loss.png", title, chance, "nats per pair", "ln 2")
    shown = {"val_chosen_reward": "chosen", "val_rejected_reward": "rejected", "val_margin": "margin between them"}
    curves(out.metrics, out.path / "rewards.png", "implicit rewards of the validation pairs", "reward", shown)
    if not finished:
        print(f"stopped after step {loop.step:,} of {loop.steps:,}; everything is saved in {out.path}")
        print(f"train on  python -m train.prefer --resume {out.path}")
        return
    minutes, seconds = divmod(round(loop.seconds), 60)
    print(f"done      {loop.step:,} steps in {minutes} min {seconds} s of training")
    for name, part in (("training", training), ("validation", validation), ("test", test)):
        words = ", ".join(f"{what.replace('_', ' ')} {value:.4f}" for what, value in measure(part).items())
        print(f"{name:10}{words}")
    print(f"wrote     {out.path}/: loss.png, rewards.png, metrics.jsonl, checkpoints/")


if __name__ == "__main__":
    run(main, "prefer")
