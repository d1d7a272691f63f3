"""The training loop: one for every script.

A step is: forward and backward of a few micro-batches whose gradients add up, clip the gradient, let the
optimiser move the weights, let the schedule set the next learning rate. The rest is telling people about it.
"""

from __future__ import annotations

import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from tqdm import tqdm

import tensorlite as tl
from gpt.model import parameter_groups
from gpt.options import UsageError, to_json
from tensorlite import nn
from tensorlite.nn.utils import clip_grad_norm_
from tensorlite.optim.lr_scheduler import LambdaLR, Schedule, warmup_constant, warmup_cosine, warmup_linear
from train import checkpoint
from train.recipe import Recipe
from train.run import Run

Batch = Any
UNKNOWN = dict.fromkeys(("train_loss", "val_loss", "lr", "grad_norm", "tokens_per_second"))  # null in metrics.jsonl


@dataclass
class Task:
    """What a script trains: everything about a run that is its own.

    model      what the loop moves to the device, trains and switches between training and evaluation
    loader     an endless supply: when it is at its end, it begins anew
    loss       batch -> the loss to minimise, a scalar Tensor
    count      batch -> how many tokens it trains on
    evaluate   (step, whether it is the last) -> numbers for the log, val_loss say
    write      puts the model into the folder of a checkpoint
    """

    model: nn.Module
    loader: tl.data.DataLoader
    loss: Callable[[Batch], tl.Tensor]
    count: Callable[[Batch], int]
    evaluate: Callable[[int, bool], dict[str, float]]
    write: Callable[[Path], None]


class Loop:
    """Trains a Task as a Recipe says, and logs and saves into a Run; from the beginning, or from the `state` that was
    saved before.

    UsageError if there is nothing left to do.
    """

    def __init__(self, task: Task, recipe: Recipe, run: Run, state: dict[str, Any] | None = None):
        self.task, self.recipe, self.run = task, recipe, run
        self.model = task.model.to(recipe.device)
        self.steps = recipe.steps or math.ceil((recipe.epochs or 1) * len(task.loader) / recipe.accumulation)
        groups = parameter_groups(self.model, recipe.weight_decay)
        self.optimizer = tl.optim.AdamW(groups, lr=recipe.lr, betas=(recipe.beta1, recipe.beta2))
        self.scheduler = LambdaLR(self.optimizer, _schedule(recipe, self.steps))
        self.step = 0
        self.seconds = 0.0  # spent training, also before it was resumed
        if state:
            self.optimizer.load_state_dict(state["optimizer"])
            self.scheduler.load_state_dict(state["scheduler"])
            task.loader.load_state_dict(state["loader"])
            tl.set_rng_state(state["generator"])  # here, after the model was made, which draws too
            self.step, self.seconds = state["step"], state["seconds"]
            if self.step >= self.steps:
                raise UsageError(
                    f"{run.path} has trained {self.step:,} steps, nothing is left to do; try --steps {2 * self.step}"
                )
            (run.path / "config.json").write_text(to_json(replace(recipe, resume=None)), encoding="utf-8")
            print(f"going on with {run.path} after step {self.step:,}")

    def train(self) -> bool:
        """Run until `steps` are done (True) or the user presses Ctrl-C (False). Either way the last step is saved.

        Raises UsageError if the loss or its gradient is no longer finite; the weights are then as before that step.
        """
        batches = self._batches()
        self.model.train()
        with interruptible() as interrupted, progress(self.steps, self.step) as bar:
            if self.step == 0:
                self._evaluate(bar)
            while self.step < self.steps and not interrupted():
                start = time.perf_counter()
                lr = self.optimizer.param_groups[0]["lr"]
                loss, norm, tokens = self._step(batches)
                self.step += 1
                elapsed = time.perf_counter() - start
                self.seconds += elapsed
                numbers = {"train_loss": loss, "lr": lr, "grad_norm": norm, "tokens_per_second": tokens / elapsed}
                bar.update(1)
                bar.set_postfix_str(f"loss {loss:.3f}, {tokens / elapsed:,.0f} tokens/s", refresh=False)
                if self.step == self.steps or self._due(self.recipe.checkpoint_every):
                    self._save()  # before the evaluation, which may take long and may fail
                if self._due(self.recipe.eval_every):
                    self._evaluate(bar, numbers)
                elif self._due(self.recipe.log_every):
                    self._log(numbers)
            if self.step < self.steps:
                self._save()
        return self.step >= self.steps

    def _due(self, every: int | None) -> bool:
        return bool(every) and (self.step % (every or 1) == 0 or self.step == self.steps)

    def _step(self, batches: Iterator[Batch]) -> tuple[float, float, int]:
        """One step of the optimiser: (mean loss, norm of the gradient before clipping, tokens)."""
        total, tokens = 0.0, 0
        for _ in range(self.recipe.accumulation):
            batch = next(batches)
            loss = self.task.loss(batch) / self.recipe.accumulation
            loss.backward()
            total += loss.item()
            tokens += self.task.count(batch)
        clip = self.recipe.clip if self.recipe.clip is not None else math.inf
        norm = clip_grad_norm_(self.model.parameters(), clip).item()
        for what, number in (("loss", total), ("norm of the gradient", norm)):
            if not math.isfinite(number):
                folder = self.run.path / "checkpoints"
                saved = f"what was saved is in {folder}" if any(folder.glob("step-*")) else "nothing was saved yet"
                raise UsageError(
                    f"the {what} became {number} at step {self.step + 1}; lower --lr, or lengthen --warmup ({saved})"
                )
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.scheduler.step()
        return total, norm, tokens

    def _batches(self) -> Iterator[Batch]:
        while True:
            yield from self.task.loader

    def _save(self) -> None:
        parts: dict[str, Any] = {"optimizer": self.optimizer, "scheduler": self.scheduler, "loader": self.task.loader}
        state = {name: part.state_dict() for name, part in parts.items()}
        checkpoint.save(self.run.path, self.step, self.task.write, {**state, "seconds": self.seconds})

    def _log(self, numbers: dict[str, Any]) -> None:
        known = {name: float(f"{value:.6g}") for name, value in numbers.items()}
        self.run.log(step=self.step, **{**UNKNOWN, **known}, seconds=round(self.seconds, 3))

    def _evaluate(self, bar: tqdm, numbers: dict[str, Any] | None = None) -> None:
        self.model.eval()
        results = self.task.evaluate(self.step, self.step >= self.steps)
        self.model.train()
        self._log({**(numbers or {}), **results})
        words = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in results.items())
        bar.write(f"step {self.step:>6,}/{self.steps:,}: {words}", file=sys.stdout)
        sys.stdout.flush()


def _schedule(recipe: Recipe, steps: int) -> Schedule:
    """step -> what the peak learning rate is multiplied with."""
    floor = recipe.min_lr / recipe.lr
    if recipe.schedule == "cosine":
        return warmup_cosine(recipe.warmup, steps, floor)
    if recipe.schedule == "linear":
        return warmup_linear(recipe.warmup, steps, floor)
    return warmup_constant(recipe.warmup)


def progress(steps: int, start: int) -> tqdm:
    """A bar on a terminal; nothing where output goes to a file."""
    return tqdm(
        total=steps, initial=start, unit="step", dynamic_ncols=True, disable=None, file=sys.stderr, smoothing=0.1
    )


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Inside, the first Ctrl-C only makes the function that this yields return True, so that a step is never cut
    in half; the second one stops at once."""
    pressed = False

    def press(signum: int, frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True
        print("\nfinishing this step, then saving; press Ctrl-C again to stop at once", file=sys.stderr)

    try:
        before = signal.signal(signal.SIGINT, press)
    except ValueError:  # not the main thread: nobody can press Ctrl-C here
        yield lambda: False
        return
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)
