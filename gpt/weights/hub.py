"""The hub's GPT-2: a folder with config.json and model.safetensors, as transformers' GPT2LMHeadModel has it.

Names are the model's, sometimes after `transformer.`. The four matrices of a block are (in, out). A tied head is not in
the file, or is there as a copy. `h.0.attn.bias` and `h.0.attn.masked_bias` are masks, no weights.
"""

import json
import re
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from gpt.config import GPTConfig
from gpt.model import GPT
from gpt.weights.source import IN_OUT, Source, with_biases
from tensorlite.serialize import peek, replacing, write_arrays
from tensorlite.stored import Stored

WEIGHTS, SHARDS, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
_MASK = re.compile(r"h\.\d+\.attn\.(masked_)?bias")

# GPTConfig's name of what config.json says.
_FIELDS = {
    "vocab_size": "vocab_size",
    "n_positions": "context_length",
    "n_layer": "n_layer",
    "n_head": "n_head",
    "n_embd": "n_embd",
    "layer_norm_epsilon": "norm_eps",
}
# What config.json may say that would make another model of the same weights, and which values are GPT-2.
_GPT2 = {
    "model_type": ("gpt2",),
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
}


def open_hub(path: Path) -> Source:
    """The weights in a folder, or in one safetensors file with or without a config.json beside it.

    ValueError for files that are broken, or that hold another kind of model.
    """
    folder, files = (path, _files(path)) if path.is_dir() else (path.parent, [path])
    source = Source(f"safetensors with the hub's names ({', '.join(file.name for file in files)})", {})
    for file in files:
        content = peek(file)
        if not isinstance(content, dict) or not all(isinstance(x, Stored) for x in content.values()):
            raise ValueError(f"{file} holds no weights but something else that tensorlite saved")
        for name, x in content.items():
            short = name.removeprefix("transformer.")
            if short in source.arrays:
                raise ValueError(f"{file}: {short} is there twice, also as {name}")
            if _MASK.fullmatch(short):
                source.ignored.append(name)
            else:
                source.arrays[short] = x.T if short.endswith(IN_OUT) else x
    if (described := folder / CONFIG).is_file():
        source.said = _described(described)
    head, wte = source.arrays.get("lm_head.weight"), source.arrays.get("wte.weight")
    if head and wte and source.said.get("tied", True) and head.shape == wte.shape and _equal(head, wte):
        source.ignored.append("lm_head.weight")  # a copy
        del source.arrays["lm_head.weight"]
    return source


def _files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    index = folder / SHARDS
    try:
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        raise ValueError(f"{index} does not list the files of the weights: {error}") from error
    if foreign := [name for name in names if Path(name).name != name]:
        raise ValueError(f"{index} names files outside its folder: {', '.join(foreign)}")
    return [folder / name for name in names]


def _described(path: Path) -> dict[str, Any]:
    """Fields of GPTConfig that config.json says; ValueError if it describes no GPT-2."""
    try:
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict):
            raise ValueError("it is not a JSON object")
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    for name, allowed in _GPT2.items():
        if content.get(name, allowed[0]) not in allowed:
            raise ValueError(f"{path}: {name} is {content[name]!r}, and GPT-2's is {' or '.join(map(str, allowed))}")
    inner, width = content.get("n_inner"), content.get("n_embd")
    if inner is not None and not (type(width) is int and inner == 4 * width):
        raise ValueError(f"{path}: n_inner is {inner} and n_embd {width}; in GPT-2 it is 4 x n_embd")
    said = {ours: content[theirs] for theirs, ours in _FIELDS.items() if theirs in content}
    return {**said, "tied": False} if content.get("tie_word_embeddings") is False else said


def _equal(a: Stored, b: Stored) -> bool:
    equal = np.array_equal(a.map(), b.map())
    a.release()
    b.release()
    return equal


# Writing -----------------------------------------------------------------------------------------------


def save_hub(model: GPT, folder: str | PathLike[str]) -> None:
    """Write `model` into `folder`, made if need be, for transformers' GPT2LMHeadModel.from_pretrained(folder).

    A model without biases gets zeros there, which compute the same: GPT2LMHeadModel has no other form.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {name: x.T if name.endswith(IN_OUT) else x for name, x in with_biases(model).items()}
    if not model.config.tied:  # transformers knows a bare `wte.weight` only in a file without a head
        arrays = {name if name.startswith("lm_head") else f"transformer.{name}": x for name, x in arrays.items()}
    contiguous = {name: np.ascontiguousarray(x) for name, x in arrays.items()}
    write_arrays(contiguous, folder / WEIGHTS, {"format": "pt"})
    with replacing(folder / CONFIG) as beside:
        beside.write_text(json.dumps(_description(model.config), indent=2) + "\n", encoding="utf-8")


def _description(config: GPTConfig) -> dict[str, Any]:
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        **{theirs: getattr(config, ours) for theirs, ours in _FIELDS.items()},
        "activation_function": "gelu_new",
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        "resid_pdrop": config.dropout,
        "tie_word_embeddings": config.tied,
    }
