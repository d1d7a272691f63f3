"""Hyper-parameter search: `python -m train.sweep lr=1e-4,3e-4,1e-3 n-layer=2,4 -- --steps 300`.

Words name the options that are searched, and what values they take (train/space.py). What follows `--` is for the
training script, the same for each run. Without --trials every combination is tried, with it so many at random.

Each run is a process and has a folder in that of the sweep. The same command again, or --resume, goes on: runs that are
finished are not repeated, one that was stopped goes on from its checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from importlib import import_module
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from gpt.options import UsageError, from_json, option, parse, run, to_json
from train.lock import Lock, hold
from train.recipe import flag
from train.record import SCRIPTS, setting_names
from train.run import replace_text
from train.space import drawn, grid, read_space
from train.trials import Trials

NAME = "sweep.json"


@dataclass(frozen=True)
class Config:
    search: tuple[str, ...] = option(
        (), "options and their values, lr=1e-4,1e-3 or lr=log:1e-4..1e-2; --search may be left out"
    )
    script: Literal["pretrain", "classify", "instruct", "prefer", "arithmetic"] = option("pretrain", "what trains")
    out: Path = option(Path("runs/sweep"), "folder of the sweep")
    resume: Path | None = option(None, "folder of a sweep to go on with")
    show: Path | None = option(None, "folder of a sweep to show as far as it is; nothing is trained")
    trials: int | None = option(None, "combinations to draw at random; none: all there are")
    seed: int = option(1337, "where the random combinations come from; the runs' own is after --")
    by: str | None = option(
        None, "the number of metrics.jsonl that counts; none: val_loss, or of arithmetic val_accuracy"
    )
    highest: bool = option(False, "with --by: the highest is the best, not the lowest")
    retry: bool = option(False, "run those again that failed")

    def __post_init__(self) -> None:
        if self.trials is not None and self.trials < 1:
            raise UsageError(f"--trials is at least 1, not {self.trials}")

    @property
    def words(self) -> tuple[tuple[str, ...], list[str]]:
        """What is searched; and what goes to each run."""
        at = next((i for i, word in enumerate(self.search) if word.startswith("-")), len(self.search))
        return self.search[:at], list(self.search[at:])

    @property
    def measured(self) -> tuple[str, bool]:
        """The number that counts, and whether the highest is the best."""
        if self.by is None and self.script == "arithmetic":
            return "val_accuracy", True
        return self.by or "val_loss", self.highest


def main(argv: Sequence[str]) -> None:
    about = "Search hyper-parameters, lr=1e-4,1e-3 n-layer=2,4; what all runs have comes after --, -- --steps 300."
    _check_places(argv)
    config = parse(Config, argv, {"sweep": Config()}, "sweep", "sweep", about, words="search")
    if config.show is not None:
        saved = _saved(config.show)
        _trials(replace(saved, by=config.by or saved.by, highest=config.highest or saved.highest)).show()
        return
    if config.resume is not None:
        config = _resumed(config, config.resume)
    trials = _trials(config)
    lock = _prepare(config)
    print(f"{len(trials)} runs of train.{config.script} in {config.out}")
    with tqdm(total=len(trials), desc="sweep", unit="run", dynamic_ncols=True, disable=None, leave=False) as bar:
        finished = trials.run(bar, config.retry)
    lock.release()
    trials.show()
    if not finished:
        print(f"stopped; go on: python -m train.sweep --resume {config.out}")
    elif all(trials.state(trial) == "failed" for trial in trials.trials):
        raise UsageError(f"no run went well; what each printed is in {config.out}/logs")


def _check_places(argv: Sequence[str]) -> None:
    """UsageError for an option of a training script that stands before `--`."""
    own = {flag(f.name) for f in fields(Config)}
    for word in argv[: list(argv).index("--")] if "--" in argv else argv:
        name = word.partition("=")[0]
        if name in own or not name.startswith("--"):
            continue
        if name == "--preset" or any(name in map(flag, setting_names(script)) for script in SCRIPTS):
            raise UsageError(f"{name} is for the training script: put it after --, as in lr=1e-4,1e-3 -- {name} …")


def _trials(config: Config) -> Trials:
    """What there is to try. Raises UsageError if it cannot be, of the script's own options too."""
    searched, fixed = config.words
    if not searched:
        raise UsageError("what shall be searched? say lr=1e-4,1e-3 n-layer=2,4, and after -- what all runs have")
    module = import_module(f"train.{config.script}")
    space = read_space(searched, module.Config)
    combinations = grid(space) if config.trials is None else drawn(space, config.trials, config.seed)
    trials = Trials(config.out, config.script, fixed, combinations, *config.measured)
    for trial in combinations:
        module.configuration(trials.arguments(trial))  # before anything is trained
    return trials


def _prepare(config: Config) -> Lock:
    """Make the folder of a sweep, or go on with it. Raises UsageError if it is that of another one, or if another
    process has it."""
    path = config.out / NAME
    if path.exists():
        saved = _saved(config.out)
        if differs := _differences(saved, config):
            raise UsageError(
                f"--out {config.out}: is a sweep that differs in {', '.join(differs)}; choose another --out, or go on "
                f"with it: --resume {config.out}"
            )
    elif config.out.exists() and (not config.out.is_dir() or any(config.out.iterdir())):
        raise UsageError(f"--out {config.out}: exists and is not a sweep; choose another --out")
    try:
        config.out.mkdir(parents=True, exist_ok=True)
        lock = hold(config.out)
        replace_text(path, to_json(replace(config, resume=None, retry=False)))
    except OSError as error:
        raise UsageError(f"--out {config.out}: cannot be written: {error.strerror}") from None
    return lock


def _differences(saved: Config, config: Config) -> list[str]:
    """In what two sweeps differ that cannot stand in one table. More values and more trials can."""
    (before, flags_before), (now, flags_now) = saved.words, config.words
    names_before, names_now = ({word.partition("=")[0].replace("-", "_") for word in words} for words in (before, now))
    differs = {
        "--script": saved.script != config.script,
        "what is searched": names_before != names_now,
        "what stands after --": flags_before != flags_now,
    }
    return [name for name, is_so in differs.items() if is_so]


def _saved(folder: Path) -> Config:
    try:
        text = (folder / NAME).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{folder}: this is not the folder of a sweep ({NAME}: {error.strerror})") from None
    return replace(from_json(Config, text, f"{folder}/{NAME}"), out=folder)


def _resumed(config: Config, folder: Path) -> Config:
    """A saved sweep, with what may be changed of it: how many trials, and what counts."""
    if config.search:
        raise UsageError("--resume takes what is searched from the sweep; give the whole command without --resume")
    saved = _saved(folder)
    trials, by = config.trials or saved.trials, config.by or saved.by
    return replace(saved, trials=trials, by=by, highest=config.highest or saved.highest, retry=config.retry)


if __name__ == "__main__":
    run(main, "sweep")
