"""Saving a training state and going on from it with the same bits.

A checkpoint is a folder `checkpoints/step-000123/`: the model, as its script writes it (`model.safetensors`, what
everybody else loads), and `training.safetensors` (optimiser, schedule, position in the data, random generator). It is
written under another name and renamed when complete, so an interrupted save never looks like a checkpoint.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorlite as tl
from gpt.checkpoint import latest_weights
from gpt.options import UsageError


def save(run: Path, step: int, write: Callable[[Path], None], state: dict[str, Any], keep: int = 1) -> Path:
    """Make checkpoints/step-<step>, in which `write` puts the model, and remove all but the newest `keep`. Returns its
    folder."""
    folder = run / "checkpoints" / f"step-{step:06d}"
    partial, before = (folder.with_name(f".{folder.name}.{word}") for word in ("part", "old"))
    for left in folder.parent.glob(".step-*"):  # by a save that was interrupted
        shutil.rmtree(left)
    partial.mkdir(parents=True)
    write(partial)
    tl.save({**state, "step": step, "generator": tl.get_rng_state()}, partial / "training.safetensors")
    if folder.exists():
        os.replace(folder, before)  # deleted only when its successor stands
    os.replace(partial, folder)
    shutil.rmtree(before, ignore_errors=True)
    for old in sorted(folder.parent.glob("step-*"), key=lambda path: int(path.name[5:]))[:-keep]:
        shutil.rmtree(old)
    return folder


def load(run: Path) -> tuple[Path, dict[str, Any]]:
    """A run's newest checkpoint and its training state, which the loop takes up.

    Raises UsageError if there is none to go on from.
    """
    try:
        file = latest_weights(run, "training.safetensors")
        state = tl.load(file)
    except (OSError, ValueError, LookupError, RuntimeError) as error:
        raise UsageError(f"--resume {run}: {error}") from None
    return file.parent, state
