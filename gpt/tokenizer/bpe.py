"""Byte-pair encoding as a tokenizer: any text has tokens, frequent words one, rare words a few.

    tokenizer = BPETokenizer.train(text, vocab_size=4096)
    tokenizer = BPETokenizer.from_files("encoder.json", "vocab.bpe")     # GPT-2's, or the hub's vocab.json, merges.txt

A pattern cuts text into words, " the" with its space, and byte_pairs.py merges the bytes of each. A word that comes
again is looked up. tiktoken's Rust core, where it is known to give the same ids, does all of this faster.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice, takewhile
from operator import methodcaller
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import regex
from numpy.typing import NDArray
from tqdm import tqdm

from gpt.tokenizer import alphabet
from gpt.tokenizer.base import END_OF_TEXT, Tokenizer
from gpt.tokenizer.byte_pairs import Pair, learn, merge_word

if TYPE_CHECKING:
    import tiktoken

# Letters, digits and other marks make words, each with the space before it; endings like 's and other white space stand
# alone. GPT-2's, with ++ for +, as a run of letters that is taken need never be given back.
GPT2_PATTERN = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s+(?!\S)|\s+"""

REMEMBERED = 2**18  # words whose tokens are kept to be looked up,
LONGEST = 64  # if they have at most so many characters: some 50 MB

SURROGATE = "half of a surrogate pair has no UTF-8 form: read the text with errors='replace'"
_GROUP = methodcaller("group")


@dataclass(frozen=True, repr=False)
class BPETokenizer(Tokenizer, kind="bpe"):
    """Byte-pair encoding with any vocabulary. Fields that contradict each other raise ValueError.

    vocabulary  every token at the place that is its id. Those that are bytes are written in GPT-2's alphabet of bytes;
                what is neither one byte nor made by a merge is a special token, and written as it is
    merges      the pairs of tokens that become one, "Ġ t", first those that are merged first
    pattern     the regular expression whose matches are words, in the syntax of the package regex. A character that no
                match has is a word of its own

    Which characters are letters depends on the version of Unicode that the package knows: on a character that was new
    in one version, two packages may cut differently.
    """

    vocabulary: tuple[str, ...]
    merges: tuple[str, ...]
    pattern: str = GPT2_PATTERN

    def __post_init__(self) -> None:
        object.__setattr__(self, "vocabulary", tuple(self.vocabulary))  # JSON has lists only
        object.__setattr__(self, "merges", tuple(self.merges))
        for name, values in (("vocabulary", self.vocabulary), ("merges", self.merges), ("pattern", [self.pattern])):
            if wrong := [value for value in values if not isinstance(value, str) or not value]:
                raise ValueError(f"{wrong[0]!r} in its {name} is not text")
        if len(self._id_of) != len(self.vocabulary):
            raise ValueError(f"the vocabulary holds {Counter(self.vocabulary).most_common(1)[0][0]!r} twice")
        if missing := [c for c in alphabet.ALPHABET if c not in self._id_of]:
            raise ValueError(f"the vocabulary lacks {len(missing)} of the 256 bytes, the first of them {missing[0]!r}")
        self._token_bytes, self._word  # noqa: B018  whose making says what is wrong with merges and pattern

    @classmethod
    def train(
        cls,
        text: str | Iterable[str],
        vocab_size: int,
        special_tokens: Iterable[str] = (END_OF_TEXT,),
        pattern: str = GPT2_PATTERN,
        min_frequency: int = 2,
        progress: bool = False,
    ) -> Self:
        """Learn a vocabulary of `vocab_size` tokens from `text`, or from texts that are read one by one.

        It has the 256 bytes, the pairs that are learned, and `special_tokens`, whose ids come last and from which
        nothing is learned. It is smaller where no pair occurs `min_frequency` times. `progress` shows how far it is.
        """
        special_tokens = tuple(special_tokens)
        blank = cls((*alphabet.ALPHABET, *special_tokens), (), pattern)
        if vocab_size < blank.vocab_size:
            raise ValueError(
                f"vocab_size expects at least {blank.vocab_size}, for the 256 bytes and {len(special_tokens)} special "
                f"tokens, got {vocab_size}"
            )
        seen: Counter[str] = Counter()
        for part in [text] if isinstance(text, str) else text:
            seen.update(tqdm(blank.words(part), "counting", unit=" words", disable=not progress, leave=False))
        try:
            words = {
                word.encode().translate(alphabet.PLACES): n
                for word, n in seen.items()
                if word not in blank.special_tokens
            }
        except UnicodeEncodeError as error:
            raise blank._unknown(error.object, error.start, SURROGATE) from error

        tokens, merges = list(alphabet.ALPHABET), []
        wanted = vocab_size - blank.vocab_size
        frequent = takewhile(lambda found: found[1] >= min_frequency, islice(learn(words), wanted))
        for (a, b), _ in tqdm(frequent, "merging", wanted, disable=not progress, leave=False):
            merges.append(f"{tokens[a]} {tokens[b]}")
            tokens.append(tokens[a] + tokens[b])
        return cls((*tokens, *special_tokens), tuple(merges), pattern)

    @classmethod
    def from_files(
        cls, vocabulary: str | PathLike[str], merges: str | PathLike[str], pattern: str = GPT2_PATTERN
    ) -> Self:
        """Read GPT-2's `encoder.json` and `vocab.bpe`, or the two files of the hub, `vocab.json` and `merges.txt`.

        ValueError names the files and what is wrong with them.
        """
        try:
            return cls.from_bytes(Path(vocabulary).read_bytes(), Path(merges).read_bytes(), pattern)
        except ValueError as error:
            raise ValueError(f"{vocabulary} and {merges} make no byte-pair vocabulary: {error}") from error

    @classmethod
    def from_bytes(cls, vocabulary: bytes, merges: bytes, pattern: str = GPT2_PATTERN) -> Self:
        """As `from_files`, but from what is in them."""
        ids = json.loads(vocabulary)
        if not (
            isinstance(ids, dict)
            and all(type(i) is int for i in ids.values())
            and sorted(ids.values()) == list(range(len(ids)))
        ):
            raise ValueError("the first is not a JSON object of tokens and their ids, 0, 1, 2 and so on")
        lines = merges.decode().splitlines()
        if lines and lines[0].startswith("#version"):
            del lines[0]
        return cls(tuple(sorted(ids, key=ids.__getitem__)), tuple(line for line in lines if line), pattern)

    def save_files(self, vocabulary: str | PathLike[str], merges: str | PathLike[str]) -> None:
        """Write the two files that `from_files` reads. They do not hold the pattern."""
        Path(vocabulary).write_text(json.dumps(self._id_of) + "\n", encoding="ascii")
        Path(merges).write_text("\n".join(["#version: 0.2", *self.merges, ""]), encoding="utf-8", newline="\n")

    def to_tiktoken(self, name: str = "bpe") -> "tiktoken.Encoding":
        """An encoder of tiktoken with this vocabulary, whose Rust core then encodes.

        tiktoken knows no merges: it joins the neighbours whose joint token has the smallest id. ValueError if that is
        not the same here, ImportError without tiktoken.
        """
        import tiktoken

        made = [token for _, token in self._merges.values()]
        if made != sorted(made):
            raise ValueError("tiktoken merges in the order of ids, and here the ids are not in the order of the merges")
        for token in made:
            if self.encode_word(self._token_bytes[token]) != [token]:
                raise ValueError(
                    f"the token {self.vocabulary[token]!r} is encoded as others by these merges, by tiktoken as itself"
                )
        special = self.special_tokens
        if alike := [(a, b) for a in special for b in special if a != b and b.startswith(a)]:
            raise ValueError(f"tiktoken takes any of two special tokens that begin alike, here {alike[0]}")
        ranks = {token: i for i, token in enumerate(self._token_bytes) if self.vocabulary[i] not in special}
        return tiktoken.Encoding(name, pat_str=self._cut, mergeable_ranks=ranks, special_tokens=special)

    @property
    def vocab_size(self) -> int:
        return len(self.vocabulary)

    @property
    def eot_id(self) -> int | None:
        return self.special_tokens.get(END_OF_TEXT)

    @cached_property
    def special_tokens(self) -> dict[str, int]:
        """The tokens that are neither a byte nor merged from others, and their ids."""
        made = {token for _, token in self._merges.values()} | {self._id_of[c] for c in alphabet.ALPHABET}
        return {token: i for token, i in self._id_of.items() if i not in made}

    def _encode(self, text: str) -> NDArray[np.integer]:
        if self._rust:
            try:
                return self._rust.encode_to_numpy(text, allowed_special=set(self.special_tokens))
            except ValueError:
                pass  # tiktoken gives up on a run of a million spaces; what has no UTF-8 form is explained below
        return self.encode_here(text)

    def encode_here(self, text: str) -> NDArray[np.integer]:
        """The ids of `text`, special tokens included, without tiktoken: (tokens,)."""
        try:
            tokens = map(self._memory.__getitem__, self.words(text))
            return np.fromiter(chain.from_iterable(tokens), np.uint32)
        except UnicodeEncodeError:
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise self._unknown(text, error.start, SURROGATE) from error
            raise

    def words(self, text: str) -> Iterator[str]:
        """`text` cut into its words and special tokens, which joined are the text again."""
        for i, part in enumerate(self._special.split(text)):
            if i % 2:
                yield part
            else:
                yield from map(_GROUP, self._word.finditer(part))

    def encode_word(self, word: bytes) -> list[int]:
        """The ids of one word, in UTF-8."""
        return merge_word([self._byte_ids[byte] for byte in word], self._merges)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`. Tokens are pieces of UTF-8: a character whose bytes are cut off reads as U+FFFD."""
        return b"".join([self._token_bytes[i] for i in self._checked(ids)]).decode("utf-8", errors="replace")

    def token_bytes(self, id: int) -> bytes:
        """What one token stands for, in UTF-8: perhaps a part of a character."""
        return self._token_bytes[self._checked([id])[0]]

    # What the fields say, in the form in which it is used ------------------------------------------------

    @cached_property
    def _id_of(self) -> dict[str, int]:
        return {token: i for i, token in enumerate(self.vocabulary)}

    @cached_property
    def _merges(self) -> dict[Pair, tuple[int, int]]:
        """Two tokens -> the rank of their merge, and the token that they become."""
        merges: dict[Pair, tuple[int, int]] = {}
        for rank, merge in enumerate(self.merges):
            try:
                a, b = merge.split(" ")
                pair, token = (self._id_of[a], self._id_of[b]), self._id_of[a + b]
            except (KeyError, ValueError) as error:
                raise ValueError(
                    f"merge {rank + 1}, {merge!r}, is not two tokens of the vocabulary and a space, which make a third"
                ) from error
            if pair in merges:
                raise ValueError(f"merge {rank + 1}, {merge!r}, is there twice")
            merges[pair] = rank, token
        return merges

    @cached_property
    def _token_bytes(self) -> list[bytes]:
        try:
            return [t.encode() if t in self.special_tokens else alphabet.read(t) for t in self.vocabulary]
        except (KeyError, UnicodeEncodeError) as error:
            raise ValueError(f"a token is neither bytes in GPT-2's alphabet nor a special token: {error}") from error

    @cached_property
    def _byte_ids(self) -> list[int]:
        """byte -> the id of the token that it starts as"""
        return [self._id_of[alphabet.write([byte])] for byte in range(256)]

    @cached_property
    def _word(self) -> regex.Pattern[str]:
        try:
            if regex.compile(self.pattern).match(""):
                raise ValueError(f"the pattern {self.pattern!r} matches the empty text, so it does not cut words")
            return regex.compile(self._cut)
        except regex.error as error:
            raise ValueError(f"the pattern {self.pattern!r} is not a regular expression: {error}") from error

    @property
    def _cut(self) -> str:
        """The pattern, and any character that it leaves over. GPT-2's leaves none."""
        return self.pattern if self.pattern == GPT2_PATTERN else rf"(?:{self.pattern})|(?s:.)"

    @cached_property
    def _special(self) -> regex.Pattern[str]:
        longest_first = sorted(self.special_tokens, key=len, reverse=True)
        return regex.compile("(" + "|".join(map(regex.escape, longest_first)) + ")" if longest_first else "(?!)")

    @cached_property
    def _memory(self) -> "_Memory":
        def tokens(word: str) -> tuple[int, ...]:
            special = self.special_tokens.get(word)
            return tuple(self.encode_word(word.encode())) if special is None else (special,)

        return _Memory(tokens)

    @cached_property
    def _rust(self) -> "tiktoken.Encoding | None":
        """tiktoken's encoder where it gives the ids of `encode_here`, as it does for words cut as GPT-2 does."""
        try:
            return self.to_tiktoken() if self.pattern == GPT2_PATTERN else None
        except (ImportError, ValueError):
            return None


class _Memory(dict[str, tuple[int, ...]]):
    """Words and their tokens. A word that it has not is asked from `tokens`, and kept within the bounds above."""

    def __init__(self, tokens: Callable[[str], tuple[int, ...]]):
        self.tokens = tokens

    def __missing__(self, word: str) -> tuple[int, ...]:
        tokens = self.tokens(word)
        if len(word) <= LONGEST:
            if len(self) >= REMEMBERED:
                self.clear()
            self[word] = tokens
        return tokens
