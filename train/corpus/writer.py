"""A part of a corpus while it grows: shards that are complete, and one that is not, to which tokens are appended.

What is not complete has another name, `.train_000003.bin.part`; it gets header and name when it is full. How far it
was at some moment is a few numbers, `state()`: a writer that takes them up cuts off what came later.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from train.corpus.shards import HEADER, Shard, ShardError, header, open_shard


class ShardWriter:
    """Writes the shards of one part, each of `shard_tokens` tokens but for the last.

    state  of another writer, from which this one goes on. ShardError if the files are not those of then.
    """

    def __init__(
        self,
        folder: Path,
        part: str,
        vocab_size: int,
        tokenizer: bytes,
        shard_tokens: int,
        state: dict[str, Any] | None = None,
    ):
        self.folder, self.part, self.vocab_size, self.tokenizer = folder, part, vocab_size, tokenizer
        self.shard_tokens = shard_tokens
        self.dtype = np.dtype("<u2" if vocab_size <= 2**16 else "<u4")
        self.full: list[dict[str, int]] = []  # tokens, documents and crc32 of each complete shard
        self.growing = {"tokens": 0, "documents": 0, "crc32": 0}
        self._file: BinaryIO | None = None
        if state is not None:
            self.full, self.growing = list(state["full"]), dict(state["growing"])
            self._take_up()
        self._remove_later()

    @property
    def tokens(self) -> int:
        return sum(shard["tokens"] for shard in (*self.full, self.growing))

    @property
    def documents(self) -> int:
        return sum(shard["documents"] for shard in (*self.full, self.growing))

    def write(self, tokens: np.ndarray, begins: np.ndarray) -> None:
        """Append tokens, (n,). `begins`: the places among them where documents begin, (documents,), ascending."""
        tokens, first = tokens.astype(self.dtype, copy=False), 0
        while first < len(tokens):
            last = min(len(tokens), first + self.shard_tokens - self.growing["tokens"])
            part = tokens[first:last].tobytes()
            self._open().write(part)
            low, high = np.searchsorted(begins, (first, last))
            self.growing["tokens"] += last - first
            self.growing["documents"] += int(high - low)
            self.growing["crc32"] = zlib.crc32(part, self.growing["crc32"])
            first = last
            if self.growing["tokens"] == self.shard_tokens:
                self._complete()

    def state(self) -> dict[str, Any]:
        """How far the files are; all of it is on the disk."""
        if self._file is not None:
            _flush(self._file)
        return {"full": list(self.full), "growing": dict(self.growing)}

    def finish(self) -> list[Shard]:
        """Complete the last shard; all of them."""
        if self.growing["tokens"]:
            self._complete()
        self.close()
        return [
            Shard(
                self._path(i), self.dtype, vocab_size=self.vocab_size, tokenizer=self.tokenizer, start=HEADER, **shard
            )
            for i, shard in enumerate(self.full)
        ]

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _complete(self) -> None:
        file = self._open()
        file.seek(0)
        file.write(header(self.dtype, vocab_size=self.vocab_size, tokenizer=self.tokenizer, **self.growing))
        _flush(file)
        self.close()
        number = len(self.full)
        os.replace(self._partial(number), self._path(number))
        self.full.append(self.growing)
        self.growing = {"tokens": 0, "documents": 0, "crc32": 0}

    def _open(self) -> BinaryIO:
        if self._file is None:
            self._file = self._partial(len(self.full)).open("wb")
            self._file.write(bytes(HEADER))
        return self._file

    def _take_up(self) -> None:
        number, size = len(self.full), HEADER + self.growing["tokens"] * self.dtype.itemsize
        path, partial = self._path(number), self._partial(number)
        for i, shard in enumerate(self.full):
            if open_shard(self._path(i)).crc32 != shard["crc32"]:
                raise ShardError(f"{self._path(i)} is not as it was left; begin anew with --overwrite")
        if not self.growing["tokens"]:
            return
        if not partial.exists() and path.exists():  # it became complete after the state was told
            os.replace(path, partial)
        try:
            self._file = partial.open("rb+")
        except OSError as error:
            raise ShardError(f"{partial} cannot be read: {error.strerror}") from None
        if partial.stat().st_size > size:
            self._file.truncate(size)
        crc = 0
        self._file.seek(HEADER)
        while chunk := self._file.read(2**22):
            crc = zlib.crc32(chunk, crc)
        if self._file.tell() != size or crc != self.growing["crc32"]:
            raise ShardError(f"{partial} is not as it was left; begin anew with --overwrite")

    def _remove_later(self) -> None:
        """Files of shards that do not exist yet."""
        number = len(self.full)
        keep = {self._path(i) for i in range(number)} | ({self._partial(number)} if self.growing["tokens"] else set())
        for path in (*self.folder.glob(f"{self.part}_*.bin"), *self.folder.glob(f".{self.part}_*.bin.part")):
            if path not in keep:
                path.unlink()

    def _path(self, number: int) -> Path:
        return self.folder / f"{self.part}_{number:06d}.bin"

    def _partial(self, number: int) -> Path:
        return self.folder / f".{self.part}_{number:06d}.bin.part"


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
