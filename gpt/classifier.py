"""A GPT that reads a text and names its class: the stream of one token, or the mean of all, and a small head.

Sources: Radford et al., *Improving Language Understanding by Generative Pre-Training* (2018), section 3.2, for a head
on the last token, which alone has seen the whole text; Raschka, *Build a Large Language Model (From Scratch)*,
chapter 6.
"""

from collections.abc import Sequence
from os import PathLike
from typing import Literal

import tensorlite as tl
from gpt.config import GPTConfig
from gpt.lora import merged
from gpt.model import GPT
from tensorlite import Tensor, nn

Pooling = Literal["last", "mean"]
_ABOUT = "classifier"


class GPTClassifier(nn.Module):
    """`gpt` without its head, and a new one that has a row per class.

    classes  their names; the number of a class is its place
    pooling  what the head reads: "last", the last token of the text, or "mean", the mean of its tokens
    """

    def __init__(self, gpt: GPT, classes: Sequence[str], pooling: Pooling = "last"):
        super().__init__()
        if len(classes) < 2 or len(set(classes)) != len(classes):
            raise ValueError(f"a classifier expects two or more different classes, got {list(classes)}")
        if pooling not in ("last", "mean"):
            raise ValueError(f"pooling expects 'last' or 'mean', got {pooling!r}")
        self.classes, self.pooling = tuple(classes), pooling
        self.gpt = gpt
        del gpt.lm_head
        self.head = nn.Linear(gpt.config.n_embd, len(classes), dtype=gpt.wte.weight.dtype)

    @property
    def config(self) -> GPTConfig:
        return self.gpt.config

    def forward(self, idx: Tensor, lengths: Tensor) -> Tensor:
        """Logits of the classes, (B, K).

        idx      (B, T) token ids, texts of different lengths padded at their ends with any id
        lengths  (B,) how many tokens of each row are text; the others change nothing
        """
        x = self.gpt.hidden(idx)  # (B, T, C)
        if self.pooling == "last":
            text = x[tl.arange(len(x), device=x.device), lengths - 1]  # (B, C)
        else:
            inside = tl.lt(tl.arange(x.shape[1], device=x.device), lengths[:, None])  # (B, T)
            share = inside.to(x.dtype) / lengths[:, None].to(x.dtype)  # (B, T)
            text = (share[:, None] @ x).squeeze(1)  # (B, C)
        return self.head(text)  # (B, K)


def save_classifier(model: GPTClassifier, path: str | PathLike[str]) -> None:
    """Write `model` with its configuration and the names of its classes to the file `path`; adapters are merged."""
    about = {"config": model.config.to_dict(), "classes": list(model.classes), "pooling": model.pooling}
    with merged(model) as weights:
        tl.save({_ABOUT: about, **weights}, path)


def load_classifier(path: str | PathLike[str]) -> GPTClassifier:
    """The classifier that `save_classifier` wrote to the file `path`, on the CPU.

    FileNotFoundError if there is no file; ValueError if it is broken or holds something else.
    """
    weights = tl.load(path)
    if not isinstance(weights, dict) or _ABOUT not in weights:
        raise ValueError(f"{path} holds no classifier; python -m train.classify makes one")
    about = weights.pop(_ABOUT)
    try:
        gpt = GPT(GPTConfig.from_dict(about["config"]))
        model = GPTClassifier(gpt, about["classes"], about["pooling"])
        if (weight := weights.get("head.weight")) is not None:
            model.to(weight.dtype)
        model.load_state_dict(weights)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} cannot be loaded: {error}") from error
    return model
