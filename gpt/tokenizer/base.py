"""What every tokenizer can do, and the one JSON file it is saved in.

A tokenizer is a frozen dataclass whose fields are exactly what its file holds beside `kind` and `version`, so
equality, saving and loading need no further code. It implements `_encode`, `decode` and `vocab_size`.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from operator import index
from os import PathLike
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

END_OF_TEXT = "<|endoftext|>"
VERSION = 1


@dataclass(frozen=True, repr=False)
class Tokenizer(ABC):
    """Text to ids and back. Subclasses name themselves: `class CharacterTokenizer(Tokenizer, kind="characters")`."""

    kind: ClassVar[str]
    kinds: ClassVar[dict[str, type["Tokenizer"]]] = {}

    def __init_subclass__(cls, kind: str) -> None:
        cls.kind = kind
        cls.kinds[kind] = cls

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """The number of ids: a model for this tokenizer needs as many rows in its embedding."""

    @property
    def eot_id(self) -> int | None:
        """The id of `<|endoftext|>`, which stands between documents, or None where the vocabulary has none."""
        return None

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """The tokens that are marks and no text, and their ids: `<|endoftext|>`, where the vocabulary has it."""
        return {} if self.eot_id is None else {END_OF_TEXT: self.eot_id}

    def encode(self, text: str, allowed_special: Collection[str] = ()) -> list[int]:
        """The ids of `text`.

        `<|endoftext|>` ends a document, so text from outside must not be able to forge it: where it or another special
        token of the vocabulary stands in `text`, ValueError is raised unless that is in `allowed_special`.
        Text that the vocabulary cannot spell raises ValueError too, naming the character and its position.
        """
        ids: list[int] = self.encode_array(text, allowed_special).tolist()
        return ids

    def encode_array(self, text: str, allowed_special: Collection[str] = ()) -> NDArray[np.unsignedinteger]:
        """As `encode`, but an array of shape (tokens,): uint16 where every id fits in it, else uint32."""
        if isinstance(allowed_special, str):
            raise TypeError(
                f"allowed_special expects a set of strings, got the string {allowed_special!r}; "
                f"write {{{allowed_special!r}}}"
            )
        refused = self.special_tokens.keys() - set(allowed_special)
        if found := [(text.index(token), token) for token in refused if token in text]:
            position, token = min(found)
            raise ValueError(
                f"the text contains the special token {token} at position {position}; "
                f"remove it, or pass allowed_special={{{token!r}}} if it is really meant"
            )
        return self._encode(text).astype(np.uint16 if self.vocab_size <= 2**16 else np.uint32)

    @abstractmethod
    def _encode(self, text: str) -> NDArray[np.integer]:
        """The ids of `text`, (tokens,), with special tokens as one each. Raises `_unknown` where there is no id."""

    @abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`, Python's or NumPy's integers. One outside the vocabulary raises ValueError."""

    def token_bytes(self, id: int) -> bytes:
        """What one token stands for, in UTF-8."""
        return self.decode([id]).encode("utf-8", "surrogatepass")

    def save(self, path: str | PathLike[str]) -> None:
        """Write one JSON file, plain ASCII, which `load_tokenizer` reads."""
        content = {"kind": self.kind, "version": VERSION, **asdict(self)}
        Path(path).write_text(json.dumps(content, indent=1) + "\n", encoding="ascii")

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Read what `save` wrote. A file that is broken, or of another kind than `cls`, raises ValueError."""
        try:
            tokenizer = _parse(Path(path).read_bytes())
            if not isinstance(tokenizer, cls):
                raise ValueError(f"it holds a tokenizer of kind {tokenizer.kind!r}, {cls.__name__} reads {cls.kind!r}")
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"{path} is not a tokenizer file that can be read here: {error}") from error
        return tokenizer

    def __repr__(self) -> str:
        return f"{type(self).__name__}(vocab_size={self.vocab_size})"

    def _checked(self, ids: Iterable[int]) -> list[int]:
        """`ids` as Python integers, all inside the vocabulary."""
        try:
            checked = [index(i) for i in ids]
        except TypeError as error:
            raise TypeError(f"decode expects a flat sequence of integers, got {type(ids).__name__}: {error}") from error
        size = self.vocab_size
        for i in checked:
            if not 0 <= i < size:
                raise ValueError(
                    f"the id {i} is outside the vocabulary of {size} tokens, 0 to {size - 1}; "
                    f"was it made by another tokenizer?"
                )
        return checked

    def _unknown(self, text: str, position: int, remedy: str) -> ValueError:
        character = text[position]
        return ValueError(
            f"{self!r} cannot encode {character!r} (U+{ord(character):04X}) at position {position}; {remedy}"
        )


def load_tokenizer(path: str | PathLike[str]) -> Tokenizer:
    """The tokenizer saved in the file `path`, of whatever kind it is. A broken file raises ValueError."""
    return Tokenizer.load(path)


def _parse(content: bytes) -> Tokenizer:
    """The tokenizer described by a file's content; ValueError says what is wrong with it."""
    described = json.loads(content)
    if not isinstance(described, dict) or not {"kind", "version"} <= described.keys():
        raise ValueError("it is not a JSON object with the keys 'kind' and 'version'")
    kind, version = described.pop("kind"), described.pop("version")
    if kind not in list(Tokenizer.kinds):
        raise ValueError(f"its kind is {kind!r}, known are {', '.join(Tokenizer.kinds)}")
    if version != VERSION:
        raise ValueError(f"its version is {version!r}, known is {VERSION}")
    cls = Tokenizer.kinds[kind]
    if described.keys() != (expected := {field.name for field in fields(cls)}):
        raise ValueError(f"a file of kind {kind!r} holds the keys {sorted(expected)}, this one {sorted(described)}")
    return cls(**described)
