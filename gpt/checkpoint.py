"""A model on disk: one safetensors file with its weights under GPT-2's names, and in its metadata its configuration.

A tied head is `wte.weight` once more, so it is not in the file; GPT-2's own files do without it too.
"""

import re
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

import tensorlite as tl
from gpt.config import GPTConfig
from gpt.lora import merged
from gpt.model import GPT
from tensorlite import nn
from tensorlite.serialize import peek
from tensorlite.stored import Stored

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
    content = open_model(path)
    if content is None:
        raise ValueError(f"{path} does not say what model it holds: there is no {_CONFIG!r}, as save_model writes it")
    try:
        return assemble(*content)
    except ValueError as error:
        raise ValueError(f"{path} cannot be loaded: {error}") from error


def open_model(path: str | PathLike[str]) -> tuple[GPTConfig, dict[str, Stored]] | None:
    """What `save_model` wrote to the file `path`, its arrays not yet read; None if the file does not say what model it
    holds. FileNotFoundError and ValueError as `load_model`."""
    content = peek(path)
    if isinstance(content, dict) and "classifier" in content:
        raise ValueError(f"{path} holds a classifier, which writes no text; python -m train.classify predict asks it")
    if not isinstance(content, dict) or _CONFIG not in content:
        return None
    try:
        config = GPTConfig.from_dict(content.pop(_CONFIG))
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} cannot be loaded: {error}") from error
    return config, {name: x for name, x in content.items() if isinstance(x, Stored)}


class MisfitError(ValueError):
    """Arrays are not those of a configuration: names that only one of the two has, and shapes that differ."""

    def __init__(self, missing: list[str], unexpected: list[str], misshapen: list[str]):
        self.missing, self.unexpected, self.misshapen = missing, unexpected, misshapen
        kinds = {"only in the model": missing, "only in the file": unexpected, "of another shape": misshapen}
        lists = ["\n    ".join([f"{kind}:", *names]) for kind, names in kinds.items() if names]
        super().__init__("\n".join(["weights and configuration do not fit; nothing was loaded", *lists]))


def check_fit(config: GPTConfig, arrays: Mapping[str, Stored]) -> None:
    """MisfitError unless `arrays` are exactly those of a model of `config`, and ValueError unless they are floating."""
    if config.n_layer > len(arrays):  # a forged number of blocks shall not make us count them
        raise ValueError(f"the configuration has {config.n_layer:,} blocks, and the file {len(arrays):,} arrays")
    shapes = config.shapes()
    differing = {
        name: (x.stored_shape, shapes[name][::-1] if x.transposed else shapes[name])  # as they are in the file
        for name, x in arrays.items()
        if name in shapes and x.shape != shapes[name]
    }
    misshapen = [f"{name}: {theirs} in the file, {ours} in the model" for name, (theirs, ours) in differing.items()]
    missing, unexpected = [name for name in shapes if name not in arrays], [n for n in arrays if n not in shapes]
    if missing or unexpected or misshapen:
        raise MisfitError(missing, unexpected, misshapen)
    if wrong := [f"{name}: {x.dtype}" for name, x in arrays.items() if x.read_dtype.kind != "f"]:
        raise ValueError("weights are floating-point numbers, and these are not:\n    " + "\n    ".join(wrong))


def assemble(config: GPTConfig, arrays: Mapping[str, Stored], dtype: Any = None) -> GPT:
    """A model of `config` with the numbers in `arrays`, which have the model's names. Each is read once, and nothing
    else takes memory.

    dtype  of the model; by default the widest among the arrays, where bfloat16 counts as float32

    MisfitError and ValueError as `check_fit`, before anything is read.
    """
    check_fit(config, arrays)
    dtype = np.result_type(*(x.read_dtype for x in arrays.values())) if dtype is None else dtype
    weights = {name: tl.from_numpy(x.read(dtype)) for name, x in arrays.items()}
    if config.tied:
        weights["lm_head.weight"] = weights["wte.weight"]
    model: GPT = nn.utils.skip_init(GPT, config)
    model.load_state_dict(weights, assign=True)
    return model


def checkpoints(run: str | PathLike[str]) -> list[Path]:
    """The checkpoints in the folder of a training run, `checkpoints/step-<N>`, oldest first. `step-<N>+<M>` has the
    weights of step N, and is M micro-batches further."""
    found = {
        (int(step[1]), int(step[2] or 0)): path
        for path in Path(run, "checkpoints").glob("step-*")
        if (step := re.fullmatch(r"step-(\d+)(?:\+(\d+))?", path.name))
    }
    return [found[position] for position in sorted(found)]


def latest_weights(run: str | PathLike[str], name: str = "model.safetensors") -> Path:
    """The newest model in the folder of a training run: `model.safetensors` in the newest of its `checkpoints`.

    name  of another file that checkpoints have

    FileNotFoundError says what to do where there is none.
    """
    if not Path(run).is_dir():
        raise FileNotFoundError(f"there is no folder {run}; python -m train.pretrain makes one for each run")
    found = [folder / name for folder in checkpoints(run) if (folder / name).exists()]
    if not found:
        raise FileNotFoundError(
            f"{run} has no model yet, in checkpoints/step-…/{name}; python -m train.pretrain saves them "
            "there as it trains"
        )
    return found[-1]
