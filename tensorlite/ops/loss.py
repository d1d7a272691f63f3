"""What training makes small. `reduction` is "mean", "sum" or "none" throughout."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import late, mode, reference
from ..device import device_of, where_it_lies, xp
from ..dtype import HALVES, is_floating
from ..mode import is_grad_enabled
from ..op import Analytic, Op
from ..tensor import Tensor, array_of
from .activation import _along, _log_softmax, _logsumexp, in_float32, listed_by_autocast, logsigmoid
from .arithmetic import maximum, where
from .elementwise import abs, exp, log
from .matrix import linear
from .reduction import sum
from .shape import reshape

# fmt: off
_cross_entropy = Op("cross_entropy",     lambda logits, target, weight: _cross_entropy_forward(logits, target, weight),
                                         dlogits=lambda g, logits, target, weight, logsumexp: _cross_entropy_dlogits(g, logits, target, weight, logsumexp),
                                         residual=("logsumexp",), reference=reference.cross_entropy)
_linear_cross_entropy = Op("linear_cross_entropy", lambda x, weight, target, share, *, slopes: _project_and_compare(x, weight, target, share, slopes),
                                         d=lambda g, dx, dweight: (_times(g, dx), _times(g, dweight), None, None),
                                         residual=("dx", "dweight"), reference=reference.linear_cross_entropy, sums=True)
# An element of the plain formula is infinite where a prediction is 0 or 1 and wrong; PyTorch stops it at 100, its slope at 1e12.
_binary        = Analytic("binary_cross_entropy", lambda p, target: -target * _log(p) - (1 - target) * _log(1 - p),
                                         dp=lambda g, p, target: g * (p - target) / maximum(p * (1 - p), 1e-12),
                                         dtarget=lambda g, p: g * (_log(1 - p) - _log(p)))
# fmt: on


def _log(p: Any) -> Any:
    return maximum(log(p), -100.0)


def _check_targets(target: Any, classes: int) -> None:
    """Raise IndexError for a target that is no class; on a GPU when numbers next come from there (late.py)."""
    if xp(target) is not np:
        late.within(target, 0, classes, "target {} is not one of the {} classes", xp(target))
    elif target.size and not 0 <= target.min() <= target.max() < classes:
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
        p = xp(p).where((weight == 0)[:, None], 0, p)  # also where logits are not finite
    return p


def _project_and_compare(x: Any, weight: Any, target: Any, share: Any, slopes: tuple[bool, bool]) -> tuple[Any, Any, Any]:
    """The loss, a number, and its slopes by x and weight, which cost least while the logits are at hand:

    dy/dlogits = share (softmax(logits) - onehot(target)),   dy/dx = dy/dlogits weight,   dy/dweight = dy/dlogitsᵀ x.
    """
    logits = x @ weight.T  # (N, V)
    loss, logsumexp = _cross_entropy_forward(logits, target, share)
    if not any(slopes):
        return loss.sum(), None, None
    p = _cross_entropy_dlogits(xp(x).ones(len(x), x.dtype), logits, target, share, logsumexp)  # (N, V)
    return loss.sum(), p @ weight if slopes[0] else None, p.T @ x if slopes[1] else None


def _times(g: Any, slope: Any) -> Any:
    return slope if slope is None or (xp(g) is np and g == 1) else slope * g


def _reduced(loss: Any, reduction: str, name: str, count: Any = None) -> Tensor:
    """The losses ("none"), their sum, or their sum divided by `count`, by default the number of losses ("mean")."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{name}: reduction is 'mean', 'sum' or 'none', not {reduction!r}")
    if reduction == "none":
        return loss
    total = sum(loss)
    if reduction == "sum":
        return total
    count = loss.numel() if count is None else count
    if xp(count) is np and not count:
        return total + math.nan  # of nothing: nan, but its gradient is 0, as in PyTorch
    return total / count


# Of classes --------------------------------------------------------------------------------------------


def _of_classes(
    losses: Callable, name: str, input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str
) -> Tensor:
    """losses(rows, targets, weights, counted) -> (N,), of all positions of an input whose classes lie in dimension 1.

    rows (N, C), targets (N,), weights (N,) or None if all are 1, counted: (N,) booleans, False where ignored
    """
    ids = array_of(target)
    if ids.dtype.kind not in "iu":
        raise TypeError(
            f"{name}: targets are class numbers, integers (cross_entropy's also probabilities, in the logits' shape "
            f"{input.shape}); got {ids.dtype} of shape {ids.shape}"
        )
    classes_at = 0 if input.ndim == 1 else 1
    if not input.ndim or ids.shape != input.shape[:classes_at] + input.shape[classes_at + 1 :]:
        raise ValueError(
            f"{name}: an input of shape {input.shape} and targets of shape {ids.shape} do not fit; expected "
            "(N, C) and (N,), or (N, C, d1, …) and (N, d1, …)"
        )
    shape, classes = ids.shape, input.shape[classes_at]
    if weight is not None and (array_of(weight).shape != (classes,) or array_of(weight).dtype != input.dtype):
        raise ValueError(
            f"{name}: weight must have shape ({classes},) and dtype {input.dtype}; it has {array_of(weight).shape} "
            f"and {array_of(weight).dtype}"
        )
    if getattr(weight, "requires_grad", False):
        raise RuntimeError(f"{name}: weight has no derivative here; use weight.detach()")
    rows = input if input.ndim <= 2 else input.permute(0, *range(2, input.ndim), 1)
    rows = rows if rows.ndim == 2 else rows.reshape(-1, classes)
    target, ids = target.reshape(-1), ids.reshape(-1)
    weights = None
    counted = ids != ignore_index
    if weight is not None or xp(ids) is not np or not counted.all():  # a GPU would have to be waited for
        target = ids = xp(ids).where(counted, ids, 0)
        _check_targets(ids, classes)
        per_class = xp(ids).ones(classes, input.dtype) if weight is None else array_of(weight)
        weights = per_class[ids] * counted
    loss = losses(rows, target, weights, counted)
    loss = loss if loss.shape == shape else loss.reshape(shape)
    return _reduced(loss, reduction, name, ids.size if weights is None else weights.sum())


@where_it_lies
@in_float32
def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-log softmax(input)[target]: how surprised the logits are by the right class.

    input            logits: (C,), (N, C) or (N, C, d1, …)
    target           class numbers: (), (N,) or (N, d1, …); or probabilities of the classes, in input's shape
    weight           (C,): a weight per class; the mean is divided by those of the targets
    ignore_index     class numbers that do not count
    label_smoothing  the share of the target spread evenly over all classes (Szegedy et al., 2015)

    Raises IndexError for a target that is no class, ValueError for shapes that do not fit, RuntimeError if weight
    requires a gradient, which is not computed, or if ignore_index is given with probabilities.
    """
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"cross_entropy: label_smoothing is a share, and {label_smoothing} is not between 0 and 1")
    if is_floating(target.dtype) and target.shape == input.shape:
        return _of_probabilities(input, target, weight, ignore_index, reduction, label_smoothing)

    def losses(rows: Any, target: Any, weights: Any, counted: Any) -> Any:
        loss = _cross_entropy(rows, target, weights)
        if not label_smoothing:
            return loss
        logp = _log_softmax(rows, dim=-1)
        smooth = where(counted, -sum(logp if weight is None else logp * weight, -1), 0.0)
        return (1 - label_smoothing) * loss + (label_smoothing / rows.shape[-1]) * smooth

    return _of_classes(losses, "cross_entropy", input, target, weight, ignore_index, reduction)


def _of_probabilities(
    input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str, label_smoothing: float
) -> Tensor:
    if ignore_index >= 0:
        raise RuntimeError("cross_entropy: ignore_index is for class numbers; these targets are probabilities")
    dim = 0 if input.ndim == 1 else 1
    classes = input.shape[dim]
    if weight is not None and weight.shape != (classes,):
        raise ValueError(f"cross_entropy: weight must have shape ({classes},); it has {weight.shape}")
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / classes
    logp = _along(_log_softmax, input, dim, None)
    if weight is not None:
        logp = logp * reshape(weight, classes, *[1] * (input.ndim - dim - 1))
    return _reduced(-sum(logp * target, dim), reduction, "cross_entropy")


@where_it_lies
def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Tensor:
    """cross_entropy(linear(input, linear_weight, linear_bias), target, …), without keeping the logits.

    input          (N, C)
    linear_weight  (V, C)
    target         (N,) class numbers
    The other arguments are those of `cross_entropy`. Where they are left alone, the gradients are computed along with the
    loss, in the place of the logits, so that these are in memory once and for a part of the N positions only. On a CPU
    that is so of float32 and float64, on a GPU also of two bytes a number, where the loss is added up in float32.
    """
    ids = array_of(target)
    plain = linear_bias is None and weight is None and not label_smoothing and reduction in ("mean", "sum")
    x, w = mode.cast("linear", input, linear_weight)
    half = x.dtype in HALVES
    fits = x.dtype == w.dtype and x.ndim == 2 and ids.ndim == 1 and ids.dtype.kind in "iu" and len(ids) == len(x)
    counted, library = ids != ignore_index, xp(ids)
    if not plain or not fits or (library is np and (half or not counted.any())):
        logits = linear(input, linear_weight, linear_bias)
        options: dict[str, Any] = {"ignore_index": ignore_index, "reduction": reduction, "label_smoothing": label_smoothing}
        return cross_entropy(logits, target, weight, **options)
    share = counted.astype(x.dtype)
    # On a CPU what remains for the backward, g, is 1, and nothing is left to multiply. Two bytes hold softmax(logits), but
    # not its N-th part: on a GPU it is the sum that is divided, and the gradients are multiplied when g is known.
    number = (counted.sum() if reduction == "mean" else np.int64(1)).astype(np.float32 if half else x.dtype)
    if library is np:
        share /= number
    slopes = tuple([is_grad_enabled() and getattr(t, "requires_grad", False) for t in (x, w)])
    loss = _linear_cross_entropy(x, w, library.where(counted, ids, 0), share, slopes=slopes)
    if library is not np and reduction == "mean":
        loss = loss / number  # of nothing: 0 / 0 is nan, as in PyTorch
    return loss if listed_by_autocast("cross_entropy", input) else loss.to(input.dtype)


@where_it_lies
@in_float32
def nll_loss(
    input: Tensor, target: Tensor, weight: Tensor | None = None, *, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """-input[target]: cross-entropy of logarithms of probabilities. Arguments as in `cross_entropy`."""

    def losses(rows: Any, target: Any, weights: Any, counted: Any) -> Any:
        _check_targets(array_of(target), rows.shape[-1])
        return reference.nll(rows, target, weights)

    return _of_classes(losses, "nll_loss", input, target, weight, ignore_index, reduction)


# Of numbers --------------------------------------------------------------------------------------------


def _difference(input: Tensor, target: Tensor, name: str) -> Tensor:
    if input.shape != target.shape:
        text = f"{name}: input has shape {input.shape} and target {target.shape}; they are broadcast, which is rarely meant"
        warnings.warn(text, stacklevel=4)
    return input - target


@in_float32
def mse_loss(input: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """(input - target)²"""
    return _reduced(_difference(input, target, "mse_loss") ** 2, reduction, "mse_loss")


@in_float32
def l1_loss(input: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """|input - target|"""
    return _reduced(abs(_difference(input, target, "l1_loss")), reduction, "l1_loss")


@in_float32
def huber_loss(input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """d²/2 for a distance d = |input - target| below delta, delta (d - delta/2) above. Huber, 1964."""
    if delta <= 0:
        raise ValueError(f"huber_loss: delta is a distance above 0, not {delta}")
    return _reduced(_huber(_difference(input, target, "huber_loss"), delta), reduction, "huber_loss")


@in_float32
def smooth_l1_loss(input: Tensor, target: Tensor, *, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """`huber_loss` with delta = beta, divided by beta; for beta = 0 that is `l1_loss`. Girshick, Fast R-CNN, 2015."""
    if beta < 0:
        raise ValueError(f"smooth_l1_loss: beta is a distance, not {beta}")
    difference = _difference(input, target, "smooth_l1_loss")
    return _reduced(_huber(difference, beta) / beta if beta else abs(difference), reduction, "smooth_l1_loss")


def _huber(difference: Tensor, delta: float) -> Tensor:
    d = abs(difference)
    near = where(d >= delta, 0.0, d)  # what is squared must be finite, also where the square is not used
    return where(d >= delta, delta * (d - 0.5 * delta), 0.5 * near * near)


@in_float32
def binary_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, *, reduction: str = "mean"
) -> Tensor:
    """-target log(input) - (1 - target) log(1 - input), the logarithms not below -100; input is a probability.

    Raises RuntimeError for an input outside 0 … 1 (not on a GPU), ValueError if the shapes differ. From logits,
    `binary_cross_entropy_with_logits` is exact where this one cannot be.
    """
    p = input.array
    _same_shape(input, target, "binary_cross_entropy")
    if device_of(p).type == "cpu" and not ((p >= 0) & (p <= 1)).all():
        raise RuntimeError("binary_cross_entropy: the input must be probabilities, between 0 and 1")
    loss = _binary(input, target)
    return _reduced(loss if weight is None else loss * weight, reduction, "binary_cross_entropy")


@in_float32
def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """-pos_weight target log(sigmoid(x)) - (1 - target) log(1 - sigmoid(x)), exact however large the logits x are.

    pos_weight  what a target of 1 counts for; it and weight broadcast. Raises ValueError if the shapes differ.
    """
    _same_shape(input, target, "binary_cross_entropy_with_logits")
    positive = target if pos_weight is None else target * pos_weight
    loss = -(positive * logsigmoid(input) + (1 - target) * logsigmoid(-input))
    return _reduced(loss if weight is None else loss * weight, reduction, "binary_cross_entropy_with_logits")


def _same_shape(input: Tensor, target: Tensor, name: str) -> None:
    if input.shape != target.shape:
        raise ValueError(f"{name}: input {input.shape} and target {target.shape} must have one shape")


@in_float32
def kl_div(input: Tensor, target: Tensor, *, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """target (log(target) - input): how far probabilities `target` are from those whose logarithms are `input`.

    reduction   also "batchmean", the sum divided by the length of dimension 0, which is Kullback and Leibler's
                divergence; "mean" divides by the number of elements
    log_target  whether target too holds logarithms
    """
    if log_target:
        loss = exp(target) * (target - input)
    else:
        loss = target * (log(where(target == 0, 1.0, target)) - input)  # 0 log 0 is 0
    if reduction == "batchmean":
        return sum(loss) / input.shape[0]
    return _reduced(loss, reduction, "kl_div")
