"""What training makes small."""

from __future__ import annotations

import math
from typing import Any

from .. import reference
from ..device import device_of, xp
from ..op import Op
from ..tensor import Tensor, array_of
from .activation import _logsumexp
from .reduction import sum

# fmt: off
_cross_entropy = Op("cross_entropy",     lambda logits, target, weight: _cross_entropy_forward(logits, target, weight),
                                         dlogits=lambda g, logits, target, weight, logsumexp: _cross_entropy_dlogits(g, logits, target, weight, logsumexp),
                                         residual=("logsumexp",), reference=reference.cross_entropy)
# fmt: on


def _check_targets(target: Any, classes: int) -> None:
    """Raise IndexError for a target that is no class (not on a GPU: the check would wait for the device)."""
    if target.size and device_of(target).type == "cpu" and not 0 <= target.min() <= target.max() < classes:
        wrong = target[(target < 0) | (target >= classes)][0]
        raise IndexError(f"target {wrong} is not one of the {classes} classes")


def _cross_entropy_forward(logits: Any, target: Any, weight: Any) -> tuple[Any, Any]:
    """-log softmax(logits)[target] = logsumexp(logits) - logits[target]"""
    _check_targets(target, logits.shape[-1])
    logsumexp = _logsumexp(logits, -1)  # (N, 1)
    loss = logsumexp[:, 0] - logits[xp(logits).arange(len(logits)), target]
    return weighted(loss, weight), logsumexp


def weighted(loss: Any, weight: Any) -> Any:
    """loss times weight, and 0 where the weight is, also where the loss is infinite."""
    return loss if weight is None else xp(loss).where(weight == 0, 0, loss) * weight


def _cross_entropy_dlogits(g: Any, logits: Any, target: Any, weight: Any, logsumexp: Any) -> Any:
    """d(loss)/d(logits) = softmax(logits) - onehot(target): what was predicted minus what was right."""
    g = (g if weight is None else g * weight)[:, None]
    p = logits - logsumexp
    xp(p).exp(p, out=p)
    p[xp(p).arange(len(p)), target] -= 1
    p *= g
    if weight is not None:
        p[weight == 0] = 0  # also where logits are not finite
    return p


def cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, *, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """-log softmax(input)[target]: how surprised the logits are by the right class.

    input         logits: (C,), (N, C) or (N, C, d1, …)
    target        class numbers: (), (N,) or (N, d1, …)
    weight        (C,): a weight per class
    ignore_index  targets that do not count
    reduction     "mean" (weighted), "sum" or "none"

    Raises IndexError for a target that is no class, ValueError for shapes that do not fit, RuntimeError if weight
    requires a gradient, which is not computed.
    """
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"cross_entropy: reduction is 'mean', 'sum' or 'none', not {reduction!r}")
    ids = array_of(target)
    if ids.dtype.kind not in "iu":
        raise TypeError(f"cross_entropy: targets are class numbers, integers; got {ids.dtype}")
    classes_at = 0 if input.ndim == 1 else 1
    if not input.ndim or ids.shape != input.shape[:classes_at] + input.shape[classes_at + 1 :]:
        raise ValueError(
            f"cross_entropy: logits of shape {input.shape} and targets of shape {ids.shape} do not fit; expected "
            "(N, C) and (N,), or (N, C, d1, …) and (N, d1, …)"
        )
    shape, classes = ids.shape, input.shape[classes_at]
    if weight is not None and (array_of(weight).shape != (classes,) or array_of(weight).dtype != input.dtype):
        raise ValueError(
            f"cross_entropy: weight must have shape ({classes},) and dtype {input.dtype}; it has {array_of(weight).shape} "
            f"and {array_of(weight).dtype}"
        )
    if getattr(weight, "requires_grad", False):
        raise RuntimeError("cross_entropy: weight has no derivative here; use weight.detach()")
    logits = input if input.ndim <= 2 else input.permute(0, *range(2, input.ndim), 1)
    target, ids = target.reshape(-1), ids.reshape(-1)
    weights = None
    active = ids != ignore_index
    if weight is not None or not active.all():
        target = ids = xp(ids).where(active, ids, 0)
        per_class = xp(ids).ones(classes, input.dtype) if weight is None else array_of(weight)
        weights = per_class[ids] * active
    loss = _cross_entropy(logits.reshape(-1, classes), target, weights)
    if reduction == "none":
        return loss.reshape(shape)
    total = sum(loss)
    if reduction == "sum":
        return total
    count = ids.size if weights is None else weights.sum()
    return total / count if count else total + math.nan  # of nothing: nan, but its gradient is 0, as in PyTorch


def mse_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """The mean (or "sum", or "none") of the squared differences."""
    loss = (input - target) ** 2
    return loss if reduction == "none" else loss.sum() if reduction == "sum" else loss.mean()
