"""GPT-2's byte pair encoding: 50,256 pieces of UTF-8 text and `<|endoftext|>`, cut by tiktoken (Rust).

Radford et al., *Language Models are Unsupervised Multitask Learners* (2019), section 2.2. tiktoken downloads the
vocabulary's two files once, checks their SHA-256, and keeps them in a cache folder.
"""

import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha1
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpt.tokenizer.base import END_OF_TEXT, Tokenizer

if TYPE_CHECKING:
    import tiktoken

_SOURCE = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/"
# The vocabulary's files: where to get each, by the name it has in tiktoken's cache, the SHA-1 of its address.
FILES = {sha1(address.encode()).hexdigest(): address for address in (_SOURCE + "vocab.bpe", _SOURCE + "encoder.json")}


def cache_folder() -> Path:
    """The folder in which tiktoken looks for FILES."""
    chosen = os.environ.get("TIKTOKEN_CACHE_DIR") or os.environ.get("DATA_GYM_CACHE_DIR")
    return Path(chosen or Path(tempfile.gettempdir(), "data-gym-cache"))


@dataclass(frozen=True, repr=False)
class GPT2Tokenizer(Tokenizer, kind="gpt2"):
    """GPT-2's own ids, which its weights expect. The file that `save` writes holds no vocabulary: it is GPT-2's.

    Needs tiktoken (ImportError), and the vocabulary in its cache or a network (FileNotFoundError).
    """

    def __post_init__(self) -> None:
        self._encoding  # noqa: B018  what is missing is said when the tokenizer is made, not at its first word

    @property
    def vocab_size(self) -> int:
        return self._encoding.n_vocab

    @property
    def eot_id(self) -> int:
        return self._encoding.eot_token

    def _encode(self, text: str) -> NDArray[np.integer]:
        try:
            return self._encoding.encode_to_numpy(text, allowed_special={END_OF_TEXT})
        except UnicodeEncodeError as error:
            raise self._unknown(
                text, error.start, "half of a surrogate pair has no UTF-8 form: read the text with errors='replace'"
            ) from error

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`. Tokens are pieces of UTF-8: a character whose bytes are cut off reads as U+FFFD."""
        return self._encoding.decode(self._checked(ids))

    @cached_property
    def _encoding(self) -> "tiktoken.Encoding":
        try:
            import tiktoken
        except ImportError as error:
            raise ImportError("GPT-2's tokenizer needs tiktoken: pip install tiktoken") from error
        try:
            return tiktoken.get_encoding("gpt2")
        except (OSError, ValueError) as error:
            files = "".join(f"\n  {name}  from  {address}" for name, address in FILES.items())
            raise FileNotFoundError(
                f"GPT-2's vocabulary is not in {cache_folder()} and could not be downloaded ({type(error).__name__}). "
                f"Put these two files there, each under the name on the left, or set the environment variable "
                f"TIKTOKEN_CACHE_DIR to a folder that has them:{files}"
            ) from error
