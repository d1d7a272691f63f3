"""The numbers that make a GPT, and the models that have names.

    GPTConfig(vocab_size=65, context_length=64, n_layer=4, n_head=4, n_embd=128)
    replace(PRESETS["gpt2"], dropout=0.1)

Sources: Radford et al., *Language Models are Unsupervised Multitask Learners* (2019), table 2; Karpathy's nanoGPT, from
which most of the names are; Raschka, *Build a Large Language Model (From Scratch)*, chapter 4.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self


@dataclass(frozen=True)
class GPTConfig:
    """What `GPT` is built from. Values that make no model raise ValueError.

    vocab_size      ids that a token may have: the rows of `wte`
    context_length  tokens that the model can look at: the rows of `wpe` (GPT-2: n_ctx, nanoGPT: block_size)
    n_layer         blocks
    n_head          attention heads in a block, each n_embd / n_head wide
    n_embd          width of the stream that runs through the blocks
    dropout         probability with which training drops a number: of the embeddings, of the attention's weights, and
                    of what each block adds to the stream
    bias            whether Linear and LayerNorm layers have biases; the head has none in any case
    qkv_bias        whether queries, keys and values do too: off in the book, where the other biases stay on.
                    Without `bias` there is none, and this is False whatever was given
    tied            whether the head is `wte` itself: what a token means when read is what it means when written
    norm_eps        what LayerNorm adds to the variance
    init_std        standard deviation of the blocks' fresh matrices. GPT-2's 0.02 suits its width of 768; a narrower
                    model learns faster from about 0.02 sqrt(768 / n_embd), which keeps the size of what they compute.
                    None leaves every layer as nn made it, with PyTorch's first values, as the book does

    The defaults are GPT-2 small's.
    """

    vocab_size: int = 50257
    context_length: int = 1024
    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768
    dropout: float = 0.0
    bias: bool = True
    qkv_bias: bool = True
    tied: bool = True
    norm_eps: float = 1e-5
    init_std: float | None = 0.02

    def __post_init__(self) -> None:
        for name in ("vocab_size", "context_length", "n_layer", "n_head", "n_embd"):
            if type(value := getattr(self, name)) is not int or value < 1:
                raise ValueError(f"{name} expects a whole number from 1 on, got {value!r}")
        for name in ("bias", "qkv_bias", "tied"):
            if type(value := getattr(self, name)) is not bool:
                raise ValueError(f"{name} expects True or False, got {value!r}")
        if not (isinstance(self.dropout, int | float) and 0 <= self.dropout < 1):
            raise ValueError(f"dropout expects a probability from 0 to below 1, got {self.dropout!r}")
        if not (isinstance(self.norm_eps, int | float) and 0 < self.norm_eps < 1):
            raise ValueError(f"norm_eps expects a small number above 0, 1e-5 say, got {self.norm_eps!r}")
        if self.init_std is not None and not (isinstance(self.init_std, int | float) and 0 < self.init_std < 10):
            raise ValueError(f"init_std expects a small number above 0, 0.02 say, or None, got {self.init_std!r}")
        if self.n_embd % self.n_head:
            heads = [n for n in range(1, self.n_embd + 1) if self.n_embd % n == 0]
            raise ValueError(
                f"n_embd {self.n_embd} cannot be divided among n_head {self.n_head}; "
                f"{self.n_embd} has room for {_nearest(heads, self.n_head)} heads, and {self.n_head} heads for a width "
                f"of {_nearest(range(self.n_head, self.n_embd + self.n_head, self.n_head), self.n_embd)}"
            )
        if not self.bias:
            object.__setattr__(self, "qkv_bias", False)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of everything that the model learns, in the model's order, without building it.

        A tied head is `wte.weight`, and not there a second time.
        """
        C = self.n_embd
        shapes: dict[str, tuple[int, ...]] = {
            "wte.weight": (self.vocab_size, C),
            "wpe.weight": (self.context_length, C),
        }

        def layer(name: str, *weight: int, bias: bool) -> None:
            shapes[f"{name}.weight"] = weight
            if bias:
                shapes[f"{name}.bias"] = weight[:1]

        for i in range(self.n_layer):
            layer(f"h.{i}.ln_1", C, bias=self.bias)
            layer(f"h.{i}.attn.c_attn", 3 * C, C, bias=self.qkv_bias)
            layer(f"h.{i}.attn.c_proj", C, C, bias=self.bias)
            layer(f"h.{i}.ln_2", C, bias=self.bias)
            layer(f"h.{i}.mlp.c_fc", 4 * C, C, bias=self.bias)
            layer(f"h.{i}.mlp.c_proj", C, 4 * C, bias=self.bias)
        layer("ln_f", C, bias=self.bias)
        if not self.tied:
            layer("lm_head", self.vocab_size, C, bias=False)
        return shapes

    def parameters(self, non_embedding: bool = False) -> int:
        """How many numbers the model learns, without building it; `non_embedding` as in `GPT.num_parameters`."""
        tables = {"wpe.weight"} if self.tied else {"wpe.weight", "wte.weight"}
        return sum(math.prod(shape) for name, shape in self.shapes().items() if not (non_embedding and name in tables))

    def flops_per_token(self) -> int:
        """Floating-point operations, forward and backward, per token of a sequence as long as the context.

        Each of N weights multiplies and adds once forward and twice backward, and attention has two more such products
        with context_length vectors of n_embd numbers in each layer. That counts what causal attention may skip, as
        Chowdhery et al., *PaLM* (2022), appendix B, do.
        """
        return 6 * self.parameters(non_embedding=True) + 12 * self.n_layer * self.n_embd * self.context_length

    def to_dict(self) -> dict[str, int | float | bool | None]:
        """The fields, as JSON can hold them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The configuration from which `to_dict` made `values`. ValueError if a key is missing, unknown or wrong."""
        names = {field.name for field in fields(cls)}
        unknown, missing = sorted(values.keys() - names), sorted(names - values.keys())
        if unknown or missing:
            raise ValueError(f"a GPTConfig has exactly its fields; unknown here: {unknown}, missing: {missing}")
        return cls(**values)


def _nearest(choices: Any, wanted: int) -> str:
    """The choices on both sides of `wanted`, as words."""
    below, above = [n for n in choices if n < wanted], [n for n in choices if n > wanted]
    return " or ".join([str(n) for n in (*below[-1:], *above[:1])])


_GPT2 = GPTConfig()
_SHAKESPEARE = GPTConfig(65, context_length=64, n_layer=4, n_head=4, n_embd=128, bias=False, init_std=0.05)

PRESETS = {
    # GPT-2 as OpenAI published it: 124M, 355M, 774M and 1558M parameters.
    "gpt2": _GPT2,
    "gpt2-medium": replace(_GPT2, n_layer=24, n_head=16, n_embd=1024),
    "gpt2-large": replace(_GPT2, n_layer=36, n_head=20, n_embd=1280),
    "gpt2-xl": replace(_GPT2, n_layer=48, n_head=25, n_embd=1600),
    # The book's GPT_CONFIG_124M, which has 163M parameters because its head is a matrix of its own.
    "book-124m": replace(_GPT2, dropout=0.1, qkv_bias=False, tied=False, init_std=None),
    # nanoGPT's two models of Shakespeare's characters, for a laptop and for a GPU.
    "shakespeare-char": _SHAKESPEARE,
    "shakespeare-char-gpu": replace(
        _SHAKESPEARE, context_length=256, n_layer=6, n_head=6, n_embd=384, dropout=0.2, init_std=0.03
    ),
    # For tests.
    "tiny": GPTConfig(vocab_size=65, context_length=16, n_layer=2, n_head=2, n_embd=16),
}
