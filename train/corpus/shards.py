"""A shard: a file of token ids that is mapped, not read.

Ours are llm.c's: 256 int32, of which llm.c reads three, the magic number, the version and the number of tokens, and
then the tokens, uint16 (magic 20240520, version 1) or uint32 (20240801, version 7). Of the numbers that llm.c leaves 0
ours use some:

    3      the mark of our shards                4      the version of what follows
    5      tokens in the vocabulary              6      documents that begin in the shard
    7      CRC-32 of the tokens                  8-15   SHA-256 of the tokenizer's file
    255    CRC-32 of the header before it

nanoGPT's have no header: uint16 from the first byte on.
"""

from __future__ import annotations

import mmap
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HEADER = 1024  # bytes
_FORMS: dict[tuple[int, int], np.dtype] = {(20240520, 1): np.dtype("<u2"), (20240801, 7): np.dtype("<u4")}
_MARK, _VERSION = int.from_bytes(b"tlsh", "little"), 1
_CHUNK = 2**22  # bytes that are checked at a time


class ShardError(ValueError):
    """A shard or an index is not what it should be; the message names the file, and says what to do."""


@dataclass(frozen=True)
class Shard:
    """A file of tokens, of which the header has been read, and found to fit the file's size.

    start       the byte where the tokens begin
    vocab_size, documents, crc32, tokenizer (SHA-256 of its file)   None where the file does not say it
    """

    path: Path
    dtype: np.dtype
    tokens: int
    start: int = 0
    vocab_size: int | None = None
    documents: int | None = None
    crc32: int | None = None
    tokenizer: bytes | None = None

    def map(self) -> np.ndarray:
        """The tokens where they lie, (tokens,), not to be written."""
        with self.path.open("rb") as file:
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if len(memory) != self.start + self.tokens * self.dtype.itemsize:
            raise ShardError(f"{self.path} has changed its size since it was opened; nobody may write into it")
        return np.frombuffer(memory, self.dtype, self.tokens, self.start)

    def check(self, vocab_size: int) -> None:
        """Read all tokens. ShardError if their checksum is another, or, where there is none, if an id is not below
        `vocab_size`."""
        crc, place = 0, 0
        with self.path.open("rb") as file:
            file.seek(self.start)
            while chunk := file.read(_CHUNK):
                if self.crc32 is not None:
                    crc = zlib.crc32(chunk, crc)
                    continue
                ids = np.frombuffer(chunk, self.dtype)
                if (largest := int(ids.max())) >= vocab_size:
                    raise ShardError(
                        f"{self.path} is of another vocabulary, or corrupted: its token {place + int(ids.argmax()):,} "
                        f"is {largest}, and the vocabulary has {vocab_size:,}"
                    )
                place += len(ids)
        if self.crc32 is not None and crc != self.crc32:
            raise ShardError(
                f"{self.path} is corrupted: the checksum of its tokens is {crc:08x}, its header says {self.crc32:08x}; "
                "build it again, or copy it again from where it is whole"
            )


def header(dtype: np.dtype, tokens: int, vocab_size: int, documents: int, crc32: int, tokenizer: bytes) -> bytes:
    """The header of one of our shards."""
    numbers = np.zeros(HEADER // 4, "<u4")
    ((magic, version),) = (form for form, kind in _FORMS.items() if kind == dtype)
    numbers[:8] = magic, version, tokens, _MARK, _VERSION, vocab_size, documents, crc32
    numbers[8:16] = np.frombuffer(tokenizer, "<u4")
    numbers[-1] = zlib.crc32(numbers[:-1].tobytes())
    return numbers.tobytes()


def open_shard(path: Path) -> Shard:
    """A shard of ours, of llm.c or of nanoGPT, its tokens not yet read.

    ShardError if it is missing, empty, truncated, or its header is damaged.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(HEADER)
    except OSError as error:
        raise ShardError(f"{path} cannot be read: {error.strerror}") from None
    if not size:
        raise ShardError(f"{path} is empty")
    numbers = np.frombuffer(head.ljust(HEADER, b"\0"), "<u4")
    magic, version, tokens = (int(n) for n in numbers[:3])
    ours = bool(numbers[3] == _MARK)
    if (magic, version) not in _FORMS:
        # A header is mostly zeros; tokens are not.
        if ours or magic in {known for known, _ in _FORMS} or (len(head) == HEADER and not numbers[16:-1].any()):
            raise ShardError(f"{path}: the header is damaged, or of a version unknown here ({magic}, {version})")
        if size % 2:
            raise ShardError(
                f"{path} is truncated, or no file of tokens: without a header it holds uint16, and {size:,} bytes"
            )
        return Shard(path, np.dtype("<u2"), size // 2)
    if len(head) < HEADER:
        raise ShardError(f"{path} is truncated: it has {size:,} bytes, and its header alone has {HEADER:,}")
    if numbers[3:].any():
        if zlib.crc32(head[:-4]) != numbers[-1]:
            raise ShardError(f"{path}: the header is damaged, its checksum is wrong; build or copy the shard again")
        if not ours or numbers[4] != _VERSION:
            raise ShardError(f"{path} is of version {numbers[4]}, known is {_VERSION}; it needs a newer tensorlite")
    dtype = _FORMS[magic, version]
    expected = HEADER + tokens * dtype.itemsize
    if size != expected:
        what = "truncated" if size < expected else "too long"
        raise ShardError(
            f"{path} is {what}: its header says {tokens:,} tokens, {expected:,} bytes, and it has {size:,} bytes"
        )
    if not tokens:
        raise ShardError(f"{path} is empty: it holds no tokens")
    if not ours:
        return Shard(path, dtype, tokens, HEADER)
    vocab_size, documents, crc32 = (int(n) for n in numbers[5:8])
    return Shard(path, dtype, tokens, HEADER, vocab_size, documents, crc32, numbers[8:16].tobytes())
