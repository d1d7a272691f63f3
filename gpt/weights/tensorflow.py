"""OpenAI's GPT-2 as it was published: a TensorFlow checkpoint and hparams.json, read without TensorFlow.

    model.ckpt.index                 a table: the name of a variable -> a BundleEntryProto, which says where it lies
    model.ckpt.data-00000-of-00001   the numbers, one variable after the other

A variable `model/h0/attn/c_attn/w` is (1, in, out); `g` and `b` are LayerNorm's weight and bias. There is no head.

Sources: TensorFlow, tensor_bundle.proto, tensor_shape.proto and types.proto, for the messages and their numbers;
Protocol Buffers, "Encoding"; OpenAI's gpt-2, src/model.py, for the names.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from gpt.weights.crc32c import crc32c, masked
from gpt.weights.source import IN_OUT, Source
from gpt.weights.table import read_table, varint
from tensorlite.stored import Stored, open_map

_FIELDS = {
    "n_vocab": "vocab_size",
    "n_ctx": "context_length",
    "n_embd": "n_embd",
    "n_head": "n_head",
    "n_layer": "n_layer",
}
_DTYPES: dict[int, np.dtype] = {
    1: np.dtype("<f4"),
    2: np.dtype("<f8"),
    19: np.dtype("<f2"),
}  # those of types.proto that weights may have
_KINDS = {"w": "weight", "g": "weight", "b": "bias"}


@dataclass
class _Entry:
    """A BundleEntryProto."""

    dtype: int = 0
    shape: tuple[int, ...] = ()
    shard: int = 0
    offset: int = 0
    size: int = 0
    crc: int = 0
    slices: list[Any] = field(default_factory=list)


def open_tensorflow(index: Path) -> Source:
    """The weights of the checkpoint with the index file `index`. ValueError says what is wrong with a broken one."""
    try:
        table = read_table(index.read_bytes())
        shards = _shards(table.pop(b"", b""))
        entries = {key.decode(): _entry(value) for key, value in table.items()}
    except (ValueError, TypeError) as error:
        raise ValueError(f"{index} is broken: {error}") from error
    prefix = index.with_suffix("")
    files = [prefix.with_name(f"{prefix.name}.data-{i:05}-of-{shards:05}") for i in range(shards)]
    if missing := [file for file in files if not file.is_file()]:
        raise FileNotFoundError(f"{index} lists weights in {', '.join(map(str, missing))}, which is not there")
    memories = [open_map(file) for file in files]
    lying: dict[str, Stored] = {}
    for name, entry in entries.items():
        try:
            lying[name] = _stored(entry, memories)
        except ValueError as error:
            raise ValueError(f"{index}: {name}: {error}") from error
    _check_apart(index, entries)

    def verify() -> None:
        for name, x in lying.items():
            crc = masked(crc32c(x.map().reshape(-1).view(np.uint8)))
            x.release()
            if crc != entries[name].crc:
                raise ValueError(f"{files[entries[name].shard]}: the checksum of {name} is wrong: the file is damaged")

    arrays = dict(_named(name, x) for name, x in lying.items())
    return Source("OpenAI's TensorFlow checkpoint", arrays, _described(index.with_name("hparams.json")), verify=verify)


def _named(name: str, x: Stored) -> tuple[str, Stored]:
    """The model's name of a variable, and the variable as the model has it; what the model has not, as it is."""
    if name in ("model/wte", "model/wpe"):
        return f"{name.removeprefix('model/')}.weight", x
    if not (found := re.fullmatch(r"model/(?:h(\d+)/)?(\w+(?:/\w+)?)/([wgb])", name)):
        return name, x
    layer, part, kind = found.groups()
    ours = f"{f'h.{layer}.' if layer else ''}{part.replace('/', '.')}.{_KINDS[kind]}"
    if ours.endswith(IN_OUT) and len(x.shape) == 3 and x.shape[0] == 1:
        return ours, x.part(x.shape[1:]).T
    return ours, x


def _described(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
        return {ours: content[theirs] for theirs, ours in _FIELDS.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{path} does not describe a GPT-2: {error}") from error


# The messages ------------------------------------------------------------------------------------------


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field of a message: a number, or bytes."""
    at = 0
    while at < len(message):
        key, at = varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = varint(message, at)
            yield number, value
            continue
        size, at = varint(message, at) if kind == 2 else ({1: 8, 5: 4}.get(kind, -1), at)
        if size < 0 or at + size > len(message):
            raise ValueError(f"a message of {len(message)} bytes has a field {number} that cannot be read")
        data = message[at : at + size]
        yield number, data if kind == 2 else int.from_bytes(data, "little")
        at += size


def _shards(header: bytes) -> int:
    """The number of data files, from a BundleHeaderProto."""
    values = dict(_fields(header))
    if values.get(2, 0) != 0:
        raise ValueError("its numbers are big-endian")
    shards = values.get(1, 0)
    if not 1 <= shards <= 1000:
        raise ValueError(f"its header says that there are {shards} data files")
    return int(shards)


def _entry(message: bytes) -> _Entry:
    entry = _Entry()
    names = {1: "dtype", 3: "shard", 4: "offset", 5: "size", 6: "crc"}
    for number, value in _fields(message):
        if number == 2:
            entry.shape = tuple(dict(_fields(dim)).get(1, 0) for kind, dim in _fields(value) if kind == 2)
        elif number == 7:
            entry.slices.append(value)
        elif number in names:
            setattr(entry, names[number], value)
    return entry


def _stored(entry: _Entry, memories: list[Any]) -> Stored:
    if entry.slices:
        raise ValueError("it is stored in slices, which GPT-2's variables are not")
    if entry.dtype not in _DTYPES:
        raise ValueError(f"its dtype is number {entry.dtype} of TensorFlow's types.proto; weights are floats")
    if entry.shard >= len(memories):
        raise ValueError(f"it lies in data file {entry.shard} of {len(memories)}")
    x = Stored(memories[entry.shard], _DTYPES[entry.dtype], entry.shape, entry.offset)
    if x.nbytes != entry.size:
        raise ValueError(f"its shape {entry.shape} has {x.nbytes:,} bytes, and it is said to have {entry.size:,}")
    return x


def _check_apart(index: Path, entries: dict[str, _Entry]) -> None:
    places = sorted((e.shard, e.offset, e.offset + e.size, name) for name, e in entries.items() if e.size)
    for (shard, _, end, name), (other, start, _, following) in pairwise(places):
        if shard == other and start < end:
            raise ValueError(f"{index}: {name} and {following} overlap")
