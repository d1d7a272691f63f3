"""One token per word or punctuation mark: the first tokenizer of Raschka's *Build a Large Language Model*, chapter 2.

A word not seen in training becomes `<|unk|>`, and white space is not kept.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from gpt.tokenizer.base import END_OF_TEXT, Tokenizer

UNKNOWN = "<|unk|>"

# The book's pattern, and before it the one special token, which need not stand between spaces.
_CUT = re.compile(rf"""({re.escape(END_OF_TEXT)}|[,.:;?_!"()']|--)|\s""")
_SPACE_BEFORE_MARK = re.compile(r"""\s+([,.:;?!"()'])""")


@dataclass(frozen=True, repr=False)
class WordTokenizer(Tokenizer, kind="words"):
    """The id of a word is its place in `words`; after them come `<|endoftext|>` and `<|unk|>`."""

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", tuple(self.words))  # JSON has lists only
        for word in self.words:
            if not isinstance(word, str) or _cut(word) != [word] or word in (END_OF_TEXT, UNKNOWN):
                raise ValueError(f"{word!r} in its vocabulary is not a word or punctuation mark")
        if len(set(self.words)) != len(self.words):
            raise ValueError("the vocabulary holds a word twice")

    @classmethod
    def train(cls, text: str | Iterable[str]) -> Self:
        """The distinct words and punctuation marks of `text`, or of texts that are read one by one, sorted."""
        words: set[str] = set()
        for part in [text] if isinstance(text, str) else text:
            words.update(_cut(part))
        return cls(tuple(sorted(words - {END_OF_TEXT, UNKNOWN})))

    @property
    def vocab_size(self) -> int:
        return len(self._vocabulary)

    @property
    def eot_id(self) -> int:
        return len(self.words)

    @property
    def unk_id(self) -> int:
        """The id of every word that is not in the vocabulary."""
        return len(self.words) + 1

    def _encode(self, text: str) -> NDArray[np.integer]:
        return np.array([self._id_of.get(word, self.unk_id) for word in _cut(text)], dtype=np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        """The words of `ids` with a space between, none before a punctuation mark: the layout of the text is lost."""
        return _SPACE_BEFORE_MARK.sub(r"\1", " ".join([self._vocabulary[i] for i in self._checked(ids)]))

    @cached_property
    def _vocabulary(self) -> tuple[str, ...]:
        return (*self.words, END_OF_TEXT, UNKNOWN)

    @cached_property
    def _id_of(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self._vocabulary)}


def _cut(text: str) -> list[str]:
    return [piece for piece in _CUT.split(text) if piece]  # white space gives None, neighbouring marks ""
