"""The key-value cache: what attention has made of earlier tokens, kept, so that a new token costs only itself.

    cache = Cache(model, batch=1, room=64)
    model(prompt, cache=cache)  # (1, T): reads the prompt, whole or in parts
    model(token, cache=cache)  # (1, 1): reads one token more, which looks at all before it

A causal model never changes its mind about a token because of a later one, so a token's keys and values are final once
computed (Pope et al., *Efficiently Scaling Transformer Inference*, 2022, section 2). They are written into memory that
is taken once, for as many tokens as there is room.

Rows of different lengths stand padded on the left, so that the next token of each is in the same column. The cache
knows how much of a row is padding: nothing looks at it, and positions are counted from behind it.

Shapes: B rows, nh heads of hs numbers, S columns read so far, T columns that are being read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

import tensorlite as tl
from tensorlite import Tensor
from tensorlite.device import on

if TYPE_CHECKING:
    from gpt.model import GPT


class LayerCache:
    """The part of one layer: (B, nh, room, hs) keys, and values."""

    def __init__(self, cache: Cache, keys: Tensor, values: Tensor):
        self.cache = cache
        self.keys, self.values = keys, values

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor | None, bool]:
        """Keep (B, nh, T, hs) of the tokens that are being read. Returns what attention needs: (B, nh, S + T, hs) of
        all so far, which is not a copy, and `mask` and `is_causal` of the cache."""
        now = (slice(None), slice(None), slice(self.cache.length - k.shape[2], self.cache.length))
        upto = (slice(None), slice(None), slice(self.cache.length))
        with on(self.cache.device):
            self.keys.array[now], self.values.array[now] = k.array, v.array
            keys, values = [Tensor._of(x.array[upto]) for x in (self.keys, self.values)]
        return keys, values, self.cache.mask, self.cache.is_causal


class Cache:
    """Memory for the keys and values of up to `room` tokens in each of `batch` rows, in the model's dtype and device.

    padding    per row, how many of its first columns are padding; without it, none
    length     columns read so far
    mask       (B or 1, 1, T, S + T), which of them the columns that are being read may look at; None if the question
               does not arise, because `is_causal` says it, or because a single column looks at all

    ValueError if the model's context is shorter than `room`.
    """

    def __init__(self, model: GPT, batch: int, room: int, padding: Sequence[int] | None = None):
        c, like = model.config, model.wte.weight
        if not 1 <= room <= c.context_length:
            raise ValueError(
                f"Cache: room must be from 1 to the model's context_length of {c.context_length}, not {room}"
            )
        if padding is not None and len(padding) != batch:
            raise ValueError(f"Cache: padding expects a number for each of the {batch} rows, got {len(padding)}")
        self.room, self.length = room, 0
        self.padding = None if padding is None or not np.any(padding) else np.asarray(padding)  # (B,)
        self.mask: Tensor | None = None
        self.is_causal = False
        self.device = like.device
        shape = (batch, c.n_head, room, c.n_embd // c.n_head)

        def empty() -> Tensor:
            return tl.empty(shape, dtype=like.dtype, device=like.device)

        self.layers = [LayerCache(self, empty(), empty()) for _ in range(c.n_layer)]

    @property
    def batch(self) -> int:
        return self.layers[0].keys.shape[0]

    def extend(self, batch: int, count: int) -> slice | Tensor:
        """Get ready to read `count` columns more in all `batch` rows. Returns their positions: (T,), or (B, T) if there
        is padding.

        ValueError where they do not fit, RuntimeError where gradients are recorded, which would end at the cache.
        """
        first, stop = self.length, self.length + count
        if batch != self.batch or stop > self.room:
            raise ValueError(
                f"the cache has {self.batch} rows with room for {self.room} tokens, of which {first} are used; "
                f"({batch}, {count}) token ids do not fit in"
            )
        if tl.is_grad_enabled():
            raise RuntimeError("a cache records no gradients: read with it under no_grad(), and train without it")
        self.length = stop
        self.is_causal = first == 0 and count > 1 and self.padding is None
        self.mask = None
        if self.padding is None:
            if first and count > 1:
                self.mask = self._on_device(_not_later(first, stop))[None, None]  # (1, 1, T, S + T)
            return slice(first, stop)
        written = np.arange(stop) >= self.padding[:, None]  # (B, S + T)
        self.mask = self._on_device(_not_later(first, stop) & written[:, None])[:, None]  # (B, 1, T, S + T)
        positions = np.arange(first, stop) - self.padding[:, None]  # (B, T)
        return self._on_device(positions.clip(min=0))  # of padding: any

    def select(self, rows: Sequence[int]) -> None:
        """Keep only these rows, in this order; one may be named twice. Columns that are padding in all of them go."""
        chosen = np.asarray(rows)
        if len(chosen) == self.batch and (chosen == np.arange(self.batch)).all():
            return
        trimmed = 0
        if self.padding is not None:
            padding = self.padding[chosen]
            trimmed = min(padding.min(), self.length)
            self.padding = padding - trimmed if np.any(padding > trimmed) else None
        for layer in self.layers:
            layer.keys = _selected(layer.keys, chosen, trimmed, self.length)
            layer.values = _selected(layer.values, chosen, trimmed, self.length)
        self.length -= trimmed

    def _on_device(self, x: np.ndarray) -> Tensor:
        return tl.from_numpy(x).to(self.device)


def _not_later(first: int, stop: int) -> np.ndarray:
    """(T, S + T) booleans: column j is not later than the column first + i."""
    return np.arange(stop) <= np.arange(first, stop)[:, None]


def _selected(x: Tensor, rows: np.ndarray, first: int, stop: int) -> Tensor:
    """The chosen rows of (B, nh, room, hs), their columns from `first` on moved to the front."""
    chosen = tl.empty((len(rows), *x.shape[1:]), dtype=x.dtype, device=x.device)
    with on(x.device):
        chosen.array[:, :, : stop - first] = x.array[:, :, first:stop][rows]
    return chosen
