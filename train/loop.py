"""The training loop: one for every script.

A step is: forward and backward of a few micro-batches whose gradients add up, clip the gradient, let the
optimiser move the weights, let the schedule set the next learning rate. The rest is telling people about it, and
saving it so that nothing is lost.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

import tensorlite as tl
from gpt.model import parameter_groups
from gpt.options import UsageError, to_json
from tensorlite import machine, nn
from tensorlite.nn.utils import clip_grad_norm_
from tensorlite.optim.lr_scheduler import LambdaLR, Schedule, warmup_constant, warmup_cosine, warmup_linear
from train import checkpoint
from train.graphed import Graphed
from train.outliers import Outliers
from train.precision import Precision
from train.recipe import Recipe
from train.run import Run, replace_text
from train.saving import Saver
from train.signals import interruptible
from train.tracking import tracked
from train.watch import diagnose

Batch = Any
# null in metrics.jsonl where a line does not have them
NUMBERS = ("train_loss", "val_loss", "lr", "grad_norm", "tokens_per_second", "share_of_peak")


@dataclass
class Task:
    """What a script trains: everything about a run that is its own.

    model            what the loop moves to the device, trains and switches between training and evaluation
    loader           an endless supply: when it is at its end, it begins anew
    loss             batch -> the loss to minimise, a scalar Tensor
    count            batch -> how many tokens it trains on
    evaluate         (step, whether it is the last) -> numbers for the log, val_loss say
    write            (model, folder): puts a model, which is a copy of `model`, into the folder of a checkpoint
    data             a checksum of what it trains on: with other data a run does not go on
    flops_per_token  of training; None if the share of the machine's peak is not to be known
    parts            what else a checkpoint holds: objects with state_dict() and load_state_dict()
    """

    model: nn.Module
    loader: tl.data.DataLoader
    loss: Callable[[Batch], tl.Tensor]
    count: Callable[[Batch], int]
    evaluate: Callable[[int, bool], dict[str, float]]
    write: Callable[[Any, Path], None]
    data: str = ""
    flops_per_token: float | None = None
    parts: dict[str, Any] = field(default_factory=dict)


@dataclass
class Gathered:
    """What the micro-batches of a step have given so far, beside their gradients. The loss may still be on a GPU."""

    micro: int = 0
    loss: Any = 0.0
    tokens: int = 0
    seconds: float = 0.0


class Loop:
    """Trains a Task as a Recipe says, and logs and saves into a Run; from the beginning, or from the `state` that was
    saved before.

    UsageError if there is nothing left to do, or the state is that of other data.
    """

    def __init__(self, task: Task, recipe: Recipe, run: Run, state: dict[str, Any] | None = None):
        self.task, self.recipe, self.run = task, recipe, run
        self.model = task.model.to(recipe.device)
        self.steps = recipe.steps or math.ceil((recipe.epochs or 1) * len(task.loader) / recipe.accumulation)
        self.optimizer = make_optimizer(self.model, recipe)
        self.scheduler = LambdaLR(self.optimizer, _schedule(recipe, self.steps))
        self.outliers = Outliers(recipe.skip_outliers)
        self.precision = Precision(recipe.precision, recipe.device)
        self.parts: dict[str, Any] = {
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "loader": task.loader,
            "outliers": self.outliers,
            **self.precision.parts,
            **task.parts,
        }
        self._graphed: Graphed | None = None
        if recipe.cuda_graph:
            self._graphed = Graphed(self._backward, list(self.model.parameters()), recipe.device)
        self.saver = Saver(run.path, self.model, task.write, recipe.keep)
        self.step = 0
        # A GPU is not waited for within a step: what it found is read when it is told, unless a step depends on it.
        self.at_once = tl.device(recipe.device).type == "cpu" or recipe.skip_outliers is not None
        self.unread: list[tuple[int, Gathered, Any]] = []  # of steps that are done: number, loss, norm of the gradient
        self.gathered = Gathered()  # of the step that has begun
        self.begun: tuple[list[Batch], Any] = ([], None)  # its micro-batches, and the generator before them
        self.tokens = 0  # that it has trained on, also before it was resumed
        self.seconds = 0.0  # spent training, likewise
        self.saved = checkpoint.name(0)  # the last position that was saved, and when
        self.saved_at = time.monotonic()
        self.peak: float | None = None  # FLOP/s
        if state:
            self._take_up(state)
        run.remember()

    def _take_up(self, state: dict[str, Any]) -> None:
        if state["data"] != self.task.data:
            raise UsageError(
                f"--resume {self.run.path}: the data to train on are others than before (checksum {self.task.data}, it "
                f"was {state['data']}); bring back what they were, or start a new run"
            )
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        self._set_generators(state["generator"], state.get("cuda_generator"))  # here: making the model draws too
        self.step, self.seconds, self.gathered = state["step"], state["seconds"], Gathered(**state["gathered"])
        self.tokens = state.get("tokens", 0)  # a checkpoint from before they were counted has none
        for parameter, gradient in zip(self.model.parameters(), state["gradients"]):
            parameter.grad = None if gradient is None else gradient.to(parameter.device)
        if self.step >= self.steps:
            raise UsageError(
                f"{self.run.path} has trained {self.step:,} steps, nothing is left to do; try --steps {2 * self.step}"
            )
        self.saved = self._position()
        try:
            replace_text(self.run.path / "config.json", to_json(replace(self.recipe, resume=None)))
        except OSError as error:
            raise UsageError(f"--resume {self.run.path}: cannot be written: {error.strerror}") from None
        within = f" and {self.gathered.micro} micro-batches" if self.gathered.micro else ""
        print(f"going on with {self.run.path} after step {self.step:,}{within}")

    def train(self) -> bool:
        """Run until `steps` are done (True) or somebody stops it by Ctrl-C or SIGTERM (False), also between two
        micro-batches of a step. Either way all is saved.

        Raises UsageError if the loss or its gradient is no longer finite, where the last checkpoint is from before; or
        if the end could not be saved.
        """
        if self.recipe.measure_peak and self.task.flops_per_token:
            self.peak = machine.ceilings(self.recipe.device).flops
        batches = self._batches()
        self.model.train()
        track = tracked(self.run, self.recipe.track)
        with interruptible() as stopping, track, progress(self.steps, self.step) as bar:
            try:
                self._train(batches, stopping, bar)
            except Exception:
                self.saver.wait()  # what was begun is worth having
                raise
            self._finish()
        return self.step >= self.steps

    def _train(self, batches: Iterator[Batch], stopping: Callable[[], bool], bar: Any) -> None:
        if self.step == 0 and not self.gathered.micro:
            self._evaluate(bar)
        while self.step < self.steps and not stopping():
            lr = self.optimizer.param_groups[0]["lr"]
            done = self._step(batches, stopping)
            if done is None:
                break
            self.unread.append(done)
            bar.update(1)
            if not self._to_be_read():
                continue
            numbers = {**self._read(), "lr": lr}
            bar.set_postfix_str(self._words(numbers), refresh=False)
            if self.step == self.steps or self._checkpoint_due():
                self._save()  # before the evaluation, which may take long and may fail
            if self._due(self.recipe.eval_every):
                self._evaluate(bar, numbers)
            elif self._due(self.recipe.log_every):
                self._log(numbers)

    def _to_be_read(self) -> bool:
        return (
            self.at_once
            or self._due(self.recipe.log_every)
            or self._due(self.recipe.eval_every)
            or self._checkpoint_due()
        )

    def _due(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.steps

    def _checkpoint_due(self) -> bool:
        interval = self.recipe.checkpoints_due()
        return interval is not None and interval.due(self.step, time.monotonic() - self.saved_at)

    # A step ---------------------------------------------------------------------------------------------

    def _step(self, batches: Iterator[Batch], stopping: Callable[[], bool]) -> tuple[int, Gathered, Any] | None:
        """One step of the optimiser: its number, what its micro-batches gave, and the norm of the gradient before
        clipping. None if it was stopped between two micro-batches."""
        g = self.gathered
        self.begun = ([], self._generators())
        while g.micro < self.recipe.accumulation:
            if g.micro and stopping():
                return None
            start = time.perf_counter()
            batch = next(batches)
            self.begun[0].append(batch)
            g.loss += self._number((self._graphed or self._backward)(batch))
            g.tokens += (tokens := self.task.count(batch))
            self.tokens += tokens
            g.micro += 1
            g.seconds += (spent := time.perf_counter() - start)
            self.seconds += spent
        start = time.perf_counter()
        norm = self._update(g.loss)
        g.seconds += (spent := time.perf_counter() - start)
        self.seconds += spent
        self.step += 1
        self.gathered = Gathered()
        return self.step, g, norm

    def _backward(self, batch: Batch) -> tl.Tensor:
        """Add a micro-batch's part to the gradient of the step, and return its part of the loss."""
        with self.precision.autocast:
            loss = self.task.loss(batch) / self.recipe.accumulation
        self.precision.scaler.scale(loss).backward()
        return loss

    def _number(self, x: tl.Tensor) -> Any:
        """The number in a Tensor; the Tensor itself where nobody must wait for it."""
        return x.item() if self.at_once else x.detach()

    def _update(self, loss: Any) -> Any:
        """Move the weights, unless the step is an outlier or its gradient overflowed. Returns the gradient's norm."""
        clip = self.recipe.clip if self.recipe.clip is not None else math.inf
        scaler = self.precision.scaler
        scaler.unscale_(self.optimizer)
        norm = self._number(clip_grad_norm_(self.model.parameters(), clip))
        wrong = None
        if self.at_once:
            if (what := _not_finite(loss, norm)) is None:
                wrong = self.outliers.look(loss=loss, gradient_norm=norm)
            elif not self._overflowed(loss):
                self._explain(what)
        if wrong:
            print(f"\nstep {self.step + 1:,} is skipped: {wrong}", file=sys.stderr)
        else:
            scaler.step(self.optimizer)
        scaler.update()
        self.optimizer.zero_grad()
        self.scheduler.step()
        return norm

    def _overflowed(self, loss: float) -> bool:
        """Whether a gradient that is not finite is one that the scaler has skipped."""
        return math.isfinite(loss) and self.precision.overflowed()

    def _explain(self, what: str) -> None:
        """Raise the UsageError that says where what is not finite came from."""
        batches, generators = self.begun

        def again() -> None:
            self.optimizer.zero_grad()
            self._set_generators(*generators)
            for batch in batches:
                self._backward(batch)

        self._give_up(f"the {what} at step {self.step + 1}: {diagnose(self.model, again)}")

    def _give_up(self, why: str) -> None:
        self.saver.wait()
        raise UsageError(f"{why}; lower --lr, or lengthen --warmup ({self.saver.last()})")

    def _read(self) -> dict[str, float]:
        """The numbers of the last step, and the speed of all since the last reading. Waits for the GPU to compute them.

        Raises UsageError if those of a step are not finite.
        """
        start = time.perf_counter()
        read = [(step, float(g.loss), float(norm)) for step, g, norm in self.unread]
        seconds = 0.0 if self.at_once else time.perf_counter() - start
        self.seconds += seconds
        tokens = sum(g.tokens for _, g, _ in self.unread)
        seconds += sum(g.seconds for _, g, _ in self.unread)
        self.unread = []
        for step, loss, norm in read:
            if (what := _not_finite(loss, norm)) and not self._overflowed(loss):
                self._give_up(
                    f"the {what} at step {step}, as was read after step {self.step}; with --log-every 1 the op and the "
                    "module are found"
                )
        _, loss, norm = read[-1]
        numbers = {"train_loss": loss, "grad_norm": norm, "tokens_per_second": tokens / seconds}
        if self.peak and self.task.flops_per_token:
            numbers["share_of_peak"] = numbers["tokens_per_second"] * self.task.flops_per_token / self.peak
        return numbers

    def _generators(self) -> tuple[tl.Tensor, tl.Tensor | None]:
        """The states of the CPU's generator and, where the model is on one, of the GPU's."""
        on_gpu = tl.device(self.recipe.device).type == "cuda"
        return tl.get_rng_state(), tl.cuda.get_rng_state(self.recipe.device) if on_gpu else None

    def _set_generators(self, cpu: tl.Tensor, cuda: tl.Tensor | None) -> None:
        tl.set_rng_state(cpu)
        if cuda is not None and tl.device(self.recipe.device).type == "cuda":
            tl.cuda.set_rng_state(cuda, self.recipe.device)

    def _batches(self) -> Iterator[Batch]:
        while True:
            yield from self.task.loader

    # Saving ---------------------------------------------------------------------------------------------

    def _position(self) -> str:
        return checkpoint.name(self.step, self.gathered.micro)

    def _save(self) -> None:
        """Begin to write what there is now, unless it was saved before."""
        if self._position() == self.saved:
            return
        if self.unread:
            self._read()  # what is not finite is not saved
        self.gathered.loss = float(self.gathered.loss)
        cpu, cuda = self._generators()
        try:
            self.run.restore()
        except OSError as error:
            print(f"\n{self.run.path} is gone and cannot be made: {error.strerror}", file=sys.stderr)
        state = {
            **{name: part.state_dict() for name, part in self.parts.items()},
            "generator": cpu,
            "cuda_generator": cuda,
            "gathered": asdict(self.gathered),
            "gradients": [p.grad for p in self.model.parameters()] if self.gathered.micro else [],
            "step": self.step,
            "tokens": self.tokens,
            "seconds": self.seconds,
            "data": self.task.data,
        }
        self.saver.save(self._position(), state, self._best())
        self.saved, self.saved_at = self._position(), time.monotonic()

    def _best(self) -> tuple[str, ...]:
        """The checkpoint of the lowest validation loss, if that is to be kept."""
        if not self.recipe.keep_best or self.recipe.checkpoint_every is None:
            return ()
        known = [(m["val_loss"], m["step"]) for m in self.run.metrics if m.get("val_loss") is not None and m["step"]]
        return (checkpoint.name(min(known)[1]),) if known else ()

    def _finish(self) -> None:
        """See to it that the end is on the disk. Raises UsageError if it cannot be."""
        self._save()
        self.saver.wait()
        if self.saver.failed:
            self.saved = ""
            self._save()  # once more: space may be found by now
            self.saver.wait()
        if self.saver.failed:
            raise UsageError(
                f"step {self.step:,} could not be saved in {self.run.path}: {self.saver.failed.strerror}; "
                f"{self.saver.last()}. Make room, then --resume {self.run.path}"
            )
        checkpoint.prune(self.run.path, self.recipe.keep, self._best())

    # Telling --------------------------------------------------------------------------------------------

    def _words(self, numbers: dict[str, float]) -> str:
        words = f"loss {numbers['train_loss']:.3f}, {numbers['tokens_per_second']:,.0f} tokens/s"
        if "share_of_peak" in numbers:
            words += f", {numbers['share_of_peak']:.0%} of peak"
        return words + (f", {self.outliers.skipped} skipped" if self.outliers.skipped else "")

    def _log(self, numbers: dict[str, Any]) -> None:
        known = {name: float(f"{value:.6g}") for name, value in numbers.items() if math.isfinite(value)}
        skipped = {} if self.recipe.skip_outliers is None else {"skipped": self.outliers.skipped}
        numbers = {**dict.fromkeys(NUMBERS), **known, **skipped}
        self.run.log(step=self.step, **numbers, **self._place(), seconds=round(self.seconds, 3))

    def _place(self) -> dict[str, int]:
        """Where in the data it is, as a checkpoint made now would say: the next micro-batch is number `batches`, from
        0 on, of `epoch`; and how many tokens came before it."""
        loader = self.task.loader.state_dict()
        return {"epoch": loader["epoch"], "batches": loader["batches"], "tokens": self.tokens}

    def _evaluate(self, bar: tqdm, numbers: dict[str, Any] | None = None) -> None:
        self.model.eval()
        with self.precision.autocast:
            results = self.task.evaluate(self.step, self.step >= self.steps)
        self.model.train()
        self._log({**(numbers or {}), **results})
        if checkpoint.name(self.step) in self._best():
            self._save()
        words = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in results.items())
        bar.write(f"step {self.step:>6,}/{self.steps:,}: {words}", file=sys.stdout)
        sys.stdout.flush()


def _not_finite(loss: float, norm: float) -> str | None:
    """Which of the two is not, in words."""
    for what, number in (("loss", loss), ("norm of the gradient", norm)):
        if not math.isfinite(number):
            return f"{what} became {number}"
    return None


def make_optimizer(model: nn.Module, recipe: Recipe) -> tl.optim.AdamW:
    """AdamW as the recipe has it, for what learns in `model`."""
    groups = parameter_groups(model, recipe.weight_decay)
    return tl.optim.AdamW(groups, lr=recipe.lr, betas=(recipe.beta1, recipe.beta2))


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
