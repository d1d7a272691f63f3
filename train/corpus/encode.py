"""Pieces of documents to tokens: the work that several processes share."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from signal import SIG_IGN, SIGINT, signal
from typing import Any

import numpy as np

from gpt.options import UsageError
from gpt.tokenizer import Tokenizer, load_tokenizer

WAITING = 3  # batches for each process that are on their way


@dataclass(frozen=True)
class Text:
    """A piece of a document, the part of the corpus that it belongs to, and where it is from, for people."""

    text: str
    begins: bool
    part: str
    source: str


@dataclass(frozen=True)
class Encoded:
    """What became of a batch: for each part its tokens and the places at which documents begin among them, and why
    pieces were left out."""

    parts: dict[str, tuple[np.ndarray, np.ndarray]]
    refused: list[str]


class Encoder:
    """Encodes pieces. A document begins with `<|endoftext|>`, or with a line break where the vocabulary lacks that."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self.dtype = np.dtype(np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32)
        self.mark = np.zeros(0, self.dtype)
        if tokenizer.eot_id is not None:
            self.mark = np.array([tokenizer.eot_id], self.dtype)
        else:
            with suppress(ValueError):  # there is no line break either
                self.mark = tokenizer.encode_array("\n")
        # None of these can come out of a document: what is spelled like one is cut in two, as ordinary text.
        marks = [token for token in tokenizer.special_tokens if len(token) > 1]
        self._special = re.compile("|".join(map(re.escape, sorted(marks, key=len, reverse=True)))) if marks else None

    def __call__(self, batch: Iterable[Text]) -> Encoded:
        arrays: dict[str, list[np.ndarray]] = {}
        begins: dict[str, list[int]] = {}
        sizes: dict[str, int] = {}
        refused = []
        for piece in batch:
            try:
                tokens = self.tokens(piece.text)
            except ValueError as error:
                refused.append(f"{piece.source}: {error}")
                continue
            found, size = arrays.setdefault(piece.part, []), sizes.get(piece.part, 0)
            if piece.begins:
                begins.setdefault(piece.part, []).append(size)
                found.append(self.mark)
                size += len(self.mark)
            found.append(tokens)
            sizes[piece.part] = size + len(tokens)
        parts = {
            part: (np.concatenate(found), np.array(begins.get(part, []), np.int64)) for part, found in arrays.items()
        }
        return Encoded(parts, refused)

    def tokens(self, text: str) -> np.ndarray:
        """The tokens of ordinary text, (tokens,). Raises ValueError if the vocabulary cannot spell it."""
        found = self._special.search(text) if self._special else None
        if found is None:
            return self.tokenizer.encode_array(text)
        cut = found.start() + min(2, len(found[0]) - 1)
        pieces = [text[:cut]]
        while found := self._special.search(text, cut):  # type: ignore[union-attr]
            at = found.start() + min(2, len(found[0]) - 1)
            pieces.append(text[cut:at])
            cut = at
        pieces.append(text[cut:])
        return np.concatenate([self.tokenizer.encode_array(piece) for piece in pieces])


def encoded(
    batches: Iterable[tuple[list[Text], Any]], tokenizer: Path, processes: int
) -> Iterator[tuple[Encoded, Any]]:
    """Each batch encoded, in the order of the batches, with what came with it.

    tokenizer  its file, from which each process reads it
    processes  1: this one
    """
    if processes == 1:
        encoder = Encoder(load_tokenizer(tokenizer))
        yield from ((encoder(batch), rest) for batch, rest in batches)
        return
    # Forking would copy threads' locks, but not the threads.
    pool = ProcessPoolExecutor(processes, get_context("spawn"), _start, (tokenizer,))
    waiting: deque[tuple[Future[Encoded], Any]] = deque()
    try:
        for batch, rest in batches:
            waiting.append((pool.submit(_encode, batch), rest))
            if len(waiting) >= WAITING * processes:
                first, its_rest = waiting.popleft()
                yield first.result(), its_rest
        for first, its_rest in waiting:
            yield first.result(), its_rest
    except BrokenProcessPool:
        raise UsageError(
            "a process that encodes was killed, for want of memory perhaps; with fewer --processes the same command "
            "goes on"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


_encoder: Encoder  # of a process of the pool


def _start(tokenizer: Path) -> None:
    signal(SIGINT, SIG_IGN)  # Ctrl-C is for the process that writes
    global _encoder
    _encoder = Encoder(load_tokenizer(tokenizer))


def _encode(batch: list[Text]) -> Encoded:
    return _encoder(batch)
