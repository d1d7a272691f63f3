"""The documents in a source, in pieces, so that none of them need fit in memory.

A text file is one document, or several with a separator between them; a line of JSONL is one, and a row of Parquet.
A long document comes in pieces that end before white space: there no word of GPT-2's pattern goes on, so the pieces
have the tokens of the whole.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator
from typing import IO, Any, NamedTuple

from gpt.options import UsageError
from train.corpus.sources import Source, UnreadableError, opened

PIECE = 2**20  # characters
_CHUNK = 2**20  # bytes
_END_OF_WORD = re.compile(r"\S(?=[ \n])")


class Piece(NamedTuple):
    """A part of a document, or all of it."""

    text: str
    begins: bool  # the document begins with it


def pieces(source: Source, separator: str, key: str, refuse: Callable[[str], None]) -> Iterator[Piece]:
    """The documents of a source in pieces; blank documents are left out.

    separator  what stands between the documents of a text file; "" if it is one document
    key        of the text in a line of JSONL, or the name of the column in Parquet
    refuse     called with the reason where a document cannot be read, or the rest of a file. It raises, or the document
               is left out
    """
    try:
        with opened(source) as file:
            if source.format == "text":
                yield from _of_text(_decoded(file, source.name), separator)
                return
            read = _of_jsonl if source.format == "jsonl" else _of_parquet
            for text in read(file, source.name, key, refuse):
                yield from _of_text([text], "")
    except UnreadableError as error:
        refuse(str(error))


def _of_text(chunks: Iterator[str] | list[str], separator: str) -> Iterator[Piece]:
    held, begins = "", True
    for chunk in chunks:
        held += chunk
        if separator:
            *whole, held = held.split(separator)
            for rest in whole:
                yield from _last(rest, begins)
                begins = True
        while (room := min(PIECE, len(held) - max(len(separator), 1))) == PIECE:
            cut = _cut(held, room)
            yield Piece(held[:cut], begins)
            held, begins = held[cut:], False
    yield from _last(held, begins)


def _last(rest: str, begins: bool) -> Iterator[Piece]:
    """A document from here to its end, which is near."""
    while len(rest) > PIECE:
        cut = _cut(rest, PIECE)
        yield Piece(rest[:cut], begins)
        rest, begins = rest[cut:], False
    if rest if not begins else rest.strip():
        yield Piece(rest, begins)


def _cut(text: str, limit: int) -> int:
    """The last place up to `limit` before which a word ends and at which white space begins."""
    for reach in (2**10, limit):
        ends = [found.end() for found in _END_OF_WORD.finditer(text, limit - reach, limit + 1)]
        if ends:
            return ends[-1]
    return limit


def _decoded(file: IO[bytes], name: str) -> Iterator[str]:
    """UTF-8 as text, with line breaks as \\n; a mark of UTF-8 at the beginning is left out."""
    decoder, place, carriage = codecs.getincrementaldecoder("utf-8-sig")(), 0, ""
    while True:
        chunk = file.read(_CHUNK)
        try:
            text = carriage + decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            at = place - (len(error.object) - len(chunk)) + error.start
            raise UnreadableError(
                f"{name} is not UTF-8: byte {at:,} is 0x{error.object[error.start]:02x}; convert it first"
            ) from None
        if "\0" in text:
            raise UnreadableError(f"{name} is a binary file (it contains zero bytes); give plain text")
        place += len(chunk)
        carriage = "\r" if chunk and text.endswith("\r") else ""  # perhaps the first half of a line break
        yield text.removesuffix(carriage).replace("\r\n", "\n")
        if not chunk:
            return


def _of_jsonl(file: IO[bytes], name: str, key: str, refuse: Callable[[str], None]) -> Iterator[str]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            refuse(f"{name}, line {number:,} is not JSON: {error}")
            continue
        text = row.get(key) if isinstance(row, dict) else None
        if isinstance(text, str):
            yield text
            continue
        has = f"the keys {', '.join(map(repr, row))}" if isinstance(row, dict) else f"{type(row).__name__}"
        refuse(f"{name}, line {number:,} has no text under {key!r}, but {has}; --text-key names another")


def _of_parquet(file: Any, name: str, key: str, refuse: Callable[[str], None]) -> Iterator[str]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UsageError("files *.parquet need pyarrow: pip install 'tensorlite[parquet]'") from None
    number = 0
    try:
        table = parquet.ParquetFile(file)
        if key not in table.schema_arrow.names:
            raise UnreadableError(
                f"{name} has no column {key!r}, but {', '.join(map(repr, table.schema_arrow.names))}; --text-key names "
                "another"
            )
        for rows in table.iter_batches(256, columns=[key]):
            for text in rows.column(0).to_pylist():
                number += 1
                if isinstance(text, str):
                    yield text
                else:
                    refuse(f"{name}, row {number:,} has no text under {key!r}, but {type(text).__name__}")
    except (pyarrow.ArrowException, OSError) as error:
        raise UnreadableError(f"{name} cannot be read as Parquet: {' '.join(str(error).split())}") from None
