"""Arrays that lie in a file: known by dtype, shape and place, and read, when asked, through a map of the file."""

from __future__ import annotations

import math
import mmap
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

STRIP = 64  # rows that are copied at a time; transposed, each fills whole cache lines


def open_map(path: str | PathLike[str]) -> mmap.mmap:
    """A file as memory, of which only what is touched is read. What is written into it stays in this process.

    ValueError for an empty file.
    """
    with Path(path).open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


@dataclass(frozen=True)
class Stored:
    """An array in a mapped file. ValueError if it does not lie within.

    memory      the file's map
    dtype       of the numbers as they lie there, uint16 for bfloat16
    stored_shape  as they lie there, in C order
    offset      bytes from the beginning of the file
    transposed  whether `shape` is the reverse of it
    bfloat16    whether they are the upper halves of float32 numbers; these are what is read then
    """

    memory: mmap.mmap
    dtype: np.dtype
    stored_shape: tuple[int, ...]
    offset: int
    transposed: bool = False
    bfloat16: bool = False

    def __post_init__(self) -> None:
        if min(self.stored_shape, default=0) < 0 or not 0 <= self.offset <= len(self.memory) - self.nbytes:
            raise ValueError(
                f"an array of shape {self.stored_shape}, {self.nbytes:,} bytes from byte {self.offset:,} on, does not "
                f"lie in a file of {len(self.memory):,} bytes"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        return self.stored_shape[::-1] if self.transposed else self.stored_shape

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return math.prod(self.stored_shape) * self.dtype.itemsize

    @property
    def read_dtype(self) -> np.dtype:
        """The dtype that `map` and `read` give: float32 for bfloat16, which NumPy lacks and float32 contains."""
        return np.dtype(np.float32) if self.bfloat16 else self.dtype

    @property
    def T(self) -> Stored:
        """The same with its dimensions reversed."""
        return replace(self, transposed=not self.transposed)

    def part(self, shape: tuple[int, ...], start: int = 0) -> Stored:
        """The numbers from the one numbered `start` on, in the order in which they lie, as an array of `shape`."""
        part = replace(self, stored_shape=shape, offset=self.offset + start * self.dtype.itemsize, transposed=False)
        if start < 0 or part.offset + part.nbytes > self.offset + self.nbytes:
            raise ValueError(f"there is no part of shape {shape} from number {start:,} on in {self.stored_shape}")
        return part

    def map(self) -> np.ndarray:
        """The numbers where they lie, without reading them; of bfloat16 a copy."""
        array = self._numbers(self._lies())
        return array.T if self.transposed else array

    def read(self, dtype: Any = None) -> np.ndarray:
        """The numbers in memory of their own, in C order, as `dtype` if given; then `release`s what was read."""
        array = np.empty(self.shape, dtype or self.read_dtype)
        source, target = np.atleast_1d(self._lies(), array.T if self.transposed else array)
        for first in range(0, len(source), STRIP):
            target[first : first + STRIP] = self._numbers(source[first : first + STRIP])
        self.release()
        return array

    def release(self) -> None:
        """Give the file's pages back to the system, so that what is read array by array is in memory once. That undoes
        what was written into a `map` of them."""
        if self.nbytes and hasattr(mmap, "MADV_DONTNEED"):  # Windows has no such thing
            start = self.offset - self.offset % mmap.PAGESIZE
            self.memory.madvise(mmap.MADV_DONTNEED, start, self.offset + self.nbytes - start)

    def _lies(self) -> np.ndarray:
        return np.ndarray(self.stored_shape, self.dtype, self.memory, self.offset)

    def _numbers(self, lying: np.ndarray) -> np.ndarray:
        return from_bfloat16(lying) if self.bfloat16 else lying


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """The float32 numbers of which `bits`, uint16, are the upper halves."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def to_bfloat16(array: np.ndarray) -> np.ndarray:
    """The upper halves, uint16, of the nearest float32 numbers that have no lower half; ties go to the even one."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    nearest = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    return np.where(np.isnan(array), (bits >> 16) | 0x40, nearest).astype(np.uint16)  # a nan's bits may round to inf
