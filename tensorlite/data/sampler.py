"""Samplers: in which order the samples come, and how they are put together into batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from itertools import islice
from typing import Any

from ..random import Generator, default_generator
from .permutation import Permutation

STORED = 2**20  # samples whose order is drawn as a whole; that of more is computed in parts, in constant memory
_PART = 2**12


class Sampler:
    """Numbers of samples: a subclass defines `__iter__`, anew for each epoch, and `__len__`."""

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError(f"{type(self).__name__} has no __iter__(), which gives the numbers of samples")


class SequentialSampler(Sampler):
    """0, 1, 2 … as many as data_source has."""

    def __init__(self, data_source: Sized):
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return self.after(0)

    def after(self, n: int) -> Iterator[int]:
        return iter(range(n, len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler):
    """The numbers in random order; with replacement, each drawn from all. However many there are, the order of no more
    than a million is in memory.

    num_samples  how many, by default all; more than there are begin again, in another order
    generator    by default the default generator
    """

    def __init__(
        self,
        data_source: Sized,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: Generator | None = None,
    ):
        if num_samples is not None and num_samples < 1:
            raise ValueError(f"RandomSampler: num_samples must be at least 1, not {num_samples}")
        self.data_source, self.replacement, self.generator = data_source, replacement, generator
        self.num_samples = len(data_source) if num_samples is None else num_samples

    def __iter__(self) -> Iterator[int]:
        return self.after(0)

    def after(self, n: int) -> Iterator[int]:
        # The order is drawn at once, not when the first number is asked for.
        size, numbers = len(self.data_source), (self.generator or default_generator()).numbers
        if self.replacement:
            return islice(map(int, numbers.integers(0, size, self.num_samples)), n, None)
        order = numbers.permutation if size <= STORED else lambda size: Permutation(size, numbers)
        rounds = [order(size) for _ in range(-(-self.num_samples // size))] if size else []
        return islice(_numbers(rounds, n), max(0, self.num_samples - n))

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler):
    """What `sampler` gives, in lists of batch_size; the last may be shorter, or is left out with drop_last."""

    def __init__(self, sampler: Iterable[Any], batch_size: int, drop_last: bool):
        self.sampler, self.batch_size, self.drop_last = sampler, batch_size, drop_last

    def __iter__(self) -> Iterator[list[Any]]:
        return self.after(0)

    def after(self, n: int) -> Iterator[list[Any]]:
        order = after(self.sampler, n * self.batch_size)
        batches = iter(lambda: list(islice(order, self.batch_size)), [])
        return (batch for batch in batches if len(batch) == self.batch_size or not self.drop_last)

    def __len__(self) -> int:
        n = len(self.sampler)  # type: ignore[arg-type]
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)


def after(sampler: Iterable[Any], n: int) -> Iterator[Any]:
    """What a sampler gives, but for the first n; one that need not make these has a method `after`."""
    if "after" in vars(type(sampler)):  # where a subclass has an __iter__ of its own, what it inherits would not fit
        return sampler.after(n)  # type: ignore[attr-defined]
    return islice(iter(sampler), n, None)


def _numbers(rounds: Sequence[Any], skipped: int) -> Iterator[int]:
    """The numbers of all rounds, one after the other."""
    for order in rounds:
        for first in range(min(skipped, len(order)), len(order), _PART):
            yield from order[first : first + _PART].tolist()
        skipped = max(0, skipped - len(order))
