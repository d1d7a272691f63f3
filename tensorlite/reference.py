"""Every fused op once more, composed of primitive ones: what it means, and the oracle it is tested against.

With `tensorlite.using("reference")` these run in place of the fused ops. They work on arrays and on Tensors,
and since each part is differentiated by its own row, so is the whole, as often as you like.
"""

from __future__ import annotations

import math
from typing import Any

from .device import xp
from .ops.arithmetic import maximum, minimum, where
from .ops.elementwise import erf, exp, log, sigmoid, sqrt, tanh
from .ops.indexing import take_along_dim
from .ops.matrix import matmul
from .ops.reduction import amax, mean, sum
from .ops.shape import squeeze, unsqueeze
from .random import attention_kept
from .tensor import array_of


def linear(x: Any, weight: Any, bias: Any) -> Any:
    """x Wᵀ + b:  (…, in), (out, in), (out,) -> (…, out)"""
    y = matmul(x, weight.mT)
    return y if bias is None else y + bias


def softmax(x: Any, *, dim: int) -> Any:
    """exp(x) / sum(exp(x)) along dim. Taking out the largest x first changes nothing but the overflow."""
    e = exp(x - array_of(amax(x, dim, True)))
    return e / sum(e, dim, True)


def log_softmax(x: Any, *, dim: int) -> Any:
    """log(softmax(x)) along dim."""
    shifted = x - array_of(amax(x, dim, True))
    return shifted - log(sum(exp(shifted), dim, True))


def swiglu(gate: Any, up: Any) -> Any:
    """gate sigmoid(gate) up, of arrays that broadcast. Shazeer, GLU variants improve Transformer, 2020."""
    return gate * sigmoid(gate) * up


def nll(logp: Any, target: Any, weight: Any) -> Any:
    """Per row, -weight logp[target]:  (N, C), (N,), (N,) -> (N,). 0 where the weight is, also if logp is infinite."""
    loss = -squeeze(take_along_dim(logp, unsqueeze(target, -1), -1), -1)
    return loss if weight is None else where(weight == 0, 0.0, loss) * weight


def cross_entropy(logits: Any, target: Any, weight: Any) -> Any:
    """Per row, -weight log(softmax(logits))[target]:  (N, C), (N,), (N,) -> (N,)"""
    return nll(log_softmax(logits, dim=-1), target, weight)


def linear_cross_entropy(x: Any, weight: Any, target: Any, share: Any, *, slopes: tuple[bool, bool]) -> Any:
    """Of N positions, the sum of share times the cross-entropy of x weightᵀ:  (N, C), (V, C), (N,), (N,) -> ()"""
    return sum(cross_entropy(linear(x, weight, None), target, share))


def layer_norm(x: Any, weight: Any, bias: Any, *, dims: int, eps: float) -> Any:
    """(x - mean) / sqrt(variance + eps) * weight + bias over the last `dims` dimensions.

    Ba, Kiros, Hinton, Layer Normalization, 2016.
    """
    last = tuple(range(-dims, 0))
    centred = x - mean(x, last, True)
    y = centred / sqrt(mean(centred * centred, last, True) + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def rms_norm(x: Any, weight: Any, *, dims: int, eps: float) -> Any:
    """x / sqrt(mean(x^2) + eps) * weight over the last `dims` dimensions.

    Zhang, Sennrich, Root Mean Square Layer Normalization, 2019.
    """
    y = x / sqrt(mean(x * x, tuple(range(-dims, 0)), True) + eps)
    return y if weight is None else y * weight


def gelu(x: Any, *, approximate: str) -> Any:
    """x Φ(x), with the normal distribution function Φ, or GPT-2's approximation of it by a tanh.

    Hendrycks, Gimpel, Gaussian Error Linear Units, 2016.
    """
    if approximate == "tanh":
        z = minimum(maximum(x, -40.0), 40.0)  # beyond, the tanh is ±1, but a power of x may overflow
        return 0.5 * x * (1 + tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z * z * z)))
    return 0.5 * x * (1 + erf(x * math.sqrt(0.5)))


def attention(q: Any, k: Any, v: Any, mask: Any, *, is_causal: bool, scale: float, dropout_p: float, seed: int) -> Any:
    """softmax(q kᵀ scale + mask) v:  (…, T, D), (…, S, D), (…, S, Dv) -> (…, T, Dv)

    mask       booleans (True: may look) or numbers to add, broadcast to (…, T, S)
    is_causal  query i looks at keys 0 … i only
    dropout_p  probability with which a weight is dropped; the drawing is fixed by seed
    A query that may look at nothing gets zeros.

    Vaswani et al., Attention Is All You Need, 2017.
    """
    scores = matmul(q, k.mT) * scale  # (…, T, S)
    if is_causal:
        scores = where(causal_mask(array_of(scores)), scores, -math.inf)
    if mask is not None:
        scores = where(mask, scores, -math.inf) if mask.dtype == bool else scores + mask
    top = array_of(amax(scores, -1, True))
    e = exp(scores - where(top == -math.inf, 0.0, top))
    total = sum(e, -1, True)
    weights = e / where(total == 0, 1.0, total)
    if dropout_p:
        weights = weights * attention_mask_kept(array_of(weights), dropout_p, seed) / (1 - dropout_p)
    return matmul(weights, v)


def causal_mask(scores: Any) -> Any:
    """(T, S) booleans: True where key j is not later than query i."""
    t, s = scores.shape[-2:]
    return xp(scores).tri(t, s, dtype=bool)


def attention_mask_kept(weights: Any, p: float, seed: int) -> Any:
    """Which attention weights dropout keeps: booleans, (…, T, S) as the weights."""
    t, s = weights.shape[-2:]
    heads = xp(weights).arange(math.prod(weights.shape[:-2]))
    return attention_kept(p, seed, heads, slice(0, t), slice(0, s)).reshape(weights.shape)
