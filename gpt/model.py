"""GPT: a stream of vectors, one per token, to which every block adds what it found out.

    model = GPT(PRESETS["shakespeare-char"])
    logits, loss = model(idx, targets)  # (B, T, V), ()

Names and order of the parameters are those of OpenAI's GPT-2 checkpoint (`wte.weight`, `h.0.attn.c_attn.weight`, …),
whose four matrices of a block are stored (in, out) there and (out, in) here.

Shapes: B sequences of T tokens, each a vector of C = n_embd numbers, over a vocabulary of V tokens.

Sources: Radford et al., *Language Models are Unsupervised Multitask Learners* (2019); Karpathy's nanoGPT for the shape
of the code, the first values and what `forward` returns; Raschka, *Build a Large Language Model (From Scratch)*,
chapter 4.
"""

import math
from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np

import tensorlite as tl
from gpt.attention import MultiHeadAttention
from gpt.cache import Cache, LayerCache
from gpt.config import GPTConfig
from tensorlite import Tensor, nn
from tensorlite.nn import functional as F


class MLP(nn.Module):
    """Two layers with a GELU between, four times as wide inside: each token by itself."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.gelu = nn.GELU(approximate="tanh")
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:  # (B, T, C) -> (B, T, C)
        return self.c_proj(self.gelu(self.c_fc(x)))  # (B, T, C) from (B, T, 4C)


class Block(nn.Module):
    """Attention lets tokens exchange what they know, the MLP lets each digest it; both add to the stream.

    Each reads a normalised copy (GPT-2's "pre-norm"), so that the stream itself runs through the model untouched.
    """

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.norm_eps, bias=config.bias)
        self.attn = MultiHeadAttention(config.n_embd, config.n_head, config.dropout, config.bias, config.qkv_bias)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.norm_eps, bias=config.bias)
        self.mlp = MLP(config)
        self.drop = nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, cache: LayerCache | None = None, lengths: Sequence[int] | None = None
    ) -> Tensor:  # (B, T, C) -> (B, T, C)
        x = x + self.drop(self.attn(self.ln_1(x), cache, lengths))  # (B, T, C)
        return x + self.drop(self.mlp(self.ln_2(x)))  # (B, T, C)


class GPT(nn.Module):
    """GPT-2. A fresh one knows nothing: its loss is about ln(vocab_size)."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.context_length, config.n_embd)
        self.drop = nn.Dropout(config.dropout)
        self.h = nn.ModuleList([Block(config) for _ in range(config.n_layer)])
        self.ln_f = nn.LayerNorm(config.n_embd, eps=config.norm_eps, bias=config.bias)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        if config.tied:
            self.lm_head.weight = self.wte.weight
        if config.init_std is not None:
            self._initialise(config.init_std)

    @classmethod
    def from_pretrained(cls, source: str | PathLike[str], *, dtype: Any = None, **changes: Any) -> "GPT":
        """A trained model: GPT-2 by name ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"), or a file or folder with
        weights in any format that `gpt.weights.load` reads; it says what the arguments mean and what is raised."""
        from gpt.weights import load  # which is made of models

        return load(source, dtype=dtype, **changes)

    def _initialise(self, init_std: float) -> None:
        """Normal matrices, biases 0; LayerNorm's weights stay 1.

        Embeddings and head have GPT-2's standard deviation of 0.02, so that first logits are small and the first loss
        is that of a guess; the matrices in the blocks have init_std.

        2 n_layer branches add to the stream. Their last layers, c_proj, start smaller by the root of that, so that the
        stream's variance does not grow with the depth.
        """
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() == 2:
                branches = 2 * self.config.n_layer if name.endswith("c_proj.weight") else 1
                std = init_std if name.startswith("h.") else 0.02
                nn.init.normal_(parameter, std=std / math.sqrt(branches))

    def forward(
        self, idx: Tensor, targets: Tensor | None = None, cache: Cache | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Logits of the next token, and the loss if `targets` say what it was.

        idx      (B, T) token ids, T at most context_length
        targets  (B, T): at each position the id that follows. -100 does not count, as in PyTorch and in the book's
                 instruction batches (nanoGPT writes -1)
        cache    what was read before idx, to which idx is added: see gpt/cache.py

        Returns (B, T, V) and the mean cross-entropy with targets, else (B, 1, V) for the last position alone and None.
        ValueError if idx has another shape or is too long, IndexError for an id outside the vocabulary.
        """
        x = self.hidden(idx, cache)  # (B, T, C)
        if targets is None:
            return self.lm_head(x[:, -1:]), None  # (B, 1, V)
        logits = self.lm_head(x)  # (B, T, V)
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def loss(self, idx: Tensor, targets: Tensor, lengths: Sequence[int] | None = None) -> Tensor:
        """The loss alone, which is all that training needs: the logits are not kept. `lengths` as in `hidden`."""
        x = self.hidden(idx, lengths=lengths).flatten(0, 1)  # (B*T, C)
        return F.linear_cross_entropy(x, self.lm_head.weight, targets.flatten())

    def hidden(self, idx: Tensor, cache: Cache | None = None, lengths: Sequence[int] | None = None) -> Tensor:
        """What the model makes of each token: (B, T) ids -> (B, T, C), which the head turns into logits.

        With a cache, idx are the next T tokens after those that it holds. With lengths, idx is one row, (1, T), of
        texts of these lengths end to end: none sees another, positions begin anew in each, and each may be as long as
        the context. That is what a batch padded to a common length would compute, without the padding.
        """
        if lengths is None:
            self._check_length(idx)
            places = self.wpe.weight[slice(idx.shape[1]) if cache is None else cache.extend(*idx.shape)]
        else:
            self._check_lengths(idx, cache, lengths)
            places = self.wpe(tl.from_numpy(np.concatenate([np.arange(n) for n in lengths])).to(idx.device))
        x = self.wte(idx)  # (B, T, C)
        x = self.drop(x + places)  # (B, T, C) + (T, C): position t is row t of wpe
        for i, block in enumerate(self.h):
            x = block(x, None if cache is None else cache.layers[i], lengths)  # (B, T, C)
        return self.ln_f(x)  # (B, T, C)

    def _check_length(self, idx: Tensor) -> None:
        longest = self.config.context_length
        if idx.ndim != 2 or not 1 <= idx.shape[1] <= longest:
            raise ValueError(
                f"GPT expects token ids of shape (B, T), with T from 1 to its context_length of {longest}, got "
                f"{idx.shape}; idx[:, -{longest}:] are the last that fit"
            )

    def _check_lengths(self, idx: Tensor, cache: Cache | None, lengths: Sequence[int]) -> None:
        longest = self.config.context_length
        if cache is not None:
            raise ValueError("GPT reads several texts end to end without a cache; leave out cache or lengths")
        if not len(lengths) or not 1 <= min(lengths) <= max(lengths) <= longest or idx.shape != (1, sum(lengths)):
            raise ValueError(
                f"GPT expects texts of 1 to {longest} tokens end to end in one row, (1, {sum(lengths)}) token ids for "
                f"the lengths {list(lengths)}, got {idx.shape}"
            )

    def num_parameters(self, non_embedding: bool = False) -> int:
        """How many numbers the model learns; `non_embedding`: without the tables that are only looked up in.

        Those are wpe, and wte unless it is the head as well: looking up costs no arithmetic.
        """
        tables = [self.wpe] if self.config.tied else [self.wpe, self.wte]
        count = sum(parameter.numel() for parameter in self.parameters())
        return count - non_embedding * sum(table.weight.numel() for table in tables)

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """`parameter_groups` of this model."""
        return parameter_groups(self, weight_decay)

    def flops_per_token(self) -> int:
        """`flops_per_token` of this model's configuration."""
        return self.config.flops_per_token()


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """What learns in `model`, for an optimiser: `weight_decay` for matrices, none for biases and LayerNorm's weights.

    Decay makes directions that the loss does not care about shrink; a scale or an offset is not a direction.
    """
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in learned if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in learned if p.dim() < 2], "weight_decay": 0.0},
    ]
