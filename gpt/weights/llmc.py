"""llm.c's model files, gpt2_124M.bin say: a header of 256 int32 numbers, then the weights of all layers, kind by kind.

    20240326, 3 (float32) or 5 (bfloat16), context, V, layers, heads, width, padded V, 0 …

Matrices are (out, in) as here; `wte` has its vocabulary padded with zeros to a multiple of 128. There is always a bias
and never a head.

Source: Karpathy, llm.c, train_gpt2.py and train_gpt2.c.
"""

import re
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gpt.config import GPTConfig
from gpt.model import GPT
from gpt.weights.source import Source, with_biases
from tensorlite.serialize import replacing
from tensorlite.stored import Stored, open_map, to_bfloat16

MAGIC, FLOAT32, BFLOAT16 = 20240326, 3, 5
HEADER = 256  # int32 numbers
PADDING = 128  # of the vocabulary
_NAMES = ("context_length", "vocab_size", "n_layer", "n_head", "n_embd")


def is_llmc(start: bytes) -> bool:
    """Whether a file that begins with `start` is one of llm.c's models."""
    return start[:4] == MAGIC.to_bytes(4, "little")


def open_llmc(path: Path) -> Source:
    """The weights in a file of llm.c's. ValueError if its header makes no sense, or another size."""
    memory = open_map(path)
    if len(memory) < 4 * HEADER:
        raise ValueError(f"{path} is cut off: it has {len(memory):,} bytes, and its header alone {4 * HEADER:,}")
    magic, version, *sizes, padded = map(int, np.frombuffer(memory, "<i4", 8))
    if magic != MAGIC or version not in (FLOAT32, BFLOAT16):
        raise ValueError(
            f"{path} begins with {magic}, {version}; llm.c's models begin with {MAGIC} and {FLOAT32} (float32) or "
            f"{BFLOAT16} (bfloat16)"
        )
    said: dict[str, Any] = dict(zip(_NAMES, sizes))
    try:
        config = GPTConfig(**said)
        if padded < config.vocab_size:
            raise ValueError(f"the padded vocabulary of {padded:,} is smaller than the vocabulary")
    except ValueError as error:
        raise ValueError(f"{path} has a header that describes no model: {error}") from error
    dtype = np.dtype("<f4" if version == FLOAT32 else "<u2")
    numbers = (len(memory) - 4 * HEADER) // dtype.itemsize
    layers, width = config.n_layer, config.n_embd
    expected = padded * width + config.context_length * width + layers * (12 * width + 13) * width + 2 * width
    if len(memory) != 4 * HEADER + expected * dtype.itemsize:
        raise ValueError(
            f"{path} has {numbers:,} numbers of {dtype.itemsize} bytes in {len(memory):,} bytes, and its header "
            f"describes a model of {expected:,}; it is cut off, or damaged"
        )
    everything = Stored(memory, dtype, (numbers,), 4 * HEADER, bfloat16=version == BFLOAT16)
    arrays, start = {}, 0
    for name, shape in _in_their_order(config):
        arrays[name] = everything.part(shape, start)
        start += (padded if name == "wte.weight" else shape[0]) * int(np.prod(shape[1:]))
    words = "bfloat16" if version == BFLOAT16 else "float32"
    return Source(f"llm.c's model file, {words}", {name: arrays[name] for name in config.shapes()}, said)


def _in_their_order(config: GPTConfig) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes kind by kind, each for all layers; in the model's order it is layer by layer."""
    shapes = config.shapes()
    kinds: dict[str, list[str]] = {}
    for name in shapes:
        kinds.setdefault(re.sub(r"\.\d+\.", ".", name), []).append(name)
    return [(name, shapes[name]) for names in kinds.values() for name in names]


def save_llmc(model: GPT, path: str | PathLike[str], dtype: Literal["float32", "bfloat16"] = "float32") -> None:
    """Write `model` to the file `path` as llm.c reads it, rounded to `dtype`. Biases that it has not become zeros.

    ValueError for what the format cannot say: a head of its own, another norm_eps than 1e-5.
    """
    config = model.config
    if not config.tied:
        raise ValueError("llm.c's format has no place for a head of its own; this model's head is not tied to wte")
    if config.norm_eps != 1e-5:
        raise ValueError(f"llm.c computes with a norm_eps of 1e-5, and this model's is {config.norm_eps}")
    rows = config.vocab_size
    padded = -(-rows // PADDING) * PADDING
    header = np.zeros(HEADER, "<i4")
    version = FLOAT32 if dtype == "float32" else BFLOAT16
    header[:8] = [MAGIC, version, *(getattr(config, name) for name in _NAMES), padded]
    weights = with_biases(model)
    with replacing(path) as beside, beside.open("wb") as file:
        file.write(header.tobytes())
        for name, _ in _in_their_order(replace(config, bias=True, qkv_bias=True)):
            array = np.ascontiguousarray(weights[name], "<f4")
            array = array if version == FLOAT32 else to_bfloat16(array)
            file.write(array.data)
            if name == "wte.weight":
                file.write(bytes((padded - rows) * array[0].nbytes))
