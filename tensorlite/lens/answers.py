"""The right gradients of a program, and all that it takes to say what is wrong with others. Kept for exercises."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import rows
from .emit import Emission
from .jacobian import gradients_of, jacobian
from .program import Step, Value, numbers

if TYPE_CHECKING:
    from .tape import Tape


@dataclass
class Part:
    """One contribution to a gradient.

    raw       as the row gave it, before broadcasting was undone     result  as it arrived
    gradients of the op's outputs                                    others  of its other inputs, by name
    values    the op's inputs and its output, by name                jacobian (output, input), or None if large
    """

    op: str
    rule: str
    where: str
    result: np.ndarray
    raw: np.ndarray
    gradients: list[np.ndarray]
    others: dict[str, np.ndarray]
    values: dict[str, np.ndarray]
    jacobian: np.ndarray | None
    output: str


@dataclass
class Answer:
    """The right gradient of one value, and the parts that it is the sum of."""

    name: str  # dlogits
    of: str  # logits
    right: np.ndarray
    parts: list[Part] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)  # of NumPy
    lengths: list[int] = field(default_factory=list)  # of the dimensions of what it was computed from

    def help(self, level: int) -> list[str]:
        """Hints: 1 the shape, 2 also which rules, 3 also the rules as they stand in the source, 4 also the answer."""
        check_level(level)
        found = [f"shape {self.right.shape}"] if level >= 1 else []
        if level >= 1 and len(self.parts) > 1:
            found.append(f"{len(self.parts)} contributions meet here")
        for part in self.parts if level >= 2 else ():
            found.append(f"the rule of {part.op}, from d{part.output}" + (f": {part.rule}" if level >= 3 else ""))
        return found + (self.lines if level >= 4 else [])


def check_level(level: int) -> None:
    if level not in range(5):
        raise ValueError(f"lens: help is 0 (none) to 4 (the answer), and not {level!r}")


class Answers:
    """All gradients of a tape by name, in the order in which they are complete."""

    def __init__(self, answers: list[Answer], given: dict[str, np.ndarray], digest: str = ""):
        self.answers = {a.name: a for a in answers}
        self.given = given
        self.digest = digest  # of the exercise that was written with them

    def __getitem__(self, name: str) -> Answer:
        if name not in self.answers:
            meant = get_close_matches(str(name), self.answers, 3)
            if str(name).removeprefix("d") in self.given:
                raise KeyError(f"lens.compare: {name[1:]} has no gradient: it does not require one")
            raise KeyError(
                f"lens.compare: there is no gradient called {name!r}; "
                + (f"did you mean {', '.join(meant)}?" if meant else f"they are {', '.join(self.answers)}")
            )
        return self.answers[name]

    @classmethod
    def of(cls, tape: Tape, action: str = "exercise") -> Answers:
        tape.last_walk(action)
        emission = Emission(tape)
        lines: dict[str, list[str]] = {}
        for visit, each in emission.backward.items():
            _sort_lines(each, {step.to.grad_ident for step in visit.steps}, lines)
        answers = [
            Answer(v.grad_ident, v.ident, np.asarray(numbers(v.gradient)), list(map(_part, _last(tape, v))),
                   lines.get(v.grad_ident, []), _lengths(v))
            for v in _in_order(tape)
        ]  # fmt: skip
        return cls(answers, {v.ident: numbers(v.array) for v in emission.leaves} | emission.constants)

    # On disk -----------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """One .npz file: arrays, and a description of them in JSON."""
        arrays: dict[str, np.ndarray] = {}

        def stored(x: Any) -> Any:
            if isinstance(x, np.ndarray):
                arrays[f"a{len(arrays)}"] = x
                return {"array": f"a{len(arrays) - 1}"}
            if isinstance(x, dict):
                return {"items": [[k, stored(v)] for k, v in x.items()]}
            return [stored(each) for each in x] if isinstance(x, list) else x

        told = [stored(asdict(a)) for a in self.answers.values()]
        text = json.dumps({"answers": told, "given": stored(self.given), "digest": self.digest})
        with path.open("wb") as file:
            np.savez_compressed(file, **arrays | {"text": np.array(text)})  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> Answers:
        """What `save` wrote. Raises FileNotFoundError or ValueError that say which file is meant."""
        if not path.is_file():
            raise FileNotFoundError(f"lens: {path} is missing; lens.exercise writes it beside the exercise")
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = dict(file)
            told = json.loads(str(arrays["text"]))
        except (ValueError, KeyError, OSError) as error:
            raise ValueError(f"lens: {path} is no file of answers that lens.exercise wrote: {error}") from error

        def read(x: Any) -> Any:
            if isinstance(x, dict):
                return arrays[x["array"]] if "array" in x else {k: read(v) for k, v in x["items"]}
            return [read(each) for each in x] if isinstance(x, list) else x

        answers = [Answer(**{**a, "parts": [Part(**p) for p in a["parts"]]}) for a in map(read, told["answers"])]
        return cls(answers, read(told["given"]), told.get("digest", ""))


def alike(a: np.ndarray, b: np.ndarray, scale: np.ndarray, dtype: np.dtype) -> bool:
    """Whether a and b agree but for rounding, of numbers of this dtype and as large as those of `scale`."""
    relative, absolute = (1e-4, 2e-6) if dtype.itemsize < 8 else (1e-6, 1e-9)
    return a.shape == b.shape and np.allclose(a, b, rtol=relative, atol=absolute * np.abs(scale).max(initial=0))


def _lengths(value: Value) -> list[int]:
    shapes = [x.shape for x in (value.call.inputs if value.call else ()) if isinstance(x, Value)]
    return sorted({n for shape in shapes for n in shape if n > 1})


def _in_order(tape: Tape) -> Iterator[Value]:
    """The values that got a gradient in the last walk, each when its gradient is complete."""
    walk = tape.last_walk("exercise")
    steps = [step for visit in walk for step in visit.steps]
    last = {step.to: step for step in steps}
    for visit in walk:
        for y in visit.call.outputs:
            if y.seed is None and y in last:
                yield y
        for step in visit.steps:
            if step.to.call is None and last[step.to] is step:
                yield step.to


def _last(tape: Tape, value: Value) -> list[Step]:
    return [step for visit in tape.walks[-1] for step in visit.steps if step.to is value]


def _sort_lines(lines: list[str], targets: set[str], found: dict[str, list[str]]) -> None:
    """Give each line to the gradient that it leads to: what comes before a target's line is for that target."""
    waiting: list[str] = []
    for line in lines:
        waiting.append(line)
        name = line.partition(" = ")[0]
        if name in targets:
            found.setdefault(name, []).extend(waiting)
            waiting = []


def _part(step: Step) -> Part:
    call, gs = step.call, [numbers(g) for g in gradients_of(step)]
    values = {x.ident: numbers(x.array) for x in (*call.inputs, *call.outputs) if isinstance(x, Value)}
    others = {s.to.grad_ident: numbers(s.result) for s in step.visit.steps if s is not step and s.to is not step.to}
    rule = rows.derivative(call.op, step.i)
    return Part(
        call.op.name, f"d{step.input} = {rule.text}", rule.where, numbers(step.result), np.asarray(numbers(step.raw)),
        gs, others, values, jacobian(step, 65536), call.outputs[0].ident,
    )  # fmt: skip
