"""Instructions and their answers: reading files, and the book's split.

Three forms are read, as one JSON list or with an object in each line:

    {"instruction": …, "input": …, "output": …}                        the book's and Alpaca's; input may be left out
    {"instruction": …, "chosen": …, "rejected": …}                     the same with two answers, for train.prefer
    {"messages": [{"role": "user", "content": …}, {"role": "assistant", …}, …]}   a chat, a system message first or not
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gpt.messages import Turn, turns_of
from gpt.options import UsageError, option
from gpt.template import template_named
from train.corpus import read_text
from train.recipe import Recipe
from train.start import Start
from train.tuning import Tuning


@dataclass(frozen=True)
class OnAnswers(Tuning, Start, Recipe):
    """The options of a script that trains on answers to questions."""

    train: Literal["all", "last", "lora"] = option(
        "all", "what learns: all weights, the last blocks with the final norm, or LoRA adapters"
    )
    train_fraction: float = option(0.85, "the first share of the entries, to train on")
    test_fraction: float = option(0.1, "the share after it, for the test; the rest validates")
    template: str = option("book", "how a question is written: book, stanford, phi3 or a JSON file of your own")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "last_blocks")
        self.lora()
        template_named(self.template)
        shares = self.train_fraction, self.test_fraction
        if not (min(shares) > 0 and sum(shares) < 1):
            raise UsageError(
                f"--train-fraction {shares[0]} and --test-fraction {shares[1]} are above 0 and leave something to "
                "validate with"
            )


@dataclass(frozen=True)
class Dialogue:
    """One turn, or several of a chat.

    system   what stands before all of them
    where    in which file and line or entry, for messages
    entry    what the file says, for the file of responses
    """

    turns: tuple[Turn, ...]
    system: str
    where: str
    entry: dict[str, Any]


def read_entries(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """The objects of a JSON list, or of a file with one in each line, and where each stands.

    Raises UsageError with the line or entry that is none.
    """
    text = read_text(path)
    if text.lstrip().startswith("["):
        try:
            entries = [(entry, f"{path}, entry {i}") for i, entry in enumerate(json.loads(text), 1)]
        except json.JSONDecodeError as error:
            raise UsageError(f"{path}, line {error.lineno}: not JSON: {error.msg}") from None
    else:
        entries = []
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                try:
                    entries.append((json.loads(line), f"{path}, line {number}"))
                except json.JSONDecodeError as error:
                    raise UsageError(
                        f"{path}, line {number}: not JSON: {error.msg}; expected a list of objects, or one in each line"
                    ) from None
    for entry, where in entries:
        if not isinstance(entry, dict):
            raise UsageError(f"{where}: expected an object, found {json.dumps(entry)[:60]}")
        yield entry, where


def read_dialogues(path: Path) -> list[Dialogue]:
    """All dialogues of a file, in its order. Raises UsageError with the line or entry that is none."""
    dialogues = [
        _chat(entry, where) if "messages" in entry else Dialogue((single(entry, where, "output"),), "", where, entry)
        for entry, where in read_entries(path)
    ]
    if not dialogues:
        raise UsageError(f"--data {path}: there is nothing in it")
    return dialogues


def single(entry: dict[str, Any], where: str, answer: str) -> Turn:
    """The turn that an entry describes whose answer has the key `answer`."""
    instruction, content, output = entry.get("instruction"), entry.get("input", ""), entry.get(answer)
    if not isinstance(instruction, str) or not isinstance(content, str) or not isinstance(output, str):
        raise UsageError(
            f"{where}: expected the keys instruction, {answer} and if need be input, with text; found "
            f"{', '.join(entry) or 'no key'}"
        )
    if not instruction.strip() or not output.strip():
        raise UsageError(f"{where}: the {answer if instruction.strip() else 'instruction'} is empty")
    return Turn(instruction, content, output)


def _chat(entry: dict[str, Any], where: str) -> Dialogue:
    try:
        system, turns = turns_of(entry["messages"])
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from None
    return Dialogue(turns, system, where, entry)


def split(items: Sequence[Any], train: float, test: float) -> tuple[list[Any], list[Any], list[Any]]:
    """In file order: the share `train` of the items, the share `test`, and the rest to validate. Returns train, val,
    test. Raises UsageError if one of them is empty."""
    first = int(len(items) * train)
    second = first + int(len(items) * test)
    parts = list(items[:first]), list(items[second:]), list(items[first:second])
    for name, part in zip(("training", "validation", "test"), parts, strict=True):
        if not part:
            raise UsageError(f"the {name} part of {len(items)} examples is empty; give more data or other fractions")
    return parts
