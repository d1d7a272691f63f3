"""Multiple choice by loss: which of several endings the model finds likeliest, HellaSwag's question.

    python -m train.evaluate multiple-choice --model gpt2 --data hellaswag-val

Each ending is judged by its tokens' mean loss after the context (acc_norm), and by their sum (acc), which favours short
endings. Sources: Zellers et al., *HellaSwag* (2019), for the data; Brown et al., *Language Models are Few-Shot
Learners* (2020), section 2.4, for the mean.
"""

from __future__ import annotations

import json
import math
import random
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

import tensorlite as tl
from gpt.cache import Cache
from gpt.datasets import find
from gpt.download import digest
from gpt.model import GPT
from gpt.options import UsageError, option, parse
from gpt.sequences import evaluating
from gpt.tokenizer import Tokenizer
from gpt.trained import Trained
from train.batching import by_length, pad
from train.collate import IGNORED
from train.instructions import read_entries
from train.ledger import Ledger
from train.preference import log_probabilities


@dataclass(frozen=True)
class Config(Trained):
    data: Path = option(
        Path("hellaswag-val"), "an object with ctx, endings and label in each line, or hellaswag-val: HellaSwag's own"
    )
    out: Path | None = option(None, "folder for the losses, from which a stopped run goes on; none: runs/DATA-by-MODEL")
    limit: int | None = option(None, "ask the first so many questions; none: all")
    batch_size: int = option(8, "questions that are computed at once")

    def __post_init__(self) -> None:
        for name in ("limit", "batch_size"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UsageError(f"--{name.replace('_', '-')} is at least 1, not {value}")


class Question(NamedTuple):
    """context: (n,) token ids.   endings: (m,) token ids each.   label: the number of the right one"""

    context: np.ndarray
    endings: list[np.ndarray]
    label: int

    @property
    def width(self) -> int:
        """The tokens that a model has to look at: all but the last one of the longest ending."""
        return len(self.context) + max(map(len, self.endings)) - 1


def read_questions(path: Path, tokenizer: Tokenizer, longest: int, limit: int | None = None) -> list[Question]:
    """The questions of a file in HellaSwag's form; says on stderr how many contexts lose their beginning, because with
    the endings they are longer than `longest` tokens.

    Raises UsageError with the line that is no question.
    """
    questions, cut = [], 0
    for entry, where in list(read_entries(path))[:limit]:
        context, endings, label = entry.get("ctx"), entry.get("endings"), entry.get("label")
        if (
            not isinstance(context, str)
            or not isinstance(endings, list)
            or not all(isinstance(e, str) for e in endings)
        ):
            found = ", ".join(entry) or "no key"
            raise UsageError(f"{where}: expected ctx, a text, and endings, a list of texts; found {found}")
        if len(endings) < 2:
            raise UsageError(f"{where}: a choice is among two endings or more, not {len(endings)}")
        label = int(label) if isinstance(label, str) and label.isdecimal() else label  # as the hub writes it
        if not isinstance(label, int) or not 0 <= label < len(endings):
            raise UsageError(
                f"{where}: expected a label from 0 to {len(endings) - 1}, the right ending's number; found {label!r}"
            )
        try:
            question = Question(
                tokenizer.encode_array(context), [tokenizer.encode_array(" " + ending) for ending in endings], label
            )
        except ValueError as error:
            raise UsageError(f"{where}: {error}") from None
        if not len(question.context) or not all(map(len, question.endings)):
            raise UsageError(f"{where}: the {'context' if not len(question.context) else 'ending'} has no token")
        if (over := question.width - longest) > 0:
            if over >= len(question.context):
                raise UsageError(f"{where}: an ending alone is longer than the model's context of {longest} tokens")
            question, cut = question._replace(context=question.context[over:]), cut + 1
        questions.append(question)
    if not questions:
        raise UsageError(f"--data {path}: there is no question in it")
    if cut:
        print(
            f"{cut:,} of {len(questions):,} contexts are cut at their beginning to fit {longest} tokens",
            file=sys.stderr,
        )
    return questions


def losses(model: GPT, questions: Sequence[Question]) -> list[list[float]]:
    """For each question, the sum of the losses of each ending's tokens, in nats.

    A context is read once, and its keys and values serve all its endings. Contexts are padded on the left, endings on
    the right, where a causal model does not see the padding.
    """
    before = [question.context[:-1] for question in questions]  # the last token is read with the endings
    W, T = max(map(len, before)), max(len(ending) for question in questions for ending in question.endings)
    if model.config.context_length < W + T:  # each by itself fits
        half = len(questions) // 2
        return losses(model, questions[:half]) + losses(model, questions[half:])
    device = model.wte.weight.device
    inputs = [np.append(q.context[-1:], ending[:-1]) for q in questions for ending in q.endings]
    x = tl.from_numpy(pad(inputs, 0)).to(device)  # (N, T), N endings in all
    y = tl.from_numpy(pad([ending for q in questions for ending in q.endings], IGNORED)).to(device)  # (N, T)
    counts = [len(question.endings) for question in questions]
    with evaluating(model):
        cache = None
        if W:
            cache = Cache(model, len(questions), W + T, [W - len(ids) for ids in before])
            model.hidden(tl.from_numpy(pad([ids[::-1] for ids in before], 0)[:, ::-1].copy()).to(device), cache)
            cache.select(np.repeat(np.arange(len(questions)), counts).tolist())
        found = (-log_probabilities(model, x, y, cache=cache)).cpu().numpy()  # (N,)
    return [part.tolist() for part in np.split(found, np.cumsum(counts)[:-1])]


def fingerprint(model: GPT) -> str:
    """A number for the model's weights, which changes when one of them does."""
    found = sha256()
    for name, weight in model.state_dict().items():
        found.update(name.encode())
        found.update(weight.cpu().numpy().tobytes())
    return found.hexdigest()


def main(argv: Sequence[str]) -> None:
    """Choose among endings by loss: HellaSwag, or a file in its form."""
    config = parse(
        Config, argv, {"default": Config()}, "default", "evaluate multiple-choice", "Choose among endings by loss."
    )
    model, tokenizer = config.load()
    data = find(config.data)
    questions = read_questions(data, tokenizer, model.config.context_length, config.limit)
    out = config.out or Path("runs", f"{data.stem}-by-{Path(str(config.model)).name}")
    ledger = Ledger(out / "losses.jsonl", {"data": digest(data), "weights": fingerprint(model)})
    left = [i for i in range(len(questions)) if i not in ledger.records]
    if len(left) < len(questions):
        print(f"goes on   {len(questions) - len(left):,} of {len(questions):,} are answered already in {ledger.path}")
    found = {i: right(questions[i], record["sums"]) for i, record in ledger.records.items() if i < len(questions)}
    batches = by_length([questions[i].width for i in left], config.batch_size)
    random.Random(0).shuffle(batches)  # so that what the bar shows is the rate of short and long ones
    try:
        with tqdm(total=len(questions), initial=len(questions) - len(left), disable=None, leave=False) as bar:
            for batch in batches:
                numbers = [left[i] for i in batch]
                for i, sums in zip(numbers, losses(model, [questions[i] for i in numbers])):
                    ledger.add(i, sums=sums, tokens=[len(ending) for ending in questions[i].endings])
                    found[i] = right(questions[i], sums)
                bar.update(len(numbers))
                bar.set_postfix_str(f"acc_norm {rates(found.values())[0]:.4f}", refresh=False)
    except KeyboardInterrupt:
        print(f"stopped   what is answered is in {ledger.path}; the same command goes on from there")
        raise SystemExit(130) from None
    norm, plain = rates(found.values())
    chance = sum(1 / len(question.endings) for question in questions) / len(questions)
    summary = {"questions": len(questions), "acc_norm": norm, "acc": plain, "chance": chance}
    (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    print(f"questions {len(questions):,} of {config.data}")
    for name, rate, how in (("acc_norm", norm, "lowest mean loss of a token"), ("acc", plain, "lowest sum")):
        error = math.sqrt(rate * (1 - rate) / len(questions))
        print(f"{name:9} {rate:.4f} ± {error:.4f}  {how}")
    print(f"chance    {chance:.4f}")
    print(f"wrote     {out}/: losses.jsonl, summary.json")


def right(question: Question, sums: Sequence[float]) -> tuple[bool, bool]:
    """Whether the right ending has the lowest mean loss, and the lowest sum."""
    tokens = [len(ending) for ending in question.endings]
    return int(np.argmin(np.divide(sums, tokens))) == question.label, int(np.argmin(sums)) == question.label


def rates(found: Collection[tuple[bool, bool]]) -> tuple[float, float]:
    """acc_norm and acc: the shares of what `right` says."""
    return sum(norm for norm, _ in found) / len(found), sum(plain for _, plain in found) / len(found)
