"""GPT-2's byte-pair encoding: 256 bytes, 50,000 merges and `<|endoftext|>`.

Radford et al., *Language Models are Unsupervised Multitask Learners* (2019), section 2.2. tiktoken downloads the
vocabulary's two files once, checks their SHA-256, and keeps them in a cache folder.
"""

import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import sha1
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpt.tokenizer.base import Tokenizer
from gpt.tokenizer.bpe import BPETokenizer

_SOURCE = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/"
_SHA256 = {  # of the vocabulary's files
    _SOURCE + "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    _SOURCE + "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
}
# Where to get each, by the name it has in tiktoken's cache, the SHA-1 of its address.
FILES = {sha1(address.encode()).hexdigest(): address for address in _SHA256}


def cache_folder() -> Path:
    """The folder in which tiktoken looks for FILES."""
    chosen = os.environ.get("TIKTOKEN_CACHE_DIR") or os.environ.get("DATA_GYM_CACHE_DIR")
    return Path(chosen or Path(tempfile.gettempdir(), "data-gym-cache"))


@dataclass(frozen=True, repr=False)
class GPT2Tokenizer(Tokenizer, kind="gpt2"):
    """GPT-2's own ids, which its weights expect. The file that `save` writes holds no vocabulary: it is GPT-2's.

    Needs tiktoken (ImportError), and the vocabulary in its cache or a network (FileNotFoundError). With the files at
    hand, `BPETokenizer.from_files("encoder.json", "vocab.bpe")` is the same tokenizer and needs neither.
    """

    def __post_init__(self) -> None:
        self.bpe  # noqa: B018  what is missing is said when the tokenizer is made, not at its first word

    @cached_property
    def bpe(self) -> BPETokenizer:
        """The byte-pair encoding with GPT-2's vocabulary, to which all else is left."""
        try:
            from tiktoken.load import read_file_cached
        except ImportError as error:
            raise ImportError(
                "GPT-2's tokenizer needs tiktoken to find its vocabulary: pip install tiktoken"
            ) from error
        try:
            return _parsed(*[read_file_cached(address, digest) for address, digest in _SHA256.items()])
        except (OSError, ValueError) as error:
            files = "".join(f"\n  {name}  from  {address}" for name, address in FILES.items())
            raise FileNotFoundError(
                f"GPT-2's vocabulary is not in {cache_folder()} and could not be downloaded ({type(error).__name__}). "
                f"Put these two files there, each under the name on the left, or set the environment variable "
                f"TIKTOKEN_CACHE_DIR to a folder that has them:{files}"
            ) from error

    @property
    def vocab_size(self) -> int:
        return self.bpe.vocab_size

    @property
    def eot_id(self) -> int | None:
        return self.bpe.eot_id

    def _encode(self, text: str) -> NDArray[np.integer]:
        return self.bpe._encode(text)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`. Tokens are pieces of UTF-8: a character whose bytes are cut off reads as U+FFFD."""
        return self.bpe.decode(ids)

    def token_bytes(self, id: int) -> bytes:
        """What one token stands for, in UTF-8: perhaps a part of a character."""
        return self.bpe.token_bytes(id)


_parsed = lru_cache(maxsize=1)(BPETokenizer.from_bytes)  # once in a program, however many tokenizers it makes
