"""Samplers: in which order the samples come, and how they are put together into batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from itertools import islice
from typing import Any

from ..random import Generator, default_generator


class Sampler:
    """Numbers of samples: a subclass defines `__iter__`, anew for each epoch, and `__len__`."""

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError(f"{type(self).__name__} has no __iter__(), which gives the numbers of samples")


class SequentialSampler(Sampler):
    """0, 1, 2 … as many as data_source has."""

    def __init__(self, data_source: Sized):
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler):
    """The numbers in random order; with replacement, each drawn from all.

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
        # The order is drawn at once, not when the first number is asked for.
        n, numbers = len(self.data_source), (self.generator or default_generator()).numbers
        if self.replacement:
            return map(int, numbers.integers(0, n, self.num_samples))
        rounds = [numbers.permutation(n) for _ in range(-(-self.num_samples // n))] if n else []
        return islice((int(i) for order in rounds for i in order), self.num_samples)

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler):
    """What `sampler` gives, in lists of batch_size; the last may be shorter, or is left out with drop_last."""

    def __init__(self, sampler: Iterable[Any], batch_size: int, drop_last: bool):
        self.sampler, self.batch_size, self.drop_last = sampler, batch_size, drop_last

    def __iter__(self) -> Iterator[list[Any]]:
        order = iter(self.sampler)
        batches = iter(lambda: list(islice(order, self.batch_size)), [])
        return (batch for batch in batches if len(batch) == self.batch_size or not self.drop_last)

    def __len__(self) -> int:
        n = len(self.sampler)  # type: ignore[arg-type]
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)
