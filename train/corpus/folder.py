"""A folder of shards and its index: which of them are for training and which for validation, and what they must hold.

`index.json` lists the shards with their checksums and has one of its own; `tokenizer.json` is the tokenizer. A folder
without an index, as nanoGPT's and llm.c's scripts make it, holds *.bin; those with `val` in their names are for
validation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from tqdm import tqdm

from gpt.options import UsageError
from gpt.tokenizer import Tokenizer, find_tokenizer
from tensorlite.serialize import replacing
from train import checksum
from train.corpus.remote import fetched, is_url
from train.corpus.shards import Shard, ShardError, open_shard
from train.corpus.text import Corpus, checked

INDEX, TOKENIZER = "index.json", "tokenizer.json"
PROGRESS = "progress.json"  # there while the folder is being built
PARTS = ("train", "val")
VERSION = 1
_KEYS = {"version", "tokenizer", "vocab_size", "end_of_text", "parts", "built"}
_OPEN = 256  # shards that are mapped at a time: each map holds a file descriptor


class ShardedTokens:
    """The tokens of several shards, one after the other, as one array of which parts are asked for by their places."""

    def __init__(self, shards: Sequence[Shard]):
        self.shards = tuple(shards)
        self._ends = np.fromiter(accumulate(shard.tokens for shard in self.shards), np.int64, len(self.shards))
        self._map = lru_cache(_OPEN)(lambda i: self.shards[i].map())

    def __len__(self) -> int:
        return int(self._ends[-1]) if self.shards else 0

    @property
    def checksum(self) -> str:
        """Of all the tokens, from the checksum of each shard; one that carries none is read."""
        return checksum.of_arrays(
            [np.array([crc32(s.map().data) if s.crc32 is None else s.crc32 for s in self.shards], np.uint32)]
        )

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        """The tokens at an array of places from 0 on, in its shape. IndexError if one is not below len()."""
        places = np.asarray(places)
        if places.size and not 0 <= places.min() <= places.max() < len(self):
            raise IndexError(f"the {len(self):,} tokens have no places {places.min():,} to {places.max():,}")
        which = np.searchsorted(self._ends, places, side="right")
        first, last = (int(which.min()), int(which.max())) if places.size else (0, 0)
        if first == last:
            return self._tokens(first, places)
        out = np.empty(places.shape, self.shards[0].dtype)
        for i in np.unique(which):
            here = which == i
            out[here] = self._tokens(i, places[here])
        return out

    def _tokens(self, i: int, places: np.ndarray) -> np.ndarray:
        return self._map(int(i))[places - (self._ends[i] - self.shards[i].tokens)]


def is_shards(data: Sequence[str | Path]) -> bool:
    """Whether --data names token shards: a URL, a folder with an index or *.bin, or files *.bin."""
    return bool(data) and all(
        is_url(str(name))
        or Path(name).suffix == ".bin"
        or (Path(name) / INDEX).is_file()
        or any(Path(name).glob("*.bin"))
        for name in data
    )


def open_corpus(
    data: Sequence[str | Path], tokenizer: str | Tokenizer, context_length: int, verify: bool = True
) -> Corpus:
    """The corpus in a folder of shards, here or behind a URL, or in files *.bin.

    tokenizer   the one that the shards are of, where there is no tokenizer.json: gpt2, a file or a folder; of a run
                that goes on, its own
    verify      read every shard once and hold it against its checksum

    Raises UsageError, which names the shard, if one is missing, empty, truncated, corrupted or of another vocabulary.
    """
    if len(data) > 1 and any(Path(name).suffix != ".bin" for name in data):
        raise UsageError("--data names one folder of shards, or files *.bin")
    paths = [fetched(str(name)) if is_url(str(name)) else Path(name) for name in data]
    source = ", ".join(map(str, data))
    try:
        if paths[0].is_dir() and (paths[0] / INDEX).is_file():
            own, parts = _indexed(paths[0])
        else:
            own, parts = _unindexed(paths)
        chosen = own or (_named(tokenizer, source, paths[0]) if isinstance(tokenizer, str) else tokenizer)
        if not isinstance(tokenizer, str) and chosen != tokenizer:
            raise ShardError(f"{source} is of another vocabulary than the run; --resume needs the shards it began with")
        for part in PARTS:
            if not parts[part]:
                raise ShardError(
                    f"{source} has no shards for {'training' if part == 'train' else 'validation'}; {_MORE[part]}"
                )
        shards = [shard for part in PARTS for shard in parts[part]]
        for shard in tqdm(shards, "checking shards", unit=" shards", disable=None, leave=False) if verify else shards:
            if shard.vocab_size not in (None, chosen.vocab_size):
                raise ShardError(
                    f"{shard.path} is of another vocabulary: it has {shard.vocab_size:,} tokens, the tokenizer "
                    f"{chosen.vocab_size:,}"
                )
            if verify:
                shard.check(chosen.vocab_size)
    except ShardError as error:
        raise UsageError(f"--data: {error}") from None
    return checked(Corpus(ShardedTokens(parts["train"]), ShardedTokens(parts["val"]), chosen, source), context_length)


_MORE = {
    "train": "name a folder that has them",
    "val": "build it with a larger --val-fraction, with --val-data, or with a --separator that makes more documents",
}


def write_index(
    folder: Path, tokenizer: Tokenizer, parts: Mapping[str, Sequence[Shard]], built: Mapping[str, Any]
) -> None:
    """Write index.json. built: how it was made, for people."""
    content = {
        "version": VERSION,
        "tokenizer": digest(folder / TOKENIZER).hex(),
        "vocab_size": tokenizer.vocab_size,
        "end_of_text": tokenizer.eot_id,
        "parts": {
            part: [
                {"file": s.path.name, "tokens": s.tokens, "documents": s.documents, "crc32": s.crc32} for s in shards
            ]
            for part, shards in parts.items()
        },
        "built": dict(built),
    }
    text = json.dumps({**content, "sha256": _checksum(content)}, indent=1) + "\n"
    with replacing(folder / INDEX) as beside:
        beside.write_text(text, encoding="ascii")


def read_index(folder: Path) -> dict[str, Any]:
    """What `write_index` wrote. ShardError if it is not that to the letter."""
    path = folder / INDEX
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ShardError(f"{path} cannot be read: {error}") from None
    if not isinstance(content, dict) or content.pop("sha256", None) != _checksum(content):
        raise ShardError(f"{path} is damaged: its checksum is wrong; build the folder again, or copy it again")
    if content.get("version") != VERSION or content.keys() != _KEYS:
        raise ShardError(f"{path} is of version {content.get('version')!r}, known is {VERSION}")
    return content


def open_part(folder: Path, index: Mapping[str, Any], part: str) -> list[Shard]:
    """The shards of a part. ShardError if one is not the one that the index lists."""
    shards = []
    for entry in index["parts"][part]:
        shard = open_shard(folder / Path(entry["file"]).name)
        told = {"tokens": shard.tokens, "documents": shard.documents, "crc32": shard.crc32}
        if shard.tokenizer is None or any(entry[name] != value for name, value in told.items()):
            raise ShardError(
                f"{shard.path} is not the shard that {INDEX} lists, with {entry['tokens']:,} tokens and the checksum "
                f"{entry['crc32']:08x}; copy it again from where it was built"
            )
        if (shard.tokenizer.hex(), shard.vocab_size) != (index["tokenizer"], index["vocab_size"]):
            raise ShardError(f"{shard.path} is of another vocabulary than {INDEX} says; copy it again")
        shards.append(shard)
    return shards


def digest(tokenizer: Path) -> bytes:
    """The SHA-256 of a tokenizer's file. ShardError if there is none."""
    try:
        return sha256(tokenizer.read_bytes()).digest()
    except OSError as error:
        raise ShardError(f"{tokenizer} cannot be read: {error.strerror}") from None


def _indexed(folder: Path) -> tuple[Tokenizer | None, dict[str, list[Shard]]]:
    index = read_index(folder)
    path = folder / TOKENIZER
    if digest(path).hex() != index["tokenizer"]:
        raise ShardError(f"{path} is not the tokenizer that the shards were made with; copy it again")
    return _named(str(path), str(folder), path), {part: open_part(folder, index, part) for part in PARTS}


def _unindexed(paths: Sequence[Path]) -> tuple[Tokenizer | None, dict[str, list[Shard]]]:
    if (paths[0] / PROGRESS).is_file():
        raise ShardError(f"{paths[0]} is not finished; the python -m train.corpus that began it goes on with it")
    files = sorted(paths[0].glob("*.bin")) if paths[0].is_dir() else paths
    parts: dict[str, list[Shard]] = {part: [] for part in PARTS}
    for path in files:
        parts["val" if re.search("val", path.stem) else "train"].append(open_shard(path))
    if len({shard.dtype for part in parts.values() for shard in part}) > 1:
        raise ShardError(f"{paths[0]}: some of the shards hold uint16 and some uint32; they are not of one vocabulary")
    path = (paths[0] if paths[0].is_dir() else paths[0].parent) / TOKENIZER
    return (_named(str(path), str(paths[0]), path) if path.is_file() else None), parts


def _named(name: str, source: str, folder: Path) -> Tokenizer:
    if name in ("characters", "words", "bpe"):
        pickled = " (meta.pkl is a pickle, which is not read)" if (folder / "meta.pkl").is_file() else ""
        raise UsageError(
            f"--data {source} holds tokens and no {TOKENIZER}{pickled}; say what they were made with: --tokenizer "
            "gpt2, or a tokenizer's file"
        )
    try:
        return find_tokenizer(name)
    except (OSError, ValueError) as error:
        raise UsageError(f"--tokenizer {name}: {' '.join(str(error).split())}") from None


def _checksum(content: Any) -> str:
    try:
        return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    except RecursionError:
        return ""
