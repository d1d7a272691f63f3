"""One process to a run's folder.

The operating system holds the lock (flock) and lets go when the process ends, however it ends; the file says who holds
it. Where another machine had the folder, or the file system knows no locks, the file's time of change tells: its holder
renews it.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary, finalize

from gpt.options import UsageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NAME = "run.lock"
RENEWED = 20.0  # seconds between two signs of life
DEAD = 120.0  # seconds without one, after which a process that cannot be asked counts as gone


class Lock:
    """Holds a folder as long as this object lives, or the process."""

    def __init__(self, folder: Path):
        path = folder / NAME
        try:
            descriptor = _taken(path)
            os.ftruncate(descriptor, 0)
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.write(descriptor, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
        except OSError as error:
            raise UsageError(f"{folder} cannot be written: {error.strerror}") from None
        over = threading.Event()
        threading.Thread(target=_renew, args=(path, over), name="lock", daemon=True).start()
        self.release = finalize(self, _release, descriptor, path, over)


_held: WeakValueDictionary[Path, Lock] = WeakValueDictionary()


def hold(folder: Path) -> Lock:
    """The lock of `folder`, once more if this process has it. Raises UsageError if another process has it, or if the
    folder cannot be written."""
    key = folder.resolve()
    lock = _held.get(key)
    if lock is None or not lock.release.alive:
        _held[key] = lock = Lock(folder)
    return lock


def holder(folder: Path) -> str | None:
    """Who trains in `folder`, in words, or nobody: judged by the lock's file alone, which is left as it is."""
    path = folder / NAME
    try:
        content = _parsed(path.read_bytes())
        silent = time.time() - path.stat().st_mtime
    except OSError:
        return None
    if not content or silent >= DEAD or (content.get("host") == socket.gethostname() and not _alive(content)):
        return None
    return _words(content)


def _words(content: dict[str, Any]) -> str:
    return f"process {content.get('pid', 'unknown')} on {content.get('host', 'an unknown machine')}"


def _alive(content: dict[str, Any]) -> bool:
    """Whether there is a process of this number here, as far as one can tell."""
    try:
        if os.name != "nt":  # where asking would end it
            os.kill(content["pid"], 0)
    except ProcessLookupError:
        return False
    except (KeyError, TypeError, OverflowError, PermissionError):
        pass
    return True


def _taken(path: Path) -> int:
    """The lock's file, opened and locked. A holder that is no more is named on stderr."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        free = _flock(descriptor)
        before = _parsed(os.read(descriptor, 4096))
        who = _words(before)
        silent = time.time() - os.fstat(descriptor).st_mtime
        if free is False:
            os.close(descriptor)
            raise UsageError(f"{path.parent} is in use by {who}; wait for it, or stop it (kill finishes its step)")
        if before and silent < DEAD and (free is None or before.get("host") != socket.gethostname()):
            os.close(descriptor)
            raise UsageError(
                f"{path.parent} was in use by {who} {max(silent, 0):.0f} s ago; after {DEAD:.0f} s without a sign of "
                f"life it counts as gone (or delete {path}, if you know that it is)"
            )
        if _current(descriptor, path):
            if before:
                print(f"{path.parent}: {who} had it and is gone; taking over", file=sys.stderr)
            return descriptor
        os.close(descriptor)  # its holder deleted it while we opened it


def _flock(descriptor: int) -> bool | None:
    """Whether the lock is ours now; None where the system cannot tell."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _parsed(text: bytes) -> dict[str, Any]:
    """What the lock's file says of who holds it; empty if nobody does."""
    try:
        content = json.loads(text)
    except ValueError:
        return {"pid": "unknown"} if text else {}
    return content if isinstance(content, dict) else {}


def _current(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _renew(path: Path, over: threading.Event) -> None:
    while not over.wait(RENEWED):
        try:
            os.utime(path)
        except OSError:  # somebody deleted it, or the disk is gone: no reason to stop training
            continue


def _release(descriptor: int, path: Path, over: threading.Event) -> None:
    over.set()
    try:
        if _current(descriptor, path):
            path.unlink()
    except OSError:  # a folder that became read-only keeps the file, which then counts as stale
        pass
    os.close(descriptor)
