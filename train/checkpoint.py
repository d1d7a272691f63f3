"""Saving a training state and going on from it with the same bits.

A checkpoint is a folder `checkpoints/step-000123/`: `model.safetensors` (the model alone, what everybody else
loads) and `training.safetensors` (optimiser, schedule, position in the data, random generator). It is written
under another name and renamed when complete, so an interrupted save never looks like a checkpoint.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import tensorlite as tl
from gpt.checkpoint import latest_weights, load_model, save_model
from gpt.model import GPT
from gpt.options import UsageError


def save(run: Path, step: int, model: GPT, state: dict[str, Any], keep: int = 1) -> Path:
    """Write checkpoints/step-<step> and remove all but the newest `keep`. Returns its folder."""
    folder = run / "checkpoints" / f"step-{step:06d}"
    partial, before = (folder.with_name(f".{folder.name}.{word}") for word in ("part", "old"))
    for left in folder.parent.glob(".step-*"):  # by a save that was interrupted
        shutil.rmtree(left)
    partial.mkdir(parents=True)
    save_model(model, partial / "model.safetensors")
    tl.save({**state, "step": step, "generator": tl.get_rng_state()}, partial / "training.safetensors")
    if folder.exists():
        os.replace(folder, before)  # deleted only when its successor stands
    os.replace(partial, folder)
    shutil.rmtree(before, ignore_errors=True)
    for old in sorted(folder.parent.glob("step-*"), key=lambda path: int(path.name[5:]))[:-keep]:
        shutil.rmtree(old)
    return folder


def load(run: Path) -> tuple[GPT, dict[str, Any]]:
    """The model and the training state of a run's newest checkpoint; the random generator goes on from there too.

    Raises UsageError if there is none to go on from.
    """
    try:
        weights = latest_weights(run)
        model = load_model(weights)
        state = tl.load(weights.with_name("training.safetensors"))
        tl.set_rng_state(state["generator"])
    except (OSError, ValueError, LookupError, RuntimeError) as error:
        raise UsageError(f"--resume {run}: {error}") from None
    return model, state
