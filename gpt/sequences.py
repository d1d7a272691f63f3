"""A batch of token sequences that a model goes on with: reading what is new, and asking for what comes next.

    sequences = Sequences(model, [[464, 3290], [15496]], room=20)
    logits = sequences.logits()  # (2, V), of each sequence's next token
    sequences.append([262, 11])

The sequences may have different lengths; each gets the logits that it would get alone. Drawing tokens (sampling.py),
beams (beam.py) and deciding when to stop (generate.py) are for others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

import tensorlite as tl
from gpt.cache import Cache
from gpt.model import GPT
from tensorlite import nn


class Sequences:
    """`prompts`, to each of which up to `room` tokens may be appended.

    ids        (B, W) int64; a row is padded on its left, so that all end in the last column
    lengths    (B,) how many tokens each row has
    use_cache  whether keys and values are kept (cache.py), or all is read anew for each token

    The model sees the last context_length tokens. While a sequence is longer, all of these are read for each token:
    they are at other positions each time, and GPT-2 adds a position's vector to the token's, so nothing kept would do.

    ValueError if there is no prompt or an empty one.
    """

    def __init__(self, model: GPT, prompts: Sequence[Sequence[int]], room: int, use_cache: bool = True):
        if not prompts or not all(len(prompt) for prompt in prompts):
            raise ValueError("generation needs at least one prompt, and at least one token in each")
        self.model, self.use_cache = model, use_cache
        self._modules = list(model.modules())  # to look for them takes longer than a small op
        self.lengths = np.array([len(prompt) for prompt in prompts])
        self.width = int(self.lengths.max())
        self._room = room
        self._buffer = np.zeros((len(prompts), self.width), np.int64)  # later with columns to spare
        for row, prompt in zip(self._buffer, prompts):
            row[self.width - len(prompt) : self.width] = prompt
        self._cache: Cache | None = None
        self._unread = 0  # columns at the end that are not in the cache

    def __len__(self) -> int:
        return len(self._buffer)

    @property
    def ids(self) -> np.ndarray:
        return self._buffer[:, : self.width]

    def row(self, i: int) -> np.ndarray:
        """(length,) the tokens of one sequence."""
        return self._buffer[i, self.width - self.lengths[i] : self.width]

    def logits(self) -> np.ndarray:
        """(B, V) of each sequence's next token."""
        if self._cache is not None and self._unread:
            return self._read(self.ids[:, -self._unread :], self._cache)
        columns = min(int(self.lengths.max()), self.model.config.context_length)
        some, back = _different(np.column_stack([self.lengths, self.ids[:, -columns:]]))
        cache = self._fresh_cache(columns, self.lengths[some])
        logits = self._read(self.ids[some, -columns:], cache)[back]
        if cache is not None and self.use_cache:
            cache.select(back.tolist())
            self._cache = cache
        return logits

    def _read(self, ids: np.ndarray, cache: Cache | None) -> np.ndarray:
        """(B, T) ids, of which the cache has not seen any -> (B, V)"""
        with evaluating(self._modules):
            idx = tl.from_numpy(ids).to(self.model.wte.weight.device)
            logits, _ = self.model(idx) if cache is None else self.model(idx, cache=cache)  # (B, 1, V)
        self._unread = 0
        return logits[:, -1].cpu().numpy()

    def _fresh_cache(self, columns: int, lengths: np.ndarray) -> Cache | None:
        """For rows of `columns` columns and what will be appended; None where nothing is padded and nothing kept."""
        longest = self.model.config.context_length
        room = min(longest, columns + self._room) if self.use_cache else columns
        padding = np.maximum(columns - lengths, 0)
        if not padding.any() and (not self.use_cache or columns == longest):
            return None
        return Cache(self.model, len(lengths), room, padding.tolist())

    def append(self, tokens: Sequence[int]) -> None:
        """One token for each sequence."""
        if self.width == self._buffer.shape[1]:
            self._buffer = np.concatenate([self._buffer, np.zeros_like(self._buffer)], axis=1)
        self._room -= 1
        self._buffer[:, self.width] = tokens
        self.width += 1
        self.lengths += 1
        self._unread += 1
        if self.lengths.max() > self.model.config.context_length:
            self._cache = None

    def select(self, rows: Sequence[int]) -> None:
        """Go on with these sequences only, in this order; one may be named twice."""
        self._buffer, self.lengths = self._buffer[rows], self.lengths[rows]
        if self._cache is not None:
            self._cache.select(rows)


def _different(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of rows of which each other one is a copy, and for each row, which of these it is.

    Several samples of one prompt read it once.
    """
    _, some, back = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    if len(some) == len(rows):
        return np.arange(len(rows)), np.arange(len(rows))
    return some, back.reshape(-1)


@contextmanager
def evaluating(model: nn.Module | Iterable[nn.Module]) -> Iterator[None]:
    """Inside, `model` (or each of some modules, looked up beforehand) drops nothing and nothing is recorded; afterwards
    the mode of each of its modules is what it was."""
    modules = model.modules() if isinstance(model, nn.Module) else model
    training = [module for module in modules if module.training]
    for module in training:
        module.training = False
    try:
        with tl.no_grad():
            yield
    finally:
        for module in training:
            module.training = True
