"""Text that fits in memory: reading files, and splitting their tokens in two."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpt import datasets
from gpt.options import UsageError
from gpt.tokenizer import BPETokenizer, CharacterTokenizer, Tokenizer, WordTokenizer, find_tokenizer
from train import checksum
from train.corpus.windows import TokenArray


@dataclass(frozen=True)
class Corpus:
    """The tokens of a text, in two parts.

    train, val   one-dimensional arrays of token ids (uint16, or uint32 for a large vocabulary), in memory or in shards
    """

    train: TokenArray
    val: TokenArray
    tokenizer: Tokenizer
    source: str  # what it was made of, for people

    @property
    def checksum(self) -> str:
        """Of the tokens to train on."""
        if isinstance(self.train, np.ndarray):
            return checksum.of_arrays([self.train])
        return self.train.checksum


def python_docs() -> str:
    """The language reference of Python, which every CPython carries for its help(): about 465,000 characters."""
    from pydoc_data.topics import topics  # type: ignore[import-not-found, unused-ignore]

    return "\n\n".join(topics[name].strip() for name in sorted(topics)) + "\n"


def read_text(path: Path) -> str:
    """The text of one UTF-8 file, or of a data set that gpt/datasets.py knows by this name.

    Raises UsageError if it is missing, a folder, empty or not text.
    """
    path = datasets.find(path)
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"--data {path}: {datasets.missing(path)}") from None
    except IsADirectoryError:
        raise UsageError(
            f"--data {path}: this is a folder; name the text files in it, {path}/*.txt say, or make "
            f"shards of them: python -m train.corpus --data {path}"
        ) from None
    except OSError as error:
        raise UsageError(f"--data {path}: cannot be read: {error.strerror}") from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"--data {path}: not a UTF-8 text file (byte {error.start} is 0x{raw[error.start]:02x}); convert it first"
        ) from None
    if "\0" in text:
        raise UsageError(f"--data {path}: a binary file (it contains zero bytes); give plain text")
    if not text.strip():
        raise UsageError(f"--data {path}: the file is empty")
    return text.replace("\r\n", "\n")


def read(data: Sequence[str | Path]) -> tuple[str, str]:
    """The text of all files (or of the default corpus, if there are none), and a name for it."""
    if not data:
        return python_docs(), "the Python language reference (pydoc_data.topics)"
    return "\n".join(read_text(Path(path)) for path in data), ", ".join(str(path) for path in data)


def make_tokenizer(name: str, text: str | Iterable[str], vocab_size: int) -> Tokenizer:
    """A tokenizer that learns its vocabulary from the text, or from texts that are read one by one, of the kind named,
    or one that is there already."""
    if name == "characters":
        return CharacterTokenizer.train(text)
    if name == "words":
        return WordTokenizer.train(text)
    try:
        return (
            BPETokenizer.train(text, vocab_size, progress=isinstance(text, str))
            if name == "bpe"
            else find_tokenizer(name)
        )
    except (OSError, ValueError) as error:
        raise UsageError(f"--tokenizer {name}: {' '.join(str(error).split())}") from None


def split(text: str, tokenizer: Tokenizer, val_fraction: float, context_length: int, source: str) -> Corpus:
    """The first part of the text for training, the rest for validation, split by characters (as the book does).

    Raises UsageError if a part has fewer tokens than one window needs, or if the tokenizer cannot encode it.
    """
    cut = int(len(text) * (1 - val_fraction))
    try:
        train, val = tokenizer.encode_array(text[:cut]), tokenizer.encode_array(text[cut:])
    except ValueError as error:
        raise UsageError(f"{source}: {error}") from None
    return checked(Corpus(train, val, tokenizer, source), context_length)


def checked(corpus: Corpus, context_length: int) -> Corpus:
    """The corpus; UsageError if a part of it has fewer tokens than one window needs."""
    for part, tokens in (("training", corpus.train), ("validation", corpus.val)):
        if len(tokens) <= context_length:
            raise UsageError(
                f"the {part} part of {corpus.source} has {len(tokens):,} tokens, too short for a context of "
                f"{context_length} (a window needs {context_length + 1:,}); add text or lower --context-length"
            )
    return corpus
