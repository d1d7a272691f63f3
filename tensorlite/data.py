"""Data sets, and the DataLoader that draws batches from them in an order that can be stopped and resumed.

    >>> samples = [(10, "a"), (11, "b"), (12, "c")]
    >>> for numbers, letters in DataLoader(samples, batch_size=2):
    ...     print(numbers, letters)
    tensor([10, 11]) ['a', 'b']
    tensor([12]) ['c']

A data set is whatever has samples by number and a length; a sample is what `default_collate` can batch.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import accumulate, islice
from typing import Any

import numpy as np

from .creation import from_numpy
from .ops.joining import stack
from .random import Generator, default_generator
from .tensor import Tensor

# Data sets ---------------------------------------------------------------------------------------------


class Dataset:
    """Samples by number: a subclass defines `__getitem__` and `__len__`.

    It may define `__getitems__(indices)` too, which gives collate_fn what it wants for a whole batch at once.
    """

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no __getitem__(index), which gives a sample")

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} has no __len__(), the number of samples")


class TensorDataset(Dataset):
    """Sample i is (tensor[i] for each of the Tensors), which must be of one length."""

    def __init__(self, *tensors: Tensor):
        if len({len(x) for x in tensors}) != 1:
            raise ValueError(f"TensorDataset: the Tensors must be of one length, not {[len(x) for x in tensors]}")
        self.tensors = tensors

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return tuple([x[index] for x in self.tensors])

    def __len__(self) -> int:
        return len(self.tensors[0])


class Subset(Dataset):
    """The samples of a data set at the given indices, in that order."""

    def __init__(self, dataset: Any, indices: Sequence[int]):
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, index: int) -> Any:
        return self.dataset[self.indices[index]]

    def __len__(self) -> int:
        return len(self.indices)


def random_split(dataset: Any, lengths: Sequence[float], generator: Generator | None = None) -> list[Subset]:
    """The data set in parts that do not overlap, drawn at random.

    lengths  the sizes, which add up to the whole, or fractions that add up to 1; of what rounding down leaves
             over, the first parts get one each
    """
    n = len(dataset)
    sizes = [int(length) for length in lengths]
    if math.isclose(sum(lengths), 1):
        sizes = [math.floor(n * length) for length in lengths]
        for i in range(n - sum(sizes)):
            sizes[i % len(sizes)] += 1
    if sum(sizes) != n:
        raise ValueError(
            f"random_split: the lengths {list(lengths)} add up to {sum(lengths)}, neither to 1 nor to the {n} samples"
        )
    order = (generator or default_generator()).numbers.permutation(n).tolist()
    return [Subset(dataset, order[end - size : end]) for end, size in zip(accumulate(sizes), sizes)]


# Batches -----------------------------------------------------------------------------------------------


def default_collate(batch: Sequence[Any]) -> Any:
    """A list of samples as one batch, with a new first dimension.

    Tensors, arrays and numbers become one Tensor (a Python float float64, as in PyTorch); dictionaries and
    tuples are batched by part; strings stay a list. Raises TypeError for anything else, ValueError for
    samples of different shapes.
    """
    first = batch[0]
    if isinstance(first, (Tensor, np.ndarray)):
        shapes = dict.fromkeys(x.shape for x in batch)
        if len(shapes) > 1:
            raise ValueError(
                f"default_collate: samples of the shapes {', '.join(map(str, shapes))} make no batch; give them one "
                "shape, or pass a collate_fn that pads"
            )
        return stack(batch) if isinstance(first, Tensor) else from_numpy(np.stack(batch))
    if isinstance(first, (bool, int, float, np.generic)):
        return from_numpy(np.array(batch))
    if isinstance(first, (str, bytes)):
        return list(batch)
    if isinstance(first, Mapping):
        return {key: default_collate([sample[key] for sample in batch]) for key in first}
    if isinstance(first, (tuple, list)):
        parts = [default_collate(part) for part in zip(*batch, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else parts
    raise TypeError(f"default_collate: cannot batch {type(first).__name__}; pass a collate_fn that can")


class DataLoader:
    """Batches of a data set, anew in each epoch (each `for` loop over the loader).

    batch_size       samples per batch; the last may have fewer, or is left out with drop_last
    shuffle          a new random order in each epoch
    sampler          an iterable of indices that has a length, in the place of shuffle
    num_workers      0: samples are fetched when a batch is asked for; more: a thread fetches ahead,
                     prefetch_factor batches for each. It is one thread, so that the order of fetching is certain
    collate_fn       makes a batch of a list of samples
    generator        for shuffle; by default its own, seeded from the default generator when the loader is made

    `state_dict()` between two batches, and `load_state_dict` into another loader with the same arguments,
    give exactly the batches that were to come.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        shuffle: bool = False,
        sampler: Iterable[int] | None = None,
        *,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] = default_collate,
        drop_last: bool = False,
        generator: Generator | None = None,
        prefetch_factor: int = 2,
    ):
        if batch_size < 1 or num_workers < 0 or prefetch_factor < 1:
            raise ValueError(
                "DataLoader: batch_size and prefetch_factor must be at least 1 and num_workers at least 0, "
                f"not {batch_size}, {prefetch_factor} and {num_workers}"
            )
        if shuffle and sampler is not None:
            raise ValueError("DataLoader: a sampler gives the order, so shuffle must be left False with one")
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.sampler = sampler
        self.num_workers = num_workers
        self.collate_fn = collate_fn
        self.drop_last = drop_last
        self.generator = generator or Generator().manual_seed(default_generator().seed())
        self.prefetch_factor = prefetch_factor
        self._epoch = _Epoch(0, self.generator.get_state())
        self._resumed = False

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        samples = len(self.dataset if self.sampler is None else self.sampler)  # type: ignore[arg-type]
        return samples // self.batch_size if self.drop_last else -(-samples // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        if self._resumed:
            self.generator.set_state(self._epoch.generator)
        else:
            self._epoch = _Epoch(self._epoch.number + bool(self._epoch.batches), self.generator.get_state())
        self._resumed = False
        return self._batches(self._epoch, islice(self._indices(), self._epoch.batches, None))

    def _indices(self) -> Iterator[list[int]]:
        """The indices of each batch of an epoch. The order is drawn at once, not when the first batch is asked for."""
        if self.sampler is not None:
            order: Any = self.sampler
        elif self.shuffle:
            order = self.generator.numbers.permutation(len(self.dataset))
        else:
            order = range(len(self.dataset))
        order = iter(order)
        batches = iter(lambda: [int(i) for i in islice(order, self.batch_size)], [])
        return (batch for batch in batches if len(batch) == self.batch_size or not self.drop_last)

    def _batches(self, epoch: _Epoch, indices: Iterator[list[int]]) -> Iterator[Any]:
        for batch in self._ahead(indices) if self.num_workers else map(self._fetch, indices):
            epoch.batches += 1  # first, so that while the consumer has the batch it counts as consumed
            yield batch

    def _ahead(self, indices: Iterator[list[int]]) -> Iterator[Any]:
        """The batches, fetched by a thread that ends when this iterator does, also if it is given up early."""
        waiting: deque[Future] = deque()
        thread = ThreadPoolExecutor(1, "DataLoader")
        try:
            while True:
                room = self.num_workers * self.prefetch_factor - len(waiting)
                waiting.extend(thread.submit(self._fetch, batch) for batch in islice(indices, room))
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            thread.shutdown(cancel_futures=True)

    def _fetch(self, indices: list[int]) -> Any:
        many = getattr(self.dataset, "__getitems__", None)
        return self.collate_fn(many(indices) if many is not None else [self.dataset[i] for i in indices])

    def state_dict(self) -> dict[str, Any]:
        """Where the loader is: the epoch, how many batches of it were handed out (fetched ahead does not count),
        and the state of the generator when the epoch began. What a sampler draws is not part of it."""
        if self._epoch.batches and self._epoch.batches == len(self):
            return {"epoch": self._epoch.number + 1, "batches": 0, "generator": self.generator.get_state()}
        return {"epoch": self._epoch.number, "batches": self._epoch.batches, "generator": self._epoch.generator}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """The next `for` loop goes on where the saved one was."""
        self._epoch = _Epoch(state_dict["epoch"], state_dict["generator"], state_dict["batches"])
        self._resumed = True


class _Epoch:
    """How far an epoch has come. Each iterator has its own, so that one given up cannot disturb the next."""

    def __init__(self, number: int, generator: Tensor, batches: int = 0):
        self.number = number
        self.generator = generator  # its state when the epoch began, before the order was drawn
        self.batches = batches  # handed out
