"""Where text comes from: files, folders, globs, URLs and standard input, as they are or compressed."""

from __future__ import annotations

import glob
import gzip
import io
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from gpt.options import UsageError
from train.corpus.remote import filesystem, is_url

STDIN = "-"
FORMATS = {".txt": "text", ".md": "text", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
_PACKED = (".gz", ".zst")
_CHUNK = 2**20


class UnreadableError(Exception):
    """A source, or a document in it, cannot be read; the message says which and why."""


@dataclass(frozen=True)
class Source:
    """One file, URL, or standard input. Two are equal if nothing tells that their content differs.

    format  text, jsonl or parquet
    part    train or val if all of its documents belong there, else None
    size, changed   bytes and time of the last change, where they are known
    """

    name: str
    format: str
    part: str | None = None
    size: int | None = None
    changed: str | None = None


def expand(names: Sequence[str], format: str, part: str | None = None) -> list[Source]:
    """The sources that --data names, in the order of the names; within a folder or glob by path.

    Raises UsageError for what is not there.
    """
    sources = []
    for name in names:
        if name == STDIN:
            sources.append(Source(name, "text" if format == "auto" else format, part))
            continue
        found = _remote(name) if is_url(name) else _local(name)
        sources += [Source(file, _format(file, format), part, size, changed) for file, size, changed in found]
    return sources


@contextmanager
def opened(source: Source) -> Iterator[IO[bytes]]:
    """The bytes of a source, unpacked. Raises UnreadableError where that fails, also later, as they are read."""
    name = source.name
    try:
        with _raw(name) as raw:
            packing = _suffixes(name)[1]
            unpacked = {".gz": _gunzip, ".zst": _unzstd, "": lambda raw: raw}[packing](raw)
            yield unpacked
    except OSError as error:  # with BadGzipFile
        raise UnreadableError(f"{name} cannot be read: {error.strerror or error}") from None
    except EOFError:
        raise UnreadableError(f"{name} is truncated: its compressed data ends early") from None
    except zlib.error as error:
        raise UnreadableError(f"{name} is corrupted: {error}") from None


def _raw(name: str) -> Any:
    if name == STDIN:
        return io.BufferedReader(io.FileIO(sys.stdin.fileno(), closefd=False), _CHUNK)
    if is_url(name):
        system, path = filesystem(name)
        return system.open(path, "rb")
    return open(name, "rb")  # the caller closes it


def _local(name: str) -> list[tuple[str, int, str]]:
    path = Path(name)
    if path.is_dir():
        files = [f for f in sorted(path.rglob("*")) if f.is_file() and _known(f.name) and f.name[0] != "."]
        if not files:
            raise UsageError(
                f"--data {name}: no text in this folder; looked for *{', *'.join(FORMATS)}, also packed as .gz or .zst"
            )
    else:
        files = [path] if path.exists() else [Path(f) for f in sorted(glob.glob(name, recursive=True))]
        files = [f for f in files if not f.is_dir()]
        if not files:
            raise UsageError(f"--data {name}: there is no such file; looked in {Path.cwd()}")
    return [(str(f), f.stat().st_size, str(f.stat().st_mtime_ns)) for f in files]


def _remote(url: str) -> list[tuple[str, int, str]]:
    system, path = filesystem(url)
    try:
        if glob.has_magic(path):
            files = sorted(system.glob(path))
        elif system.isdir(path):
            files = [f for f in sorted(system.find(path)) if _known(f)]
        else:
            files = [path]
        infos = [system.info(f) for f in files]
    except OSError as error:
        raise UsageError(f"--data {url}: cannot be read: {error}") from None
    if not files:
        raise UsageError(f"--data {url}: nothing there")
    told = ("ETag", "etag", "mtime", "LastModified", "created")
    return [
        (system.unstrip_protocol(f), info.get("size"), next((str(info[key]) for key in told if key in info), ""))
        for f, info in zip(files, infos)
    ]


def _suffixes(name: str) -> tuple[str, str]:
    """What a file's name says of its format, and of how it is packed."""
    path = PurePosixPath(name)
    if path.suffix in _PACKED:
        return PurePosixPath(path.stem).suffix, path.suffix
    return path.suffix, ""


def _known(name: str) -> bool:
    return _suffixes(name)[0] in FORMATS


def _format(name: str, format: str) -> str:
    return FORMATS.get(_suffixes(name)[0], "text") if format == "auto" else format


def _gunzip(raw: IO[bytes]) -> IO[bytes]:
    return io.BufferedReader(gzip.GzipFile(fileobj=raw), _CHUNK)


def _unzstd(raw: IO[bytes]) -> IO[bytes]:
    try:
        import zstandard
    except ImportError:
        raise UsageError("files *.zst need zstandard: pip install 'tensorlite[zstd]'") from None
    return io.BufferedReader(_Frames(raw, zstandard.ZstdDecompressor().decompressobj, zstandard.ZstdError), _CHUNK)


class _Frames(io.RawIOBase):
    """The content of compressed frames, one after the other. EOFError if the last one is cut short, which zstandard's
    own reader takes for its end."""

    def __init__(self, raw: IO[bytes], frame: Callable[[], Any], error: type[Exception]):
        self._raw, self._new, self._error = raw, frame, error
        self._frame: Any = None
        self._packed = self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        while not self._ready:
            self._packed = self._packed or self._raw.read(_CHUNK // 8)
            if not self._packed:
                if self._frame is not None:
                    raise EOFError
                return 0
            self._frame = self._frame or self._new()
            try:
                self._ready = self._frame.decompress(self._packed)
            except self._error as error:
                raise OSError(f"corrupted: {error}") from None
            self._packed = b""
            if self._frame.eof:
                self._packed, self._frame = self._frame.unused_data, None
        size = min(len(target), len(self._ready))
        target[:size], self._ready = self._ready[:size], self._ready[size:]
        return size
