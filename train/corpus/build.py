"""Documents to a folder of shards: read by one process, encoded by several, written in order by the first.

So the shards have the same bytes however many processes there are. Every few seconds `progress.json` tells how far
sources and shards are; a build that was stopped goes on from there, and its shards too have the same bytes.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from tqdm import tqdm

from gpt.options import UsageError
from gpt.tokenizer import Tokenizer, load_tokenizer
from tensorlite.serialize import replacing
from train import lock
from train.corpus.documents import PIECE, pieces
from train.corpus.encode import Text, encoded
from train.corpus.folder import INDEX, PARTS, PROGRESS, TOKENIZER, digest, write_index
from train.corpus.shards import ShardError
from train.corpus.sources import STDIN, Source
from train.corpus.text import make_tokenizer
from train.corpus.writer import ShardWriter

SAVE_EVERY = 10.0  # seconds
BATCH = 2**19  # bytes of text that a process encodes at a time


@dataclass(frozen=True)
class Plan:
    """All that the shards' bytes depend on, but for what the sources hold."""

    sources: tuple[Source, ...]
    tokenizer: str
    vocab_size: int
    text_key: str
    separator: str
    val_fraction: float
    shard_tokens: int
    errors: str


@dataclass(frozen=True)
class Position:
    """How much was read: all of the sources before `source`, and so many pieces of it, whose text has that CRC-32."""

    source: int = 0
    pieces: int = 0
    crc32: int = 0


@dataclass(frozen=True)
class Read:
    """A batch: the position after it, its documents and bytes, and why something was left out of it."""

    position: Position
    documents: int
    bytes: int
    refused: tuple[str, ...]


@dataclass
class Count:
    """What was read so far."""

    documents: int = 0
    bytes: int = 0
    refused: int = 0
    reasons: list[str] = field(default_factory=list)  # the first few


class Build:
    """A folder of shards in the making. Raises UsageError if the folder holds something else, or the plan differs from
    that of the build which it holds unfinished."""

    def __init__(self, folder: Path, plan: Plan, overwrite: bool = False):
        self.folder, self.plan = folder, plan
        self.position, self.count = Position(), Count()
        self._settings = json.loads(json.dumps({**asdict(plan), "piece": PIECE}))
        saved = self._saved(overwrite)
        self.resumed = saved is not None
        with _written(folder):
            self._begin(saved)

    def _begin(self, saved: dict[str, Any] | None) -> None:
        """Anew, or where the build was that `saved` tells of."""
        folder, plan = self.folder, self.plan
        if saved is None:
            self.tokenizer = _tokenizer(plan)
            self.tokenizer.save(folder / TOKENIZER)
        else:
            self.position, self.count = Position(**saved["position"]), Count(**saved["count"])
            self.tokenizer = load_tokenizer(folder / TOKENIZER)
        size, sha = self.tokenizer.vocab_size, digest(folder / TOKENIZER)
        try:
            self.writers = {
                part: ShardWriter(folder, part, size, sha, plan.shard_tokens, saved and saved["parts"][part])
                for part in PARTS
            }
        except ShardError as error:
            raise UsageError(f"--out: {error}") from None
        self._save()

    def run(self, processes: int) -> None:
        """Read, encode and write to the end, and write the index.

        UsageError where something cannot be read or written; the same command then goes on from the last save.
        """
        due = time.monotonic() + SAVE_EVERY
        total = None
        if all(s.format == "text" and s.size and not s.name.endswith((".gz", ".zst")) for s in self.plan.sources):
            total = sum(s.size or 0 for s in self.plan.sources)
        bar = tqdm(
            total=total,
            initial=self.count.bytes,
            unit="B",
            unit_scale=True,
            dynamic_ncols=True,
            disable=None,
            smoothing=0.1,
        )
        try:
            with _written(self.folder), bar:
                for result, read in encoded(self._batches(), self.folder / TOKENIZER, processes):
                    for reason in (*read.refused, *result.refused):
                        self._refuse(reason)
                    for part, (tokens, begins) in result.parts.items():
                        self.writers[part].write(tokens, begins)
                    self.position = read.position
                    self.count.documents += read.documents
                    self.count.bytes += read.bytes
                    bar.update(read.bytes)
                    if time.monotonic() > due:
                        self._save()
                        due = time.monotonic() + SAVE_EVERY
                self._save()
                parts = {part: writer.finish() for part, writer in self.writers.items()}
                write_index(self.folder, self.tokenizer, parts, self._told())
                (self.folder / PROGRESS).unlink()
        finally:
            for writer in self.writers.values():
                with suppress(OSError):  # what a full disk does not take now is written anew
                    writer.close()

    def _batches(self) -> Iterator[tuple[list[Text], Read]]:
        """What is yet to be read, in batches."""
        batch: list[Text] = []
        refused: list[str] = []
        documents = size = 0
        part = "train"
        begin = self.position
        for number in range(begin.source, len(self.plan.sources)):
            source = self.plan.sources[number]
            skipped = begin.pieces if number == begin.source else 0
            position = Position(number)
            for piece in pieces(source, self.plan.separator, self.plan.text_key, refused.append):
                raw = piece.text.encode("utf-8", "surrogatepass")
                position = Position(number, position.pieces + 1, zlib.crc32(raw, position.crc32))
                if piece.begins:
                    part = source.part or self._part(raw)
                if position.pieces <= skipped:
                    refused.clear()  # they were counted with what was written
                    if position.pieces == skipped and position.crc32 != begin.crc32:
                        break
                    continue
                batch.append(Text(piece.text, piece.begins, part, source.name))
                documents += piece.begins
                size += len(raw)
                if size >= BATCH:
                    yield batch, Read(position, documents, size, tuple(refused))
                    batch, documents, size = [], 0, 0
                    refused.clear()
            if skipped and (
                position.pieces < skipped or (position.pieces == skipped and position.crc32 != begin.crc32)
            ):
                raise UsageError(f"{source.name} has changed since the build began; begin anew with --overwrite")
        yield batch, Read(Position(len(self.plan.sources)), documents, size, tuple(refused))

    def _part(self, raw: bytes) -> str:
        """By a document's text alone, so that two that are equal are on one side."""
        chance = int.from_bytes(blake2b(raw, digest_size=8).digest(), "big") / 2**64
        return "val" if chance < self.plan.val_fraction else "train"

    def _refuse(self, reason: str) -> None:
        if self.plan.errors == "stop":
            self._save()
            raise UsageError(f"{reason} (--errors skip leaves out what cannot be read)")
        self.count.refused += 1
        if len(self.count.reasons) < 5:
            self.count.reasons.append(reason)

    def _saved(self, overwrite: bool) -> dict[str, Any] | None:
        """The progress of the build that the folder holds unfinished; None if the folder is new, which it then is."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            names = {path.name for path in self.folder.iterdir()} - {lock.NAME}
            if overwrite:
                for path in _ours(self.folder):
                    path.unlink()
                names -= {path.name for path in _ours(self.folder)}
        except OSError as error:
            raise UsageError(f"--out {self.folder}: cannot be written: {error.strerror}") from None
        if overwrite or not names:
            return None
        if INDEX in names:
            raise UsageError(f"--out {self.folder}: holds shards already; choose another --out, or --overwrite them")
        if PROGRESS not in names:
            if names <= {TOKENIZER}:  # stopped before anything was written
                return None
            raise UsageError(f"--out {self.folder}: exists and is not empty; choose another --out")
        try:
            saved: dict[str, Any] = json.loads((self.folder / PROGRESS).read_bytes())
            theirs = saved["settings"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"--out {self.folder}: {PROGRESS} is damaged ({error}); begin anew with --overwrite"
            ) from None
        if differing := [name for name in self._settings if theirs.get(name) != self._settings[name]]:
            raise UsageError(
                f"--out {self.folder}: a build that is not finished is there, and differs in {', '.join(differing)}; "
                "give its own options to go on with it, or begin anew with --overwrite"
            )
        return saved

    def _save(self) -> None:
        state = {
            "settings": self._settings,
            "position": asdict(self.position),
            "count": asdict(self.count),
            "parts": {part: writer.state() for part, writer in self.writers.items()},
        }
        with replacing(self.folder / PROGRESS) as beside:
            beside.write_text(json.dumps(state), encoding="ascii")

    def _told(self) -> dict[str, Any]:
        settings = {name: value for name, value in self._settings.items() if name not in ("sources", "piece")}
        return {**settings, "sources": [s.name for s in self.plan.sources], **asdict(self.count)}


@contextmanager
def _written(folder: Path) -> Iterator[None]:
    """Inside, what cannot be written is a UsageError."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"--out {folder}: cannot be written: {error.strerror or error}; when that is mended, the same command "
            "goes on"
        ) from None


def _tokenizer(plan: Plan) -> Tokenizer:
    if plan.tokenizer in ("characters", "words", "bpe") and any(s.name == STDIN for s in plan.sources):
        raise UsageError(
            f"--tokenizer {plan.tokenizer} reads the text before it is encoded, and standard input can be read once; "
            "name a tokenizer that is there already"
        )

    def ignore(reason: str) -> None:
        """It is told when the text is encoded."""

    texts = (piece.text for source in plan.sources for piece in pieces(source, plan.separator, plan.text_key, ignore))
    return make_tokenizer(plan.tokenizer, texts, plan.vocab_size)


def _ours(folder: Path) -> list[Path]:
    """What a build puts into a folder."""
    patterns = [INDEX, PROGRESS, TOKENIZER, *(f"{part}_*.bin" for part in PARTS), ".*.part"]
    return [path for pattern in patterns for path in folder.glob(pattern)]
