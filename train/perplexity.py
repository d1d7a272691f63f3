"""How well a model predicts a text: between how many tokens it wavers, on average.

python -m train.evaluate perplexity --model runs/NAME --data FILE.txt
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

import tensorlite as tl
from gpt.model import GPT
from gpt.options import UsageError, option, parse
from gpt.sequences import evaluating
from gpt.trained import Trained
from train.corpus import read_text


@dataclass(frozen=True)
class Config(Trained):
    data: Path | None = option(None, "UTF-8 text file to judge, or tinyshakespeare, the-verdict")
    stride: int | None = option(None, "tokens from one window to the next; none: as many as a window has")
    batch_size: int = option(8, "windows that are computed at once")


class Perplexity(NamedTuple):
    """loss: per token, in nats.   tokens: that were predicted: all but the first"""

    loss: float
    tokens: int

    @property
    def perplexity(self) -> float:
        return math.exp(self.loss)


def perplexity(
    model: GPT, tokens: Sequence[int] | np.ndarray, stride: int | None = None, batch_size: int = 8
) -> Perplexity:
    """The loss of each token but the first, predicted from those before it, averaged.

    The model looks at windows of context_length tokens, which begin every `stride` tokens. Each token is predicted in
    the first window that has it, so that it has at least context_length - stride tokens before it (fewer at the
    beginning of the text). A small stride costs context_length / stride times the work and judges the model with nearly
    the context that it was made for; without one, windows do not overlap.

    ValueError for fewer than two tokens, or a stride that is not from 1 to context_length.
    """
    ids, longest = np.asarray(tokens, dtype=np.int64), model.config.context_length
    stride = longest if stride is None else stride
    if len(ids) < 2:
        raise ValueError(f"perplexity needs two tokens, one to be predicted from the other; the text has {len(ids)}")
    if not 1 <= stride <= longest:
        raise ValueError(f"stride expects a number from 1 to the model's context_length of {longest}, got {stride}")
    if batch_size < 1:
        raise ValueError(f"batch_size expects a number from 1 on, got {batch_size}")
    count = len(ids) - 1  # tokens to be predicted
    width = min(longest, count)
    ends = np.arange(width, count + stride, stride).clip(max=count)  # of the windows; the last one reaches back farther
    before = np.concatenate([[0], ends[:-1]])  # what is predicted by then
    device, total = model.wte.weight.device, 0.0
    batches = range(0, len(ends), batch_size)
    with evaluating(model):
        for first in tqdm(batches, unit="batch", disable=None, leave=False):
            part = slice(first, first + batch_size)
            places = ends[part, None] - width + np.arange(width)  # (B, T) of the inputs
            targets = np.where(places >= before[part, None], ids[places + 1], -100)  # (B, T)
            x, y = (tl.from_numpy(a).to(device) for a in (ids[places], targets))
            total += model.loss(x, y).item() * int((targets != -100).sum())
    return Perplexity(total / count, count)


def main(argv: Sequence[str]) -> None:
    """How well a model predicts a text."""
    config = parse(
        Config, argv, {"default": Config()}, "default", "evaluate perplexity", "How well a model predicts a text."
    )
    if config.data is None:
        raise UsageError("--data is missing: name the text file that shall be judged")
    text = read_text(config.data)
    model, tokenizer = config.load()
    try:
        ids = tokenizer.encode_array(text)
        found = perplexity(model, ids, config.stride, config.batch_size)
    except ValueError as error:
        raise UsageError(f"{config.data}: {error}") from None
    stride, bits = config.stride or model.config.context_length, found.loss * found.tokens / math.log(2)
    print(f"text        {config.data}: {found.tokens + 1:,} tokens, {len(text):,} characters")
    print(f"windows     of {model.config.context_length:,} tokens, every {stride:,}")
    print(f"loss        {found.loss:.4f} per token")
    print(f"perplexity  {found.perplexity:.3f}")
    print(f"            {bits / len(text.encode()):.4f} bits per byte, which also compares between tokenizers")
