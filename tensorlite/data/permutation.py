"""A random order of any size that is computed, not stored.

A Feistel network turns pairs (left, right) of numbers below s into such pairs, each into another: round after round,
left grows by a hash of right, modulo s, and the two change places, which can be undone. A number below n <= s² is such
a pair; where what comes out is not below n, it goes in again until it is. Black and Rogaway, *Ciphers with Arbitrary
Finite Domains* (2002); the hash is splitmix64's (Steele, Lea and Flood, *Fast Splittable Pseudorandom Number
Generators*, 2014).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 6


class Permutation:
    """The numbers 0 … n-1 in a random order, drawn from `numbers`, of which any part can be asked for.

    n  at most 2^62
    """

    def __init__(self, n: int, numbers: np.random.Generator):
        self.n = n
        self._side = np.uint64(math.isqrt(max(n - 1, 0)) + 1)  # the smallest s with n <= s²
        self._keys = numbers.integers(0, 2**64, _ROUNDS, dtype=np.uint64)

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, part: slice) -> NDArray[np.int64]:
        """The numbers at the places of the slice, (places,)."""
        places = np.arange(*part.indices(self.n), dtype=np.uint64)
        found = self._shuffled(places)
        while (outside := np.flatnonzero(found >= self.n)).size:
            found[outside] = self._shuffled(found[outside])
        return found.astype(np.int64)

    def _shuffled(self, numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left, right = np.divmod(numbers, self._side)
        for key in self._keys:
            left, right = right, (left + _hash(right ^ key) % self._side) % self._side
        return left * self._side + right


def _hash(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's last steps; arrays of uint64 wrap around."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
