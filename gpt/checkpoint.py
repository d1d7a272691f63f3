"""A model on disk: one safetensors file with its weights under GPT-2's names, and in its metadata its configuration.

A tied head is `wte.weight` once more, so it is not in the file; GPT-2's own files do without it too.
"""

import re
from os import PathLike
from pathlib import Path

import tensorlite as tl
from gpt.config import GPTConfig
from gpt.lora import merged
from gpt.model import GPT

_CONFIG = "model_config"


def save_model(model: GPT, path: str | PathLike[str]) -> None:
    """Write `model` to the file `path`, in the dtype it has, and with its LoRA adapters merged. Until all is written,
    what was there stays there."""
    with merged(model) as weights:
        if model.config.tied:
            del weights["lm_head.weight"]
        tl.save({_CONFIG: model.config.to_dict(), **weights}, path)


def load_model(path: str | PathLike[str]) -> GPT:
    """The model that `save_model` wrote to the file `path`, on the CPU, and in training mode as a new one is.

    FileNotFoundError if there is no file; ValueError if it is broken, if `save_model` did not write it, or if weights
    and configuration do not fit: it lists all names and shapes that do not.
    """
    weights = tl.load(path)
    if isinstance(weights, dict) and "classifier" in weights:
        raise ValueError(f"{path} holds a classifier, which writes no text; python -m train.classify predict asks it")
    if not isinstance(weights, dict) or _CONFIG not in weights:
        raise ValueError(f"{path} does not say what model it holds: there is no {_CONFIG!r}, as save_model writes it")
    try:
        model = GPT(GPTConfig.from_dict(weights.pop(_CONFIG)))
        if (wte := weights.get("wte.weight")) is not None:
            model.to(wte.dtype)
            if model.config.tied:
                weights["lm_head.weight"] = wte
        model.load_state_dict(weights)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{path} cannot be loaded: {error}") from error
    return model


def latest_weights(run: str | PathLike[str], name: str = "model.safetensors") -> Path:
    """The newest model in the folder of a training run: `checkpoints/step-<N>/model.safetensors` with the largest N.

    name  of another file that checkpoints have

    FileNotFoundError says what to do where there is none.
    """
    if not Path(run).is_dir():
        raise FileNotFoundError(f"there is no folder {run}; python -m train.pretrain makes one for each run")
    found = {
        int(step[1]): path
        for path in Path(run, "checkpoints").glob(f"*/{name}")
        if (step := re.fullmatch(r"step-(\d+)", path.parent.name))
    }
    if not found:
        raise FileNotFoundError(
            f"{run} has no model yet, in checkpoints/step-…/{name}; python -m train.pretrain saves them "
            "there as it trains"
        )
    return found[max(found)]
