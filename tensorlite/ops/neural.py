"""The fused ops of a neural network. Each is composed of simpler ones in reference.py, which says what it
means; here stands the whole formula at once, with its derivative, because that is faster and keeps less."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import reference
from ..device import device_of, xp
from ..dtype import is_floating
from ..op import Analytic, Op
from ..random import default_generator, keep_mask
from ..tensor import Tensor, array_of, method
from . import matrix
from .elementwise import erf as erf_
from .elementwise import exp, tanh
from .indexing import lookup
from .reduction import _floats_only, sum

# fmt: off
_softmax       = Analytic("softmax",     lambda x, *, dim: _exponentials(x, dim),
                                         dx=lambda g, y, dim: (g - sum(g * y, dim, True)) * y,
                                         reference=reference.softmax)
_log_softmax   = Analytic("log_softmax", lambda x, *, dim: x - _logsumexp(x, dim),
                                         dx=lambda g, y, dim: g - exp(y) * sum(g, dim, True),
                                         reference=reference.log_softmax)
_gelu          = Analytic("gelu",        lambda x, *, approximate: _gelu_tanh(x) if approximate == "tanh" else _gelu_erf(x),
                                         dx=lambda g, x, approximate: g * _gelu_slope(x, approximate),
                                         reference=reference.gelu)
_dropout       = Op("dropout",           lambda x, mask, *, p: x * mask * (1 / (1 - p)),
                                         dx=lambda g, mask, p: _dropout(g, mask, p=p))
_cross_entropy = Op("cross_entropy",     lambda logits, target, weight: _cross_entropy_forward(logits, target, weight),
                                         dlogits=lambda g, logits, target, weight, logsumexp: _cross_entropy_dlogits(g, logits, target, weight, logsumexp),
                                         residual=("logsumexp",), reference=reference.cross_entropy)
_layer_norm    = Op("layer_norm",        lambda x, weight, bias, *, dims, eps: _normalise(x, weight, bias, dims, eps),
                                         d=lambda g, x, weight, mean, rstd, dims: _normalise_backward(g, x, weight, mean, rstd, dims),
                                         residual=("mean", "rstd"), reference=reference.layer_norm)
_attention     = Op("attention",         lambda q, k, v, mask, *, is_causal, scale, dropout_p, seed: _attend(q, k, v, mask, is_causal, scale, dropout_p, seed),
                                         d=lambda g, q, k, v, mask, y, logsumexp, is_causal, scale, dropout_p, seed:
                                             _attend_backward(g, q, k, v, mask, y, logsumexp, is_causal, scale, dropout_p, seed),
                                         residual=("logsumexp",), reference=reference.attention,
                                         expects="q (…, T, D), k (…, S, D), v (…, S, Dv) and a mask that broadcasts to (…, T, S)")
# fmt: on


# Softmax and cross-entropy -----------------------------------------------------------------------------


def _exponentials(x: Any, dim: int) -> Any:
    e = x - x.max(axis=dim, keepdims=True)
    xp(x).exp(e, out=e)
    e /= e.sum(axis=dim, keepdims=True)
    return e


def _logsumexp(x: Any, dim: int) -> Any:
    top = x.max(axis=dim, keepdims=True)
    e = x - top
    xp(x).exp(e, out=e)
    return xp(x).log(e.sum(axis=dim, keepdims=True)) + top


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


# Normalisation -----------------------------------------------------------------------------------------


def _normalise(x: Any, weight: Any, bias: Any, dims: int, eps: float) -> tuple[Any, Any, Any]:
    last = tuple(range(-dims, 0))
    mean = x.mean(axis=last, keepdims=True)
    y = x - mean
    rstd = 1 / xp(x).sqrt((y * y).mean(axis=last, keepdims=True) + eps)
    y *= rstd
    if weight is not None:
        y *= weight
    if bias is not None:
        y += bias
    return y, mean, rstd


def _normalise_backward(g: Any, x: Any, weight: Any, mean: Any, rstd: Any, dims: int) -> tuple[Any, Any, Any]:
    """With n = (x - mean) rstd and h = g weight:  dx = rstd (h - average(h) - n average(h n)).

    The two averages are the paths through the mean and through the variance: what moves all x together, or
    away from their mean together, does not change n.
    """
    last = tuple(range(-dims, 0))
    n = (x - mean) * rstd
    h = g if weight is None else g * weight
    dx = rstd * (h - h.mean(axis=last, keepdims=True) - n * (h * n).mean(axis=last, keepdims=True))
    return dx, None if weight is None else g * n, g


# GELU --------------------------------------------------------------------------------------------------

_C = math.sqrt(2 / math.pi)
_A = 0.044715


def _gelu_tanh(x: Any) -> Any:
    """x/2 (1 + tanh(c (x + a x^3))), in one buffer."""
    u = xp(x).multiply(x, x, out=xp(x).empty_like(x))
    u *= _A * _C
    u += _C
    u *= x
    xp(u).tanh(u, out=u)
    u += 1
    u *= x
    u *= 0.5
    return u


def _gelu_erf(x: Any) -> Any:
    return 0.5 * x * (1 + erf_(x * math.sqrt(0.5)))


def _gelu_slope(x: Any, approximate: str) -> Any:
    """exact: Φ(x) + x φ(x).   tanh, t = tanh(c (x + a x^3)):  (1 + t)/2 + x/2 (1 - t^2) c (1 + 3 a x^2)"""
    if approximate == "tanh":
        t = tanh(_C * (x + _A * x * x * x))
        return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * (_C * (1 + 3 * _A * x * x))
    return 0.5 * (1 + erf_(x * math.sqrt(0.5))) + x * exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))


# Attention ---------------------------------------------------------------------------------------------


def _scores(q: Any, k: Any, mask: Any, is_causal: bool, scale: float) -> Any:
    scores = q @ k.swapaxes(-1, -2)
    scores *= scale
    if is_causal:
        scores[..., ~reference.causal_mask(scores)] = -math.inf
    if mask is not None:
        scores = xp(scores).where(mask, scores, -math.inf) if mask.dtype == bool else scores + mask
    return scores


def _weights(scores: Any, logsumexp: Any) -> Any:
    """softmax of the scores, which are overwritten; zeros where a query may look at nothing."""
    scores -= xp(scores).where(xp(scores).isinf(logsumexp), 0, logsumexp)
    return xp(scores).exp(scores, out=scores)


def _attend(q: Any, k: Any, v: Any, mask: Any, is_causal: bool, scale: float, dropout_p: float, seed: int) -> tuple[Any, Any]:
    scores = _scores(q, k, mask, is_causal, scale)
    with np.errstate(divide="ignore", invalid="ignore"):
        top = scores.max(axis=-1, keepdims=True)
        finite = xp(top).where(xp(top).isinf(top), 0, top)
        logsumexp = xp(top).log(xp(top).exp(scores - finite).sum(axis=-1, keepdims=True)) + finite
    weights = _weights(scores, logsumexp)
    if dropout_p:
        weights *= reference.attention_mask_kept(weights, dropout_p, seed) * weights.dtype.type(1 / (1 - dropout_p))
    return weights @ v, logsumexp


def _attend_backward(
    g: Any, q: Any, k: Any, v: Any, mask: Any, y: Any, logsumexp: Any, is_causal: bool, scale: float, dropout_p: float, seed: int
) -> tuple[Any, Any, Any, Any]:
    """With weights P = softmax(S), S = scale q kᵀ, y = P v:

    dv = Pᵀ g,   dP = g vᵀ,   dS = P (dP - rowsum(P dP)),   dq = scale dS k,   dk = scale dSᵀ q.

    rowsum(P dP) = rowsum(g y), which costs D instead of S per row; P is computed again from logsumexp
    (Dao et al., FlashAttention, 2022). Dropout multiplies P after the softmax, so it stands before v and dP.
    """
    weights = _weights(_scores(q, k, mask, is_causal, scale), logsumexp)
    dropped, dweights = weights, g @ v.swapaxes(-1, -2)
    if dropout_p:
        keep = reference.attention_mask_kept(weights, dropout_p, seed) * weights.dtype.type(1 / (1 - dropout_p))
        dropped = weights * keep
        dweights *= keep
    dv = dropped.swapaxes(-1, -2) @ g
    dweights -= (g * y).sum(axis=-1, keepdims=True)
    dweights *= weights
    dmask = dweights if mask is not None and is_floating(mask.dtype) else None
    return (dweights @ k) * scale, (dweights.swapaxes(-1, -2) @ q) * scale, dv, dmask


# What a user calls -------------------------------------------------------------------------------------


@method
def softmax(input: Tensor, dim: int = -1) -> Tensor:
    """exp(x) / sum(exp(x)) along dim."""
    return _softmax(input, dim=dim)


@method
def log_softmax(input: Tensor, dim: int = -1) -> Tensor:
    """log(softmax(x)) along dim, without overflow."""
    return _log_softmax(input, dim=dim)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x Φ(x); approximate="tanh" is the form GPT-2 was trained with."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate is 'none' or 'tanh', not {approximate!r}")
    return _gelu(input, approximate=approximate)


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b:  (…, in), (out, in), (out,) -> (…, out)"""
    return matrix.linear(input, weight, bias)


def embedding(input: Tensor, weight: Tensor) -> Tensor:
    """Row `id` of weight for each id: (…) integers and (vocabulary, width) -> (…, width)"""
    return lookup(weight, input)


def layer_norm(
    input: Tensor, normalized_shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Normalised over the last dimensions, whose shape is given: mean 0, variance 1, then times weight plus bias."""
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    _floats_only(input, "layer_norm")
    if input.shape[input.ndim - len(shape) :] != shape:
        raise ValueError(f"layer_norm: the input's shape {input.shape} does not end in normalized_shape {shape}")
    return _layer_norm(input, weight, bias, dims=len(shape), eps=eps)


def dropout(input: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Each element set to 0 with probability p, the rest scaled by 1/(1-p); the input itself if not training.

    Srivastava et al., Dropout, 2014.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: p is a probability, and {p} is not between 0 and 1")
    _floats_only(input, "dropout")
    if not training or p == 0:
        return input
    if p == 1:
        return input * 0
    return _dropout(input, keep_mask(input.shape, p, default_generator(device_of(input.array))), p=p)


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


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """softmax(query keyᵀ scale + mask) value:  (…, T, D), (…, S, D), (…, S, Dv) -> (…, T, Dv)

    attn_mask  booleans (True: may look) or numbers to add to the scores, broadcast to (…, T, S)
    dropout_p  probability with which an attention weight is dropped (also outside training: as in PyTorch)
    is_causal  query i looks at keys 0 … i only
    scale      1/sqrt(D) by default
    """
    dtypes = {name: array_of(x).dtype for name, x in (("query", query), ("key", key), ("value", value))}
    if len(set(dtypes.values())) > 1:
        raise TypeError(f"scaled_dot_product_attention: query, key and value must have one dtype, and have {dtypes}")
    if attn_mask is not None and array_of(attn_mask).dtype not in (bool, query.dtype):
        raise TypeError(
            f"scaled_dot_product_attention: attn_mask must be boolean or {query.dtype}, not {array_of(attn_mask).dtype}"
        )
    if attn_mask is not None and is_causal:
        raise RuntimeError(
            "scaled_dot_product_attention: attn_mask and is_causal exclude each other; put the causal mask into attn_mask"
        )
    if not 0 <= dropout_p < 1:
        raise ValueError(f"scaled_dot_product_attention: dropout_p is from 0 to below 1, not {dropout_p}")
    seed = default_generator(device_of(query.array)).seed() if dropout_p else 0
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    return _attention(
        query, key, value, attn_mask, is_causal=is_causal, scale=scale, dropout_p=dropout_p, seed=seed
    )


def mse_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """The mean (or "sum", or "none") of the squared differences."""
    loss = (input - target) ** 2
    return loss if reduction == "none" else loss.sum() if reduction == "sum" else loss.mean()


__all__ = [
    "cross_entropy", "dropout", "embedding", "gelu", "layer_norm", "linear", "log_softmax", "mse_loss",
    "scaled_dot_product_attention", "softmax",
]  # fmt: skip
