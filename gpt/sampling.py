"""Which token comes next: from a model's logits to the tokens that may be drawn, and the drawing.

    rules = Sampling(temperature=0.8, top_k=50)
    ids, chances = rules.candidates(logits)  # of one position, (V,)

Every rule leaves out tokens or changes how likely they are; they apply in this order, which is that of Hugging Face's
transformers:

    repetition_penalty   tokens that were there already become less likely      Keskar et al., *CTRL* (2019)
    temperature          the logits are divided by it                           Ackley et al. (1985)
    top_k                only the k likeliest stay                              Fan et al. (2018)
    top_p                only the likeliest that together reach probability p   Holtzman et al. (2020), "nucleus"
    min_p                only those at least p times as likely as the first     Nguyen et al. (2024)

Numbers are drawn in float64 on the CPU, one for each token, whatever device the model computes on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gpt.options import option


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. ValueError for a value that makes no sense.

    temperature         below 1 likely tokens become likelier, above 1 less so; 0 takes the likeliest
    top_k               draw among the k likeliest tokens only
    top_p               draw among the fewest tokens that together have at least this probability
    min_p               draw among the tokens with at least this share of the likeliest one's probability
    repetition_penalty  above 1: logits of tokens that were there already are divided by it if positive, else multiplied
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise ValueError(f"temperature expects a finite number from 0 on, got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k expects a number from 1 on, or None to draw among all tokens, got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p expects a probability above 0 and up to 1, or None, got {self.top_p}")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p expects a share from 0 to 1, or None, got {self.min_p}")
        if not (math.isfinite(self.repetition_penalty) and self.repetition_penalty > 0):
            raise ValueError(
                f"repetition_penalty expects a finite number above 0, and 1 for none, got {self.repetition_penalty}"
            )

    def candidates(self, logits: np.ndarray, seen: Sequence[int] = ()) -> tuple[np.ndarray, np.ndarray]:
        """The ids that may come next, (n,), and their probabilities, (n,) float64, which sum to 1.

        logits  (V,) of one position
        seen    the ids that were there already, which only repetition_penalty asks for

        ValueError if no logit is a number.
        """
        if self.repetition_penalty != 1 and len(seen):
            logits = logits.copy()
            there = np.unique(seen)
            before, penalty = logits[there], self.repetition_penalty
            logits[there] = np.where(before < 0, before * penalty, before / penalty)
        best = int(logits.argmax())
        if not math.isfinite(logits[best]):
            raise ValueError(f"the largest logit is {logits[best]}, so no token can be chosen; are the weights finite?")
        if self.temperature == 0:
            return np.array([best]), np.ones(1)
        ids = self._likeliest(logits)
        scores = logits[ids].astype(np.float64) if ids is not None else logits.astype(np.float64)
        scores -= logits[best]
        with np.errstate(over="ignore"):  # -inf is right where the temperature is next to nothing
            scores /= self.temperature
        chances = np.exp(scores, out=scores)
        chances /= chances.sum()
        if ids is None:
            return np.arange(len(chances)), chances
        keep = len(ids)
        if self.top_p is not None:
            before = np.cumsum(chances) - chances  # the probability of all that are likelier
            keep = max(1, int(np.count_nonzero(before < self.top_p)))
        if self.min_p is not None:
            keep = max(1, min(keep, int(np.count_nonzero(chances >= self.min_p * chances[0]))))
        return ids[:keep], chances[:keep] / chances[:keep].sum()

    def _likeliest(self, logits: np.ndarray) -> np.ndarray | None:
        """The top_k ids, the likeliest first; None where no rule asks for an order."""
        if self.top_k is not None and self.top_k < len(logits):
            chosen = np.argpartition(logits, -self.top_k)[-self.top_k :]
            return chosen[np.argsort(-logits[chosen], kind="stable")]
        if self.top_p is not None or self.min_p is not None:
            return np.argsort(-logits, kind="stable")
        return None

    def draw(self, logits: np.ndarray, number: float, seen: Sequence[int] = ()) -> int:
        """The token that `number`, uniform on [0, 1), chooses: where the probabilities, added up, pass it."""
        ids, chances = self.candidates(logits, seen)
        sums = np.cumsum(chances)
        return int(ids[min(np.searchsorted(sums, number * sums[-1], side="right"), len(ids) - 1)])


@dataclass(frozen=True)
class SamplingOptions:
    """The options by which every script is told how to choose tokens."""

    temperature: float = option(0.8, "how bold to be; 0 takes the likeliest token each time")
    top_k: int | None = option(200, "draw among so many likeliest tokens, or none: among all")
    top_p: float | None = option(None, "draw among the likeliest tokens that together have this probability")
    min_p: float | None = option(None, "draw among tokens with this share of the likeliest one's probability")
    repetition_penalty: float = option(1.0, "above 1, tokens that were there already become less likely")

    def sampling(self) -> Sampling:
        return Sampling(self.temperature, self.top_k, self.top_p, self.min_p, self.repetition_penalty)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities of the last dimension, in float64: (…, V) -> (…, V)"""
    x = logits.astype(np.float64)
    x -= x.max(axis=-1, keepdims=True)
    x -= np.log(np.exp(x).sum(axis=-1, keepdims=True))
    return x
