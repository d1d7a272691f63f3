"""The gradient checker: it catches every kind of wrong row and names the mistake, raises no false alarm, sees kinks."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tensorlite as tl
from tensorlite import check
from tensorlite.check import diagnosis
from tensorlite.check.slopes import difference
from tensorlite.tensor import array_of

pytestmark = pytest.mark.usefixtures("_registry")


def double(*numbers: Any) -> tl.Tensor:
    return tl.tensor(numbers, dtype=tl.float64)


# Wrong rows ------------------------------------------------------------------------------------------------


A, B = np.linspace(-1, 2, 15).reshape(3, 5), np.linspace(0.5, 3, 9).reshape(3, 3)
SQUARE = np.linspace(-1, 2, 9).reshape(3, 3)


def writes(g: Any, x: Any) -> Any:
    result = g * 2 * x
    array_of(x)[...] = 0
    return result


def writes_upstream(g: Any) -> Any:
    result = g * 2
    array_of(g)[...] = 0
    return result


def writes_forward(x: Any) -> Any:
    y = x * 2
    x *= 2
    return y


def swallows(g: Any, x: Any) -> Any:
    raise KeyError("no such thing")


# forward, rows, inputs, hypothesis that must come first (None: a promise), words of the message
FAULTS: dict[str, tuple[Callable, dict[str, Callable], list[np.ndarray], str | None, str]] = {
    "sign": (lambda x: np.cos(x), dict(dx=lambda g, x: g * tl.sin(x)), [A], "sign", "the sign is wrong"),
    "thousandth": (lambda x: np.exp(x), dict(dx=lambda g, y: g * y * 1.001), [A], "factor", "1.001 times"),
    "1e-11": (lambda x: np.exp(x), dict(dx=lambda g, y: g * y * (1 + 1e-11)), [A], "float32", "rounded constant"),
    "mean": (lambda x: x.mean(axis=0), dict(dx=lambda g, x: g + x * 0), [A], "count", "3 times too large"),
    "all mean": (lambda x: x.mean(keepdims=True), dict(dx=lambda g, x: g + x * 0), [A], "count", "15 times too large"),
    "no sum": (lambda x: x.sum(axis=0), dict(dx=lambda g, x: g / 3 + x * 0), [A], "count", "3 times too small"),
    "transposed": (lambda a, b: a @ b, dict(da=lambda g, b: g @ b.mT, db=lambda g, a: (a.mT @ g).mT), [SQUARE, B],
                   "transposed", "transposed: "),
    "un-broadcast": (lambda x, b: x + b, dict(dx=lambda g: g, db=lambda g: g[0]), [A, A[0]],
                     "missing sum", "sum is missing"),
    "un-broadcast 2": (lambda x, b: x * b, dict(dx=lambda g, b: g * b, db=lambda g, x: (g * x)[:, -1:]), [A, A[:, :1]],
                       "missing sum", "position 4 of the output's dimension 1"),
    "input": (lambda x: x * x, dict(dx=writes), [A], None, "the backward writes into x"),
    "upstream": (lambda x: x * 2, dict(dx=writes_upstream), [A],
                 None, "the backward writes into the upstream gradient"),
    "forward": (writes_forward, dict(dx=lambda g: g * 2), [A], None, "the forward writes into x"),
    "detached": (lambda x: np.exp(x), dict(dx=lambda g, y: g * array_of(y)), [A],
                 "second order", "takes an array for a constant"),
    "detached g": (lambda x: x * x, dict(dx=lambda g, x: array_of(g) * x * 2), [A],
                   "second order", "create_graph needs the Tensor"),
    "operand": (lambda a, b: a * b, dict(da=lambda g, a: g * a, db=lambda g, a: g * a), [SQUARE, B],
                "other operand", "it is the gradient of b"),
    "half": (lambda x: x * x, dict(dx=lambda g, x: g * x), [A], "half", "second contribution is missing"),
    "a path": (lambda x: x * x + x, dict(dx=lambda g, x: g * 2 * x), [A], "offset", "1 times the upstream gradient"),
    "a term": (lambda x: x * x * np.exp(x), dict(dx=lambda g, x: g * 2 * x * tl.exp(x)), [A + 1.5],
               "part", "only a part"),
    "a factor": (lambda x: x**3 / 3, dict(dx=lambda g, x: g * x), [A], "multiplied", "times x it would be right"),
    "stopped": (lambda x: x * x, dict(dx=lambda g: g * 0), [A], "stopped", "the gradient is stopped"),
    "lost": (lambda x: x * x, dict(dx=lambda g, x: g * tl.where(x > 0, 2 * x, 0)), [A], "stopped", "is lost"),
    "no row": (lambda a, b: a * b, dict(da=lambda g, b: g * b), [A, A], "stopped", "the gradient is stopped"),
    "nan": (lambda x: x * 2, dict(dx=lambda g: g * np.nan), [A], "not a number", "15 of 15 elements are nan"),
    "one nan": (lambda x: x * x, dict(dx=lambda g, x: g * 2 * x * tl.where(x > 1.9, np.inf, 1)), [A],
                "not a number", "1 of 15"),
    "no upstream": (lambda x: x * x, dict(dx=lambda g, x: 2 * x), [A], "upstream ignored", "does not multiply by g"),
    "float32": (lambda x: x * x, dict(dx=lambda g, x: g * 2 * x.astype("float32")), [A],
                "float32", "computed in float32"),
    "flip": (lambda x: x[::-1], dict(dx=lambda g: g), [A], "reordered", "the wrong places"),
    "dtype": (lambda x: x.astype(np.float32), dict(dx=lambda g: g), [A], None, "the result is float32"),
    "shape": (lambda x: x.sum(axis=0), dict(dx=lambda g: g[:2]), [A], None, "gave a gradient of shape (2,)"),
    "raises": (lambda x: x * x, dict(dx=swallows), [A], None, "backward raised KeyError"),
    "infinite": (lambda x: x / 0, dict(dx=lambda g: g), [A], None, "nan or infinite"),
}  # fmt: skip


def wrt_all(op: tl.Op, inputs: list[np.ndarray], **options: Any) -> check.OpReport:
    return check.op(op, [x.copy() for x in inputs], wrt=range(len(inputs)), raise_exception=False, **options)


@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
@pytest.mark.parametrize("method", ["auto", "differences"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_row_is_caught_and_named(fault: str, method: str):
    forward, rows, inputs, hypothesis, words = FAULTS[fault]
    op = tl.Op(f"wrong {fault}", forward, **rows)
    report = wrt_all(op, inputs, method=method)
    if fault in ("1e-11", "float32") and method == "differences":  # these need the complex step
        return
    assert not report.ok and report.verdict == "wrong"
    message = report.problems()
    assert words in message and message.startswith(f"[{op.name}] ")
    mistakes = [f.mistake for f in report.findings() if f.mistake]
    if hypothesis is None:
        assert report.reports[0].complaints
    else:
        assert mistakes[0].likely[0][0] == hypothesis
    if hypothesis == "second order":
        assert wrt_all(op, inputs, method=method, second=False).ok
    with pytest.raises(check.GradientError, match=re.escape(words)):
        report.raise_if_wrong()


def test_every_hypothesis_is_tested():
    tested = {hypothesis for *_, hypothesis, _ in FAULTS.values()} | {"kink"}  # that one stands below
    assert tested - {None} == {name for name, _ in diagnosis.HYPOTHESES}


def test_an_error_that_nothing_explains():
    op = tl.Op("strange", lambda x: np.exp(x), dx=lambda g, y: g * tl.sin(y))
    assert "no simple mistake" in wrt_all(op, [A]).problems()


def test_the_likely_mistake_is_what_explains_most_samples():
    """On one sample 2 is a length, on the other it is not."""
    op = tl.Op("doubled", lambda x: x * x, dx=lambda g, x: g * x)
    check.sample(op, A[:2])
    check.sample(op, A[:1, :3])
    report = check.op(op, raise_exception=False)
    assert report.likely() == "half" and "wrong on 2 of 2 samples" in report.problems()


def test_a_large_input_is_diagnosed_too():
    op = tl.Op("large", lambda x: x * x, dx=lambda g, x: g * tl.where(x == 0.5, 0, 2 * x))
    x = np.linspace(-1, 1, 301)
    report = wrt_all(op, [x])
    mistake = next(f.mistake for f in report.findings() if f.mistake)
    assert mistake.index == (int(np.flatnonzero(x == 0.5)[0]),) and mistake.likely[0][0] == "stopped"


def test_levels_that_differ():
    op = tl.Op("fused", lambda x: x * x, dx=lambda g, x: 2 * g * x, reference=lambda x: x * x)
    check.op(op, (A,))
    op.kernel("cpu", lambda x: x * x * (1 + 1e-9), dx=lambda g, x: 2 * g * x)
    with pytest.raises(check.GradientError, match="levels kernel and plain: the result differs"):
        check.op(op, (A,))
    op.kernel("cpu", lambda x: x * x, dx=lambda g, x: 2.01 * g * x)
    with pytest.raises(check.GradientError, match="levels kernel and plain: the gradient of x differs"):
        check.op(op, (A,))


# Right rows ------------------------------------------------------------------------------------------------


SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
NUMBERS = st.floats(-2, 2, allow_subnormal=False)


@settings(max_examples=30)
@example(x=np.array(1.53571739e-291), seed=0)  # h x underflows
@given(x=hnp.arrays(float, SHAPES, elements=NUMBERS), seed=st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("f", [
    pytest.param(f, id=name) for name, f in {
        "analytic": lambda x: x.exp() * x,
        "reduced": lambda x: x.sum() * x,
        "two kinks": lambda x: x.relu() + x.abs(),
        "composed": lambda x: (x * x + 1).log().mean() if x.numel() else x,
        "branches": lambda x: tl.where(x > 0.5, x * x, tl.sin(x)),
        "maximum": lambda x: tl.maximum(x, 0.25) * x.sigmoid(),
        "softmax": lambda x: x.softmax(-1) if x.ndim and x.shape[-1] else x,
    }.items()
])  # fmt: skip
def test_no_false_alarm(f: Callable, x: np.ndarray, seed: int):
    check.gradients(f, x, seed=seed)


@pytest.mark.parametrize("f, x, methods", [
    (lambda x: x.exp(), double(1, 2), {"complex step"}),
    (lambda x: x.abs(), double(1, -2), {"differences"}),
    (lambda x: x.relu(), double(1, -2), {"complex step"}),  # away from 0 it is analytic
    (lambda x: x.sign() * x, double(1, -2), {"complex step"}),
    (lambda x: x @ tl.ones(2, 2, dtype=tl.float64), double([1.0, 2.0]), {"differences"}),  # matmul mixes no dtypes
])  # fmt: skip
def test_which_method_runs_and_why(f: Callable, x: tl.Tensor, methods: set[str]):
    report = check.gradients(f, x)
    first = [f for f in report.findings if f.order == 1]
    assert {f.method for f in first} == methods and all(bool(f.why) == (f.method == "differences") for f in first)
    assert all(f.method == "differences" for f in check.gradients(f, x, method="differences").findings)
    if methods == {"differences"}:
        with pytest.raises(check.GradientError, match="the complex step cannot be used"):
            check.gradients(f, x, method="complex")


def test_a_wrong_row_of_a_function_that_is_not_analytic():
    """NumPy's abs of complex numbers has no slope, and neither has this row: both must not agree in silence."""
    op = tl.Op("modulus", lambda x: np.abs(x), dx=lambda g: g * 0)
    with pytest.raises(check.GradientError, match="the gradient is stopped"):
        check.op(op, (A + 0.01,))


def test_several_outputs_and_inputs_that_are_no_arrays():
    def f(x: Any, n: int, y: Any, nothing: None) -> Any:
        return x * y**n, x.argmax(), (x + y).sum()

    report = check.gradients(f, (double(1, 2), 3, double(0.5, 0.25), None))
    assert [f.input for f in report.findings] == ["x", "y", "x", "y", "the upstream gradient", "the upstream gradient"]
    assert report.verdict == "right" and bool(report) and "right (complex step" in str(report)
    assert [
        f.input for f in check.gradients(f, (double(1, 2), 3, double(0.5, 0.25), None), wrt=[2], second=False).findings
    ] == ["y"]
    x = double(1, 2).requires_grad_()
    assert {f.input for f in check.gradients(lambda x, y: x * y, (x, double(3, 4)), second=False).findings} == {"x"}


def test_an_input_that_is_not_used_has_gradient_zero():
    check.gradients(lambda x, y: x * 2, (double(1, 2), double(3, 4)))


def test_unequal_calls_are_refused():
    with pytest.raises(check.GradientError, match="other numbers when called again"):
        check.gradients(lambda x: x * tl.rand(2, dtype=tl.float64), double(1, 2))


def test_float32():
    x = tl.tensor([0.3, -1.2])
    with pytest.raises(TypeError, match=r"2 or 3 of their 7 digits.*float32=True"):
        check.gradients(tl.tanh, x)
    for f in (tl.tanh, tl.abs, lambda x: x * x):
        check.gradients(f, x, float32=True)
        with pytest.raises(check.GradientError, match="stopped"):
            check.gradients(lambda x, f=f: f(x).detach(), x, float32=True)
    with pytest.raises(TypeError, match="float16"):
        check.gradients(tl.tanh, x.half(), float32=True)


def test_wrong_usage():
    with pytest.raises(TypeError, match="nothing to differentiate"):
        check.gradients(lambda x: x, tl.tensor([1, 2]))
    with pytest.raises(TypeError, match="no input 1 of floating-point"):
        check.gradients(lambda x: x, double(1), wrt=[1])
    with pytest.raises(ValueError, match="method is"):
        check.gradients(tl.exp, double(1), method="magic")
    with pytest.raises(KeyError, match="there is no op 'expp'"):
        check.op("expp")


# Kinks -----------------------------------------------------------------------------------------------------


def clamp(x: Any) -> Any:
    return tl.minimum(tl.maximum(x, 0.0), 1.0)


@pytest.mark.parametrize("f, x, kinks", [
    (tl.relu, [-1, 0, 2], {(1,): "kink"}),
    (tl.abs, [-1, 0, 2], {(1,): "kink"}),
    (lambda x: x.amax(), [3, 1, 3], {(0,): "kink", (2,): "kink"}),
    (lambda x: x.max(0).values, [3, 1, 3], {(0,): "kink", (2,): "kink"}),
    (clamp, [-1, 0, 0.5, 1, 2], {(1,): "kink", (3,): "kink"}),
    (lambda x: tl.where(x > 1, 3 * x - 2, x), [0, 1, 2], {(1,): "kink"}),
    (lambda x: tl.where(x > 1, 3 * x, x), [0, 1, 2], {(1,): "jump"}),
    (tl.sign, [-1, 0, 2], {(1,): "jump"}),
    (lambda x: x % 1, [0.5, 1, 3], {(1,): "jump", (2,): "jump"}),
    (tl.sqrt, [0, 1], {(0,): "edge"}),
    (lambda x: x.abs() + x.relu() * 5, [0.0, 1.0], {(0,): "kink"}),
    (tl.relu, [1e-5, -1e-6], {}),  # near, not at
    (lambda x: x * x.abs(), [0, 1], {}),
    (tl.log, [1e-3, 1e-4], {}),
    (lambda x: (1000 * x).sin(), [0.1, 2], {}),
])  # fmt: skip
def test_kinks_are_seen(f: Callable, x: list[float], kinks: dict[tuple, str]):
    report = check.gradients(f, double(*x), second=f is not tl.log)
    (first,) = [f for f in report.findings if f.order == 1]
    assert {k.index: k.kind for k in first.kinks} == kinks
    assert report.verdict == ("kink" if kinks else report.verdict) and first.verdict == ("kink" if kinks else "right")


@pytest.mark.parametrize("value", [-0.5, 1.5, np.nan, np.inf])
def test_a_wrong_gradient_at_a_kink(value: float):
    def dx(g: Any, x: Any) -> Any:
        return g * tl.where(x == 0, value, tl.where(x > 0, 1.0, 0.0))

    op = tl.Op("bad relu", lambda x: np.maximum(x, 0), dx=dx)
    report = wrt_all(op, [np.array([-1.0, 0.0, 2.0])])
    (mistake,) = [f.mistake for f in report.findings() if f.mistake]
    assert mistake.index == (1,) and "kink" in [name for name, _ in mistake.likely]
    assert wrt_all(op, [np.array([-1.0, 2.0])]).ok


@pytest.mark.parametrize("value, ok", [(0.0, True), (0.5, False)])
def test_a_gradient_at_a_jump(value: float, ok: bool):
    op = tl.Op("step", lambda x: np.sign(x), dx=lambda g, x: g * tl.where(x == 0, value, 0.0))
    assert wrt_all(op, [np.array([0.0, 1.0])]).ok == ok


def test_kinks_of_several_outputs_do_not_cancel():
    """<u, f> = |x| - |x| has no kink, but each of the outputs has."""
    slope = difference(lambda t: np.array([abs(t), -abs(t), t]))
    np.testing.assert_allclose([slope.low, slope.high], [[-1, -1, 1], [1, 1, 1]], atol=1e-7)
    assert slope.kinds.tolist() == ["kink", "kink", ""]


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(-2, 2))
def test_the_interval_at_a_kink(left: float, right: float, curve: float):
    slope = difference(lambda t: np.array([(left if t < 0 else right) * t + curve * t * t]))
    assert min(left, right) - 1e-4 <= slope.low[0] <= slope.high[0] <= max(left, right) + 1e-4
    if abs(left - right) > 1e-3:
        assert slope.kinds[0] == "kink"
