"""A recorded program as straight-line NumPy: the forward, and the backward with each row's names put in.

Nothing about derivatives stands here. A forward is the op's own formula, run on arrays that remember how they were
computed (traced.py). A row is run on Tensors, which rows take as well; the ops that it runs are written like those of
the forward. So what is printed is the table, applied to the user's names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..mode import Hook, hooked, no_grad
from ..op import Op, using
from ..tensor import Tensor
from .record import Call, Step, Value, Visit, numbers, summed
from .traced import Traced, Writer, named, strip, template

if TYPE_CHECKING:
    from .tape import Tape


# How NumPy spells an op whose formula is longer than what it means ------------------------------------------

Spelling = Callable[..., Traced]


def _transpose(y: Any, x: Traced, *, dim0: int, dim1: int) -> Traced:
    whole = x.ndim == 2 and dim0 % 2 != dim1 % 2
    return template("_0.T", y, x) if whole else template(f"_0.swapaxes({dim0}, {dim1})", y, x)


def _reduced(name: str) -> Spelling:
    def spell(y: Any, x: Traced, *, dim: tuple[int, ...] | None, keepdim: bool) -> Traced:
        given = "" if dim is None else str(dim[0] if len(dim) == 1 else dim)
        return template(f"_0.{name}({', '.join(filter(None, [given, 'keepdims=True' * keepdim]))})", y, x)

    return spell


def _getitem(y: Any, x: Traced, *, index: Any) -> Traced:
    return Traced(y, x[index].term)


def _setitem(y: Any, x: Any, *, index: Any, shape: tuple[int, ...]) -> Traced:
    """Zeros, and the numbers added where the index says: one that is named twice gets both."""
    return template("scatter_add(_0, _1, _2)", y, shape, index if isinstance(index, tuple) else (index,), x)


def _put_along(y: Any, x: Any, indices: Any, *, dim: int, shape: tuple[int, ...]) -> Traced:
    return template(f"put_along(_0, _1, {dim % len(shape)}, _2)", y, shape, indices, x)


def _embedding_grad(y: Any, x: Any, ids: Any, *, count: int) -> Traced:
    return _setitem(y, x, index=(ids,), shape=(count, x.shape[-1]))


def _linear(y: Any, x: Any, weight: Any, bias: Any) -> Traced:
    return template("_0 @ _1.T", y, x, weight) if bias is None else template("_0 @ _1.T + _2", y, x, weight, bias)


SPELLED: dict[str, Spelling] = {
    "matmul": lambda y, a, b: template("_0 @ _1", y, a, b),
    "linear": _linear,
    "masked": lambda y, x, mask: template("np.where(_1, _0, 0)", y, x, mask),
    "transpose": _transpose,
    "reshape": lambda y, x, *, shape: template("_0.reshape(_1)", y, x, tuple(np.shape(y))),
    "sum": _reduced("sum"),
    "mean": _reduced("mean"),
    "getitem": _getitem,
    "setitem": _setitem,
    "put_along_dim": _put_along,
    "embedding": lambda y, weight, ids: template("_0[_1]", y, weight, ids),
    "embedding_grad": _embedding_grad,
    "erf": lambda y, x: template("erf(_0)", y, x),
    "sign": lambda y, x: template("np.sign(_0)", y, x),
}

HELPERS = {
    "scatter_add": '''
def scatter_add(shape, index, x):
    """Zeros of that shape, with x added at the index; a place that is named twice gets both."""
    out = np.zeros(shape, x.dtype)
    np.add.at(out, index, x)
    return out
''',
    "put_along": '''
def put_along(shape, indices, dim, x):
    """Zeros of that shape, with x added at the indices along dim: the reverse of np.take_along_axis."""
    grid = [m if k == dim else max(n, m) for k, (n, m) in enumerate(zip(shape, indices.shape))]
    index = [indices if k == dim else i % n for k, (i, n) in enumerate(zip(np.indices(grid, sparse=True), shape))]
    return scatter_add(shape, tuple(index), x)
''',
    "erf": """
def erf(x):
    return np.vectorize(math.erf, otypes=[x.dtype])(x)
""",
}


# Writing a tape --------------------------------------------------------------------------------------------


class Emission:
    """The last backward() of a tape and the forward that led to it, as lines of NumPy.

    forward    the lines of each op                    backward   the lines of each visit
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
        self.backward = {visit: self._backward(visit) for visit in walk}

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
            y, *others = _plain(call.op, arguments, call.attributes)
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

    def _backward(self, visit: Visit) -> list[str]:
        lines = []
        for y, g in zip(visit.call.outputs, gradients_of(visit)):
            if y.seed is not None:
                ones = np.array_equal(g, np.ones_like(g))
                lines.append(f"{y.grad_ident} = " + (f"np.ones_like({y.ident})" if ones else self._constant(g)))
            elif y.grad_ident not in self._begun:
                lines.append(f"{y.grad_ident} = np.zeros_like({y.ident})  # nobody used it")
        rules = self._rules(visit)
        for step in visit.steps:
            lines += self._contribution(step, rules[step.i])
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
        plan = op.plain.plan(call.node.plan.wants if call.node is not None else (True,) * len(call.inputs))
        kept = [plan.wants if name == "wants" else known[name] for name in plan.names]
        if op.replays or op.plain.joint is not None:  # such a rule takes arrays alone
            with using("plain"), np.errstate(all="ignore"):
                return plan.run(g, kept)
        return _by_tensors(plan, g, kept)

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


def spell(op: Op, arguments: Sequence[Any], attributes: dict[str, Any], results: Sequence[Any]) -> Sequence[Traced]:
    """The outputs of an op, as expressions of its arguments. `results`: its numbers."""
    if not any(isinstance(x, Traced) for x in _each(arguments)):
        return results  # of constants alone
    if op.name in SPELLED:
        return [SPELLED[op.name](results[0], *arguments, **attributes)]
    if op.name == "watch":
        return [Traced(y, x.term) for y, x in zip(results, arguments)]
    y = _plain(op, arguments, attributes)
    return y if op.several else [y]


def _each(x: Any) -> Iterator[Any]:
    for each in x:
        yield from _each(each) if isinstance(each, (tuple, list)) else (each,)


def _plain(op: Op, arguments: Sequence[Any], attributes: dict[str, Any]) -> Any:
    with using("plain"), np.errstate(all="ignore"), no_grad():
        return op.plain.forward(*arguments, **attributes)


class _Follow(Hook):
    """Writes down the ops that a row runs on Tensors."""

    def __init__(self) -> None:
        self.terms: dict[int, Traced] = {}
        self.alive: list[Any] = []

    def know(self, x: Traced) -> Tensor:
        tensor = Tensor._of(np.asarray(x.value))
        self._keep(tensor, x)
        return tensor

    def _keep(self, tensor: Tensor, x: Traced) -> None:
        self.terms[id(tensor)] = x
        self.alive.append(tensor)

    def traced(self, x: Any) -> Any:
        return self.terms.get(id(x), x.array) if isinstance(x, Tensor) else x

    def after_forward(self, op: Op, inputs: Sequence[Any], attributes: dict[str, Any], output: Any) -> None:
        outputs = output if isinstance(output, tuple) else (output,)
        arguments = [self.traced(x) for x in inputs]
        for y, x in zip(outputs, spell(op, arguments, attributes, [y.array for y in outputs])):
            self._keep(y, x)


def _by_tensors(plan: Any, g: Any, kept: Sequence[Any]) -> Sequence[Any]:
    """Run rows on Tensors, as for a gradient of a gradient, and follow what they do."""
    follow = _Follow()

    def tensor(x: Any) -> Any:
        if isinstance(x, tuple) and any(isinstance(each, Traced) for each in x):
            return tuple(map(tensor, x))
        return follow.know(x) if isinstance(x, Traced) else x

    with using("plain"), no_grad(), hooked(follow):
        found = plan.run(tensor(g), [tensor(x) for x in kept])
    return [follow.traced(x) for x in found]


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
    simple = all(sign not in text for sign in (" + ", " - ", " if ", " and ", " or ", "<", ">", "=="))
    return text if simple else f"({text})"


# The whole text --------------------------------------------------------------------------------------------


def as_numpy(tape: Tape) -> str:
    emission = Emission(tape)
    forward = [line for lines in emission.forward.values() for line in lines]
    backward = [line for lines in emission.backward.values() for line in lines]
    return "\n".join([*head(emission), "# Forward", *forward, "", "# Backward", *backward, ""])


def head(emission: Emission) -> list[str]:
    """The imports, what must be given, and the functions that the lines call."""
    lines = [line for part in (emission.forward, emission.backward) for each in part.values() for line in each]
    text = "\n".join(lines).replace("put_along(", "put_along(scatter_add(")  # which it calls
    helpers = [HELPERS[name].strip() for name in HELPERS if f"{name}(" in text]
    given = [f"#   {v.ident}  {v.shape} {v.dtype}" for v in emission.leaves]
    given += [f"#   {name}  {x.shape} {x.dtype}" for name, x in emission.constants.items()]
    imports = (["import math", ""] if "math." in "".join(helpers) else []) + ["import numpy as np", ""]
    return [*imports, *[line for h in helpers for line in ("", h, "", "")], "# Given", *given, ""]


def inputs(tape: Tape) -> dict[str, np.ndarray]:
    emission = Emission(tape)
    return {v.ident: numbers(v.array) for v in emission.leaves} | emission.constants
