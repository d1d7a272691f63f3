"""Which weights of a model learn: all, a few, or LoRA's; and how a run keeps them.

With LoRA the frozen weights stand in the run's base.safetensors, and each checkpoint has the adapters alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from gpt.checkpoint import latest_weights
from gpt.classifier import GPTClassifier
from gpt.lora import LoRAConfig, add_lora, load_lora, save_lora
from gpt.model import GPT
from gpt.options import UsageError, option
from tensorlite import nn

M = TypeVar("M", GPT, GPTClassifier)


@dataclass(frozen=True)
class Tuning:
    train: Literal["all", "last", "head", "lora"] = option(
        "all", "what learns: all weights, the last blocks with the final norm and the head, the head, or LoRA adapters"
    )
    last_blocks: int = option(1, "blocks that learn with --train last")
    lora_rank: int = option(16, "rank of the adapters")
    lora_alpha: float = option(16.0, "strength of the adapters: their sum is scaled by alpha / rank")
    lora_dropout: float = option(0.0, "probability with which training drops a number of an adapter's input")
    lora_layers: tuple[str, ...] = option(("*",), "names of the Linear layers that get an adapter, * for any part")

    def lora(self) -> LoRAConfig:
        """Raises UsageError if there can be no such adapters."""
        try:
            return LoRAConfig(self.lora_rank, self.lora_alpha, self.lora_dropout, self.lora_layers)
        except ValueError as error:
            raise UsageError(f"--lora-{error}") from None


def prepare(model: GPT | GPTClassifier, tuning: Tuning) -> None:
    """Let only those weights of `model` learn that `tuning` names; LoRA's are made."""
    if tuning.train == "lora":
        try:
            add_lora(model, tuning.lora())
        except ValueError as error:
            raise UsageError(f"--lora-layers: {error}") from None
    elif tuning.train != "all":
        _freeze(model, tuning)


def _freeze(model: GPT | GPTClassifier, tuning: Tuning) -> None:
    gpt = model.gpt if isinstance(model, GPTClassifier) else model
    blocks: list[nn.Module] = [model.head] if isinstance(model, GPTClassifier) else []
    if tuning.train == "last":
        if not 1 <= tuning.last_blocks <= len(gpt.h):
            raise UsageError(f"--last-blocks is from 1 to the model's {len(gpt.h)} blocks, not {tuning.last_blocks}")
        blocks = [*gpt.h[-tuning.last_blocks :], gpt.ln_f, *blocks]
    learning = {id(parameter) for block in blocks for parameter in block.parameters()}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in learning)


def writer(tuning: Tuning, save: Callable[[M, Path], None]) -> Callable[[M, Path], None]:
    """What puts a model into a checkpoint's folder: all of it, or LoRA's adapters alone."""
    if tuning.train == "lora":
        return lambda model, folder: save_lora(model, folder / "adapter.safetensors", tuning.lora())
    return lambda model, folder: save(model, folder / "model.safetensors")


def finish(model: M, tuning: Tuning, save: Callable[[M, Path], None], run: Path) -> None:
    """Leave a model.safetensors, which everybody else reads, in the newest checkpoint; without LoRA it is there."""
    if tuning.train == "lora":
        save(model, latest_weights(run, "training.safetensors").with_name("model.safetensors"))


def reload(run: Path, checkpoint: Path, tuning: Tuning, load: Callable[[Path], M]) -> M:
    """The model of a run that goes on, as it was in training. Raises UsageError if it cannot be read."""
    try:
        if tuning.train == "lora":
            model = load(run / "base.safetensors")
            load_lora(model, checkpoint / "adapter.safetensors")
        else:
            model = load(checkpoint / "model.safetensors")
            prepare(model, tuning)
    except (OSError, ValueError) as error:
        raise UsageError(f"--resume {run}: {error}") from None
    return model
