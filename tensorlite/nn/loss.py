"""Losses as modules: made with the options of the function, called with input and target."""

from __future__ import annotations

from typing import Any

from ..tensor import Tensor
from . import functional as F
from .activation import Functional


class Comparison(Functional):
    """The base of modules that are a function of two Tensors. Options that are Tensors are buffers: they move along."""

    inputs = 2

    def set_option(self, name: str, value: Any) -> None:
        if name.endswith("weight") or isinstance(value, Tensor):
            self.register_buffer(name, value)
        else:
            super().set_option(name, value)

    def extra_repr(self) -> str:
        return ""


class CrossEntropyLoss(Comparison, function=F.cross_entropy):
    """-log softmax(input)[target]"""


class NLLLoss(Comparison, function=F.nll_loss):
    """-input[target]"""


class MSELoss(Comparison, function=F.mse_loss):
    """(input - target)²"""


class L1Loss(Comparison, function=F.l1_loss):
    """|input - target|"""


class SmoothL1Loss(Comparison, function=F.smooth_l1_loss):
    """A square below the distance beta, |input - target| - beta/2 above."""


class HuberLoss(Comparison, function=F.huber_loss):
    """A square below the distance delta, a multiple of the distance above."""


class BCELoss(Comparison, function=F.binary_cross_entropy):
    """-target log(input) - (1 - target) log(1 - input)"""


class BCEWithLogitsLoss(Comparison, function=F.binary_cross_entropy_with_logits):
    """Binary cross-entropy of sigmoid(input)."""


class KLDivLoss(Comparison, function=F.kl_div):
    """target (log(target) - input)"""


class CosineSimilarity(Comparison, function=F.cosine_similarity):
    """The cosine of the angle between two vectors along dim."""
