"""One token per character, as in nanoGPT's shakespeare_char: the smallest vocabulary, and nothing to learn."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from gpt.tokenizer.base import Tokenizer


@dataclass(frozen=True, repr=False)
class CharacterTokenizer(Tokenizer, kind="characters"):
    """The id of a character is its place in `characters`. There is no `<|endoftext|>`."""

    characters: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "characters", tuple(self.characters))  # JSON has lists only
        if not self.characters or not all(isinstance(c, str) and len(c) == 1 for c in self.characters):
            raise ValueError("the vocabulary must be one or more strings of one character each")
        if len(set(self.characters)) != len(self.characters):
            raise ValueError("the vocabulary holds a character twice")

    @classmethod
    def train(cls, text: str | Iterable[str]) -> Self:
        """The distinct characters of `text`, or of texts that are read one by one, sorted by code point."""
        characters: set[str] = set()
        for part in [text] if isinstance(text, str) else text:
            characters.update(part)
        return cls(tuple(sorted(characters)))

    @property
    def vocab_size(self) -> int:
        return len(self.characters)

    def _encode(self, text: str) -> NDArray[np.integer]:
        ids = self._id_of[_code_points(text)]
        if (unknown := ids < 0).any():
            raise self._unknown(
                text, int(unknown.argmax()), "train the tokenizer on text that has this character, or remove it"
            )
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        return "".join([self.characters[i] for i in self._checked(ids)])

    @cached_property
    def _id_of(self) -> NDArray[np.int32]:
        """A row per code point of Unicode: its id, or -1. 4.5 MB, so that a corpus is encoded by one look-up."""
        table = np.full(0x110000, -1, np.int32)
        table[_code_points("".join(self.characters))] = np.arange(self.vocab_size)
        return table


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
