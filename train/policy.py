"""Learning from rewards: what is expected of an answer, and the loss whose slope makes the better ones likelier.

Sources: Williams, *Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning* (1992),
for REINFORCE with a baseline; Schulman et al., *Proximal Policy Optimization Algorithms* (2017), equation 7, for the
clipped ratio; Shao et al., *DeepSeekMath* (2024), section 4.1, for GRPO's groups and its penalty.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

import tensorlite as tl
from tensorlite import Tensor

Baseline = Literal["group", "mean", "none"]


def advantages(rewards: np.ndarray, baseline: Baseline) -> np.ndarray:
    """How much better an answer was than was to be expected: (B, G) rewards of G answers to B questions -> (B, G).

    baseline  "group": the mean of the group, in units of its spread (GRPO); "mean": the mean of all; "none": 0
    """
    if baseline == "none":
        return rewards
    if baseline == "mean":
        return rewards - rewards.mean()
    spread = rewards.std(axis=1, keepdims=True)
    return (rewards - rewards.mean(axis=1, keepdims=True)) / (spread + 1e-4)  # 0 where all are alike


def policy_loss(
    new: Tensor,
    old: Tensor | None,
    advantage: Tensor,
    clip: float = 0.2,
    reference: Tensor | None = None,
    kl: float = 0.0,
) -> Tensor:
    """GRPO's objective with the sign of a loss, the mean over answers and their tokens (Shao et al., equation 3).

    new        (N, A) log-probabilities of the tokens of N answers under the model that learns
    old        (N, A) under the model that drew them; None: the model has not changed since
    advantage  (N,)
    clip       a token's ratio new / old moves the model no further once it is outside 1 ± clip
    reference  (N, A) under the frozen model that it is held to, with the strength `kl`

    While the model is the one that drew the answers every ratio is 1, and the slope is REINFORCE's: that of
    -advantage log p(answer), divided by the number of tokens.
    """
    ratio = (new - (new if old is None else old).detach()).exp()  # (N, A)
    better = advantage[:, None]  # (N, 1)
    gain = tl.minimum(ratio * better, ratio.clamp(1 - clip, 1 + clip) * better)  # (N, A)
    if reference is not None:
        gain = gain - kl * divergence(new, reference)
    return -gain.mean()


def divergence(new: Tensor, reference: Tensor) -> Tensor:
    """An estimate of KL(new || reference) from tokens that `new` drew, (N, A): without bias, and never below 0.

    exp(d) - d - 1 of the difference d of the logarithms, reference less new (Shao et al., equation 4).
    """
    d = reference - new
    return d.exp() - d - 1
