"""Learning from pairs of answers, of which people prefer one: the log-probabilities of answers, and DPO's loss.

Sources: Rafailov et al., *Direct Preference Optimization* (2023), equation 7; Mitchell, *A note on DPO with noisy
preferences* (2023), for label smoothing; Azar et al., *A General Theoretical Paradigm to Understand Learning from Human
Preferences* (2023), equation 17, for IPO.
"""

from __future__ import annotations

from typing import Literal

import tensorlite as tl
from gpt.cache import Cache
from gpt.model import GPT
from tensorlite import Tensor
from tensorlite.nn import functional as F
from train.collate import IGNORED

Loss = Literal["dpo", "ipo"]


def token_log_probabilities(model: GPT, idx: Tensor, targets: Tensor, cache: Cache | None = None) -> Tensor:
    """The logarithm of the probability that `model` gives to each target, (B, T); 0 where a target does not count.

    idx, targets  (B, T), as `collate` makes them with mask_prompt
    cache         what stands before idx in each row
    """
    x = model.hidden(idx, cache).flatten(0, 1)  # (B*T, C)
    loss = F.linear_cross_entropy(x, model.lm_head.weight, targets.flatten(), reduction="none", ignore_index=IGNORED)
    return -loss.view(*targets.shape)


def log_probabilities(
    model: GPT, idx: Tensor, targets: Tensor, average: bool = False, cache: Cache | None = None
) -> Tensor:
    """The logarithm of the probability that `model` gives to each row's targets, where these count: (B,).

    average  divide by the number of targets that count, as the book does: long answers then weigh no more
    """
    total = token_log_probabilities(model, idx, targets, cache).sum(dim=1)  # (B,)
    return total / tl.ne(targets, IGNORED).sum(dim=1) if average else total


def preference_loss(
    chosen: Tensor, rejected: Tensor, beta: float = 0.1, label_smoothing: float = 0.0, kind: Loss = "dpo"
) -> Tensor:
    """The mean loss of pairs.

    chosen, rejected  (B,): log-probability under the model less that under the frozen reference
    beta              how strongly the model is held to the reference: higher holds it closer
    label_smoothing   the probability that a pair was labelled the wrong way round, below 0.5 (dpo)
    kind              "dpo": -log sigmoid(beta h) of the difference h of the two; "ipo": (h - 1/(2 beta))², which does
                      not push the difference on for ever
    """
    h = chosen - rejected  # (B,)
    if kind == "ipo":
        return ((h - 1 / (2 * beta)) ** 2).mean()
    right, wrong = F.logsigmoid(beta * h), F.logsigmoid(-beta * h)  # (B,)
    return -((1 - label_smoothing) * right + label_smoothing * wrong).mean()
