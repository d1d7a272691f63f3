"""Pretrain a GPT on text: `python -m train.pretrain`.

Without arguments it trains a small GPT on the Python language reference, offline, in about three minutes on two CPU
cores, and leaves a run folder with the model, the loss curve and what the model wrote along the way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tensorlite as tl
from gpt.checkpoint import load_model, save_model
from gpt.generate import generate
from gpt.model import GPT
from gpt.options import UsageError, run, to_json
from gpt.tokenizer import Tokenizer, load_tokenizer
from train import checkpoint
from train.corpus import Corpus, TokenArray, Windows, make_tokenizer, read, split
from train.corpus.folder import is_shards, open_corpus
from train.loop import Loop, Task
from train.pictures import loss_curve
from train.presets import PRESETS, Config
from train.recipe import check_device, configured
from train.run import Run, unused


def configuration(argv: Sequence[str]) -> Config:
    """What the command line asks for."""
    return configured(Config, argv, PRESETS, "python-docs", "pretrain", "Pretrain a GPT on text.")


def main(argv: Sequence[str]) -> None:
    config = configuration(argv)
    if config.resume is None:
        start(config)
    else:
        resume(config, config.resume)


def start(config: Config) -> None:
    """A new run."""
    corpus = read_corpus(config)
    folder = config.out or unused(Path("runs") / config.name)
    check_device(config.device)
    out = Run.create(folder, to_json(config))
    corpus.tokenizer.save(out.path / "tokenizer.json")
    tl.manual_seed(config.seed)
    train(config, corpus, GPT(config.model(corpus.tokenizer.vocab_size)), out, {})


def resume(config: Config, folder: Path) -> None:
    """Go on with a run, with the same bits as if it had never stopped."""
    try:
        tokenizer = load_tokenizer(folder / "tokenizer.json")
    except (OSError, ValueError) as error:
        raise UsageError(f"--resume {folder}: {error}") from None
    corpus = read_corpus(config, tokenizer)
    check_device(config.device)
    saved, state = checkpoint.load(folder)
    try:
        model = load_model(saved / "model.safetensors")
    except (OSError, ValueError) as error:
        raise UsageError(f"--resume {folder}: {error}") from None
    if tokenizer.vocab_size != model.config.vocab_size:
        raise UsageError(
            f"--resume {folder}: tokenizer.json has {tokenizer.vocab_size:,} tokens and the model "
            f"{model.config.vocab_size:,}, so one of the two is from another run"
        )
    train(config, corpus, model, Run.open(folder, state["step"]), state)


def read_corpus(config: Config, tokenizer: Tokenizer | None = None) -> Corpus:
    """The tokens of --data, shards or text; of `tokenizer`, where a run that goes on has one already."""
    if is_shards(config.data):
        return open_corpus(config.data, tokenizer or config.tokenizer, config.context_length)
    text, source = read(config.data)
    tokenizer = tokenizer or make_tokenizer(config.tokenizer, text, config.vocab_size)
    return split(text, tokenizer, config.val_fraction, config.context_length, source)


def loader_of(config: Config, corpus: Corpus) -> tl.data.DataLoader:
    """The batches of training windows, in the order that the seed says."""
    windows = Windows(corpus.train, config.context_length, config.stride or config.context_length)
    return tl.data.DataLoader(
        windows,
        batch_size=min(config.batch_size, len(windows)),
        shuffle=True,
        drop_last=True,
        collate_fn=tuple,  # Windows gives whole batches
        generator=tl.Generator().manual_seed(config.seed),
        pin_memory=tl.device(config.device).type == "cuda",
    )


def train(config: Config, corpus: Corpus, model: GPT, out: Run, state: dict[str, Any]) -> None:
    """Train `model`, from the beginning or from `state`, and say how it went and how to go on."""
    loader = loader_of(config, corpus)

    def evaluate(step: int, last: bool) -> dict[str, float]:
        results = {"val_loss": mean_loss(model, corpus.val, config, None if last else config.eval_batches)}
        if config.sample_every and (step % config.sample_every == 0 or last):
            out.sample(step, sample(model, corpus.tokenizer, config))
        return results

    task = Task(
        model,
        loader,
        loss=lambda batch: model.loss(*(ids.to(config.device, non_blocking=True) for ids in batch)),
        count=lambda batch: batch[0].numel(),
        evaluate=evaluate,
        write=lambda model, folder: save_model(model, folder / "model.safetensors"),
        data=corpus.checksum,
        flops_per_token=model.flops_per_token(),
    )
    loop = Loop(task, config, out, state)
    _introduce(config, corpus, model, loop.steps, loader.batch_size)
    finished = loop.train()
    uniform = math.log(corpus.tokenizer.vocab_size)
    loss_curve(out.metrics, out.path / "loss.png", f"{config.name}: {model.num_parameters():,} parameters", uniform)
    if finished:
        _conclude(config, corpus, model, out, loop)
    else:
        print(f"stopped after step {loop.step:,} of {loop.steps:,}; everything is saved in {out.path}")
    _next_steps(config, out, loop.step, finished)


@tl.no_grad()
def mean_loss(model: GPT, tokens: TokenArray, config: Config, batches: int | None) -> float:
    """The loss per token over the windows of `tokens`, or over as many of them as `batches` hold, evenly spread."""
    windows = Windows(tokens, config.context_length, config.context_length)
    count = len(windows) if batches is None else min(len(windows), batches * config.batch_size)
    chosen = np.linspace(0, len(windows) - 1, count).astype(int)
    total = 0.0
    for first in range(0, count, config.batch_size):
        part = chosen[first : first + config.batch_size]
        x, y = (ids.to(config.device) for ids in windows.__getitems__(part))
        total += model.loss(x, y).item() * len(part)
    return total / count


def sample(model: GPT, tokenizer: Tokenizer, config: Config) -> str:
    """A text that the model writes after the prompt. Its random numbers are its own: training is not changed by it."""
    try:
        ids = tokenizer.encode(config.prompt, allowed_special=["<|endoftext|>"])
    except ValueError:  # a character that the text does not have
        ids = [0]
    generator = tl.Generator().manual_seed(config.seed)
    idx = tl.tensor([ids or [0]], dtype=tl.int64, device=config.device)
    out = generate(model, idx, config.sample_tokens, temperature=0.8, top_k=200, generator=generator)
    return tokenizer.decode(out[0].tolist())


def _introduce(config: Config, corpus: Corpus, model: GPT, steps: int, batch_size: int) -> None:
    tokenizer, c = corpus.tokenizer, config
    print(f"text     {corpus.source}")
    print(f"tokens   {len(corpus.train):,} to train on, {len(corpus.val):,} to validate")
    what = tokenizer.kind if tokenizer.kind in ("characters", "words") else "pieces of words"
    print(f"         of {tokenizer.vocab_size:,} different {what}")
    shape = f"{c.n_layer} blocks, {c.n_head} heads, {c.n_embd} wide, context {c.context_length}"
    print(f"model    {model.num_parameters():,} parameters: {shape}")
    per_step = batch_size * config.accumulation * config.context_length
    print(f"training {steps:,} steps of {per_step:,} tokens on {config.device}")


def _conclude(config: Config, corpus: Corpus, model: GPT, out: Run, loop: Loop) -> None:
    model.eval()
    val = out.metrics[-1]["val_loss"]
    train_loss = mean_loss(model, corpus.train, config, max(config.eval_batches, 1))
    minutes, seconds = divmod(round(loop.seconds), 60)
    print(f"done     {loop.step:,} steps in {minutes} min {seconds} s of training")
    print(f"loss     {train_loss:.4f} on training text, {val:.4f} on validation text (perplexity {math.exp(val):.2f})")
    print(f"wrote    {out.path}/: loss.png (the curve), samples.txt (what it wrote), metrics.jsonl, checkpoints/")


def _next_steps(config: Config, out: Run, step: int, finished: bool) -> None:
    print("go on")
    print(f"  sample       python -m gpt.generate --model {out.path} --prompt {'The '!r} --max-new-tokens 300")
    more = f" --steps {2 * step}" if finished else ""
    print(f"  train on     python -m train.pretrain --resume {out.path}{more}")
    print("  your text    python -m train.pretrain --data FILE.txt")
    print(
        "  larger       python -m train.pretrain --n-layer 6 --n-embd 384 --n-head 6 --context-length 256 --dropout 0.2"
    )
    print("  GPT-2 small  python -m train.pretrain --preset gpt2-124m --data FILE.txt")


if __name__ == "__main__":
    run(main, "pretrain")
