"""Windows that slide over tokens: what a GPT is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

import tensorlite as tl


class StoredTokens(Protocol):
    """Tokens that are not in memory: what Windows need of them, their number and those at an array of places, in its
    shape; and a checksum of all of them."""

    @property
    def checksum(self) -> str: ...

    def __len__(self) -> int: ...

    def __getitem__(self, places: np.ndarray, /) -> np.ndarray: ...


TokenArray = np.ndarray | StoredTokens


class Windows(tl.data.Dataset):
    """All (input, target) pairs of `context_length` tokens, starting every `stride` tokens; the target is the
    input one token later.

    A stride of the context length sees each token once; a stride of 1 makes every position a start.
    """

    def __init__(self, tokens: TokenArray, context_length: int, stride: int):
        self.tokens, self.context_length, self.stride = tokens, context_length, stride

    def __len__(self) -> int:
        return max(0, -(-(len(self.tokens) - self.context_length) // self.stride))

    def __getitem__(self, i: int) -> tuple[tl.Tensor, tl.Tensor]:
        """((T,), (T,)) int64"""
        x, y = self.__getitems__([range(len(self))[i]])
        return x[0], y[0]

    def __getitems__(self, indices: Sequence[int] | np.ndarray) -> tuple[tl.Tensor, tl.Tensor]:
        """((B, T), (B, T)) int64: a whole batch by one look-up, without a Python step per window."""
        starts = np.asarray(indices, dtype=np.int64) * self.stride
        window = self.tokens[starts[:, None] + np.arange(self.context_length + 1)].astype(np.int64)  # (B, T+1)
        return tl.from_numpy(window[:, :-1]), tl.from_numpy(window[:, 1:])
