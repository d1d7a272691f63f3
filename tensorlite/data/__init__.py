"""Data sets, and the DataLoader that draws batches from them in an order that can be stopped and resumed.

    >>> samples = [(10, "a"), (11, "b"), (12, "c")]
    >>> for numbers, letters in DataLoader(samples, batch_size=2):
    ...     print(numbers, letters)
    tensor([10, 11]) ['a', 'b']
    tensor([12]) ['c']

A data set is whatever has samples by number and a length; a sample is what `default_collate` can batch.
"""

from .dataset import ConcatDataset, Dataset, IterableDataset, Subset, TensorDataset, random_split
from .loader import DataLoader, default_collate, default_convert
from .sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler

__all__ = [
    "BatchSampler",
    "ConcatDataset",
    "DataLoader",
    "Dataset",
    "IterableDataset",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "Subset",
    "TensorDataset",
    "default_collate",
    "default_convert",
    "random_split",
]
