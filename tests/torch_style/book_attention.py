"""Attention in stages, as a course builds it up: by loops, by matrices, as modules, with many heads."""

import torch
import torch.nn as nn

inputs = torch.tensor(
    [
        [0.21, 0.55, 0.93],
        [0.62, 0.18, 0.77],
        [0.35, 0.81, 0.46],
        [0.09, 0.64, 0.28],
        [0.74, 0.33, 0.12],
        [0.51, 0.97, 0.40],
    ]
)


def softmax_naive(x):
    return torch.exp(x) / torch.exp(x).sum(dim=0)


def by_loops(inputs):
    query = inputs[1]
    attn_scores_2 = torch.empty(inputs.shape[0])
    for i, x_i in enumerate(inputs):
        attn_scores_2[i] = torch.dot(x_i, query)
    normalised = attn_scores_2 / attn_scores_2.sum()
    naive = softmax_naive(attn_scores_2)
    attn_weights_2 = torch.softmax(attn_scores_2, dim=0)
    context_vec_2 = torch.zeros(query.shape)
    for i, x_i in enumerate(inputs):
        context_vec_2 += attn_weights_2[i] * x_i

    attn_scores = torch.empty(6, 6)
    for i, x_i in enumerate(inputs):
        for j, x_j in enumerate(inputs):
            attn_scores[i, j] = torch.dot(x_i, x_j)
    assert torch.allclose(attn_scores, inputs @ inputs.T)
    attn_weights = torch.softmax(attn_scores, dim=-1)
    row_sum = sum([p.item() for p in attn_weights[1]])
    return {
        "normalised": normalised,
        "naive": naive,
        "weights": attn_weights_2,
        "context": context_vec_2,
        "all": attn_weights @ inputs,
        "row": torch.tensor(row_sum),
        "sums": attn_weights.sum(dim=-1),
    }


class SelfAttention_v1(nn.Module):
    def __init__(self, d_in, d_out):
        super().__init__()
        self.W_query = nn.Parameter(torch.rand(d_in, d_out))
        self.W_key = nn.Parameter(torch.rand(d_in, d_out))
        self.W_value = nn.Parameter(torch.rand(d_in, d_out))

    def forward(self, x):
        keys = x @ self.W_key
        queries = x @ self.W_query
        values = x @ self.W_value
        attn_scores = queries @ keys.T
        attn_weights = torch.softmax(attn_scores / keys.shape[-1] ** 0.5, dim=-1)
        return attn_weights @ values


class SelfAttention_v2(nn.Module):
    def __init__(self, d_in, d_out, qkv_bias=False):
        super().__init__()
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_key = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, d_out, bias=qkv_bias)

    def forward(self, x):
        keys = self.W_key(x)
        queries = self.W_query(x)
        values = self.W_value(x)
        attn_scores = queries @ keys.T
        attn_weights = torch.softmax(attn_scores / keys.shape[-1] ** 0.5, dim=-1)
        return attn_weights @ values


def masked_two_ways(attention, x):
    """Zeroing and normalising again, against -inf before the softmax."""
    queries, keys = attention.W_query(x), attention.W_key(x)
    attn_scores = queries @ keys.T
    attn_weights = torch.softmax(attn_scores / keys.shape[-1] ** 0.5, dim=1)
    context_length = attn_scores.shape[0]
    mask_simple = torch.tril(torch.ones(context_length, context_length))
    masked_simple = attn_weights * mask_simple
    row_sums = masked_simple.sum(dim=1, keepdim=True)
    mask = torch.triu(torch.ones(context_length, context_length), diagonal=1)
    masked = attn_scores.masked_fill(mask.bool(), -torch.inf)
    return masked_simple / row_sums, torch.softmax(masked / keys.shape[-1] ** 0.5, dim=1)


class CausalAttention(nn.Module):
    def __init__(self, d_in, d_out, context_length, dropout, qkv_bias=False):
        super().__init__()
        self.d_out = d_out
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_key = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("mask", torch.triu(torch.ones(context_length, context_length), diagonal=1))

    def forward(self, x):
        b, num_tokens, d_in = x.shape
        keys = self.W_key(x)
        queries = self.W_query(x)
        values = self.W_value(x)
        attn_scores = queries @ keys.transpose(1, 2)
        attn_scores.masked_fill_(self.mask.bool()[:num_tokens, :num_tokens], -torch.inf)
        attn_weights = torch.softmax(attn_scores / keys.shape[-1] ** 0.5, dim=-1)
        attn_weights = self.dropout(attn_weights)
        return attn_weights @ values


class MultiHeadAttentionWrapper(nn.Module):
    def __init__(self, d_in, d_out, context_length, dropout, num_heads, qkv_bias=False):
        super().__init__()
        self.heads = nn.ModuleList(
            [CausalAttention(d_in, d_out, context_length, dropout, qkv_bias) for _ in range(num_heads)]
        )

    def forward(self, x):
        return torch.cat([head(x) for head in self.heads], dim=-1)


class MultiHeadAttention(nn.Module):
    def __init__(self, d_in, d_out, context_length, dropout, num_heads, qkv_bias=False):
        super().__init__()
        assert d_out % num_heads == 0, "d_out must be divisible by num_heads"
        self.d_out = d_out
        self.num_heads = num_heads
        self.head_dim = d_out // num_heads
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_key = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.out_proj = nn.Linear(d_out, d_out)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("mask", torch.triu(torch.ones(context_length, context_length), diagonal=1))

    def forward(self, x):
        b, num_tokens, d_in = x.shape
        keys = self.W_key(x).view(b, num_tokens, self.num_heads, self.head_dim)
        values = self.W_value(x).view(b, num_tokens, self.num_heads, self.head_dim)
        queries = self.W_query(x).view(b, num_tokens, self.num_heads, self.head_dim)
        keys = keys.transpose(1, 2)
        queries = queries.transpose(1, 2)
        values = values.transpose(1, 2)
        attn_scores = queries @ keys.transpose(2, 3)
        mask_bool = self.mask.bool()[:num_tokens, :num_tokens]
        attn_scores.masked_fill_(mask_bool, -torch.inf)
        attn_weights = torch.softmax(attn_scores / keys.shape[-1] ** 0.5, dim=-1)
        attn_weights = self.dropout(attn_weights)
        context_vec = (attn_weights @ values).transpose(1, 2)
        context_vec = context_vec.contiguous().view(b, num_tokens, self.d_out)
        return self.out_proj(context_vec)


class Stages(nn.Module):
    def __init__(self, dropout):
        super().__init__()
        self.v1 = SelfAttention_v1(3, 2)
        self.v2 = SelfAttention_v2(3, 2, qkv_bias=True)
        self.causal = CausalAttention(3, 4, 8, dropout)
        self.wrapper = MultiHeadAttentionWrapper(3, 2, 6, dropout, num_heads=2)
        self.heads = MultiHeadAttention(3, 4, 6, dropout, num_heads=2, qkv_bias=True)


def make_model(dropout=0.0):
    return Stages(dropout)


def train(model):
    x = inputs.to(model.v1.W_query.dtype)
    batch = torch.stack((x, x[[5, 4, 3, 2, 1, 0]]), dim=0)
    results = by_loops(inputs)
    results["v1"] = model.v1(x)
    results["v2"] = model.v2(x)
    # the same weights in both, the way around that each wants them
    v1 = SelfAttention_v1(3, 2).to(x.dtype)
    v1.W_query = nn.Parameter(model.v2.W_query.weight.T)
    v1.W_key = nn.Parameter(model.v2.W_key.weight.T)
    v1.W_value = nn.Parameter(model.v2.W_value.weight.T)
    results["v1 from v2"] = v1(x)
    results["masked"] = masked_two_ways(model.v2, x)
    results["causal"] = model.causal(batch)
    results["wrapper"] = model.wrapper(batch)

    target = torch.cat((batch[:, -1:], batch[:, :-1]), dim=1)
    target = torch.cat((target, target[:, :, :1]), dim=-1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        out = model.heads(batch) + model.wrapper(batch) + model.causal(batch) + model.v1(x).sum() * 0.01
        loss = ((out - target) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    results["losses"] = losses
    results["gradients"] = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return results
