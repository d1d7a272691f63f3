"""A GPT of today's parts: RMS norm, rotary positions, grouped queries, SwiGLU, and a cache of keys and values."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class RMSNorm(nn.Module):
    def __init__(self, emb_dim, eps=1e-6, bias=False):
        super().__init__()
        self.eps = eps
        self.scale = nn.Parameter(torch.ones(emb_dim))
        self.shift = nn.Parameter(torch.zeros(emb_dim)) if bias else None

    def forward(self, x):
        input_dtype = x.dtype
        variance = x.pow(2).mean(dim=-1, keepdim=True)
        norm_x = x * torch.rsqrt(variance + self.eps)
        norm_x = norm_x * self.scale
        if self.shift is not None:
            norm_x = norm_x + self.shift
        return norm_x.to(input_dtype)


def compute_rope_params(head_dim, theta_base=10_000, context_length=64, dtype=torch.float64):
    assert head_dim % 2 == 0, "Embedding dimension must be even"
    inv_freq = 1.0 / (theta_base ** (torch.arange(0, head_dim, 2, dtype=dtype)[: (head_dim // 2)] / head_dim))
    positions = torch.arange(context_length, dtype=dtype)
    angles = torch.outer(positions, inv_freq)
    angles = torch.cat([angles, angles], dim=1)
    return torch.cos(angles).float(), torch.sin(angles).float()


def rotate_half(x):
    x1, x2 = x.chunk(2, dim=-1)
    return torch.cat((-x2, x1), dim=-1)


def apply_rope(x, cos, sin, offset=0):
    batch_size, num_heads, seq_len, head_dim = x.shape
    cos = cos[offset : offset + seq_len, :].unsqueeze(0).unsqueeze(0)
    sin = sin[offset : offset + seq_len, :].unsqueeze(0).unsqueeze(0)
    x1 = x[..., : head_dim // 2]
    x2 = x[..., head_dim // 2 :]
    rotated = torch.cat((-x2, x1), dim=-1)
    assert torch.equal(rotated, rotate_half(x))
    return ((x * cos) + (rotated * sin)).to(dtype=x.dtype)


def apply_rotary_interleaved(x, cos, sin):
    """Pairs of neighbours instead of halves, each turned as one complex number would be."""
    half = x.shape[-1] // 2
    cos, sin = cos[: x.shape[-2], :half], sin[: x.shape[-2], :half]
    pairs = x.reshape(*x.shape[:-1], half, 2)
    even, odd = pairs[..., 0], pairs[..., 1]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


class SwiGLU(nn.Module):
    def __init__(self, emb_dim, hidden_dim):
        super().__init__()
        self.fc1 = nn.Linear(emb_dim, hidden_dim, bias=False)
        self.fc2 = nn.Linear(emb_dim, hidden_dim, bias=False)
        self.fc3 = nn.Linear(hidden_dim, emb_dim, bias=False)

    def forward(self, x):
        return self.fc3(F.silu(self.fc1(x)) * self.fc2(x))


class GroupedQueryAttention(nn.Module):
    def __init__(self, emb_dim, num_heads, num_kv_groups, context_length, qk_norm=True):
        super().__init__()
        assert num_heads % num_kv_groups == 0, "num_heads must be divisible by num_kv_groups"
        self.num_heads, self.num_kv_groups = num_heads, num_kv_groups
        self.group_size = num_heads // num_kv_groups
        self.head_dim = emb_dim // num_heads
        self.W_query = nn.Linear(emb_dim, emb_dim, bias=False)
        self.W_key = nn.Linear(emb_dim, num_kv_groups * self.head_dim, bias=False)
        self.W_value = nn.Linear(emb_dim, num_kv_groups * self.head_dim, bias=False)
        self.out_proj = nn.Linear(emb_dim, emb_dim, bias=False)
        self.q_norm = RMSNorm(self.head_dim) if qk_norm else None
        self.k_norm = RMSNorm(self.head_dim) if qk_norm else None
        cos, sin = compute_rope_params(self.head_dim, context_length=context_length)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.register_buffer("cache_k", None, persistent=False)
        self.register_buffer("cache_v", None, persistent=False)

    def forward(self, x, use_cache=False):
        b, num_tokens, _ = x.shape
        queries = self.W_query(x).view(b, num_tokens, self.num_heads, self.head_dim).transpose(1, 2)
        keys = self.W_key(x).view(b, num_tokens, self.num_kv_groups, self.head_dim).transpose(1, 2)
        values = self.W_value(x).view(b, num_tokens, self.num_kv_groups, self.head_dim).transpose(1, 2)
        if self.q_norm:
            queries = self.q_norm(queries)
        if self.k_norm:
            keys = self.k_norm(keys)
        offset = self.cache_k.shape[2] if use_cache and self.cache_k is not None else 0
        queries = apply_rope(queries, self.cos, self.sin, offset)
        keys = apply_rope(keys, self.cos, self.sin, offset)
        if use_cache:
            if self.cache_k is None:
                self.cache_k, self.cache_v = keys, values
            else:
                self.cache_k = torch.cat([self.cache_k, keys], dim=2)
                self.cache_v = torch.cat([self.cache_v, values], dim=2)
            keys, values = self.cache_k, self.cache_v
        keys = keys.repeat_interleave(self.group_size, dim=1)
        values = values.repeat_interleave(self.group_size, dim=1)
        attn_scores = torch.einsum("bhqd,bhkd->bhqk", queries, keys)
        rows = torch.arange(offset, offset + num_tokens, device=x.device).unsqueeze(1)
        columns = torch.arange(keys.shape[2], device=x.device).unsqueeze(0)
        attn_scores = attn_scores.masked_fill(columns > rows, -torch.inf)
        attn_weights = torch.softmax(attn_scores / self.head_dim**0.5, dim=-1)
        context = (attn_weights @ values).transpose(1, 2).reshape(b, num_tokens, -1)
        return self.out_proj(context)

    def reset_cache(self):
        self.cache_k, self.cache_v = None, None


class Block(nn.Module):
    def __init__(self, emb_dim, own_norm, dropout):
        super().__init__()
        norm = RMSNorm if own_norm else nn.RMSNorm
        self.att = GroupedQueryAttention(emb_dim, num_heads=4, num_kv_groups=2, context_length=32, qk_norm=own_norm)
        self.ff = SwiGLU(emb_dim, 2 * emb_dim)
        self.norm1 = norm(emb_dim, eps=1e-6)
        self.norm2 = norm(emb_dim, eps=1e-6)
        self.drop = nn.Dropout(dropout)

    def forward(self, x, use_cache=False):
        x = x + self.drop(self.att(self.norm1(x), use_cache))
        return x + self.drop(self.ff(self.norm2(x)))


class Transformer(nn.Module):
    def __init__(self, vocab_size, emb_dim, dropout):
        super().__init__()
        self.tok_emb = nn.Embedding(vocab_size, emb_dim)
        self.trf_blocks = nn.ModuleList([Block(emb_dim, own_norm, dropout) for own_norm in (True, False)])
        self.final_norm = nn.RMSNorm(emb_dim)
        self.out_head = nn.Linear(emb_dim, vocab_size, bias=False)

    def forward(self, idx, use_cache=False):
        x = self.tok_emb(idx)
        for block in self.trf_blocks:
            x = block(x, use_cache)
        return self.out_head(self.final_norm(x))

    def reset_kv_cache(self):
        for block in self.trf_blocks:
            block.att.reset_cache()


def generate(model, idx, max_new_tokens, use_cache):
    model.eval()
    with torch.no_grad():
        if use_cache:
            model.reset_kv_cache()
            logits = model(idx, use_cache=True)
            for _ in range(max_new_tokens):
                next_idx = logits[:, -1].argmax(dim=-1, keepdim=True)
                idx = torch.cat([idx, next_idx], dim=1)
                logits = model(next_idx, use_cache=True)
        else:
            for _ in range(max_new_tokens):
                logits = model(idx, use_cache=False)
                idx = torch.cat([idx, logits[:, -1].argmax(dim=-1, keepdim=True)], dim=1)
    return idx


def make_model(dropout=0.0):
    return Transformer(vocab_size=17, emb_dim=32, dropout=dropout)


def train(model):
    steps = torch.arange(12)
    sequences = torch.stack([(a * steps + b) % 17 for a, b in [(1, 0), (2, 5), (3, 1), (5, 9), (7, 2), (4, 4)]])
    inputs, targets = sequences[:, :-1], sequences[:, 1:]
    decay = {n for n, p in model.named_parameters() if p.ndim > 1}
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for n, p in model.named_parameters() if n in decay], "weight_decay": 0.1},
            {"params": [p for n, p in model.named_parameters() if n not in decay], "weight_decay": 0.0},
        ],
        lr=1e-2,
        betas=(0.9, 0.95),
        eps=1e-8,
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 5))
    losses, rates = [], []
    model.train()
    for _ in range(20):
        logits = model(inputs)
        loss = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
        rates.append(scheduler.get_last_lr()[0])
    start = sequences[:2, :4]
    cached, recomputed = generate(model, start, 8, True), generate(model, start, 8, False)
    assert torch.equal(cached, recomputed)
    cache = model.trf_blocks[0].att.cache_k
    buffers = [name for name, _ in model.named_buffers()]
    model.reset_kv_cache()
    att = model.trf_blocks[0].att
    x = torch.linspace(-1, 1, 48, dtype=cache.dtype).view(1, 2, 3, 8)
    return {
        "losses": losses,
        "rates": rates,
        "tokens": cached,
        "cache": cache,
        "buffers": buffers,
        "without": [name for name, _ in model.named_buffers()],
        "interleaved": apply_rotary_interleaved(x, att.cos, att.sin),
    }
