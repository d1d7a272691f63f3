"""Random numbers on a GPU: Philox, a function of a seed and a counter, whose whole state is those two numbers.

Salmon, Moraes, Dror, Shaw, Parallel random numbers: as easy as 1, 2, 3, 2011. Each element's number depends on its own
counter alone, so that any number of threads can draw at once; to go on from a state is to count on.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .capture import refuse
from .device import device, on

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)  # what is added to the two halves of the key after each round
_DRAWN = (
    "random numbers are drawn, of which each replay would draw the same, the counter being the program's",
    "set dropout to 0, or draw before replay() into a Tensor that the block reads",
)
_LOW = np.uint64(0xFFFFFFFF)


def philox(counter: Any, seed: int, rounds: int = 10) -> list[Any]:
    """Philox4x32: four uint32 words, as uint64 arrays, of each 64-bit number in the array `counter`."""
    words = [counter & _LOW, counter >> np.uint64(32), counter & np.uint64(0), counter & np.uint64(0)]
    key = [seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF]
    for _ in range(rounds):
        first, second = words[0] * np.uint64(_MULTIPLIERS[0]), words[2] * np.uint64(_MULTIPLIERS[1])
        words = [
            (second >> np.uint64(32)) ^ words[1] ^ np.uint64(key[0]), second & _LOW,
            (first >> np.uint64(32)) ^ words[3] ^ np.uint64(key[1]), first & _LOW,
        ]  # fmt: skip
        key = [(k + w) & 0xFFFFFFFF for k, w in zip(key, _WEYL, strict=True)]
    return words


class Philox:
    """Draws arrays on a device, by the names that NumPy's Generator has. `seed` and `offset` are its state."""

    def __init__(self, where: device, seed: int, offset: int = 0):
        self.where, self.seed, self.offset = where, seed, offset

    def bits(self, n: int, library: Any) -> Any:
        """n uint32 words, as uint64. They take as many counters as they need, four words of each."""
        refuse(*_DRAWN)
        blocks = -(-n // 4)
        counter = library.arange(self.offset, self.offset + blocks, dtype=np.uint64)
        self.offset += blocks
        return library.stack(philox(counter, self.seed)).reshape(-1)[:n]

    def random(self, shape: Any = (), dtype: Any = np.float64) -> Any:
        """Uniform on [0, 1): 24 bits for float32, 53 for float64."""
        n = math.prod(shape)
        with on(self.where) as library:
            if np.dtype(dtype) == np.float32:
                numbers = (self.bits(n, library) >> np.uint64(8)).astype(np.float32)
                return (numbers * np.float32(2**-24)).reshape(shape)
            return ((self._wide(n, library) >> np.uint64(11)).astype(np.float64) * 2.0**-53).reshape(shape)

    def _wide(self, n: int, library: Any) -> Any:
        """n uint64 numbers."""
        words = self.bits(2 * n, library)
        return (words[:n] << np.uint64(32)) | words[n:]

    def standard_normal(self, shape: Any, dtype: Any = np.float64) -> Any:
        """Normal with mean 0 and variance 1: two uniform numbers make two normal ones (Box, Muller, 1958)."""
        n = math.prod(shape)
        pairs = -(-n // 2)
        with on(self.where) as library:
            radius = library.sqrt(-2 * library.log1p(-self.random((pairs,), dtype)))  # 1 - u is not 0
            angle = self.random((pairs,), dtype) * dtype_of(dtype)(2 * math.pi)
            numbers = library.concatenate([radius * library.cos(angle), radius * library.sin(angle)])
            return numbers[:n].reshape(shape)

    def standard_exponential(self, shape: Any) -> Any:
        with on(self.where) as library:
            return -library.log1p(-self.random(shape))

    def integers(self, low: int, high: int, shape: Any, dtype: Any = np.int64) -> Any:
        """From [low, high): 64 bits modulo the count, so that some are more likely, by one part in 2^64 / count."""
        with on(self.where) as library:
            numbers = self._wide(math.prod(shape), library) % np.uint64(high - low)
            return (numbers.astype(np.int64) + low).astype(dtype).reshape(shape)

    def permutation(self, n: int) -> Any:
        """0 … n-1 in random order: that of n random numbers."""
        with on(self.where) as library:
            return library.argsort(self._wide(n, library))

    def draw_seed(self) -> int:
        """A number from [0, 2^62), computed on the CPU, so that nobody waits for the device."""
        refuse(*_DRAWN)
        words = philox(np.array([self.offset], np.uint64), self.seed)
        self.offset += 1
        return int(words[0][0] << np.uint64(30) | words[1][0] >> np.uint64(2))


def dtype_of(dtype: Any) -> Any:
    return np.dtype(dtype).type
