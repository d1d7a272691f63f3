"""Is the gradient right? Of any function of Tensors, and of an op."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from ..op import OPS, Op, describe
from ..tensor import Tensor, array_of
from .diagnosis import diagnose, evidence
from .engine import First, Second, is_float
from .measure import Measured, measure_all, upstream
from .promises import backward_writes, forward_writes, levels_differ, result_casts
from .result import Finding, Kink, Mistake, OpReport, Report
from .samples import LARGE, NOT_ANALYTIC, SAMPLES
from .slopes import FLOAT32, FLOAT64, Precision

Method = Literal["auto", "complex", "differences"]


def gradients(
    fn: Callable[..., Any],
    inputs: Sequence[Any] | Tensor | np.ndarray,
    *,
    wrt: Sequence[int] | None = None,
    method: Method = "auto",
    second: bool = True,
    float32: bool = False,
    raise_exception: bool = True,
    seed: int = 0,
    name: str | None = None,
) -> Report:
    """Check the engine's gradients of `fn` at `inputs`.

    fn               takes Tensors (and whatever else is among the inputs), gives a Tensor or a tuple of Tensors
    inputs           Tensors or arrays, float64; or one of them
    wrt              positions of the inputs to differentiate; default: those that require a gradient, or all floats
    method           "complex": the complex step, for analytic functions, right to 12 digits. "differences": of float64,
                     right to 7 digits. "auto": the complex step where it runs and differences confirm it
    second           also the gradient of the gradient, through create_graph
    float32          take float32 inputs, which are good for about 2 digits
    raise_exception  raise GradientError if something is wrong; else look at the Report's `ok`
    seed             of the random upstream gradient and directions
    name             what messages call the function

    Raises TypeError for inputs that cannot be checked. A function that gives other numbers when it is called again, or
    numbers that are not finite, is wrong too.
    """
    if method not in ("auto", "complex", "differences"):
        raise ValueError(f"check: method is 'auto', 'complex' or 'differences', not {method!r}")
    given = [inputs] if isinstance(inputs, (Tensor, np.ndarray)) else list(inputs)
    arrays = [array_of(x) for x in given]
    places = _places(given, arrays, wrt)
    if not places:
        raise TypeError(
            "check: there is nothing to differentiate; at least one input must be a float64 Tensor or array"
        )
    names = _names(fn, len(arrays))
    report = _check(fn, arrays, places, names, name or _name(fn), method, second, _precision(arrays, float32), seed)
    return report.raise_if_wrong() if raise_exception else report


def op(
    op: Op | str,
    inputs: Sequence[Any] | None = None,
    attributes: Mapping[str, Any] | None = None,
    *,
    wrt: Sequence[int] | None = None,
    method: Method = "auto",
    second: bool = True,
    float32: bool = False,
    raise_exception: bool = True,
    seed: int = 0,
) -> OpReport:
    """Check an op, given itself or by its name in `tensorlite.OPS`: its gradients, that it writes into nothing, and
    that its levels agree. On `inputs` with `attributes`, or else on the op's samples (`check.sample`).

    The other arguments are those of `gradients`. An op without samples is wrong: nothing is known about it.
    """
    op = _registered(op)
    if inputs is not None:
        calls = [(list(map(array_of, inputs)), dict(attributes or {}), wrt)]
    else:
        calls = [(list(s.inputs), s.attributes, s.wrt) for s in SAMPLES.get(op.name, ())]
    method = "differences" if method == "auto" and op.name in NOT_ANALYTIC else method
    reports = tuple(_check_call(op, *call, method, second, float32, seed) for call in calls)
    complaints = [] if reports else ["has no samples: give it inputs, or samples with check.sample(op, …)"]
    for s in LARGE.get(op.name, ()) if inputs is None else ():
        complaints += [f"large sample: {each}" for each in levels_differ(op, s.inputs, s.attributes, s.wrt)]
    report = OpReport(op.name, reports, tuple(complaints))
    return report.raise_if_wrong() if raise_exception else report


def _registered(op: Op | str) -> Op:
    if isinstance(op, Op):
        return op
    if op not in OPS:
        raise KeyError(f"check: there is no op {op!r}; tensorlite.OPS lists them")
    return OPS[op]


def _check_call(
    op: Op, arrays: list[Any], attributes: dict[str, Any], wrt: Sequence[int] | None, method: Method, second: bool,
    float32: bool, seed: int,
) -> Report:  # fmt: skip
    def call(*xs: Any) -> Any:
        return op(*xs, **attributes)

    if wrt is None:
        wrt = [i for i, x in enumerate(arrays) if is_float(x) and op.plain.differentiable(i)]
    places = _places(arrays, arrays, wrt)
    names = [op.input_name(i) if op.input_name(i) != op.variadic else f"{op.variadic}[{i - len(op.inputs) + 1}]"
             for i in range(len(arrays))]  # fmt: skip
    extra = [*(f"{k}={describe(v)}" for k, v in attributes.items())]
    precision = _precision(arrays, float32) if places else FLOAT64
    ignored = attributes.get("dtype") is not None
    report = _check(call, arrays, places, names, op.name, method, second, precision, seed, extra, casts=ignored)
    complaints = levels_differ(op, arrays, attributes, places)
    return Report(report.name, report.given, report.findings, (*report.complaints, *complaints), report.notes)


def _check(
    f: Callable[..., Any], arrays: list[Any], places: list[int], names: list[str], name: str, method: Method,
    second: bool, precision: Precision, seed: int, extra: Sequence[str] = (), casts: bool = False,
) -> Report:  # fmt: skip
    with np.errstate(all="ignore"):  # a nan is reported, not warned about
        return _check_quietly(f, arrays, places, names, name, method, second, precision, seed, extra, casts)


def _check_quietly(
    f: Callable[..., Any], arrays: list[Any], places: list[int], names: list[str], name: str, method: Method,
    second: bool, precision: Precision, seed: int, extra: Sequence[str], casts: bool,
) -> Report:  # fmt: skip
    rng = np.random.default_rng(seed)
    described = ", ".join([*(f"{n} {describe(x)}" for n, x in zip(names, arrays, strict=True)), *extra])
    first = First(f, arrays, places, names)
    findings: list[Finding] = []
    complaints = forward_writes(f, arrays, names)
    if not complaints:
        values, again = first.values(arrays), first.values(arrays)
        if any(a.tobytes() != b.tobytes() for a, b in zip(values, again, strict=True)):
            complaints.append("it gives other numbers when called again: seed what is random in it")
        if places and not all(np.isfinite(y).all() for y in values):
            complaints.append("a result is nan or infinite, so that there is no slope: choose other inputs")
        complaints += [] if casts else result_casts(f, arrays)
    if complaints or not places or not values:
        return Report(name, described, (), tuple(complaints))

    u = upstream(values, rng)
    stage, notes = "backward", []
    try:
        complaints += backward_writes(f, arrays, places, names, u)
        if not complaints:
            findings += _findings(measure_all(first, first.gradients(u), u, method, precision, rng), precision)
        if findings and not all(np.isfinite(g).all() for g in first.gradients(u)):
            notes.append("second order was left out: the gradient is infinite here")
        elif findings and second and all(finding.mistake is None for finding in findings):
            stage = "backward(create_graph=True)"
            twice, w = Second(first, u), upstream([arrays[i] for i in places], rng)
            findings += _findings(measure_all(twice, twice.gradients(w), w, method, precision, rng), precision)
    except Exception as error:  # whatever a row does with what it gets is what is checked here
        complaints.append(f"{stage} raised {type(error).__name__}: {error}")
    return Report(name, described, tuple(findings), tuple(complaints), tuple(notes))


def _findings(measured: list[Measured], precision: Precision) -> list[Finding]:
    return [_finding(m, measured, precision) for m in measured]


def _finding(m: Measured, measured: list[Measured], precision: Precision) -> Finding:
    wrong, kinked, every = m.wrong(precision), m.kinked, m.directions is None

    def index(k: int) -> tuple[int, ...] | None:
        return tuple(int(n) for n in np.unravel_index(k, m.engine.shape)) if every else None

    def engine(k: int) -> float:
        return float(m.along[k])

    kinks = tuple(
        Kink(index(k), next(kind for kind in m.slopes[k].kinds if kind), float(m.low[k]), float(m.high[k]), engine(k))
        for k in np.flatnonzero(kinked).tolist()
    )
    mistake = None
    if wrong.any():
        k = int(np.argmax(np.where(wrong, np.nan_to_num(m.errors, nan=np.inf), -1)))
        nearest = float(np.clip(engine(k), m.low[k], m.high[k])) if not math.isnan(engine(k)) else float(m.low[k])
        known = evidence(m, measured, wrong)
        likely = diagnose(known) if known else [("unknown", "too large for every element: check a smaller input")]
        mistake = Mistake(index(k), engine(k), nearest, tuple(likely))
    error = float(np.max(m.errors[~kinked], initial=0))
    return Finding(m.name, m.point.order, m.method, m.why, m.engine.shape, error, kinks, mistake)


# The inputs ------------------------------------------------------------------------------------------------


def _places(given: Sequence[Any], arrays: Sequence[Any], wrt: Sequence[int] | None) -> list[int]:
    """The positions of the inputs to differentiate."""
    for x in arrays:
        if hasattr(x, "dtype") and not isinstance(x, np.ndarray):
            raise TypeError(
                f"check: gradients are checked on the CPU, and an input is a {type(x).__module__} array; use .cpu()"
            )
    if wrt is None:
        wanting = [i for i, x in enumerate(given) if getattr(x, "requires_grad", False)]
        return wanting or [i for i, x in enumerate(arrays) if is_float(x)]
    for i in wrt:
        if not 0 <= i < len(arrays) or not is_float(arrays[i]):
            raise TypeError(f"check: wrt={list(wrt)}, but there is no input {i} of floating-point numbers")
    return list(wrt)


def _precision(arrays: Sequence[Any], float32: bool) -> Precision:
    dtypes = {x.dtype for x in arrays if is_float(x)}
    if dtypes <= {np.dtype(np.float64)}:
        return FLOAT64
    if not float32 or np.dtype(np.float16) in dtypes:
        names = ", ".join(sorted(map(str, dtypes)))
        raise TypeError(
            f"check: the inputs are {names}, and should be float64: a difference of float32 numbers keeps 2 or 3 of "
            "their 7 digits, too few to tell a wrong gradient from a right one. Use x.double(), or float32=True for a "
            "coarse check of float32"
        )
    return FLOAT32


def _names(fn: Callable[..., Any], count: int) -> list[str]:
    """The parameters of fn, else numbers."""
    try:
        parameters = list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    plain = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [plain[i] if i < len(plain) else f"input {i}" for i in range(count)]


def _name(fn: Callable[..., Any]) -> str:
    name = getattr(fn, "__name__", type(fn).__name__)
    return "the function" if name == "<lambda>" else name
