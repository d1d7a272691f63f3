"""What a sweep searches: the options of a training script, each with the values that it may take.

lr=1e-4,3e-4,1e-3    one of these
lr=log:1e-4..1e-2    anything between the two, as likely below as above their geometric mean
dropout=0..0.3       anything between the two, all alike; of a whole number, both ends belong to it
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from types import NoneType
from typing import TYPE_CHECKING, get_args, get_type_hints

import numpy as np

from gpt.options import UsageError
from train.recipe import flag

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Trial = dict[str, str]  # a value for each option, as the command line has it
_GIVEN = ("out", "resume", "name")  # by the sweep itself
_NUMBER = r"[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"(log:)?({_NUMBER})\.\.({_NUMBER})")
_BOOL = {"yes": "yes", "true": "yes", "no": "no", "false": "no"}


@dataclass(frozen=True)
class Choices:
    name: str
    values: tuple[str, ...]

    def draw(self, numbers: np.random.Generator) -> str:
        return self.values[numbers.integers(len(self.values))]


@dataclass(frozen=True)
class Range:
    """kind: int or float. log: the logarithm is uniform, not the value."""

    name: str
    low: float
    high: float
    kind: type
    log: bool

    def draw(self, numbers: np.random.Generator) -> str:
        """Of a float, four digits: more would not change what is found, and be hard to read."""
        low, high = (self.low, self.high + 1) if self.kind is int else (self.low, self.high)
        value = math.exp(numbers.uniform(math.log(low), math.log(high))) if self.log else numbers.uniform(low, high)
        return str(min(int(value), int(self.high))) if self.kind is int else f"{float(f'{value:.4g}'):.12g}"


Space = tuple[Choices | Range, ...]


def read_space(words: Sequence[str], config: type[DataclassInstance]) -> Space:
    """What `words` say of options of the script whose configuration is `config`.

    Raises UsageError for a word that says nothing, and an option that there is not, or twice. Whether a value is one
    that the option takes, the script knows.
    """
    hints = {f.name: get_type_hints(config)[f.name] for f in fields(config) if f.name not in _GIVEN}
    space: dict[str, Choices | Range] = {}
    for word in words:
        name, equals, values = word.partition("=")
        name = name.removeprefix("--").replace("-", "_")
        if not equals or not values:
            raise UsageError(f"{word!r} is not a search: say lr=1e-4,1e-3, or lr=log:1e-4..1e-2 with --trials")
        if name in _GIVEN:
            raise UsageError(f"{word}: each run has its own {flag(name)}, which the sweep chooses")
        if name not in hints:
            close = "".join(f"; did you mean {c}?" for c in get_close_matches(name, hints, 1))
            raise UsageError(f"{word}: there is no option {flag(name)} to search{close}")
        if name in space:
            raise UsageError(f"{word}: {name} is searched twice")
        space[name] = _dimension(name, values, _kind(hints[name]))
    return tuple(space.values())


def _dimension(name: str, text: str, kind: type) -> Choices | Range:
    if match := _RANGE.fullmatch(text):
        low, high = float(match[2]), float(match[3])
        if kind not in (int, float):
            raise UsageError(f"{name}={text}: {name} is no number; name its values: {name}=A,B")
        if not low < high < math.inf:
            raise UsageError(f"{name}={text}: a range goes from a number to a larger one")
        if match[1] and low <= 0:
            raise UsageError(f"{name}={text}: what is log-uniform begins above 0")
        if kind is int and (low % 1 or high % 1):
            raise UsageError(f"{name}={text}: {name} is a whole number, and so are the ends of its range")
        return Range(name, low, high, kind, bool(match[1]))
    if text.startswith("log:"):
        raise UsageError(f"{name}={text}: log: goes before a range, log:1e-4..1e-2 say")
    values = [_normal(name, value, kind) for value in text.split(",")]
    if not all(values):
        raise UsageError(f"{name}={text}: a value is missing beside a comma")
    return Choices(name, tuple(dict.fromkeys(values)))


def _normal(name: str, value: str, kind: type) -> str:
    """1e-3 and 0.001 are one value."""
    if kind is bool:
        if value not in _BOOL:
            raise UsageError(f"{name}={value}: {name} is yes or no")
        return _BOOL[value]
    try:
        return f"{float(value):.12g}" if kind is float else value
    except ValueError:
        return value  # none, or something that the script refuses


def _kind(hint: object) -> type:
    """int, float, bool, or str for all else; of `int | None`, int."""
    kinds = [kind for kind in get_args(hint) if kind is not NoneType] or [hint]
    return kinds[0] if kinds[0] in (int, float, bool) else str


def grid(space: Space) -> list[Trial]:
    """Each combination once. Raises UsageError for a range, of which there are too many."""
    for one in space:
        if isinstance(one, Range):
            raise UsageError(
                f"{one.name} has a range: give --trials, how many points to draw, or name values: {one.name}=A,B,C"
            )
    values = [[(one.name, value) for value in one.values] for one in space if isinstance(one, Choices)]
    return [dict(pairs) for pairs in itertools.product(*values)]


def drawn(space: Space, count: int, seed: int) -> list[Trial]:
    """`count` different combinations at random. Those of a smaller count are the first of a larger one.

    Raises UsageError if there are not so many.
    """
    if all(isinstance(one, Choices) for one in space) and count > (size := len(grid(space))):
        raise UsageError(f"--trials {count}: there are only {size} combinations; leave out --trials to try all")
    found: dict[tuple[str, ...], Trial] = {}
    numbers = np.random.default_rng(seed)
    for _ in range(1000 * count):
        trial = {one.name: one.draw(numbers) for one in space}
        found.setdefault(tuple(trial.values()), trial)
        if len(found) == count:
            return list(found.values())
    raise UsageError(f"--trials {count}: no more than {len(found)} different combinations were found; draw fewer")


def flags(trial: Trial, config: type[DataclassInstance]) -> list[str]:
    """What the script's command line says of a trial."""
    hints, words = get_type_hints(config), list[str]()
    for name, value in trial.items():
        if hints[name] is bool:
            words.append(flag(name) if value == "yes" else flag(name).replace("--", "--no-", 1))
        else:
            words.append(f"{flag(name)}={value}")
    return words


def title(trial: Trial) -> str:
    """lr=0.001 n_layer=2"""
    return " ".join(f"{name}={value}" for name, value in trial.items())
