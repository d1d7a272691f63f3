"""What a check found: per input a Finding, per call a Report, per op an OpReport."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field


class GradientError(AssertionError):
    """A gradient is wrong, or a promise is not kept; the message says which, where, and what is likely."""


@dataclass(frozen=True)
class Kink:
    """A place where the function has no derivative: the engine's value should lie from `low` to `high`."""

    index: tuple[int, ...] | None  # None: along a random direction
    kind: str  # a key of slopes.KINDS
    low: float
    high: float
    engine: float


@dataclass(frozen=True)
class Mistake:
    """The worst element of a wrong gradient, and what its numbers look like."""

    index: tuple[int, ...] | None  # None: along a random direction
    engine: float
    measured: float
    likely: tuple[tuple[str, str], ...]  # name of the hypothesis, what it says

    @property
    def ratio(self) -> float:
        """engine / measured"""
        return self.engine / self.measured if self.measured else float("nan")


@dataclass(frozen=True)
class Finding:
    """The gradient of one input, of first or second order."""

    input: str
    order: int
    method: str  # "complex step" or "differences"
    why: str  # if differences: why not the complex step
    shape: tuple[int, ...]
    error: float  # the worst, relative to the scale of the gradient (measure.py says what that is); kinks left out
    kinks: tuple[Kink, ...] = ()
    mistake: Mistake | None = None

    @property
    def verdict(self) -> str:
        return "wrong" if self.mistake else "kink" if self.kinks else "right"

    def __str__(self) -> str:
        order = "" if self.order == 1 else " of second order"
        head = f"the gradient{order} of {self.input}, shape {self.shape}"
        if self.mistake is None:
            kinks = f", {len(self.kinks)} at a kink" if self.kinks else ""
            return f"{head}: {self.verdict} ({self.method}, worst error {self.error:.1e}{kinks})"
        m = self.mistake
        where = "along a random direction" if m.index is None else f"at {list(m.index)}"
        numbers = f"the engine gives {m.engine:.15g}, measured is {m.measured:.15g} ({self.method})"
        lines = [f"{head}, is wrong", f"{where} {numbers}; their ratio is {m.ratio:.12g}"]
        lines += [f"{'likely' if not i else 'or'}: {says}" for i, (_, says) in enumerate(m.likely[:2])]
        return "\n    ".join(lines)


@dataclass(frozen=True)
class Report:
    """What was found about one call of a function."""

    name: str
    given: str  # the inputs, in words
    findings: tuple[Finding, ...]
    complaints: tuple[str, ...] = ()  # promises that were not kept
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.complaints and all(f.mistake is None for f in self.findings)

    def __bool__(self) -> bool:
        return self.ok

    @property
    def verdict(self) -> str:
        """wrong; kink (right, where there is a derivative); right; no derivative (nothing to check)."""
        if not self.ok:
            return "wrong"
        if not self.findings:
            return "no derivative"
        return "kink" if any(f.kinks for f in self.findings) else "right"

    def worst(self, method: str, order: int) -> float | None:
        """The worst error of one method and order; None where it did not run."""
        errors = [f.error for f in self.findings if f.method == method and f.order == order]
        return max(errors) if errors else None

    def __str__(self) -> str:
        lines = [f"{self.name}({self.given}): {self.verdict}", *self.notes, *self.complaints, *map(str, self.findings)]
        return "\n  ".join(lines)

    def problems(self) -> str:
        """What is wrong, in words for the person who has to mend it."""
        wrong = [*self.complaints, *(str(f) for f in self.findings if f.mistake)]
        return "\n  ".join([f"{self.name}({self.given})", *wrong])

    def raise_if_wrong(self) -> Report:
        if not self.ok:
            raise GradientError(self.problems())
        return self


@dataclass(frozen=True)
class OpReport:
    """What was found about an op on all its samples."""

    name: str
    reports: tuple[Report, ...]
    complaints: tuple[str, ...] = field(default=())

    @property
    def ok(self) -> bool:
        return not self.complaints and all(r.ok for r in self.reports)

    def __bool__(self) -> bool:
        return self.ok

    @property
    def verdict(self) -> str:
        verdicts = {r.verdict for r in self.reports}
        if not self.ok:
            return "wrong" if self.reports else "no samples"
        return next(v for v in ("kink", "right", "no derivative") if v in verdicts)

    def worst(self, method: str, order: int) -> float | None:
        errors = [e for r in self.reports for e in [r.worst(method, order)] if e is not None]
        return max(errors) if errors else None

    def findings(self) -> Iterator[Finding]:
        for report in self.reports:
            yield from report.findings

    @property
    def kinks(self) -> int:
        return sum(len(f.kinks) for f in self.findings())

    def likely(self) -> str | None:
        """The hypothesis that explains most of the wrong gradients; the likelier one of several that do."""
        names = [name for f in self.findings() if f.mistake for name, _ in f.mistake.likely]
        return max(Counter(names).items(), key=lambda item: item[1])[0] if names else None

    def problems(self) -> str:
        """The sample on which the likely mistake shows in most elements, and how many others are wrong."""
        wrong = [r for r in self.reports if not r.ok]
        lines = list(self.complaints)
        if wrong:
            likely = self.likely()

            def telling(report: Report) -> tuple[bool, int]:
                mistakes = [f for f in report.findings if f.mistake]
                first = any(f.mistake and f.mistake.likely[0][0] == likely for f in mistakes)
                return first, max((math.prod(f.shape) for f in mistakes), default=0)

            lines += [max(wrong, key=telling).problems(), f"wrong on {len(wrong)} of {len(self.reports)} samples"]
        return "\n".join([f"[{self.name}] {lines[0]}", *lines[1:]]) if lines else ""

    def __str__(self) -> str:
        return self.problems() or f"{self.name}: {self.verdict} on {len(self.reports)} samples"

    def raise_if_wrong(self) -> OpReport:
        if not self.ok:
            raise GradientError(self.problems())
        return self
