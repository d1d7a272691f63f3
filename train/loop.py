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
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from tqdm import tqdm

import tensorlite as tl
from gpt.options import UsageError
from tensorlite import nn
from tensorlite.nn.utils import clip_grad_norm_
from train.run import Run

Batch = Any
UNKNOWN = dict.fromkeys(("train_loss", "val_loss", "lr", "grad_norm", "tokens_per_second"))  # null in metrics.jsonl


@dataclass
class Loop:
    """Trains `model` for `steps` steps.

    loss           batch -> the loss to minimise, a scalar Tensor
    count          batch -> how many tokens it trains on
    accumulation   micro-batches whose gradients are averaged into one step
    clip           largest norm of the gradient; None does not clip
    every          step interval of each action; see `train`
    evaluate       (step) -> numbers for the log, val_loss say
    save           (step) -> None, writes a checkpoint
    """

    model: nn.Module
    optimizer: Any
    scheduler: Any
    loader: tl.data.DataLoader
    loss: Callable[[Batch], tl.Tensor]
    count: Callable[[Batch], int]
    run: Run
    steps: int
    accumulation: int = 1
    clip: float | None = 1.0
    log_every: int = 10
    eval_every: int = 100
    save_every: int | None = None
    evaluate: Callable[[int], dict[str, float]] = field(default=lambda step: {})
    save: Callable[[int], Any] = field(default=lambda step: None)
    step: int = 0
    seconds: float = 0.0  # spent training, also before it was resumed

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
                if self.step == self.steps or self._due(self.save_every):
                    self.save(self.step)  # before the evaluation, which may take long and may fail
                if self._due(self.eval_every):
                    self._evaluate(bar, numbers)
                elif self._due(self.log_every):
                    self._log(numbers)
            if self.step < self.steps:
                self.save(self.step)
        return self.step >= self.steps

    def _due(self, every: int | None) -> bool:
        return bool(every) and (self.step % (every or 1) == 0 or self.step == self.steps)

    def _step(self, batches: Iterator[Batch]) -> tuple[float, float, int]:
        """One step of the optimiser: (mean loss, norm of the gradient before clipping, tokens)."""
        total, tokens = 0.0, 0
        for _ in range(self.accumulation):
            batch = next(batches)
            loss = self.loss(batch) / self.accumulation
            loss.backward()
            total += loss.item()
            tokens += self.count(batch)
        norm = clip_grad_norm_(self.model.parameters(), self.clip if self.clip is not None else math.inf).item()
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
            yield from self.loader

    def _log(self, numbers: dict[str, Any]) -> None:
        known = {name: float(f"{value:.6g}") for name, value in numbers.items()}
        self.run.log(step=self.step, **{**UNKNOWN, **known}, seconds=round(self.seconds, 3))

    def _evaluate(self, bar: tqdm, numbers: dict[str, Any] | None = None) -> None:
        self.model.eval()
        results = self.evaluate(self.step)
        self.model.train()
        self._log({**(numbers or {}), **results})
        words = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in results.items())
        bar.write(f"step {self.step:>6,}/{self.steps:,}: {words}", file=sys.stdout)
        sys.stdout.flush()


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
