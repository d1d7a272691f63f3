"""A recorded program as straight-line NumPy: the forward, and the backward with each row's names put in.

Nothing about derivatives stands here. A forward is the op's own formula, run on arrays that remember how they were
computed (traced.py). A row is run on Tensors, which rows take as well; the ops that it runs are written like those of
the forward. So what is printed is the table, applied to the user's names.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..levels import using
from .program import Call, Step, Value, Visit, numbers, summed
from .spelling import HELPERS, by_tensors, plain, spell
from .traced import Traced, Writer, named, strip, template

if TYPE_CHECKING:
    from .tape import Tape


# Writing a tape --------------------------------------------------------------------------------------------


class Emission:
    """The last backward() of a tape and the forward that led to it, as lines of NumPy.

    forward    the lines of each op
    starts     of each visit, the lines that give gradients no row gives: 1 at the start, 0 for what nobody used
    backward   of each visit, the lines of its rows
    constants  by name, the arrays that stand in formulas: an index, a mask
    """

    def __init__(self, tape: Tape):
        self.constants: dict[str, np.ndarray] = {}
        self._taken = {name for v in tape.values for name in (v.ident, v.grad_ident)}
        self._writer = Writer(self._constant, lambda target: self._unused(f"{target}_part"))
        self._residuals: dict[Call, dict[str, Any]] = {}
        self._begun: set[str] = set()  # the gradients that have a first contribution
        walk = tape.last_walk("as_numpy")
        self.calls = leading_to(walk, tape)
        for call in self.calls:
            if any(x.array is None for x in (*call.inputs, *call.outputs) if isinstance(x, Value)):
                raise RuntimeError(
                    f"lens.as_numpy: the forward of [{call.op.name}] was not recorded; compute it inside "
                    "`with lens.record() as tape:`"
                )
        used = (x for c in self.calls for x in c.inputs if isinstance(x, Value) and x.call is None)
        self._called = {id(x): name for c in self.calls for name, x in c.constants}
        self.leaves = list(dict.fromkeys(used))
        self.forward = {c: self._forward(c) for c in self.calls}
        self.starts: dict[Visit, list[str]] = {}
        self.backward: dict[Visit, list[str]] = {}
        for visit in walk:
            self.starts[visit] = self._starts(visit)
            rules = self._rules(visit)
            self.backward[visit] = [line for s in visit.steps for line in self._contribution(s, rules[s.i])]

    def _constant(self, array: np.ndarray) -> str:
        for name, known in self.constants.items():
            if known is array or (known.dtype == array.dtype and np.array_equal(known, array)):
                return name
        name = self._unused(self._called.get(id(array), "constant"))
        self.constants[name] = array
        return name

    def _unused(self, base: str) -> str:
        name, k = base, 1
        while name in self._taken:
            k += 1
            name = f"{base}_{k}"
        self._taken.add(name)
        return name

    def _forward(self, call: Call) -> list[str]:
        arguments, ys = self._inputs(call), call.outputs
        if not call.op.plain.residual:
            found = spell(call.op, arguments, call.attributes, [numbers(y.array) for y in ys])
            lines = list(self._writer.lines([(y.ident, each) for y, each in zip(ys, found)]))
        else:
            y, *others = plain(call.op, arguments, call.attributes)
            residuals = dict(zip(call.op.plain.residual, others))
            names = {k: self._unused(f"{ys[0].ident}_{k}") for k, x in residuals.items() if isinstance(x, Traced)}
            pairs = [(names[k], residuals[k]) for k in names]
            lines = list(self._writer.lines([*pairs, (ys[0].ident, y)]))
            self._residuals[call] = residuals | {k: Traced(residuals[k].value, named(names[k])) for k in names}
        return [*lines[:-1], f"{lines[-1]}  # {ys[-1].shape}"]

    @staticmethod
    def _inputs(call: Call) -> list[Any]:
        """The inputs in the dtype in which the op computes, those that are Tensors by their names."""
        found: list[Any] = []
        for x, array in zip(call.inputs, map(numbers, call.arrays())):
            if isinstance(x, Value):
                traced = Traced(numbers(x.array), named(x.ident))
                found.append(traced if array.dtype == x.dtype else traced.astype(array.dtype))
            else:
                found.append(array)
        return found

    def _starts(self, visit: Visit) -> list[str]:
        lines = []
        for y, g in zip(visit.call.outputs, gradients_of(visit)):
            if y.seed is not None:
                ones = np.array_equal(g, np.ones_like(g))
                lines.append(f"{y.grad_ident} = " + (f"np.ones_like({y.ident})" if ones else self._constant(g)))
            elif y.grad_ident not in self._begun:
                lines.append(f"{y.grad_ident} = np.zeros_like({y.ident})  # nobody used it")
        return lines

    def _contribution(self, step: Step, raw: Any) -> list[str]:
        name = step.to.grad_ident
        lines = list(self._writer.lines([(name, fitted(raw, step))]))
        if name in self._begun or step.to.seed is not None:
            lines[-1] = f"{name} = {name} + {_enclosed(lines[-1].partition(' = ')[2])}"
        self._begun.add(name)
        return [*lines[:-1], f"{lines[-1]}  # {step.to.shape}"]

    def _rules(self, visit: Visit) -> Any:
        """Per input, what its row gives: before broadcasting is undone."""
        call, op = visit.call, visit.call.op
        traced = [Traced(g, named(y.grad_ident)) for y, g in zip(call.outputs, gradients_of(visit))]
        g = tuple(traced) if op.several else traced[0]
        known = self._known(call)
        plan = op.plain.plan(call.plan.wants if call.plan is not None else (True,) * len(call.inputs))
        kept = [plan.wants if name == "wants" else known[name] for name in plan.names]
        if op.replays or op.plain.joint is not None:  # such a rule takes arrays alone
            with using("plain"), np.errstate(all="ignore"):
                return plan.run(g, kept)
        return by_tensors(plan, g, kept)

    def _known(self, call: Call) -> dict[str, Any]:
        """All that a rule may name."""
        op, inputs = call.op, self._inputs(call)
        known: dict[str, Any] = call.attributes | self._residuals.get(call, {})
        for name in op.inputs:
            these = tuple(inputs[op.position(name)])
            shapes = tuple([np.shape(strip(x)) for x in these])
            several = name == op.variadic
            known[name], known[f"{name}_shape"] = (these, shapes) if several else (these[0], shapes[0])
        if not op.several:
            known["y"] = Traced(numbers(call.outputs[0].array), named(call.outputs[0].ident))
        return known


def gradients_of(visit: Visit) -> Sequence[Any]:
    return [numbers(g) for g in (visit.gradient if visit.call.op.several else (visit.gradient,))]


def leading_to(walk: list[Visit], tape: Tape) -> list[Call]:
    """The ops that lead to where a walk started, in order."""
    needed: set[Call] = set()
    stack = [visit.call for visit in walk]
    while stack:
        call = stack.pop()
        if call in needed:
            continue
        needed.add(call)
        stack += [x.call for x in call.inputs if isinstance(x, Value) and x.call is not None]
    return [call for call in tape.calls if call in needed]


def fitted(x: Any, step: Step) -> Any:
    """A contribution in the shape and dtype of the input: the sums that undo broadcasting."""
    if not isinstance(x, Traced):
        return numbers(step.result)  # a constant
    shape, dtype = step.to.shape, step.to.dtype
    axes = summed(np.shape(x.value), shape)  # not of step.raw: a kernel may have summed already
    if axes:
        extra = x.ndim - len(shape)
        given = axes[0] if len(axes) == 1 else axes
        inner = axes[-1] >= extra
        kept = inner and not extra
        text = f"_0.sum({given}, keepdims=True)" if kept else f"_0.sum({given})"
        x = template(text, np.sum(x.value, axes, keepdims=kept), x)
        if inner and extra:
            x = template(f"_0.reshape({shape})", x.value.reshape(shape), x)
    if np.asarray(x.value).dtype == dtype:
        return x
    return template(f"_0.astype(np.{dtype.name})", x.value.astype(dtype), x)


def _enclosed(text: str) -> str:
    """An expression as the right side of a sum, where rounding must stay as it was."""
    tree = ast.parse(text, mode="eval").body
    tight = isinstance(tree, ast.BinOp) and not isinstance(tree.op, (ast.Add, ast.Sub))
    return text if tight or isinstance(tree, (ast.Name, ast.Call, ast.UnaryOp, ast.Subscript)) else f"({text})"


# The whole text --------------------------------------------------------------------------------------------


def as_numpy(tape: Tape) -> str:
    emission = Emission(tape)
    forward = [line for lines in emission.forward.values() for line in lines]
    backward = [line for visit, lines in emission.backward.items() for line in (*emission.starts[visit], *lines)]
    return "\n".join([*head(emission), "# Forward", *forward, "", "# Backward", *backward, ""])


def head(emission: Emission) -> list[str]:
    """The imports, what must be given, and the functions that the lines call."""
    lines = [line for part in (emission.forward, emission.backward) for each in part.values() for line in each]
    text = "\n".join(lines).replace("put_along(", "put_along(scatter_add(")  # which it calls
    helpers = [HELPERS[name].strip() for name in HELPERS if f"{name}(" in text]
    given = [f"#   {v.ident}  {v.shape} {v.dtype}" for v in emission.leaves]
    given += [f"#   {name}  {x.shape} {x.dtype}" for name, x in emission.constants.items()]
    imports = (["import math", ""] if "math." in "".join(helpers) else []) + ["import numpy as np", ""]
    return [*imports, *[line for h in helpers for line in ("", h, "")], *[""] * bool(helpers), "# Given", *given, ""]


def inputs(tape: Tape) -> dict[str, np.ndarray]:
    emission = Emission(tape)
    return {v.ident: numbers(v.array) for v in emission.leaves} | emission.constants
