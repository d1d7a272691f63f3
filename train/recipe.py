"""The options that all training scripts share: how to train, and the shape of a model that starts from nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import tensorlite as tl
from gpt.config import GPTConfig
from gpt.options import UsageError, from_json, option, parse
from train.interval import Interval
from train.lock import hold
from train.precision import check_precision
from train.run import Run
from train.tracking import check_tracker

C = TypeVar("C", bound="Recipe")

# How the book trains: AdamW as PyTorch has it, one learning rate, gradients as they come.
AS_IN_THE_BOOK: dict[str, Any] = {"schedule": "constant", "warmup": 0, "beta2": 0.999, "clip": None}


@dataclass(frozen=True)
class Recipe:
    """How a run trains, and where it goes. `config.json` in its folder holds it, with what its script adds."""

    out: Path | None = option(None, "folder of the run")
    resume: Path | None = option(None, "folder of a run to go on with")

    steps: int | None = option(600, "optimiser steps; none: as many as --epochs make")
    epochs: int | None = option(None, "passes over the training data, if --steps is none")
    batch_size: int = option(16, "samples in a micro-batch")
    accumulation: int = option(1, "micro-batches whose gradients make one step")
    lr: float = option(2e-3, "peak learning rate")
    min_lr: float = option(2e-4, "learning rate at the end")
    schedule: Literal["cosine", "linear", "constant"] = option("cosine", "how it falls from the one to the other")
    warmup: int = option(100, "steps in which the learning rate rises from 0")
    weight_decay: float = option(0.1, "AdamW's decay of matrices; vectors are never decayed")
    beta1: float = option(0.9, "AdamW's memory of the gradient")
    beta2: float = option(0.99, "AdamW's memory of the gradient's square")
    clip: float | None = option(1.0, "largest norm of the gradient; none does not clip")

    eval_every: int = option(100, "steps between validations")
    log_every: int = option(10, "steps between lines of metrics.jsonl")
    checkpoint_every: str | None = option(
        "100", "steps between checkpoints, or a time, 10m say; none: at the end and on Ctrl-C"
    )
    keep: int = option(1, "checkpoints that stay, the newest ones")
    keep_best: bool = option(True, "keep also the one with the lowest validation loss")
    skip_outliers: float | None = option(
        None, "skip steps whose loss or gradient is so many deviations above its recent mean, 6 say; none: skip none"
    )
    measure_peak: bool = option(True, "measure the machine's peak at the start, to say what share of it training takes")
    track: Literal["tensorboard", "wandb"] | None = option(
        None, "show the numbers of metrics.jsonl in TensorBoard or Weights & Biases too"
    )
    seed: int = option(1337, "where all random numbers come from")
    device: str = option("cpu", "where to train: cpu, cuda or cuda:N")
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = option(
        "fp32", "numbers of the products; weights are float32 in each"
    )
    cuda_graph: bool = option(False, "record a micro-batch's forward and backward once, and replay it: on a GPU")

    # What may differ when a run goes on: how long it trains and what it reports, not what it learns.
    MAY_CHANGE: ClassVar[frozenset[str]] = frozenset(
        {
            *("resume", "steps", "epochs", "eval_every", "log_every", "device"),
            *("checkpoint_every", "keep", "keep_best", "measure_peak", "track", "cuda_graph"),
        }
    )

    def __post_init__(self) -> None:
        self.at_least(1, "batch_size", "accumulation", "eval_every", "log_every", "steps", "epochs", "keep")
        self.at_least(0, "min_lr", "warmup", "weight_decay")
        self.checkpoints_due()
        for name in ("lr", "clip", "skip_outliers"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise UsageError(f"{flag(name)} is above 0, not {getattr(self, name)}")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"--{name} is at least 0 and below 1, not {getattr(self, name)}")
        if self.cuda_graph and not self.device.startswith("cuda"):
            raise UsageError(f"--cuda-graph is for a GPU, not for --device {self.device}")
        if self.cuda_graph and self.precision == "fp16":
            raise UsageError("--cuda-graph and --precision fp16: its scale changes, and a graph would not; use bf16")
        if self.steps is None and self.epochs is None:
            raise UsageError("how long shall it train? give --steps or --epochs")

    def checkpoints_due(self) -> Interval | None:
        """How often one is made. Raises UsageError if --checkpoint-every says nothing that can be understood."""
        return None if self.checkpoint_every is None else Interval.parse(self.checkpoint_every, "--checkpoint-every")

    def at_least(self, least: int, *names: str) -> None:
        """UsageError for the first of these fields that is smaller; None is never too small."""
        for name in names:
            if (value := getattr(self, name)) is not None and value < least:
                raise UsageError(f"{flag(name)} is at least {least}, not {value}")


@dataclass(frozen=True)
class Shape:
    """The model that a script makes where it starts from nothing."""

    n_layer: int = option(4, "blocks")
    n_head: int = option(4, "attention heads in a block")
    n_embd: int = option(192, "width of the model")
    context_length: int = option(128, "tokens that the model looks at")
    dropout: float = option(0.0, "probability with which training drops a number")
    bias: bool = option(False, "biases in Linear and LayerNorm layers")
    qkv_bias: bool = option(False, "biases of queries, keys and values (none without --bias)")
    tied: bool = option(True, "the head shares its weights with the token embedding")
    init_std: float | None = option(0.04, "standard deviation of the blocks' fresh matrices; 0.02 sqrt(768 / n_embd)")

    def gpt_config(self, vocab_size: int) -> GPTConfig:
        """The configuration of the model. Raises UsageError if there can be no such model."""
        try:
            return GPTConfig(vocab_size=vocab_size, **{f.name: getattr(self, f.name) for f in fields(Shape)})
        except ValueError as error:
            raise UsageError(str(error)) from None


def configured(
    config: type[C], argv: Sequence[str], presets: Mapping[str, C], default: str, prog: str, description: str
) -> C:
    """What the command line asks for; with --resume it is the run's own configuration, of which little may change."""
    asked = parse(config, argv, presets, default, prog, description)
    if (folder := asked.resume) is None:
        check_tracker(asked.track)
        return asked
    if "--preset" in argv:
        raise UsageError("--resume takes its configuration from the run; leave out --preset")
    text = Run.config_text(folder)
    try:
        saved = from_json(config, text, f"{folder}/config.json", optional=config.MAY_CHANGE)
    except UsageError as error:
        raise UsageError(f"--resume {folder}: is it a run of train.{prog}? {error}") from None
    asked = parse(config, argv, {"saved": saved}, "saved", prog, description)
    check_tracker(asked.track)
    hold(folder)  # if another process has it, say so before anything is read
    values = {f.name: (getattr(saved, f.name), getattr(asked, f.name)) for f in fields(config)}
    changed = {name: f"{flag(name)} {now} (it was {then})" for name, (then, now) in values.items() if then != now}
    changed.pop("resume")
    if refused := [words for name, words in changed.items() if name not in config.MAY_CHANGE]:
        free = ", ".join(flag(f.name) for f in fields(config) if f.name in config.MAY_CHANGE - {"resume"})
        raise UsageError(
            f"--resume {folder}: {', '.join(refused)}: what it learns cannot differ from the run's own; start a new "
            f"run, or leave that out (what may differ: {free})"
        )
    if changed:
        print(f"changed  {', '.join(changed.values())}")
    return asked


def flag(name: str) -> str:
    """The option that sets a field."""
    return f"--{name.replace('_', '-')}"


def check_device(name: str, precision: str) -> None:
    """UsageError if this machine has no such device, or not these numbers, before anything is written."""
    try:
        tl.zeros(1, device=name)
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"--{error}") from None
    check_precision(precision, name)
