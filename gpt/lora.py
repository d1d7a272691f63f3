"""LoRA: fine-tuning by small additions to frozen matrices.

    add_lora(model, LoRAConfig(rank=16, alpha=16))  # in place: all weights are frozen, the adapters learn
    ...
    save_lora(model, "adapter.safetensors")         # the adapters alone
    with merged(model) as weights: ...              # as if they had always been in the weights

A frozen W (out, in) becomes W + alpha/r B A, with A (r, in) and B (out, r) of a rank r far below both widths. B starts
at 0, so that at first nothing has changed.

Source: Hu et al., *LoRA: Low-Rank Adaptation of Large Language Models* (2021), section 4. Raschka's book, appendix E,
leaves out the division by r: its alpha is r times as strong as the one here.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatchcase
from os import PathLike
from typing import Any

import tensorlite as tl
from tensorlite import Tensor, nn
from tensorlite.nn import functional as F

# Layers that hold several projections in one, by the last part of their names: each projection gets an adapter of its
# own, as if it stood alone. c_attn makes queries, keys and values.
FUSED = {"c_attn": 3}
_CONFIG = "lora_config"


@dataclass(frozen=True)
class LoRAConfig:
    """Which layers get an adapter, and of what kind. Values that make none raise ValueError.

    rank     r: how many directions an adapter can tell apart
    alpha    how strong it is: what it computes is scaled by alpha / rank
    dropout  probability with which training drops a number of an adapter's input
    layers   names of Linear layers, with * for any part: ("*",) are all of them, ("*.c_attn",) those of the attention,
             ("h.11.*", "head") the last block of GPT-2 small and a classifier's head
    """

    rank: int = 16
    alpha: float = 16.0
    dropout: float = 0.0
    layers: tuple[str, ...] = ("*",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))  # JSON has lists only
        if type(self.rank) is not int or self.rank < 1:
            raise ValueError(f"rank expects a whole number from 1 on, got {self.rank!r}")
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise ValueError(f"alpha expects a finite number above 0, got {self.alpha!r}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout expects a probability from 0 to below 1, got {self.dropout!r}")


class LoRALinear(nn.Linear):
    """Takes the place of `linear`, whose weight and bias it shares under the same names, and freezes them.

    lora_A  (parts r, in_features): what to look for. Uniform within ±1/sqrt(in_features) at first, as a Linear's weight
    lora_B  (parts, out_features / parts, r): what to say then. 0 at first
    parts   the projections in this layer: each has its own r rows of lora_A and its own matrix of lora_B
    """

    def __init__(self, linear: nn.Linear, config: LoRAConfig, parts: int = 1):
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.parts, self.scale = parts, config.alpha / config.rank
        self.drop = nn.Dropout(config.dropout)
        like: dict[str, Any] = {"device": self.weight.device, "dtype": self.weight.dtype}
        self.lora_A = nn.Parameter(tl.empty(parts * config.rank, self.in_features, **like))
        self.lora_B = nn.Parameter(tl.zeros(parts, self.out_features // parts, config.rank, **like))
        bound = 1 / math.sqrt(self.in_features)
        nn.init.uniform_(self.lora_A, -bound, bound)
        self._unmerged: Tensor | None = None  # the frozen weight, while `weight` has the adapter in it
        for frozen in (self.weight, self.bias):
            if frozen is not None:
                frozen.requires_grad_(False)

    @property
    def rank(self) -> int:
        return self.lora_B.shape[-1]

    @property
    def merged(self) -> bool:
        return self._unmerged is not None

    def forward(self, input: Tensor) -> Tensor:  # (…, in) -> (…, out)
        y = F.linear(input, self.weight, self.bias)  # (…, out)
        if self.merged:
            if self.training and tl.is_grad_enabled():
                raise RuntimeError("a merged LoRALinear does not learn; unmerge() it, or call eval()")
            return y
        found = F.linear(self.drop(input), self.lora_A)  # (…, parts r)
        by_part = found.reshape(-1, self.parts, self.rank).transpose(0, 1)  # (parts, N, r)
        said = by_part @ self.lora_B.mT  # (parts, N, out / parts)
        return y + self.scale * said.transpose(0, 1).reshape(y.shape)  # (…, out)

    @tl.no_grad()
    def merge(self) -> None:
        """Put the adapter into the weight. Does nothing if it is there."""
        if not self.merged:
            a = self.lora_A.view(self.parts, self.rank, self.in_features)  # (parts, r, in)
            change = self.scale * (self.lora_B @ a)  # (parts, out / parts, in)
            self._unmerged = self.weight.detach().clone()
            self.weight.add_(change.view(self.out_features, self.in_features))

    @tl.no_grad()
    def unmerge(self) -> None:
        """Take it out again: the weight has the bits that it had before `merge`."""
        if self._unmerged is not None:
            self.weight.copy_(self._unmerged)
            self._unmerged = None

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, rank={self.rank}, scale={self.scale:g}, parts={self.parts}"


def add_lora(model: nn.Module, config: LoRAConfig) -> list[str]:
    """Freeze `model` and give the Linear layers that `config.layers` names an adapter each. Returns their names.

    The head of a language model stays as it is: it usually is the token embedding, and its loss reads its weight.
    ValueError if a pattern names no layer, or the model has adapters already; then nothing has changed.
    """
    linears = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    linears = {name: m for name, m in linears.items() if name.split(".")[-1] != "lm_head"}
    if any(isinstance(m, LoRALinear) for m in linears.values()):
        raise ValueError("this model has LoRA adapters already")
    for pattern in config.layers:
        if not any(fnmatchcase(name, pattern) for name in linears):
            some = ", ".join(list(linears)[:4])
            raise ValueError(f"no layer is named {pattern!r}; there are {len(linears)} Linear layers: {some}, …")
    names = [name for name in linears if any(fnmatchcase(name, pattern) for pattern in config.layers)]
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for name in names:
        parent, _, own = name.rpartition(".")
        adapted = LoRALinear(linears[name], config, FUSED.get(own, 1))
        setattr(model.get_submodule(parent), own, adapted.train(linears[name].training))
    return names


def adapters(model: nn.Module) -> dict[str, LoRALinear]:
    """The layers of `model` that have an adapter, by name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, LoRALinear)}


def merge_lora(model: nn.Module) -> None:
    """Put every adapter of `model` into its weight, for speed; `unmerge_lora` restores the weights bit for bit."""
    for layer in adapters(model).values():
        layer.merge()


def unmerge_lora(model: nn.Module) -> None:
    for layer in adapters(model).values():
        layer.unmerge()


@contextmanager
def merged(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Inside, the adapters are in the weights; it yields the state_dict of the same model without adapters."""
    before = [layer for layer in adapters(model).values() if not layer.merged]
    merge_lora(model)
    try:
        yield {name: x for name, x in model.state_dict().items() if not _is_adapter(name)}
    finally:
        for layer in before:
            layer.unmerge()


def save_lora(model: nn.Module, path: str | PathLike[str], config: LoRAConfig) -> None:
    """Write the adapters of `model`, which `add_lora(model, config)` made, and nothing else, to the file `path`."""
    weights = {name: x for name, x in model.state_dict().items() if _is_adapter(name)}
    tl.save({_CONFIG: asdict(config), **weights}, path)


def load_lora(model: nn.Module, path: str | PathLike[str]) -> LoRAConfig:
    """Give `model`, which has none yet, the adapters of the file `path`. Returns their configuration.

    FileNotFoundError if there is no file; ValueError if it is broken, `save_lora` did not write it, or it is for a
    model of another shape.
    """
    weights = tl.load(path)
    if not isinstance(weights, dict) or _CONFIG not in weights:
        raise ValueError(f"{path} holds no LoRA adapters: there is no {_CONFIG!r}, as save_lora writes it")
    described = weights.pop(_CONFIG)
    try:
        if described.keys() != {f.name for f in fields(LoRAConfig)}:
            raise ValueError(f"a LoRAConfig has exactly its fields, this one has {sorted(described)}")
        config = LoRAConfig(**described)
        for name in add_lora(model, config):
            layer = model.get_submodule(name)
            expected = {f"{name}.{own}": getattr(layer, own).shape for own in ("lora_A", "lora_B")}
            for own, shape in expected.items():
                if own not in weights or weights[own].shape != shape:
                    found = weights[own].shape if own in weights else "nothing"
                    raise ValueError(f"{own} expects the shape {shape}, there is {found}; is it for another model?")
        model.load_state_dict(weights, strict=False)
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} cannot be loaded: {error}") from error
    return config


def _is_adapter(name: str) -> bool:
    return name.rpartition(".")[2] in ("lora_A", "lora_B")
