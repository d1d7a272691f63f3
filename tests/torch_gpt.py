"""GPT-2 in plain PyTorch, the oracle of test_gpt.py: every formula spelled out, no fused attention, no nn.LayerNorm.

Its state_dict has tensorlite's names, so that weights and gradients can be compared by name. Without PyTorch, whoever
imports this skips.
"""

import math

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'tensorlite[oracle]'")
nn, F = torch.nn, torch.nn.functional


class Norm(nn.Module):
    def __init__(self, width, bias, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None
        self.eps = eps

    def forward(self, x):
        variance, mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
        x = (x - mean) / torch.sqrt(variance + self.eps) * self.weight
        return x if self.bias is None else x + self.bias


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c_attn = nn.Linear(c.n_embd, 3 * c.n_embd, bias=c.bias and c.qkv_bias)
        self.c_proj = nn.Linear(c.n_embd, c.n_embd, bias=c.bias)
        self.n_head = c.n_head

    def forward(self, x):
        T = x.shape[1]
        heads = []
        projections = [part.chunk(self.n_head, dim=-1) for part in self.c_attn(x).chunk(3, dim=-1)]
        for q, k, v in zip(*projections):  # (B, T, hs) each
            scores = torch.einsum("btd,bsd->bts", q, k) / math.sqrt(q.shape[-1])
            future = torch.arange(T)[None, :] > torch.arange(T)[:, None]
            weights = torch.softmax(scores.masked_fill(future, -math.inf), dim=-1)
            heads.append(torch.einsum("bts,bsd->btd", weights, v))
        return self.c_proj(torch.cat(heads, dim=-1))


class MLP(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c_fc = nn.Linear(c.n_embd, 4 * c.n_embd, bias=c.bias)
        self.c_proj = nn.Linear(4 * c.n_embd, c.n_embd, bias=c.bias)

    def forward(self, x):
        x = self.c_fc(x)
        x = 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        return self.c_proj(x)


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.ln_1, self.attn = Norm(c.n_embd, c.bias, c.norm_eps), Attention(c)
        self.ln_2, self.mlp = Norm(c.n_embd, c.bias, c.norm_eps), MLP(c)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class TorchGPT(nn.Module):
    """GPT(config) with the weights of `twin`, a tensorlite GPT, in their dtype. It has no dropout."""

    def __init__(self, twin):
        super().__init__()
        c = twin.config
        self.wte = nn.Embedding(c.vocab_size, c.n_embd)
        self.wpe = nn.Embedding(c.context_length, c.n_embd)
        self.h = nn.ModuleList([Block(c) for _ in range(c.n_layer)])
        self.ln_f = Norm(c.n_embd, c.bias, c.norm_eps)
        self.lm_head = nn.Linear(c.n_embd, c.vocab_size, bias=False)
        if c.tied:
            self.lm_head.weight = self.wte.weight
        weights = {name: torch.tensor(x.numpy()) for name, x in twin.state_dict().items()}
        self.to(weights["wte.weight"].dtype).load_state_dict(weights)

    def forward(self, idx, targets):
        x = self.wte(idx) + self.wpe(torch.arange(idx.shape[1]))
        for block in self.h:
            x = block(x)
        logits = self.lm_head(self.ln_f(x))
        counted = targets != -100
        right = torch.log_softmax(logits, dim=-1).gather(-1, targets.where(counted, 0)[..., None])[..., 0]
        return logits, -right[counted].mean()

    def loss(self, idx, targets):
        return self(idx, targets)[1]
