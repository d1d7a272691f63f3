"""Where fine-tuning begins: with a trained model, or with nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpt.model import GPT
from gpt.options import option
from gpt.tokenizer import Tokenizer
from gpt.tokenizer.gpt2 import FILES, cache_folder
from gpt.trained import trained
from train.corpus import make_tokenizer
from train.recipe import Shape


@dataclass(frozen=True)
class Start(Shape):
    """What a script fine-tunes. With --start, the model's shape is what it is there; the options of it are for random
    weights, but for --dropout."""

    start: str | None = option(
        None, "a run's folder; gpt2, gpt2-medium …; or a file or folder with weights; none: random weights"
    )
    tokenizer: str = option(
        "auto",
        "what a token is, with random weights: characters, words, bpe, gpt2, or a tokenizer's file or folder; auto: "
        "GPT-2's if its vocabulary is on this machine, else words",
    )
    vocab_size: int = option(4096, "tokens that --tokenizer bpe learns from the text")


def start(config: Start, texts: Sequence[str]) -> tuple[GPT, Tokenizer]:
    """The model that `config` names and its tokenizer; with random weights, the tokenizer learns from `texts`.

    Raises UsageError where there is no such model, or tokenizer and model do not fit.
    """
    if config.start is not None:
        return trained(config.start, "--start", dropout=config.dropout)
    kind = config.tokenizer
    if kind == "auto":
        kind = "gpt2" if all((cache_folder() / name).is_file() for name in FILES) else "words"
    tokenizer = make_tokenizer(kind, "\n".join(texts), config.vocab_size)
    return GPT(config.gpt_config(tokenizer.vocab_size)), tokenizer
