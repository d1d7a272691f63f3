"""Texts with labels: reading files, making the classes equally large, splitting.

Balancing and splitting are the book's (Raschka, *Build a Large Language Model (From Scratch)*, section 6.2), to the
row: it draws with pandas, whose `sample(random_state=123)` is NumPy's RandomState(123).choice.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gpt.datasets import find
from gpt.options import UsageError
from train.corpus import read_text


class Example(NamedTuple):
    """A text, its label, and where it stands, for messages: "FILE, line 12"."""

    label: str
    text: str
    where: str


@dataclass(frozen=True)
class Parts:
    """What is trained on, what is watched along the way, and what is looked at once, at the end."""

    train: list[Example]
    val: list[Example]
    test: list[Example]


def read_labelled(path: Path) -> list[Example]:
    """The examples of one file, or of a data set by its name; the file's ending says how it is written.

    .tsv, .txt     label<TAB>text without a header, a field in quotes where it has a tab or a line break
    .csv           a header that names the columns label and text, among any others
    .jsonl, .json  an object with the keys label and text in each line

    Raises UsageError with the line that cannot be read so.
    """
    readers: dict[str, Callable[[str, Path], Iterator[Example]]] = {
        ".tsv": _tab_separated,
        ".txt": _tab_separated,
        ".csv": _comma_separated,
        ".jsonl": _json_lines,
        ".json": _json_lines,
    }
    path = find(path)
    if (read := readers.get(path.suffix.lower())) is None:
        raise UsageError(
            f"--data {path}: the name of a labelled file ends in {', '.join(readers)}, which says how it is written"
        )
    examples = list(read(read_text(path), path))
    for label, text, where in examples:
        if not label.strip() or not text.strip():
            raise UsageError(f"{where}: the {'text' if label.strip() else 'label'} is empty")
    if not examples:
        raise UsageError(f"--data {path}: there is no example in it")
    return examples


def _rows(text: str, path: Path, delimiter: str) -> Iterator[tuple[list[str], str]]:
    """The rows of a table, and where each begins."""
    reader, line = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), 1
    try:
        for row in reader:
            if row:
                yield row, f"{path}, line {line}"
            line = reader.line_num + 1
    except csv.Error as error:
        raise UsageError(f"{path}, line {line}: {error}; is a quotation mark missing?") from None


def _tab_separated(text: str, path: Path) -> Iterator[Example]:
    for row, where in _rows(text, path, "\t"):
        if len(row) != 2:
            raise UsageError(f"{where}: expected label<TAB>text, which is 2 fields, found {len(row)}: {_shown(row)}")
        label, content = row
        yield Example(label, content, where)


def _comma_separated(text: str, path: Path) -> Iterator[Example]:
    rows = _rows(text, path, ",")
    header, where = next(rows)
    names = [name.strip().lower() for name in header]
    if not {"label", "text"} <= set(names):
        raise UsageError(f"{where}: expected a header with the columns label and text, found {_shown(header)}")
    label, content = names.index("label"), names.index("text")
    for row, where in rows:
        if len(row) != len(header):
            raise UsageError(f"{where}: the header has {len(header)} columns and this row {len(row)}: {_shown(row)}")
        yield Example(row[label], row[content], where)


def _json_lines(text: str, path: Path) -> Iterator[Example]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            item = json.loads(line)
        except ValueError as error:
            raise UsageError(f"{where}: not JSON ({error}); expected an object in each line") from None
        if not isinstance(item, dict) or not {"label", "text"} <= item.keys():
            raise UsageError(f"{where}: expected an object with the keys label and text, found {line[:60]}")
        label, content = item["label"], item["text"]
        if not isinstance(content, str) or not isinstance(label, str | int):
            raise UsageError(f"{where}: expected a text and a label that is a word or a number, found {line[:60]}")
        yield Example(str(label), content, where)


def _shown(row: Sequence[str]) -> str:
    text = " | ".join(row)
    return text if len(text) <= 60 else text[:60] + "…"


def balanced(examples: Sequence[Example], seed: int = 123) -> list[Example]:
    """As many examples of each label as the rarest has, drawn from the others; label after label, in sorted order."""
    counts = Counter(example.label for example in examples)
    size, drawn = min(counts.values()), []
    for label in sorted(counts):
        own = [example for example in examples if example.label == label]
        drawn += own if len(own) == size else [own[i] for i in _draw(len(own), size, seed)]
    return drawn


def split(examples: Sequence[Example], train: float, val: float, seed: int = 123) -> Parts:
    """The examples in random order: the share `train` of them, the share `val`, and the rest as test."""
    shuffled = [examples[i] for i in _draw(len(examples), len(examples), seed)]
    first = int(len(shuffled) * train)
    second = first + int(len(shuffled) * val)
    return Parts(shuffled[:first], shuffled[first:second], shuffled[second:])


def _draw(among: int, size: int, seed: int) -> list[int]:
    drawn: list[int] = np.random.RandomState(seed).choice(among, size, replace=False).tolist()
    return drawn


def classes_of(parts: Parts) -> tuple[str, ...]:
    """The labels of the training part, sorted. Raises UsageError if there is but one, if a part is empty, or has a
    label that is never trained on; says on stderr of which classes another part has no text."""
    for name, part in (("training", parts.train), ("validation", parts.val), ("test", parts.test)):
        if not part:
            raise UsageError(f"the {name} part has no example; give more data or other fractions")
    classes = sorted({example.label for example in parts.train})
    if len(classes) < 2:
        raise UsageError(
            f"all training examples have the label {classes[0]!r}; a classifier needs at least two classes"
        )
    if len(classes) > 20 and len(classes) > len(parts.train) // 2:
        raise UsageError(
            f"{len(parts.train):,} training examples have {len(classes):,} different labels ({classes[0][:40]!r}, …); "
            "is the label where the text should be?"
        )
    for label, _, where in (*parts.val, *parts.test):
        if label not in classes:
            raise UsageError(f"{where}: the label {label!r} is never seen in training, which has {', '.join(classes)}")
    for name, part in (("validation", parts.val), ("test", parts.test)):
        if absent := [label for label in classes if all(example.label != label for example in part)]:
            print(f"the {name} part has no text of {', '.join(absent)}: figures of it say nothing", file=sys.stderr)
    return tuple(classes)
