"""How often something is done: every so many steps, or every so many minutes."""

from __future__ import annotations

import re
from typing import NamedTuple

from gpt.options import UsageError

_SECONDS = {"s": 1, "m": 60, "h": 3600}


class Interval(NamedTuple):
    """One of the two is None.

    >>> Interval.parse("100", "--checkpoint-every"), Interval.parse("1.5m", "--checkpoint-every")
    (Interval(steps=100, seconds=None), Interval(steps=None, seconds=90.0))
    """

    steps: int | None
    seconds: float | None

    @classmethod
    def parse(cls, text: str, flag: str) -> Interval:
        """Raises UsageError, which begins with `flag`, if `text` is neither a number of steps nor a time."""
        if re.fullmatch(r"\d+", text) and int(text) > 0:
            return cls(int(text), None)
        if (match := re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)) and float(match[1]) > 0:
            return cls(None, float(match[1]) * _SECONDS[match[2]])
        raise UsageError(f"{flag} is a number of steps, 100 say, or a time, 30s, 10m or 2h; not {text!r}")

    def due(self, step: int, seconds: float) -> bool:
        """Whether it is time, after `step` steps and `seconds` since the last time."""
        return step % self.steps == 0 if self.steps is not None else seconds >= (self.seconds or 0)
