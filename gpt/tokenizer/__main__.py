"""Tokenizers at the command line.

    python -m gpt.tokenizer train --data FILE.txt --vocab-size 4096 --out tokenizer.json
    python -m gpt.tokenizer encode --tokenizer tokenizer.json --text "Hello"
    python -m gpt.tokenizer decode --ids 15496 11
    python -m gpt.tokenizer show --file FILE.txt

`show` colours the tokens of a text. Each command tells its options with --help.
"""

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Literal

from gpt.datasets import find
from gpt.options import UsageError, command, option, parse, run
from gpt.tokenizer import END_OF_TEXT, BPETokenizer, Tokenizer, find_tokenizer
from gpt.tokenizer.bpe import GPT2_PATTERN

_COLOURS = (223, 151, 153, 217, 187)  # light backgrounds, of a terminal's 256 colours
_WHICH = "gpt2, a file that train wrote, or a folder with vocab.json and merges.txt or encoder.json and vocab.bpe"


@dataclass(frozen=True)
class Train:
    data: tuple[Path, ...] = option(
        (), "UTF-8 text files to learn from, or names of data sets: tinyshakespeare, the-verdict"
    )
    vocab_size: int = option(4096, "tokens: the 256 bytes, those learned, and the special ones")
    special_tokens: tuple[str, ...] = option((END_OF_TEXT,), "tokens that are marks and no text")
    min_frequency: int = option(2, "a pair must occur so often to become a token")
    pattern: str = option(GPT2_PATTERN, "the regular expression of a word, GPT-2's if not given")
    out: Path = option(Path("tokenizer.json"), "file to write")
    overwrite: bool = option(False, "write it although it exists")


@dataclass(frozen=True)
class _OfText:
    tokenizer: str = option("gpt2", _WHICH)
    text: str | None = option(None, "the text")
    file: Path | None = option(None, "or a UTF-8 file with the text; without either, it is read from standard input")
    allowed_special: tuple[str, ...] = option((), "special tokens that the text may contain")


@dataclass(frozen=True)
class Encode(_OfText):
    pass


@dataclass(frozen=True)
class Show(_OfText):
    ids: bool = option(False, "write its id after each token")
    color: Literal["auto", "always", "never"] = option("auto", "colours, or bars between the tokens; auto: as it can")


@dataclass(frozen=True)
class Decode:
    tokenizer: str = option("gpt2", _WHICH)
    ids: tuple[int, ...] = option((), "the ids; without any, they are read from standard input")


def train(config: Train) -> None:
    """Learn a byte-pair vocabulary from text."""
    if not config.data:
        raise UsageError("--data is missing: name the text files to learn from")
    if config.out.exists() and not config.overwrite:
        raise UsageError(f"--out {config.out} exists; choose another name, or --overwrite it")
    texts = [_read(find(path), "--data") for path in config.data]
    start = time.perf_counter()
    tokenizer = BPETokenizer.train(
        texts, config.vocab_size, config.special_tokens, config.pattern, config.min_frequency, progress=True
    )
    seconds = time.perf_counter() - start
    tokenizer.save(config.out)
    size = sum(len(text.encode()) for text in texts)
    print(f"learned {len(tokenizer.merges):,} merges from {size:,} bytes in {seconds:.1f} s")
    if tokenizer.vocab_size < config.vocab_size:
        print(f"        no further pair occurs {config.min_frequency} times; more text would make more tokens")
    longest = sorted(map(tokenizer.token_bytes, range(256, 256 + len(tokenizer.merges))), key=len)[-5:]
    print(f"longest {'|'.join(map(_visible, longest))}")
    print(f"wrote   {config.out}: {tokenizer.vocab_size:,} tokens")
    print(f"try     python -m gpt.tokenizer show --tokenizer {config.out} --file {config.data[0]}")
    print(f"        python -m train.pretrain --tokenizer {config.out} --data {config.data[0]}")


def encode(config: Encode) -> None:
    """Print the ids of a text."""
    print(*find_tokenizer(config.tokenizer).encode(_text(config), config.allowed_special))


def decode(config: Decode) -> None:
    """Print the text of ids."""
    ids: Iterable[int] = config.ids
    if not ids:
        try:
            ids = [int(word) for word in sys.stdin.read().split()]
        except ValueError as error:
            raise UsageError(f"standard input: expects ids, whole numbers with spaces between; {error}") from None
    sys.stdout.write(find_tokenizer(config.tokenizer).decode(ids) + "\n" * sys.stdout.isatty())


def show(config: Show) -> None:
    """Print a text with its tokens in colours."""
    tokenizer, text = find_tokenizer(config.tokenizer), _text(config)
    ids = tokenizer.encode(text, config.allowed_special)
    coloured = sys.stdout.isatty() if config.color == "auto" else config.color == "always"
    print(_shown(tokenizer, ids, coloured, config.ids))
    size = len(text.encode())
    ratio = size / max(len(ids), 1)
    print(f"\n{len(text):,} characters, {size:,} bytes, {len(ids):,} tokens: {ratio:.2f} bytes per token")


def _shown(tokenizer: Tokenizer, ids: Sequence[int], coloured: bool, with_ids: bool) -> str:
    """The tokens side by side, each a colour other than its neighbours', or with bars between them."""
    pieces = []
    for i, colour in zip(ids, cycle(_COLOURS)):
        piece = _visible(tokenizer.token_bytes(i)) + f"({i})" * with_ids
        if coloured:  # no colour runs on to the end of the line
            piece = "\n".join(f"\x1b[30;48;5;{colour}m{line}\x1b[0m" if line else "" for line in piece.split("\n"))
        pieces.append(piece)
    return ("" if coloured else "|").join(pieces)


def _visible(token: bytes) -> str:
    """A token as a terminal can show it: line breaks after their sign, controls and cut characters as escapes."""
    try:
        text = token.decode()
    except UnicodeDecodeError:
        return "".join(f"\\x{byte:02x}" for byte in token)
    shown = (c if c.isprintable() else "↵\n" if c == "\n" else c.encode("unicode_escape").decode() for c in text)
    return "".join(shown)


def _text(config: _OfText) -> str:
    if config.text is not None and config.file is not None:
        raise UsageError("--text and --file: give one of the two")
    if config.text is not None:
        return config.text
    return _read(config.file, "--file") if config.file else _decoded(sys.stdin.buffer.read(), "standard input")


def _read(path: Path, flag: str) -> str:
    try:
        return _decoded(path.read_bytes(), f"{flag} {path}")
    except OSError as error:
        raise UsageError(f"{flag} {path}: {error.strerror}") from None


def _decoded(raw: bytes, source: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{source}: not UTF-8 text (byte {error.start} is 0x{raw[error.start]:02x})") from None


def _command(options: type, function: Callable[[Any], None]) -> Callable[[Sequence[str]], None]:
    """`function` of the options that a command line gives."""

    def called(argv: Sequence[str]) -> None:
        prog = f"tokenizer {options.__name__.lower()}"
        config = parse(options, argv, {"default": options()}, "default", prog, f"{function.__doc__}")
        try:
            function(config)
        except (ImportError, OSError, ValueError) as error:
            raise UsageError(str(error)) from error

    called.__doc__ = function.__doc__
    return called


def main(argv: Sequence[str]) -> None:
    commands = {
        "train": _command(Train, train),
        "encode": _command(Encode, encode),
        "decode": _command(Decode, decode),
        "show": _command(Show, show),
    }
    command(argv, commands, "tokenizer", "Learn a vocabulary, encode, decode, and see how text is cut.")


if __name__ == "__main__":
    run(main, "tokenizer")
