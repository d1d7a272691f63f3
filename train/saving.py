"""Saving while training goes on: a copy of everything is made at once, and a thread writes the copy."""

from __future__ import annotations

import copy
import sys
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gpt.checkpoint import checkpoints
from tensorlite import nn
from tensorlite.device import move
from tensorlite.tensor import Tensor, array_of
from train import checkpoint


class Saver:
    """Writes a run's checkpoints one at a time. The copy takes as much memory as model and state, and stays.

    write  (model, folder): puts a model like `model` into the folder of a checkpoint
    keep   how many of the newest stay, beside the best

    A save that the disk does not take is said on stderr, and `failed` until another one succeeds.
    """

    def __init__(self, run: Path, model: nn.Module, write: Callable[[Any, Path], None], keep: int):
        self.run, self.model, self.write, self.keep = run, model, write, keep
        self.failed: OSError | None = None
        self._twin: nn.Module | None = None
        self._arrays: dict[str, np.ndarray] = {}  # of the state, used again by each save
        self._thread: threading.Thread | None = None
        self._bug: BaseException | None = None

    def save(self, folder: str, state: Mapping[str, Any], best: Collection[str] = ()) -> None:
        """Begin to write checkpoints/`folder` with the model and `state` as they are now. Waits for the one before."""
        self.wait()
        if self._twin is None:
            self._twin = copy.deepcopy(self.model).to("cpu")
            self._twin.zero_grad()
        else:
            self._twin.load_state_dict(self.model.state_dict())
        still = self._copied(state, "")
        # A daemon: a second Ctrl-C ends the program although half a checkpoint is written, which nobody will see.
        self._thread = threading.Thread(target=self._run, args=(folder, still, best), name="saver", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._thread is not None and self._thread.is_alive()

    def wait(self) -> None:
        """Until what was begun is on the disk, or has failed."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._bug is not None:
            raise self._bug

    def _run(self, folder: str, state: dict[str, Any], best: Collection[str]) -> None:
        try:
            checkpoint.save(self.run, folder, lambda path: self.write(self._twin, path), state, self.keep, best)
            self.failed = None
        except OSError as error:
            self.failed = error
            print(f"\n{folder} could not be saved: {error.strerror or error}; {self.last()}", file=sys.stderr)
        except BaseException as error:
            self._bug = error

    def last(self) -> str:
        """What there is to go on from, in words."""
        there = checkpoints(self.run)
        return f"the last checkpoint is {there[-1]}" if there else "nothing was saved yet"

    def _copied(self, x: Any, where: str) -> Any:
        """`x` with a copy of each of its arrays, which nobody else writes into."""
        if isinstance(x, (Tensor, np.ndarray)):
            array = move(array_of(x), "cpu")
            known = self._arrays.get(where)
            if known is None or (known.shape, known.dtype) != (array.shape, array.dtype):
                known = self._arrays[where] = np.empty_like(array)
            np.copyto(known, array)
            return known
        if isinstance(x, Mapping):
            return {key: self._copied(value, f"{where}.{key}") for key, value in x.items()}
        if isinstance(x, (list, tuple)):
            return type(x)([self._copied(value, f"{where}.{i}") for i, value in enumerate(x)])
        return x
