"""A peer for generation: what one writes by hand in PyTorch for speed, a greedy loop with a preallocated cache."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from benchmarks.torch_gpt import Block, TorchGPT


class Loop:
    """Greedy generation with `model` for up to `room` tokens in each of `batch` rows."""

    def __init__(self, model: TorchGPT, batch: int, room: int):
        self.model, self.room = model.eval(), room
        first = model.h[0]
        heads, width = first.n_head, first.c_attn.in_features // first.n_head
        self.keys, self.values = (torch.empty(len(model.h), batch, heads, room, width) for _ in range(2))

    @torch.inference_mode()
    def generate(self, idx: torch.Tensor, count: int) -> torch.Tensor:
        """(B, T) -> (B, T + count)"""
        tokens, unread = [idx], idx
        for _ in range(count):
            start = sum(t.shape[1] for t in tokens) - unread.shape[1]
            unread = self.logits(unread, start).argmax(-1)  # (B, 1)
            tokens.append(unread)
        return torch.cat(tokens, 1)

    def logits(self, idx: torch.Tensor, start: int) -> torch.Tensor:
        stop = start + idx.shape[1]
        x = self.model.wte(idx) + self.model.wpe.weight[start:stop]
        for i, block in enumerate(self.model.h):
            x = x + block.c_proj(self.attend(i, block, block.ln_1(x), start, stop))
            x = x + block.mlp(block.ln_2(x))
        return self.model.head(self.model.ln_f(x[:, -1:]))  # (B, 1, V)

    def attend(self, i: int, block: Block, x: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        B, T, C = x.shape
        q, k, v = (part.view(B, T, block.n_head, -1).transpose(1, 2) for part in block.c_attn(x).split(C, 2))
        keys, values = self.keys[i], self.values[i]
        keys[:, :, start:stop], values[:, :, start:stop] = k, v
        y = F.scaled_dot_product_attention(q, keys[:, :, :stop], values[:, :, :stop], is_causal=T > 1)
        return y.transpose(1, 2).reshape(B, T, C)
