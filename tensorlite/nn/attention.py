"""MultiheadAttention: several attentions side by side, each on its own projection of what it is given."""

from __future__ import annotations

import math
from typing import Any

from ..creation import empty
from ..dtype import is_floating
from ..ops.arithmetic import logical_not, where
from ..tensor import Tensor
from . import functional as F
from . import init
from .layers import Linear
from .module import Module
from .parameter import Parameter


class MultiheadAttention(Module):
    """Queries (T, B, embed_dim), keys (S, B, kdim), values (S, B, vdim) -> (T, B, embed_dim); with batch_first the
    batch stands first, and it may be missing.

    num_heads       attentions of embed_dim / num_heads numbers each
    dropout         probability with which an attention weight is dropped in training
    bias            whether the four projections have one
    kdim, vdim      width of keys and values, embed_dim by default

    in_proj_weight  (3 embed_dim, embed_dim): the projections of queries, keys and values, one below the other. With
                    other widths q_proj_weight, k_proj_weight and v_proj_weight instead
    in_proj_bias    (3 embed_dim,)
    out_proj        the Linear layer behind the heads

    Vaswani et al., Attention Is All You Need, 2017.
    """

    in_proj_weight: Any
    q_proj_weight: Any
    k_proj_weight: Any
    v_proj_weight: Any
    in_proj_bias: Any

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        if embed_dim <= 0 or num_heads <= 0 or embed_dim % num_heads:
            raise ValueError(
                f"MultiheadAttention: embed_dim={embed_dim} must be a positive multiple of num_heads={num_heads}"
            )
        if add_bias_kv or add_zero_attn:
            raise NotImplementedError("MultiheadAttention: add_bias_kv and add_zero_attn are not supported")
        self.embed_dim, self.num_heads, self.head_dim = embed_dim, num_heads, embed_dim // num_heads
        self.kdim, self.vdim = kdim or embed_dim, vdim or embed_dim
        self.dropout, self.batch_first = dropout, batch_first
        one = self.kdim == self.vdim == embed_dim
        shapes = {
            "in_proj_weight": (3 * embed_dim, embed_dim) if one else None,
            "q_proj_weight": None if one else (embed_dim, embed_dim),
            "k_proj_weight": None if one else (embed_dim, self.kdim),
            "v_proj_weight": None if one else (embed_dim, self.vdim),
            "in_proj_bias": (3 * embed_dim,) if bias else None,
        }
        for name, shape in shapes.items():
            made = None if shape is None else Parameter(empty(shape, device=device, dtype=dtype))
            self.register_parameter(name, made)
        self.out_proj = Linear(embed_dim, embed_dim, bias, device, dtype)
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        for name, parameter in self.named_parameters(recurse=False):
            if name == "in_proj_bias":
                init.zeros_(parameter)
            else:
                init.xavier_uniform_(parameter)
        if self.out_proj.bias is not None:
            init.zeros_(self.out_proj.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """What the queries take of the values, and the attention weights, None without need_weights.

        key_padding_mask      (B, S): True where a key is padding, at which no query may look
        attn_mask             (T, S), or (B · num_heads, T, S): True where a query may not look. The other way round
                              than in F.scaled_dot_product_attention; either mask may also be numbers to add
        need_weights          False is faster: the weights are never there as a whole
        average_attn_weights  weights (B, T, S), their mean over the heads; else (B, num_heads, T, S)
        is_causal             says that attn_mask is the causal mask, which must be given as well

        A query that may look at nothing gets nan with need_weights, else the bias of out_proj.
        """
        self._check(query, key, value, key_padding_mask, attn_mask, is_causal)
        batched = query.ndim == 3
        swap = batched and not self.batch_first
        # Inside, the shape is (B, heads, length, head_dim).
        q, k, v = (
            x.view(*x.shape[:-1], self.num_heads, self.head_dim).transpose(-2, -3)
            for x in self._project(*(x.transpose(0, 1) if swap else x for x in (query, key, value)))
        )
        p = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = q @ k.mT * (1 / math.sqrt(self.head_dim))
            mask = self._mask(key_padding_mask, attn_mask, query)
            if mask is not None:
                scores = where(mask, scores, -math.inf) if not is_floating(mask.dtype) else scores + mask
            weights = F.dropout(F.softmax(scores, -1), p)
            output = weights @ v
            weights = weights.mean(-3) if average_attn_weights else weights
        else:
            is_causal = is_causal and key_padding_mask is None
            mask = None if is_causal else self._mask(key_padding_mask, attn_mask, query)
            output = F.scaled_dot_product_attention(q, k, v, mask, p, is_causal)
        output = output.transpose(-2, -3)
        output = self.out_proj(output.reshape(*output.shape[:-2], self.embed_dim))
        return output.transpose(0, 1) if swap else output, weights

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
        if self.in_proj_weight is None:
            ws: tuple[Any, ...] = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        elif query is key is value:
            return F.linear(query, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
        else:
            ws = self.in_proj_weight.chunk(3)
        bs = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        return tuple([F.linear(x, w, b) for x, w, b in zip((query, key, value), ws, bs)])

    def _mask(self, padding: Tensor | None, mask: Tensor | None, query: Tensor) -> Tensor | None:
        """Both masks as one, for scores of shape (B, heads, T, S): booleans (True: may look), or numbers to add."""
        if mask is not None and mask.ndim == query.ndim == 3:
            mask = mask.view(-1, self.num_heads, *mask.shape[1:])
        if padding is not None:
            padding = padding.view(*padding.shape[:-1], 1, 1, padding.shape[-1])
        masks = [m for m in (padding, mask) if m is not None]
        if any(is_floating(m.dtype) for m in masks):
            masks = [(m if is_floating(m.dtype) else where(m, -math.inf, 0.0)).to(query.dtype) for m in masks]
            return masks[0] + masks[1] if len(masks) == 2 else masks[0]
        may = [logical_not(m) for m in masks]
        return may[0] & may[1] if len(may) == 2 else may[0] if may else None

    def _check(self, query: Tensor, key: Tensor, value: Tensor, padding: Any, mask: Any, is_causal: bool) -> None:
        """Raise ValueError for shapes that do not fit, TypeError for masks of integers."""
        given, widths = (query, key, value), (self.embed_dim, self.kdim, self.vdim)
        shapes = [x.shape for x in given]
        batched = query.ndim == 3
        length = 1 if batched and self.batch_first else 0  # the dimension of T and S
        if (
            query.ndim not in (2, 3)
            or any(x.ndim != query.ndim or x.shape[-1] != width for x, width in zip(given, widths))
            or (batched and len({x.shape[1 - length] for x in given}) > 1)
            or key.shape[length] != value.shape[length]
        ):
            order = "(B, T, …), (B, S, …), (B, S, …)" if self.batch_first else "(T, B, …), (S, B, …), (S, B, …)"
            raise ValueError(
                f"MultiheadAttention: query, key and value have the shapes {shapes}; expected {order}, or all of them "
                f"without B, with the last dimensions {widths}"
            )
        t, s, b = query.shape[length], key.shape[length], query.shape[1 - length] if batched else 1
        if mask is not None and mask.shape not in ((t, s), each := (b * self.num_heads, t, s)):
            raise ValueError(f"MultiheadAttention: attn_mask has shape {mask.shape}; expected {(t, s)} or {each}")
        if padding is not None and padding.shape != (expected := (b, s) if batched else (s,)):
            raise ValueError(f"MultiheadAttention: key_padding_mask has shape {padding.shape}; expected {expected}")
        for name, m in (("key_padding_mask", padding), ("attn_mask", mask)):
            if m is not None and m.dtype != bool and not is_floating(m.dtype):
                raise TypeError(f"MultiheadAttention: {name} must be boolean or floating, not {m.dtype}")
        if is_causal and mask is None:
            raise RuntimeError("MultiheadAttention: is_causal=True says what attn_mask is, so give attn_mask too")
