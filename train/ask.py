"""Asking a classifier: texts to tokens, tokens to logits, and `python -m train.classify predict`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

import tensorlite as tl
from gpt.checkpoint import latest_weights
from gpt.classifier import GPTClassifier, load_classifier
from gpt.options import UsageError, option, parse
from gpt.sequences import evaluating
from gpt.tokenizer import Tokenizer, load_tokenizer
from tensorlite.nn import functional as F
from train.batching import by_length, pad
from train.labelled import Example
from train.run import Run

Tokens = list[np.ndarray]  # the token ids of each text, (tokens,)


def encode(tokenizer: Tokenizer, examples: Iterable[Example]) -> Tokens:
    """The token ids of each text. Raises UsageError with the line of a text that has none, or cannot be encoded."""
    encoded = []
    for _, text, where in examples:
        try:
            ids = tokenizer.encode_array(text)
        except ValueError as error:
            raise UsageError(f"{where}: {error}") from None
        if not len(ids):
            raise UsageError(f"{where}: the text {text[:40]!r} has no token")
        encoded.append(ids)
    return encoded


def shortened(tokens: Tokens, limit: int, name: str) -> Tokens:
    """The first `limit` tokens of each text; says on stderr how many texts were longer."""
    if longer := sum(len(ids) > limit for ids in tokens):
        print(f"{longer:,} of {len(tokens):,} {name} texts are longer than {limit} tokens: cut there", file=sys.stderr)
    return [ids[:limit] for ids in tokens]


def logits(
    model: GPTClassifier, tokens: Tokens, pad_id: int, batch_size: int = 32, progress: bool = False
) -> np.ndarray:
    """What the model thinks of each text, (N, K)."""
    out = np.empty((len(tokens), len(model.classes)), np.float32)
    device = model.gpt.wte.weight.device
    with evaluating(model):
        batches = by_length([len(ids) for ids in tokens], batch_size)
        for numbers in tqdm(batches, unit="batch", disable=None if progress else True, leave=False):
            rows = [tokens[i] for i in numbers]
            ids, size = tl.from_numpy(pad(rows, pad_id)), tl.tensor([len(row) for row in rows])
            out[numbers] = model(ids.to(device), size.to(device)).cpu().numpy()
    return out


def classifier_of(run: Path, flag: str, device: str) -> tuple[GPTClassifier, Tokenizer, int]:
    """The classifier of a run of train.classify, its tokenizer, and how many tokens of a text it reads.

    UsageError, which begins with `flag`, says what is missing or broken.
    """
    try:
        model = load_classifier(latest_weights(run)).to(device)
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageError(f"{flag} {run}: {error}") from None
    limit = json.loads(Run.config_text(run)).get("max_length") or model.config.context_length
    return model, tokenizer_of(run, flag), limit


def tokenizer_of(folder: Path, flag: str) -> Tokenizer:
    try:
        return load_tokenizer(folder / "tokenizer.json")
    except (OSError, ValueError) as error:
        raise UsageError(f"{flag} {folder}: {' '.join(str(error).split())}") from None


# The command line --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Question:
    run: Path | None = option(None, "folder of a run of train.classify")
    texts: tuple[str, ...] = option((), "the texts, also without this flag; without any they come from standard input")
    file: Path | None = option(None, "a file with a text in each line")
    device: str = option("cpu", "where to compute: cpu, cuda or cuda:N")


def predict(argv: Sequence[str]) -> None:
    """Print a line for each text: its class, the probability of that, and the text, with tabs between."""
    does = "Name the class of texts: arguments, the lines of a file, or those of standard input."
    ask = parse(Question, argv, {"ask": Question()}, "ask", "classify predict", does, words="texts")
    if ask.run is None:
        raise UsageError("--run is missing: name the folder of a run of train.classify")
    model, tokenizer, limit = classifier_of(ask.run, "--run", ask.device)
    for text, where in _questions(ask):
        ids = shortened(encode(tokenizer, [Example("", text, where)]), limit, "given")
        scores = F.softmax(tl.from_numpy(logits(model, ids, tokenizer.eot_id or 0)), dim=1)[0]
        best = int(scores.argmax())
        print(f"{model.classes[best]}\t{scores[best].item():.4f}\t{text}", flush=True)


def _questions(ask: Question) -> Iterator[tuple[str, str]]:
    """The texts and where they stand. Empty lines are no texts."""
    if ask.texts and ask.file:
        raise UsageError("give texts or --file, not both")
    if ask.texts:
        yield from ((text, f"text {i}") for i, text in enumerate(ask.texts, 1))
        return
    source = str(ask.file or "standard input")
    try:
        with ask.file.open(encoding="utf-8-sig") if ask.file else nullcontext(sys.stdin) as lines:
            for i, line in enumerate(lines, 1):
                if line.strip():
                    yield line.rstrip("\n"), f"{source}, line {i}"
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{source}: cannot be read as UTF-8 text: {error}") from None
