"""Attention: every position looks at the others, and takes of them as much as it finds them to matter."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import mode, reference
from ..device import device_of, xp
from ..dtype import is_floating
from ..op import Op, OpError
from ..random import default_generator
from ..tensor import Tensor, array_of
from .shape import expand, reshape, unsqueeze

# fmt: off
_attention     = Op("attention",         lambda q, k, v, mask, *, is_causal, scale, dropout_p, seed: _attend(q, k, v, mask, is_causal, scale, dropout_p, seed),
                                         d=lambda g, q, k, v, mask, y, logsumexp, is_causal, scale, dropout_p, seed:
                                             _attend_backward(g, q, k, v, mask, y, logsumexp, is_causal, scale, dropout_p, seed),
                                         residual=("logsumexp",), reference=reference.attention,
                                         expects="q (…, T, D), k (…, S, D), v (…, S, Dv) and a mask that broadcasts to (…, T, S)")
# fmt: on


def _scores(q: Any, k: Any, mask: Any, is_causal: bool, scale: float) -> Any:
    scores = q @ k.swapaxes(-1, -2)
    scores *= scale
    if is_causal:
        scores = xp(scores).where(reference.causal_mask(scores), scores, -math.inf)
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


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(query keyᵀ scale + mask) value:  (…, T, D), (…, S, D), (…, S, Dv) -> (…, T, Dv)

    attn_mask  booleans (True: may look) or numbers to add to the scores, broadcast to (…, T, S)
    dropout_p  probability with which an attention weight is dropped (also outside training: as in PyTorch)
    is_causal  query i looks at keys 0 … i only
    scale      1/sqrt(D) by default
    enable_gqa (…, H, T, D) queries may meet (…, h, S, D) keys and values of fewer heads, h a divisor of H: H/h heads of
               queries that follow one another share a head (Ainslie et al., 2023), which is copied for each of them
    """
    query, key, value, attn_mask = mode.cast("scaled_dot_product_attention", query, key, value, attn_mask)
    if enable_gqa:
        key, value = [_shared(x, query, name) for x, name in ((key, "key"), (value, "value"))]
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
    seed = default_generator(device_of(query.array)).draw_seed() if dropout_p else 0
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    return _attention(
        query, key, value, attn_mask, is_causal=is_causal, scale=scale, dropout_p=dropout_p, seed=seed
    )


def _shared(x: Tensor, query: Tensor, name: str) -> Tensor:
    """Keys or values with as many heads as the query, each repeated for the heads that share it."""
    if x.ndim < 3 or query.ndim < 3 or not x.shape[-3] or query.shape[-3] % x.shape[-3]:
        raise OpError(
            f"scaled_dot_product_attention: the heads of {name} {x.shape} must divide those of query {query.shape}, "
            "(…, heads, T, D)"
        )
    *lead, heads, s, width = x.shape
    times = query.shape[-3] // heads
    if times == 1:
        return x
    return reshape(expand(unsqueeze(x, -3), *lead, heads, times, s, width), *lead, heads * times, s, width)
