"""How well a classifier answers: the table of what it confuses, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Confusion:
    """counts[i, j]: how many texts of the class i were said to be of the class j, (K, K)."""

    classes: tuple[str, ...]
    counts: np.ndarray

    @classmethod
    def of(cls, classes: Sequence[str], true: np.ndarray, said: np.ndarray) -> Confusion:
        """From class numbers, (N,) each."""
        counts = np.zeros((len(classes), len(classes)), np.int64)
        np.add.at(counts, (true, said), 1)
        return cls(tuple(classes), counts)

    @property
    def accuracy(self) -> float:
        """The share of right answers."""
        return float(np.trace(self.counts) / self.counts.sum())

    @property
    def precision(self) -> np.ndarray:
        """(K,) how many of the texts said to be of a class are; 0 for a class that is never said."""
        return np.diagonal(self.counts) / np.maximum(self.counts.sum(axis=0), 1)

    @property
    def recall(self) -> np.ndarray:
        """(K,) how many of the texts of a class are found; 0 for a class without texts."""
        return np.diagonal(self.counts) / np.maximum(self.counts.sum(axis=1), 1)

    @property
    def f1(self) -> np.ndarray:
        """(K,) the harmonic mean of precision and recall; 0 where both are."""
        return 2 * np.diagonal(self.counts) / np.maximum(self.counts.sum(axis=0) + self.counts.sum(axis=1), 1)

    def table(self) -> str:
        """A line for each class."""
        width = max(map(len, ("class", *self.classes)))
        lines = [f"{'class':{width}}  precision  recall      F1  texts"]
        numbers = zip(self.classes, self.precision, self.recall, self.f1, self.counts.sum(axis=1), strict=True)
        lines += [f"{name:{width}}  {p:9.2%}  {r:6.2%}  {f:6.2%}  {n:5,}" for name, p, r, f, n in numbers]
        return "\n".join(lines)

    def matrix(self) -> str:
        """The counts: a row for each class, a column for each answer."""
        corner = "class \\ answer"
        width = max(map(len, (corner, *self.classes)))
        columns = [max(len(name), len(f"{self.counts.max():,}")) for name in self.classes]
        rows = [[f"{n:{w},}" for n, w in zip(row, columns)] for row in self.counts]
        head = [f"{name:>{w}}" for name, w in zip(self.classes, columns)]
        return "\n".join(
            f"{name:{width}}  {'  '.join(row)}" for name, row in zip((corner, *self.classes), (head, *rows))
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        columns = {"precision": self.precision, "recall": self.recall, "f1": self.f1, "texts": self.counts.sum(axis=1)}
        by_class = {
            name: {what: column[i].item() for what, column in columns.items()} for i, name in enumerate(self.classes)
        }
        return {"accuracy": self.accuracy, "classes": by_class, "confusion": self.counts.tolist()}
