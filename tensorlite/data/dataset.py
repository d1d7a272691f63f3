"""Data sets: samples by number, or one after the other."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any

from ..random import Generator, default_generator
from ..tensor import Tensor


class Dataset:
    """Samples by number: a subclass defines `__getitem__` and `__len__`.

    It may define `__getitems__(indices)` too, which gives collate_fn what it wants for a whole batch at once.
    """

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no __getitem__(index), which gives a sample")

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} has no __len__(), the number of samples")

    def __add__(self, other: Any) -> ConcatDataset:
        return ConcatDataset([self, other])


class IterableDataset:
    """Samples one after the other: a subclass defines `__iter__`, and `__len__` if it knows their number.

    For a stream of which no sample has a number. A DataLoader that resumes reads again what was consumed.
    """

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError(f"{type(self).__name__} has no __iter__(), which gives the samples")


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


class ConcatDataset(Dataset):
    """The samples of several data sets, one after the other."""

    def __init__(self, datasets: Iterable[Any]):
        self.datasets = list(datasets)
        if not self.datasets:
            raise ValueError("ConcatDataset: got no data sets")
        self.cumulative_sizes = list(accumulate(len(dataset) for dataset in self.datasets))

    def __getitem__(self, index: int) -> Any:
        at = index + len(self) if index < 0 else index
        if not 0 <= at < len(self):
            raise IndexError(f"ConcatDataset: there is no sample {index} among {len(self)}")
        i = bisect_right(self.cumulative_sizes, at)
        return self.datasets[i][at - self.cumulative_sizes[i - 1] if i else at]

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]


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
