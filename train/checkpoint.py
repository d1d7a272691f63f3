"""A training state on disk, which goes on with the same bits.

A checkpoint is a folder `checkpoints/step-000123/`: the model, as its script writes it (`model.safetensors`, what
everybody else loads), `training.safetensors` (optimiser, schedule, position in the data, random generator) and
`manifest.json` (size and checksum of each file, versions). `step-000123+004` holds the gradients of four micro-batches
of the next step too.

It is written under another name, flushed to the disk and renamed, and goes the same way: a folder called step-… is
whole, whenever the process dies.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

import tensorlite as tl
from gpt.checkpoint import checkpoints
from gpt.options import UsageError
from train import checksum

MANIFEST, TRAINING = "manifest.json", "training.safetensors"


def name(step: int, micro: int = 0) -> str:
    """Of the folder of a checkpoint that was made after `step` steps and `micro` micro-batches."""
    return f"step-{step:06d}" + (f"+{micro:03d}" if micro else "")


def save(
    run: Path,
    folder: str,
    write: Callable[[Path], None],
    state: dict[str, Any],
    keep: int = 1,
    best: Collection[str] = (),
) -> Path:
    """Make checkpoints/`folder`, in which `write` puts the model, and remove all but the newest `keep` and the `best`.
    Returns its path.

    Raises OSError if it cannot be written; then everything is as before.
    """
    here = run / "checkpoints"
    partial, final = here / f".{folder}.part", here / folder
    try:
        here.mkdir(parents=True, exist_ok=True)
        for left in here.glob(".step-*"):  # by a process that died
            shutil.rmtree(left)
        partial.mkdir()
        write(partial)
        tl.save(state, partial / TRAINING)
        _describe(partial)
        if final.exists():  # a damaged one, which training has reached again from an older one
            _remove(final)
        os.replace(partial, final)
        flush(here)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    prune(run, keep, best)
    return final


def prune(run: Path, keep: int, best: Collection[str] = ()) -> None:
    """Remove all checkpoints but the newest `keep` and those named in `best`."""
    for path in checkpoints(run)[:-keep]:
        if path.name not in best:
            with suppress(OSError):  # the next time finds it again
                _remove(path)


def _describe(folder: Path) -> None:
    """Write the manifest of a checkpoint's files, and see to it that all of it is on the disk."""
    files = {
        path.name: {"bytes": path.stat().st_size, "crc32": checksum.of_file(path)} for path in sorted(folder.iterdir())
    }
    with (folder / MANIFEST).open("w", encoding="utf-8") as file:
        json.dump({"files": files, "versions": versions()}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    flush(folder)


def flush(folder: Path) -> None:
    """Put the names in a folder on the disk. Where a system cannot (Windows), nothing happens."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove(folder: Path) -> None:
    """Renamed first, so that no folder called step-… is ever half deleted."""
    doomed = folder.with_name(f".{folder.name}.old")
    os.replace(folder, doomed)
    shutil.rmtree(doomed)


def versions() -> dict[str, str]:
    """Of what computes: with others, the bits may be others."""
    return {"tensorlite": tl.__version__, "numpy": np.__version__, "python": platform.python_version()}


def load(run: Path) -> tuple[Path, dict[str, Any]]:
    """A run's newest checkpoint that is whole, and its training state, which the loop takes up. A damaged one is named
    on stderr.

    Raises UsageError if there is none to go on from.
    """
    found = checkpoints(run)
    for folder in reversed(found):
        if wrong := damage(folder):
            print(f"{folder} is damaged, an older one is tried: {wrong}", file=sys.stderr)
            continue
        _compare(folder)
        try:
            return folder, tl.load(folder / TRAINING)
        except (OSError, ValueError, LookupError, RuntimeError) as error:
            raise UsageError(f"--resume {run}: {error}") from None
    if found:
        raise UsageError(f"--resume {run}: all of its checkpoints are damaged; start a new run")
    raise UsageError(
        f"--resume {run}: it has no checkpoint yet, nothing was trained that is worth keeping; delete it and start anew"
    )


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint: a file that is missing, or is not what was written. None if it is whole."""
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        for file, known in files.items():
            if (size := (folder / file).stat().st_size) != known["bytes"]:
                return f"{file} has {size:,} bytes, and {known['bytes']:,} were written"
            if checksum.of_file(folder / file) != known["crc32"]:
                return f"the checksum of {file} is not that of what was written"
    except OSError as error:
        return f"{Path(error.filename or MANIFEST).name}: {error.strerror}"
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        return f"{MANIFEST} cannot be read: {error!r}"
    return None


def _compare(folder: Path) -> None:
    """Say on stderr if another version of something goes on than stopped."""
    then, now = json.loads((folder / MANIFEST).read_text(encoding="utf-8")).get("versions", {}), versions()
    if changed := [f"{what} {then[what]} → {now[what]}" for what in now if then.get(what, now[what]) != now[what]]:
        print(f"{folder}: {', '.join(changed)}; the last bits may differ", file=sys.stderr)
