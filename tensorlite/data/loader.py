"""The DataLoader, which draws batches from a data set in an order that can be stopped and resumed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np

from ..creation import from_numpy
from ..cuda import is_available
from ..ops.joining import stack
from ..random import Generator, default_generator
from ..tensor import Tensor
from .dataset import IterableDataset
from .sampler import BatchSampler, RandomSampler, SequentialSampler, after


def default_convert(data: Any) -> Any:
    """A sample as it is, with its arrays as Tensors."""
    if isinstance(data, np.ndarray) and data.dtype.kind in "biuf":
        return from_numpy(data)
    if isinstance(data, Mapping):
        return {key: default_convert(x) for key, x in data.items()}
    if isinstance(data, (tuple, list)):
        parts = [default_convert(x) for x in data]
        return type(data)(*parts) if hasattr(data, "_fields") else type(data)(parts)
    return data


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


def pin(batch: Any) -> Any:
    """A batch with its Tensors in page-locked memory. What has a pin_memory() does it itself, as in PyTorch."""
    if isinstance(batch, Mapping):
        return {key: pin(x) for key, x in batch.items()}
    if isinstance(batch, (tuple, list)):
        parts = [pin(x) for x in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
    return batch.pin_memory() if hasattr(batch, "pin_memory") else batch


class DataLoader:
    """Batches of a data set, anew in each epoch (each `for` loop over the loader).

    dataset          samples by number, or an IterableDataset
    batch_size       samples per batch; the last may have fewer, or is left out with drop_last. None: no batches, but
                     the samples as they are
    shuffle          a new random order in each epoch
    sampler          an iterable of indices that has a length, in the place of shuffle
    batch_sampler    an iterable of lists of indices, in the place of all four
    num_workers      0: samples are fetched when a batch is asked for; more: a thread fetches ahead,
                     prefetch_factor batches for each. It is one thread, so that the order of fetching is certain
    collate_fn       makes a batch of a list of samples
    worker_init_fn   called as worker_init_fn(0) in that thread before it begins
    generator        for shuffle; by default its own, seeded from the default generator when the loader is made

    pin_memory       hand out Tensors in page-locked memory, from which `.to("cuda", non_blocking=True)` copies while
                     the program goes on; without a GPU it does nothing, as in PyTorch

    timeout, multiprocessing_context and persistent_workers are taken and do nothing, as there are no processes.

    `state_dict()` between two batches, and `load_state_dict` into another loader with the same arguments,
    give exactly the batches that were to come.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[Any] | None = None,
        batch_sampler: Iterable[list[Any]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[Any], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], Any] | None = None,
        multiprocessing_context: Any = None,
        generator: Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
    ):
        prefetch_factor = 2 if prefetch_factor is None else prefetch_factor
        if (batch_size is not None and batch_size < 1) or num_workers < 0 or prefetch_factor < 1:
            raise ValueError(
                "DataLoader: batch_size and prefetch_factor must be at least 1 and num_workers at least 0, "
                f"not {batch_size}, {prefetch_factor} and {num_workers}"
            )
        if shuffle and sampler is not None:
            raise ValueError("DataLoader: a sampler gives the order, so shuffle must be left False with one")
        if batch_sampler is not None and (batch_size != 1 or shuffle or sampler is not None or drop_last):
            raise ValueError(
                "DataLoader: a batch_sampler gives the batches, so leave batch_size, shuffle, sampler and drop_last out"
            )
        iterable = isinstance(dataset, IterableDataset)
        if iterable and (shuffle or sampler is not None or batch_sampler is not None):
            raise ValueError("DataLoader: an IterableDataset gives the order, so leave shuffle and samplers out")
        self.dataset = dataset
        self.batch_size: Any = batch_size if batch_sampler is None else None
        self.num_workers = num_workers
        self.drop_last = drop_last
        self.worker_init_fn = worker_init_fn
        self.generator = generator or Generator().manual_seed(default_generator().draw_seed())
        self.prefetch_factor = prefetch_factor
        self.pin_memory = pin_memory
        if iterable:
            sampler = dataset  # what comes are the samples themselves
        elif sampler is None:
            sampler = RandomSampler(dataset, generator=self.generator) if shuffle else SequentialSampler(dataset)
        if batch_sampler is None and batch_size is not None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.sampler = sampler
        self.batch_sampler = batch_sampler
        self.collate_fn = collate_fn or (default_convert if batch_sampler is None else default_collate)
        self._epoch = _Epoch(0, self.generator.get_state())
        self._resumed = False

    def __len__(self) -> int:
        """The number of batches in an epoch. Raises TypeError if the data set or sampler has no length."""
        return len(self.sampler if self.batch_sampler is None else self.batch_sampler)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        if self._resumed:
            self.generator.set_state(self._epoch.generator)
        else:
            self._epoch = _Epoch(self._epoch.number + bool(self._epoch.batches), self.generator.get_state())
        self._resumed = False
        source = self.sampler if self.batch_sampler is None else self.batch_sampler
        return self._batches(self._epoch, after(source, self._epoch.batches))

    def _batches(self, epoch: _Epoch, indices: Iterator[Any]) -> Iterator[Any]:
        for batch in self._ahead(indices) if self.num_workers else map(self._fetch, indices):
            epoch.batches += 1  # first, so that while the consumer has the batch it counts as consumed
            yield batch
        epoch.complete = True

    def _ahead(self, indices: Iterator[Any]) -> Iterator[Any]:
        """The batches, fetched by a thread that ends when this iterator does, also if it is given up early."""
        waiting: deque[Future] = deque()
        start = self.worker_init_fn or (lambda worker: None)
        thread = ThreadPoolExecutor(1, "DataLoader", start, (0,))
        try:
            while True:
                room = self.num_workers * self.prefetch_factor - len(waiting)
                waiting.extend(thread.submit(self._fetch, batch) for batch in islice(indices, room))
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            thread.shutdown(cancel_futures=True)

    def _fetch(self, indices: Any) -> Any:
        batch = self._collated(indices)
        return pin(batch) if self.pin_memory and is_available() else batch

    def _collated(self, indices: Any) -> Any:
        if isinstance(self.dataset, IterableDataset):
            return self.collate_fn(indices)
        if self.batch_sampler is None:
            return self.collate_fn(self.dataset[indices])
        many = getattr(self.dataset, "__getitems__", None)
        return self.collate_fn(many(indices) if many is not None else [self.dataset[i] for i in indices])

    def state_dict(self) -> dict[str, Any]:
        """Where the loader is: the epoch, how many batches of it were handed out (fetched ahead does not count),
        and the state of the generator when the epoch began. What a sampler draws is not part of it."""
        if self._epoch.complete or (self._epoch.batches and self._epoch.batches == self._length()):
            return {"epoch": self._epoch.number + 1, "batches": 0, "generator": self.generator.get_state()}
        return {"epoch": self._epoch.number, "batches": self._epoch.batches, "generator": self._epoch.generator}

    def _length(self) -> int | None:
        try:
            return len(self)
        except (TypeError, NotImplementedError):  # a stream, whose end one knows when it comes
            return None

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
        self.complete = False
