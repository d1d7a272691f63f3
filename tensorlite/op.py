"""An op is a row: its forward, and per input the derivative, written as mathematics.

    multiply = Op("multiply", lambda a, b: a * b,  da=lambda g, b: g * b,  db=lambda g, a: g * a)

Positional parameters of the forward are its inputs (Tensors, arrays, numbers or None), keyword-only ones its
attributes. `d<input>` gives the gradient of an input from `g`, the gradient of the output. The other
parameters of a row say what it needs, and so what is kept for the backward:

    an input's name      its array                     y              the output
    <input>_shape        its shape only                an attribute   its value
    a residual's name    what the forward returned after y, in the order of `residual=`
    wants                (joint rules) per input, whether it wants a gradient

An input without a row is not differentiable. One joint rule `d=` may replace the rows where they share
work; it returns a gradient (or None) per input. Rows use operators, methods and ops that arrays and Tensors
both have: called with arrays they give the gradient, called with Tensors the gradient of the gradient.
The engine undoes broadcasting and dtype changes; a row never does.

A declaration is checked when it is made: a parameter that is none of the above is a TypeError.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from copy import copy
from functools import cached_property
from types import MethodType
from typing import Any, NamedTuple

import numpy as np

from . import levels, mode
from .device import CPU, OutOfMemoryError, device_of, elsewhere, follow, out_of_memory, wandering
from .dtype import float32, half_among, promote, widened
from .node import apply

OPS: dict[str, Op] = {}

Getter = Callable[[Sequence[Any], dict[str, Any], Any], Any]  # of the arrays, the attributes, the outputs


class OpError(RuntimeError, ValueError):
    """An op refused its inputs. Both what PyTorch raises here (RuntimeError) and NumPy (ValueError)."""


class Plan(NamedTuple):
    """For one combination of inputs that want a gradient: what to keep, and which rows to run."""

    wants: tuple[bool, ...]  # per input: whether it wants a gradient and has one
    wanted: tuple[int, ...]  # the inputs that do
    zeros: tuple[int, ...]  # a 0 per input
    names: tuple[str, ...]  # what is kept
    getters: tuple[Getter, ...]  # where that comes from
    watch: tuple[tuple[str, slice], ...]  # kept inputs, whose memory must not change until backward
    rows: tuple[tuple[int, Callable, tuple[int, ...]], ...]  # input (-1: all), row, its arguments among what is kept
    residuals: frozenset[int]  # those of what is kept that nobody but the node can see
    holds: bool  # whether an array is kept, not only shapes and attributes

    def run(self, g: Any, kept: Sequence[Any]) -> Sequence[Any]:
        """Per input its gradient, or None if it wants none."""
        result: list[Any] = [None] * len(self.wants)
        for i, row, arguments in self.rows:
            gradient = row(g, *[kept[k] for k in arguments])
            if i < 0:
                return gradient
            result[i] = gradient
        return result


class WidePlan(Plan):
    """Of an op that was computed in float32: so are its gradients. What it keeps stays as small as it came."""

    __slots__ = ()

    def run(self, g: Any, kept: Sequence[Any]) -> Sequence[Any]:
        return super().run(widened(g), [widened(x) for x in kept])


class Implementation:
    """One way of computing an op: a forward, its rows or its joint rule, and the residual they share."""

    def __init__(
        self, op: Op, forward: Callable, joint: Callable | None, rows: dict[str, Callable], residual: Sequence[str]
    ):
        self.op = op
        self.forward = forward
        self.joint = joint
        self.residual = tuple(residual)
        self.rows = {self._input_of(key): row for key, row in rows.items()}
        if joint is not None and rows:
            raise TypeError(f"{op.name}: give either rows ({', '.join(rows)}) or one joint rule d=, not both")
        reserved = {"g", "y", "wants", *self.residual, *(f"{name}_shape" for name in op.inputs)}
        if taken := reserved.intersection((*op.inputs, *op.attributes)):
            raise TypeError(
                f"{op.name}: {', '.join(sorted(taken))} means something else in a row; rename that parameter"
            )
        self.Plan: type[Plan] = Plan
        self.getters = self._getters()
        for row in self._functions():
            self._check(row)
        self.plans: dict[tuple[bool, ...], Plan] = {}

    @cached_property
    def wide(self) -> Implementation:
        """The same for inputs of two bytes a number, which it was given as float32."""
        twin = copy(self)
        twin.Plan, twin.plans = WidePlan, {}
        return twin

    def _functions(self) -> list[Callable]:
        return list(self.rows.values()) if self.joint is None else [self.joint]

    def _input_of(self, key: str) -> str:
        if not key.startswith("d") or key[1:] not in self.op.inputs:
            raise TypeError(f"{self.op.name}: {key!r} is not d<input>; the inputs are {', '.join(self.op.inputs)}")
        return key[1:]

    def _getters(self) -> dict[str, Getter]:
        """Every name a row may use, and where its value comes from."""
        getters: dict[str, Getter] = {}
        for i, name in enumerate(self.op.inputs):
            if name == self.op.variadic:
                getters[name], getters[f"{name}_shape"] = _inputs_from(i), _shapes_from(i)
            else:
                getters[name], getters[f"{name}_shape"] = _input(i), _shape(i)
        getters |= {name: _attribute(name) for name in self.op.attributes}
        getters |= {name: _output(i) for i, name in enumerate(("y", *self.residual))}
        return getters

    def _check(self, row: Callable) -> None:
        names = list(inspect.signature(row).parameters)
        known = {*self.getters, "wants"} if self.joint is not None else self.getters.keys()
        unknown = [name for name in names[1:] if name not in known]
        if not names or names[0] != "g":
            raise TypeError(f"{self.op.name}: a row's first parameter is g, the gradient of the output; got {names}")
        if unknown:
            raise TypeError(
                f"{self.op.name}: a row asks for {', '.join(map(repr, unknown))}, which is none of "
                f"{', '.join(sorted(known))}"
            )

    def differentiable(self, i: int) -> bool:
        """Whether input number i has a derivative."""
        return self.joint is not None or self.op.input_name(i) in self.rows

    def plan(self, wants: tuple[bool, ...]) -> Plan:
        """`wants`: per input, whether it requires a gradient."""
        plan = self.plans.get(wants)
        if plan is None:
            plan = self.plans[wants] = self._plan(tuple([w and self.differentiable(i) for i, w in enumerate(wants)]))
        return plan

    def _plan(self, wants: tuple[bool, ...]) -> Plan:
        if self.joint is not None:
            rows = [(-1, self.joint)] if any(wants) else []
        else:
            rows = [(i, self.rows[self.op.input_name(i)]) for i, wanted in enumerate(wants) if wanted]
        arguments = [tuple(inspect.signature(row).parameters)[1:] for _, row in rows]
        names = {name: None for row in arguments for name in row}
        if self.op.replays:  # create_graph composes the op anew from all its inputs
            names |= dict.fromkeys((*self.op.inputs, *self.op.attributes))
        elif self.rows is not self.op.plain.rows:  # create_graph runs the plain rows
            names |= dict.fromkeys(self.op.plain.plan(wants).names)
        places = {name: k for k, name in enumerate(names)}
        getters = self.getters | {"wants": lambda *_: wants}
        watch = tuple((name, self.op.position(name)) for name in names if name in self.op.inputs)
        return self.Plan(
            wants,
            tuple(i for i, wanted in enumerate(wants) if wanted),
            (0,) * len(wants),
            tuple(names),
            tuple(getters[name] for name in names),
            watch,
            tuple((i, row, tuple(places[name] for name in used)) for (i, row), used in zip(rows, arguments)),
            residuals=frozenset(places[name] for name in self.residual if name in places),
            holds=bool(watch) or not {"y", *self.residual}.isdisjoint(names),
        )


def _input(i: int) -> Getter:
    return lambda arrays, attributes, outputs: arrays[i]


def _shape(i: int) -> Getter:
    return lambda arrays, attributes, outputs: getattr(arrays[i], "shape", ())  # a number has none


def _inputs_from(i: int) -> Getter:
    return lambda arrays, attributes, outputs: tuple(arrays[i:])


def _shapes_from(i: int) -> Getter:
    return lambda arrays, attributes, outputs: tuple([getattr(x, "shape", ()) for x in arrays[i:]])


def _attribute(name: str) -> Getter:
    return lambda arrays, attributes, outputs: attributes[name]


def _output(i: int) -> Getter:
    return lambda arrays, attributes, outputs: outputs[i]


class Op:
    """A differentiable operation on arrays and Tensors.

    name        its name in messages, in the profiler and in `OPS`
    forward     inputs (positional) and attributes (keyword-only) -> y, or (y, *residual) if `residual` is given
    d           the joint rule, instead of rows
    residual    names of what the forward returns after y, for the rows
    reference   the same op composed of other ops on Tensors: its oracle, and how it is differentiated twice
    view        y may share memory with the first input
    moves       numbers are moved and not computed with, as in every view
    several     y is a tuple of outputs; `g` is a tuple too
    sums        y is a sum of so many numbers that it is float32 where these have two bytes
    expects     what the inputs must look like, for error messages
    rows        d<input>=row

    Raises TypeError if a row asks for something it cannot have, ValueError if the name is taken.
    """

    def __init__(
        self,
        name: str,
        forward: Callable,
        *,
        d: Callable | None = None,
        residual: Sequence[str] = (),
        reference: Callable | None = None,
        view: bool = False,
        moves: bool = False,
        several: bool = False,
        sums: bool = False,
        expects: str = "",
        **rows: Callable,
    ):
        parameters = inspect.signature(forward).parameters.values()
        self.name = self.__name__ = self.__qualname__ = name
        self.__module__ = forward.__module__
        self.__doc__ = inspect.getdoc(forward)
        self.__signature__ = inspect.signature(forward)
        self.inputs = tuple(p.name for p in parameters if p.kind is not p.KEYWORD_ONLY)
        self.variadic = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)
        self.attributes = tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)
        if defaults := [p.name for p in parameters if p.default is not p.empty]:
            raise TypeError(f"{name}: {', '.join(defaults)} has a default; give it to the function that users call")
        self.view, self.several, self.expects, self.reference = view, several, expects, reference
        self.sums = sums
        self.moves = moves or view
        self.plain = Implementation(self, forward, d, rows, residual)
        # A rule takes residuals for constants, which they are not, so it cannot itself be differentiated.
        self.replays = bool(residual)
        if self.replays and reference is None:
            raise TypeError(f"{name}: an op with residuals needs a reference=, or create_graph could not work")
        self.kernels: dict[str, Implementation] = {}
        if name in OPS and OPS[name].__module__ != "__main__":
            raise ValueError(f"an op called {name!r} exists already, in {OPS[name].__module__}; choose another name")
        OPS[name] = self

    def kernel(
        self,
        device: str,
        forward: Callable,
        *,
        d: Callable | None = None,
        residual: Sequence[str] = (),
        **rows: Callable,
    ) -> None:
        """Attach a faster version for "cpu" or "cuda". Its forward may return NotImplemented: then plain runs."""
        self.kernels[device] = Implementation(self, forward, d, rows, residual)

    def input_name(self, i: int) -> str:
        return self.inputs[min(i, len(self.inputs) - 1)]

    def position(self, name: str) -> slice:
        """Where the input called `name` stands among the arguments."""
        i = self.inputs.index(name)
        return slice(i, None if name == self.variadic else i + 1)

    def mix(self, arrays: list[Any]) -> list[Any]:
        """The inputs in the dtype in which the op computes. Here: as they are."""
        return arrays

    def compute(self, arrays: Sequence[Any], attributes: dict[str, Any]) -> tuple[Implementation, tuple]:
        """Run the fastest version that the level, the device and the case allow: it, and (y, *residual)."""
        half = None
        for x in () if self.moves else arrays:
            if getattr(x, "itemsize", 0) == 2:  # rare, and so looked at closely only then
                half = half_among(arrays)
                break
        try:
            if self.kernels and levels.current in ("kernel", "compiled"):
                where = device_of(arrays[0]).type
                kernel = self.kernels.get(where)
                if kernel is not None and (half is None or where != "cpu"):
                    outputs = kernel.forward(*arrays, **attributes)
                    if outputs is not NotImplemented:
                        return kernel, outputs if kernel.residual else (outputs,)
            if half is not None:
                return self._in_float32(arrays, attributes, half)
            outputs = self.plain.forward(*arrays, **attributes)
            return self.plain, outputs if self.plain.residual else (outputs,)
        except (OpError, OutOfMemoryError):
            raise
        except MemoryError as error:
            raise OutOfMemoryError(self._complaint(out_of_memory(error), arrays, attributes)) from None
        except IndexError as error:
            raise IndexError(self._complaint(error, arrays, attributes)) from error
        except (ValueError, TypeError, RuntimeError, OverflowError, np.exceptions.AxisError) as error:
            kind = TypeError if isinstance(error, TypeError) else OpError
            raise kind(self._complaint(error, arrays, attributes)) from error

    def _in_float32(
        self, arrays: Sequence[Any], attributes: dict[str, Any], half: np.dtype
    ) -> tuple[Implementation, tuple]:
        """As `compute`, of numbers that are kept in two bytes: only the result is rounded to these."""
        implementation, (y, *residual) = self.compute([widened(x) for x in arrays], attributes)
        if not self.sums:
            y = tuple([_narrowed(x, half) for x in y]) if self.several else _narrowed(y, half)
        return implementation.wide, (y, *residual)

    def elsewhere(self, arrays: Sequence[Any]) -> Any:
        """The GPU that holds the arrays, if another one is current: it is the current one that computes. OpError if
        they lie on several devices."""
        try:
            return elsewhere(arrays)
        except ValueError as error:
            raise OpError(self._complaint(error, arrays, {})) from None

    def _complaint(self, error: Exception, arrays: Sequence[Any], attributes: dict[str, Any]) -> str:
        given = [f"{self.input_name(i)} {describe(x)}" for i, x in enumerate(arrays)]
        given += [f"{name}={describe(x)}" for name, x in attributes.items()]
        expected = f"\nexpected: {self.expects}" if self.expects else ""
        return f"[{self.name}] {error}\ngiven: {', '.join(given)}{expected}"

    def __call__(self, *inputs: Any, **attributes: Any) -> Any:
        if levels.current != "reference" or self.reference is None:
            return apply(self, inputs, attributes)
        with wandering():
            follow(*[getattr(x, "array", x) for x in inputs])
            return self.reference(*mode.cast(self.name, *inputs), **attributes)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<Op {self.name}>"


class Mixed(Op):
    """An op whose inputs meet as numbers, so they are brought to one dtype first (dtype.py has the rule).

    aside   inputs that do not take part in the mixing (a condition)
    """

    floating = False

    def __init__(self, name: str, forward: Callable, *, aside: Sequence[str] = (), **rows: Any):
        super().__init__(name, forward, **rows)
        self.first = len(aside)
        if self.inputs[: self.first] != tuple(aside):
            raise TypeError(f"{name}: the inputs set aside, {aside}, must come first; the inputs are {self.inputs}")

    def mix(self, arrays: list[Any]) -> list[Any]:
        try:
            if not self.first:
                return promote(arrays, self.floating)
            return [*arrays[: self.first], *promote(arrays[self.first :], self.floating)]
        except TypeError as error:
            raise TypeError(self._complaint(error, arrays, {})) from error


class Analytic(Mixed):
    """A smooth function of real numbers: integers become float32 first."""

    floating = True


def _narrowed(x: Any, half: np.dtype) -> Any:
    return x.astype(half) if getattr(x, "dtype", None) == float32 else x


def describe(x: Any) -> str:
    """`(2, 3) float32` for an array, with its device if that is a GPU; the value for anything else."""
    if not (hasattr(x, "dtype") and hasattr(x, "shape")):
        return repr(x)
    where = "" if isinstance(x, np.generic) or device_of(x) == CPU else f" on {device_of(x)}"
    return f"{x.shape} {x.dtype}{where}"
