"""Attention in five stages, each a module that runs, from an average of tokens to what GPT-2 computes.

    SimplifiedSelfAttention     a token mixes all tokens, by how much they resemble it; nothing is learned
    SelfAttention               what to look for, what to be found by and what to say are three learned projections
    CausalAttention             a token sees itself and what came before; dropout
    MultiHeadAttentionWrapper   several of these side by side, each with its own idea of resemblance
    MultiHeadAttention          the same in one product for all heads: what the model uses

A stage with the right weights computes what the one before it does; tests/test_attention.py copies them across.

Shapes: B sequences of T tokens, each token a vector of C numbers, nh heads of hs = C / nh numbers each. The first four
stages also take a single sequence, (T, C).

Sources: Raschka, *Build a Large Language Model (From Scratch)*, chapter 3, for the stages and their names; Vaswani et
al., *Attention Is All You Need* (2017), section 3.2; OpenAI's GPT-2 checkpoint for c_attn and c_proj, and Karpathy's
nanoGPT for the last stage.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import tensorlite as tl
from tensorlite import Tensor, nn
from tensorlite.nn import functional as F

if TYPE_CHECKING:
    from gpt.cache import LayerCache


class SimplifiedSelfAttention(nn.Module):
    """Each token becomes an average of all tokens, weighted by the softmax of their dot products with it."""

    def forward(self, x: Tensor) -> Tensor:  # (B, T, C) -> (B, T, C)
        scores = x @ x.mT  # (B, T, T)
        weights = F.softmax(scores, dim=-1)  # (B, T, T), each row sums to 1
        return weights @ x  # (B, T, C)


class SelfAttention(nn.Module):
    """Scaled dot-product attention with learned projections from d_in to d_out numbers a token.

    A dot product of d_out numbers with variance 1 has variance d_out; dividing by its root keeps the softmax from
    settling on one token before anything is learned.
    """

    def __init__(self, d_in: int, d_out: int, qkv_bias: bool = False):
        super().__init__()
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_key = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, d_out, bias=qkv_bias)

    def forward(self, x: Tensor) -> Tensor:  # (B, T, d_in) -> (B, T, d_out)
        q, k, v = self.W_query(x), self.W_key(x), self.W_value(x)  # (B, T, d_out) each
        scores = q @ k.mT / math.sqrt(q.shape[-1])  # (B, T, T)
        weights = F.softmax(scores, dim=-1)  # (B, T, T)
        return weights @ v  # (B, T, d_out)


class CausalAttention(nn.Module):
    """SelfAttention of up to context_length tokens in which none sees a later one: it is to be predicted.

    A score of -inf has the weight 0, and the rest of its row still sums to 1. In training, dropout then drops weights.
    """

    mask: Tensor  # (context_length, context_length), True where the key is later than the query

    def __init__(self, d_in: int, d_out: int, context_length: int, dropout: float, qkv_bias: bool = False):
        super().__init__()
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_key = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.drop = nn.Dropout(dropout)
        later = tl.triu(tl.ones(context_length, context_length), diagonal=1)
        self.register_buffer("mask", later.bool(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:  # (B, T, d_in) -> (B, T, d_out)
        T = x.shape[-2]
        q, k, v = self.W_query(x), self.W_key(x), self.W_value(x)  # (B, T, d_out) each
        scores = q @ k.mT / math.sqrt(q.shape[-1])  # (B, T, T)
        scores = scores.masked_fill(self.mask[:T, :T], -math.inf)  # (B, T, T)
        weights = self.drop(F.softmax(scores, dim=-1))  # (B, T, T)
        return weights @ v  # (B, T, d_out)


class MultiHeadAttentionWrapper(nn.Module):
    """num_heads CausalAttentions of d_out numbers each, end to end."""

    def __init__(
        self, d_in: int, d_out: int, context_length: int, dropout: float, num_heads: int, qkv_bias: bool = False
    ):
        super().__init__()
        self.heads = nn.ModuleList(
            [CausalAttention(d_in, d_out, context_length, dropout, qkv_bias) for _ in range(num_heads)]
        )

    def forward(self, x: Tensor) -> Tensor:  # (B, T, d_in) -> (B, T, num_heads * d_out)
        return tl.cat([head(x) for head in self.heads], dim=-1)


class MultiHeadAttention(nn.Module):
    """All heads at once: one product makes every query, key and value, one more mixes what the heads found.

    c_attn  (3C, C): the rows are the queries of head 0, 1, …, then the keys, then the values
    c_proj  (C, C)

    The (T, T) scores and the mask are never in memory as a whole where there is a kernel for it. With a cache
    (gpt/cache.py) the tokens look at those that it holds, too. With lengths the tokens are those of several texts, end
    to end, and each looks at its own text alone.
    """

    def __init__(self, n_embd: int, n_head: int, dropout: float = 0.0, bias: bool = True, qkv_bias: bool = True):
        super().__init__()
        self.n_head = n_head
        self.dropout = dropout
        self.c_attn = nn.Linear(n_embd, 3 * n_embd, bias=qkv_bias)
        self.c_proj = nn.Linear(n_embd, n_embd, bias=bias)

    def forward(
        self, x: Tensor, cache: "LayerCache | None" = None, lengths: Sequence[int] | None = None
    ) -> Tensor:  # (B, T, C) -> (B, T, C)
        B, T, C = x.shape
        heads = self.c_attn(x).view(B, T, 3 * self.n_head, C // self.n_head).transpose(1, 2)  # (B, 3 nh, T, hs)
        if lengths is None:
            y = self._attend(heads, cache)  # (B, nh, T, hs)
        else:  # a mask would have T x T scores computed, most of them to be thrown away
            y = tl.cat([self._attend(text) for text in heads.split(lengths, dim=2)], dim=2)  # (1, nh, T, hs)
        return self.c_proj(y.transpose(1, 2).reshape(B, T, C))

    def _attend(self, heads: Tensor, cache: "LayerCache | None" = None) -> Tensor:
        """(B, 3 nh, T, hs) -> (B, nh, T, hs)"""
        q, k, v = heads.split(self.n_head, dim=1)  # (B, nh, T, hs) each
        dropout_p = self.dropout if self.training else 0.0
        mask, is_causal = None, True
        if cache is not None:
            k, v, mask, is_causal = cache.append(k, v)  # (B, nh, S + T, hs) each; see there for the mask
        return F.scaled_dot_product_attention(q, k, v, mask, dropout_p, is_causal)
