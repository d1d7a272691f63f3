"""The configuration of pretraining, and the runs that have names."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal

from gpt.config import GPTConfig
from gpt.options import UsageError, option


@dataclass(frozen=True)
class Config:
    """Everything that a run depends on. `config.json` in its folder holds it."""

    name: str = option("python-docs", "name of the run; it goes to runs/NAME unless --out says otherwise")
    data: tuple[Path, ...] = option((), "UTF-8 text files to train on; without any, the Python language reference")
    out: Path | None = option(None, "folder of the run")
    resume: Path | None = option(None, "folder of a run to go on with")
    tokenizer: str = option(
        "characters", "what a token is: characters, words, bpe, gpt2, or a tokenizer's file or folder"
    )
    vocab_size: int = option(4096, "tokens that --tokenizer bpe learns from the text")
    val_fraction: float = option(0.1, "the last part of the text, kept for validation")

    n_layer: int = option(4, "blocks")
    n_head: int = option(4, "attention heads in a block")
    n_embd: int = option(192, "width of the model")
    context_length: int = option(128, "tokens that the model looks at")
    dropout: float = option(0.0, "probability with which training drops a number")
    bias: bool = option(False, "biases in Linear and LayerNorm layers")
    qkv_bias: bool = option(False, "biases of queries, keys and values (none without --bias)")
    tied: bool = option(True, "the head shares its weights with the token embedding")
    init_std: float | None = option(0.04, "standard deviation of the blocks' fresh matrices; 0.02 sqrt(768 / n_embd)")

    steps: int | None = option(600, "optimiser steps; none: as many as --epochs make")
    epochs: int | None = option(None, "passes over the training windows, if --steps is none")
    batch_size: int = option(16, "windows in a micro-batch")
    accumulation: int = option(1, "micro-batches whose gradients make one step")
    stride: int | None = option(1, "tokens between the starts of two training windows; none: the context length")
    lr: float = option(2e-3, "peak learning rate")
    min_lr: float = option(2e-4, "learning rate at the end")
    schedule: Literal["cosine", "linear", "constant"] = option("cosine", "how it falls from the one to the other")
    warmup: int = option(100, "steps in which the learning rate rises from 0")
    weight_decay: float = option(0.1, "AdamW's decay of matrices; vectors are never decayed")
    beta1: float = option(0.9, "AdamW's memory of the gradient")
    beta2: float = option(0.99, "AdamW's memory of the gradient's square")
    clip: float | None = option(1.0, "largest norm of the gradient; none does not clip")

    eval_every: int = option(100, "steps between validations")
    eval_batches: int = option(20, "micro-batches in a validation along the way; the last one takes all of the text")
    sample_every: int = option(200, "steps between samples; 0 writes none")
    sample_tokens: int = option(300, "tokens in a sample")
    prompt: str = option("\n", "what a sample begins with")
    log_every: int = option(10, "steps between lines of metrics.jsonl")
    checkpoint_every: int | None = option(100, "steps between checkpoints; none: at the end and on Ctrl-C")
    seed: int = option(1337, "where all random numbers come from")
    device: Literal["cpu", "cuda"] = option("cpu", "where the model is")

    def __post_init__(self) -> None:
        for name in ("batch_size", "accumulation", "eval_every", "eval_batches", "log_every", "sample_tokens"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name.replace('_', '-')} is at least 1, not {getattr(self, name)}")
        for name in ("steps", "epochs", "stride", "checkpoint_every"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise UsageError(f"--{name.replace('_', '-')} is at least 1, not {getattr(self, name)}")
        for name in ("min_lr", "warmup", "weight_decay", "sample_every"):
            if getattr(self, name) < 0:
                raise UsageError(f"--{name.replace('_', '-')} is at least 0, not {getattr(self, name)}")
        for name in ("lr", "clip"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise UsageError(f"--{name} is above 0, not {getattr(self, name)}")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"--{name} is at least 0 and below 1, not {getattr(self, name)}")
        if self.steps is None and self.epochs is None:
            raise UsageError("how long shall it train? give --steps or --epochs")
        if not 0 < self.val_fraction < 1:
            raise UsageError(f"--val-fraction lies between 0 and 1, and {self.val_fraction} does not")
        self.model(1)

    def model(self, vocab_size: int) -> GPTConfig:
        """The configuration of the model. Raises UsageError if there can be no such model."""
        shared = {f.name for f in fields(self)} & {f.name for f in fields(GPTConfig)} - {"vocab_size"}
        try:
            return GPTConfig(vocab_size=vocab_size, **{name: getattr(self, name) for name in shared})
        except ValueError as error:
            raise UsageError(str(error)) from None


PYTHON_DOCS = Config()
PRESETS = {
    "python-docs": PYTHON_DOCS,
    # nanoGPT's config/train_shakespeare_char.py, as its README changes it for a laptop's CPU.
    "shakespeare-char": replace(
        PYTHON_DOCS,
        name="shakespeare-char",
        data=(Path("tinyshakespeare.txt"),),
        n_embd=128,
        init_std=0.05,
        context_length=64,
        steps=2000,
        batch_size=12,
        lr=1e-3,
        min_lr=1e-4,
        eval_every=250,
        sample_every=500,
        checkpoint_every=250,
    ),
    # The book's chapter 5: GPT-2's 124M configuration with a head of its own and PyTorch's first values, on one short
    # story. Its embeddings start fifty times larger than GPT-2's, which is why it learns the story by heart so fast.
    "the-verdict": replace(
        PYTHON_DOCS,
        name="the-verdict",
        data=(Path("the-verdict.txt"),),
        tokenizer="gpt2",
        n_layer=12,
        n_head=12,
        n_embd=768,
        context_length=256,
        dropout=0.1,
        bias=True,
        tied=False,
        init_std=None,
        steps=None,
        epochs=10,
        batch_size=2,
        stride=None,
        lr=4e-4,
        schedule="constant",
        warmup=0,
        beta2=0.999,
        clip=None,
        eval_every=9,
        sample_every=18,
        sample_tokens=40,
        prompt="Every effort moves you",
        checkpoint_every=None,
        log_every=1,
        seed=123,
    ),
    # GPT-2 small from scratch as nanoGPT trains it: half a million tokens a step, for a large text and a GPU.
    "gpt2-124m": replace(
        PYTHON_DOCS,
        name="gpt2-124m",
        data=(Path("corpus.txt"),),
        tokenizer="gpt2",
        n_layer=12,
        n_head=12,
        n_embd=768,
        context_length=1024,
        bias=True,
        qkv_bias=True,
        init_std=0.02,
        steps=600_000,
        batch_size=12,
        accumulation=40,
        stride=None,
        lr=6e-4,
        min_lr=6e-5,
        warmup=2000,
        beta2=0.95,
        eval_every=1000,
        eval_batches=200,
        sample_every=1000,
        prompt="<|endoftext|>",
        checkpoint_every=1000,
    ),
}

# What may differ when a run goes on: how long it trains and what it reports, not what it learns.
MAY_CHANGE = {"resume", "steps", "epochs", "eval_every", "eval_batches", "sample_every", "sample_tokens", "prompt"}
MAY_CHANGE |= {"log_every", "checkpoint_every", "device"}
