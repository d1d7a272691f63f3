"""The configuration of pretraining, and the runs that have names."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gpt.options import UsageError, option
from train.recipe import AS_IN_THE_BOOK, Recipe, Shape


@dataclass(frozen=True)
class Config(Shape, Recipe):
    """Everything that a run depends on. `config.json` in its folder holds it."""

    name: str = option("python-docs", "name of the run; it goes to runs/NAME unless --out says otherwise")
    data: tuple[str, ...] = option(
        (),
        "UTF-8 text files, tinyshakespeare or the-verdict, or a folder or URL of token shards; without any, the Python "
        "language reference",
    )
    tokenizer: str = option(
        "characters", "what a token is: characters, words, bpe, gpt2, or a tokenizer's file or folder"
    )
    vocab_size: int = option(4096, "tokens that --tokenizer bpe learns from the text")
    val_fraction: float = option(0.1, "the last part of the text, kept for validation")
    stride: int | None = option(1, "tokens between the starts of two training windows; none: the context length")
    eval_batches: int = option(20, "micro-batches in a validation along the way; the last one takes all of the text")
    sample_every: int = option(200, "steps between samples; 0 writes none")
    sample_tokens: int = option(300, "tokens in a sample")
    prompt: str = option("\n", "what a sample begins with")

    MAY_CHANGE = Recipe.MAY_CHANGE | {"eval_batches", "sample_every", "sample_tokens", "prompt"}

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "stride", "eval_batches", "sample_tokens")
        self.at_least(0, "sample_every")
        if not 0 < self.val_fraction < 1:
            raise UsageError(f"--val-fraction lies between 0 and 1, and {self.val_fraction} does not")
        self.gpt_config(1)


PYTHON_DOCS = Config()
PRESETS = {
    "python-docs": PYTHON_DOCS,
    # nanoGPT's config/train_shakespeare_char.py, as its README changes it for a laptop's CPU.
    "shakespeare-char": replace(
        PYTHON_DOCS,
        name="shakespeare-char",
        data=("tinyshakespeare",),
        n_embd=128,
        init_std=0.05,
        context_length=64,
        steps=2000,
        batch_size=12,
        lr=1e-3,
        min_lr=1e-4,
        eval_every=250,
        sample_every=500,
        checkpoint_every="250",
    ),
    # The book's chapter 5: GPT-2's 124M configuration with a head of its own and PyTorch's first values, on one short
    # story. Its embeddings start fifty times larger than GPT-2's, which is why it learns the story by heart so fast.
    "the-verdict": replace(
        PYTHON_DOCS,
        name="the-verdict",
        data=("the-verdict",),
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
        **AS_IN_THE_BOOK,
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
        data=("corpus.txt",),
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
        checkpoint_every="1000",
    ),
}
