"""A tokenizer by the name that a person gives it: gpt2, a file, or a folder."""

from os import PathLike, fspath
from pathlib import Path

from gpt.tokenizer.base import Tokenizer, load_tokenizer
from gpt.tokenizer.bpe import BPETokenizer
from gpt.tokenizer.gpt2 import GPT2Tokenizer

# A vocabulary and its merges, as GPT-2 and as the hub name the two files.
_FILES = (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt"))


def find_tokenizer(name: str | PathLike[str]) -> Tokenizer:
    """GPT-2's tokenizer for "gpt2", else the one that is saved in the file or folder `name`.

    A folder holds a tokenizer.json, as `save` writes it, or two files, as GPT-2 or as the hub name them.
    FileNotFoundError says what is not there, ValueError what is wrong with it.
    """
    if name == "gpt2":
        return GPT2Tokenizer()
    path = Path(name)
    if not path.exists():
        raise FileNotFoundError(
            f"there is no tokenizer {fspath(name)}: it is gpt2, a file that a tokenizer was saved in, or a folder"
        )
    if not path.is_dir():
        return load_tokenizer(path)
    for vocabulary, merges in _FILES:
        if (path / vocabulary).is_file() and (path / merges).is_file():
            return BPETokenizer.from_files(path / vocabulary, path / merges)
    if (path / "tokenizer.json").is_file():
        return load_tokenizer(path / "tokenizer.json")
    pairs = ", ".join(" with ".join(pair) for pair in _FILES)
    raise FileNotFoundError(f"there is no tokenizer in the folder {fspath(name)}: no tokenizer.json, {pairs}")
