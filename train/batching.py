"""Batches of sequences of different lengths: padding, and putting those of like length together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

import tensorlite as tl


def pad(sequences: Sequence[Sequence[int] | np.ndarray], value: int, length: int | None = None) -> np.ndarray:
    """(B, T) int64: the sequences as rows, filled up at their ends with `value` to the longest, or to `length`."""
    longest = max(map(len, sequences)) if length is None else length
    rows = np.full((len(sequences), longest), value, np.int64)
    for row, sequence in zip(rows, sequences, strict=True):
        row[: len(sequence)] = sequence
    return rows


class LengthBuckets:
    """A batch sampler that spares padding: each epoch is shuffled, cut into pools of `pool` batches, each pool sorted
    by length and cut into batches, and these come in random order.

    lengths    of the sequences, by number
    generator  the DataLoader's own, so that its state covers the order
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, generator: tl.Generator, pool: int = 16):
        self.lengths, self.batch_size, self.generator, self.pool = np.asarray(lengths), batch_size, generator, pool

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = tl.randperm(len(self.lengths), generator=self.generator).numpy()
        batches: list[list[int]] = []
        for first in range(0, len(order), self.pool * self.batch_size):
            some = order[first : first + self.pool * self.batch_size]
            some = some[np.argsort(self.lengths[some], kind="stable")]
            batches += [some[i : i + self.batch_size].tolist() for i in range(0, len(some), self.batch_size)]
        for i in tl.randperm(len(batches), generator=self.generator).tolist():
            yield batches[i]


def by_length(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """All numbers once, in batches of like length, always the same: for evaluation."""
    order = np.argsort(np.asarray(lengths), kind="stable")
    return [order[i : i + batch_size].tolist() for i in range(0, len(order), batch_size)]
