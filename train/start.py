"""Where fine-tuning begins: with a run, with a file of weights, or with nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from gpt.checkpoint import latest_weights, load_model
from gpt.model import GPT
from gpt.options import UsageError, option
from gpt.tokenizer import GPT2Tokenizer, Tokenizer, load_tokenizer
from gpt.tokenizer.gpt2 import FILES, cache_folder
from train.corpus import make_tokenizer
from train.recipe import Shape

GPT2_VOCABULARY = 50257


@dataclass(frozen=True)
class Start(Shape):
    """What a script fine-tunes. With --start, the model's shape is what it is there; the options of it are for random
    weights, but for --dropout."""

    start: str | None = option(None, "a run's folder or a file of weights to start from; none: random weights")
    tokenizer: Literal["auto", "gpt2", "words", "characters"] = option(
        "auto", "what a token is, with random weights; auto: GPT-2's if its vocabulary is on this machine, else words"
    )


def start(config: Start, texts: Sequence[str]) -> tuple[GPT, Tokenizer]:
    """The model that `config` names and its tokenizer; with random weights, the tokenizer learns from `texts`.

    Raises UsageError where there is no such model, or tokenizer and model do not fit.
    """
    if config.start is None:
        tokenizer = _fresh_tokenizer(config.tokenizer, texts)
        return GPT(config.model(tokenizer.vocab_size)), tokenizer
    model, tokenizer = _load(config.start)
    if tokenizer.vocab_size > model.config.vocab_size:
        raise UsageError(
            f"--start {config.start}: the tokenizer has {tokenizer.vocab_size:,} tokens and the model "
            f"{model.config.vocab_size:,}; one of the two is another run's"
        )
    if config.dropout != model.config.dropout:
        try:
            other = GPT(replace(model.config, dropout=config.dropout)).to(model.wte.weight.dtype)
        except ValueError as error:
            raise UsageError(str(error)) from None
        other.load_state_dict(model.state_dict())
        model = other
    return model, tokenizer


def _load(name: str) -> tuple[GPT, Tokenizer]:
    """The one place that knows where pretrained models come from."""
    path = Path(name)
    try:
        if path.is_dir():
            return load_model(latest_weights(path)), load_tokenizer(path / "tokenizer.json")
        if path.is_file():
            model = load_model(path)
            return model, _tokenizer_beside(path, model.config.vocab_size)
    except (OSError, ValueError) as error:
        raise UsageError(f"--start {name}: {' '.join(str(error).split())}") from None
    raise UsageError(f"--start {name}: there is no such folder of a run and no such file of weights")


def _tokenizer_beside(weights: Path, vocab_size: int) -> Tokenizer:
    beside = weights.with_name("tokenizer.json")
    if beside.is_file():
        return load_tokenizer(beside)
    if vocab_size == GPT2_VOCABULARY:
        return GPT2Tokenizer()
    raise ValueError(f"its tokenizer is missing: put tokenizer.json beside it, in {weights.parent}")


def _fresh_tokenizer(kind: str, texts: Sequence[str]) -> Tokenizer:
    if kind == "auto":
        kind = "gpt2" if all((cache_folder() / name).is_file() for name in FILES) else "words"
    return make_tokenizer(kind, "\n".join(texts))
