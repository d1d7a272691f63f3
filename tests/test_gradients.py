"""Every op on every sample: its gradients are right, twice over, and keep the engine's promises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tensorlite as tl
from tensorlite import check
from tensorlite.check.engine import outputs, tensors
from tensorlite.check.promises import levels_differ
from tensorlite.check.samples import LARGE, NO_DERIVATIVE, NOT_ANALYTIC, SAMPLES, Sample

Arrays = list[np.ndarray]


def named(table: dict[str, list[Sample]], size: str = "") -> list[Any]:
    """The samples of a table, as parameters of a test."""
    return [pytest.param(s, id=f"{op}-{size}{i}") for op, samples in table.items() for i, s in enumerate(samples)]


EVERY = named(SAMPLES)
WITH_DERIVATIVE = named({op: [s for s in samples if s.wrt] for op, samples in SAMPLES.items()})
LARGE_ONES = named(LARGE, "large-")
WITH_LEVELS = [p for p in EVERY + LARGE_ONES if tl.OPS[p.values[0].op].reference or tl.OPS[p.values[0].op].kernels]


def test_every_op_has_samples():
    assert set(SAMPLES) == set(tl.OPS), "tensorlite/check/samples: every op needs samples, and every sample an op"
    assert set(LARGE) <= set(tl.OPS)
    assert all(SAMPLES.values())


@pytest.mark.parametrize("op", SAMPLES)
def test_every_derivative_is_sampled(op: str):
    """Each input with a derivative is differentiated in some sample; none without one is."""
    op = tl.OPS[op]
    sampled = {op.input_name(i) for s in SAMPLES[op.name] for i in s.wrt}
    if op.plain.joint is None:
        assert sampled == set(op.plain.rows)
    assert (op.name in NO_DERIVATIVE) == (not sampled)


# The numbers -----------------------------------------------------------------------------------------------


def right(sample: Sample, **options: Any) -> None:
    """The gradients are right to 12 digits where the op is analytic, else and in second order to 7."""
    report = check.op(sample.op, sample.inputs, sample.attributes, wrt=sample.wrt, **options)
    (of_sample,) = report.reports
    assert {f.order for f in of_sample.findings} == {1, 2}
    assert {f.verdict for f in of_sample.findings} <= {
        "right",
        "kink",
    }
    if sample.op not in NOT_ANALYTIC:
        assert all(f.method == "complex step" for f in of_sample.findings if f.order == 1), of_sample.findings


@pytest.mark.parametrize("sample", WITH_DERIVATIVE)
def test_gradient_is_the_slope(sample: Sample):
    right(sample)


@pytest.mark.parametrize("sample", [p for p in WITH_DERIVATIVE if tl.OPS[p.values[0].op].reference])
def test_gradient_of_the_reference_is_the_slope(sample: Sample):
    with tl.using("reference"):
        right(sample)


@pytest.mark.parametrize("sample", WITH_LEVELS)
def test_levels_agree(sample: Sample):
    assert not levels_differ(tl.OPS[sample.op], sample.inputs, sample.attributes, sample.wrt)


# Drawn: other numbers in the samples' shapes, and other shapes -----------------------------------------------


NEARBY = st.floats(0.95, 1.05)
SEEDS = st.integers(0, 2**32 - 1)  # of the upstream gradients


@pytest.mark.parametrize("op", [op for op in SAMPLES if op not in NO_DERIVATIVE])
@settings(max_examples=6)
@given(data=st.data(), seed=SEEDS)
def test_gradient_is_the_slope_near_the_samples(op: str, data: st.DataObject, seed: int):
    sample = data.draw(st.sampled_from([s for s in SAMPLES[op] if s.wrt]))
    inputs = sample.map(lambda x: x * data.draw(hnp.arrays(float, x.shape, elements=NEARBY)), "f")
    check.op(op, inputs, sample.attributes, wrt=sample.wrt, seed=seed)


def broadcasts(op: str) -> bool:
    """Whether an op takes numbers of any shapes that go together, to judge by its samples."""
    if not isinstance(tl.OPS[op], tl.Mixed) or tl.OPS[op].attributes or op in NO_DERIVATIVE:
        return False
    return all(np.shape(s(*s.inputs)) == np.broadcast_shapes(*map(np.shape, s.inputs)) for s in SAMPLES[op])


@pytest.mark.parametrize("op", [op for op in SAMPLES if broadcasts(op)])
@settings(max_examples=10)
@given(data=st.data(), seed=SEEDS)
def test_gradient_is_the_slope_in_any_shape(op: str, data: st.DataObject, seed: int):
    """The numbers are those of a sample, so that they lie where the op is defined."""
    arrays = [s for s in SAMPLES[op] if all(isinstance(x, np.ndarray) and x.size for x in s.inputs)]
    sample = data.draw(st.sampled_from(arrays))
    shapes = data.draw(
        hnp.mutually_broadcastable_shapes(num_shapes=len(sample.inputs), max_dims=3, max_side=3)
    ).input_shapes
    inputs = [data.draw(hnp.arrays(x.dtype, shape, elements=st.sampled_from(x.ravel().tolist())))
              for x, shape in zip(sample.inputs, shapes, strict=True)]  # fmt: skip
    assume(all(np.isfinite(y).all() for y in outputs(sample, inputs)))
    check.op(op, inputs, wrt=sample.wrt, seed=seed)


@pytest.mark.parametrize("sample", WITH_DERIVATIVE)
def test_part_of_the_inputs(sample: Sample):
    """Asking for fewer gradients runs other rows and keeps less; what is asked for stays the same."""
    u = upstream(sample)
    everything = dict(zip(sample.wrt, gradients(sample, sample.inputs, u), strict=True))
    for n in range(1, len(sample.wrt)):
        for wrt in combinations(sample.wrt, n):
            found = gradients(sample, sample.inputs, u, wrt=wrt)
            close(found, [everything[i] for i in wrt], 1e-12, f"wrt {wrt}")


# Layout and dtype ------------------------------------------------------------------------------------------


def fortran(x: np.ndarray) -> np.ndarray:
    return np.array(x, order="F")


def strided(x: np.ndarray) -> np.ndarray:
    """The same numbers, two apart in memory."""
    wide = np.full((*x.shape, 2), 99).astype(x.dtype)
    wide[..., 0] = x
    return wide[..., 0]


def backward(x: np.ndarray) -> np.ndarray:
    """The same numbers, from the end of the memory to its start."""
    flip = (slice(None, None, -1),) * x.ndim
    return np.asarray(x[flip]).copy()[(*flip, ...)]


def frozen(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.flags.writeable = False
    return x


LAYOUTS = [fortran, strided, backward, frozen]


@pytest.mark.parametrize("sample", EVERY + LARGE_ONES)
def test_layout_of_the_inputs(sample: Sample):
    u = upstream(sample)
    expected = run(sample, sample.inputs, u)
    for layout in LAYOUTS:
        close(run(sample, sample.map(layout), u), expected, 1e-12, layout.__name__)


@pytest.mark.parametrize("sample", WITH_DERIVATIVE + LARGE_ONES)
def test_layout_of_the_upstream_gradient(sample: Sample):
    u = upstream(sample)
    expected = gradients(sample, sample.inputs, u)
    for layout in LAYOUTS:
        close(gradients(sample, sample.inputs, [layout(each) for each in u]), expected, 1e-12, layout.__name__)


@pytest.mark.parametrize("sample", WITH_DERIVATIVE + LARGE_ONES)
def test_upstream_gradient_that_is_one_number_repeated(sample: Sample):
    """What `y.sum().backward()` sends: an array whose strides are 0."""
    u = [np.broadcast_to(np.float64(1.5), y.shape) for y in upstream(sample)]
    expected = gradients(sample, sample.inputs, [each.copy() for each in u])
    close(gradients(sample, sample.inputs, u), expected, 1e-12, "broadcast")


@pytest.mark.parametrize("sample", EVERY)
def test_shape_and_dtype(sample: Sample):
    """A gradient has the shape and dtype of its input, and a result the dtype of the inputs."""
    for dtype in (np.float16, np.float32, np.float64):
        inputs = sample.map(lambda x, dtype=dtype: x.astype(dtype), "f")
        with np.errstate(over="ignore"):  # float16
            ys = outputs(sample, tensors(inputs, sample.wrt))
            assert all(y.requires_grad == bool(sample.wrt) for y in ys)
            if not sample.wrt:
                return
            wide = np.float32 if dtype is np.float16 and tl.OPS[sample.op].sums else dtype
            assert all(y.dtype == sample.attributes.get("dtype", wide) for y in ys)
            found = gradients(sample, inputs, upstream(sample, inputs))
        for g, i in zip(found, sample.wrt, strict=True):
            assert type(g) is np.ndarray and g.shape == inputs[i].shape and g.dtype == dtype


@pytest.mark.parametrize("sample", [p for p in WITH_DERIVATIVE if len(p.values[0].wrt) > 1])
def test_mixed_dtypes(sample: Sample):
    """float32 with float64: each gradient has its own input's dtype, or the op refuses the mixture."""
    inputs = [x.astype(np.float32) if i == sample.wrt[0] else x for i, x in enumerate(sample.inputs)]
    try:
        found = gradients(sample, inputs, upstream(sample, inputs))
    except tl.OpError:
        return
    assert [g.dtype for g in found] == [inputs[i].dtype for i in sample.wrt]


# Memory ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sample", WITH_DERIVATIVE)
def test_nothing_is_mutated_and_no_gradient_is_shared(sample: Sample):
    u = upstream(sample)
    given = [*flatten(sample.inputs), *flatten(sample.attributes.values()), *u]
    before = [x.tobytes() for x in given]
    for through, create_graph in product((by_grad, by_backward), (False, True)):
        found = through(sample, u, create_graph)
        assert [x.tobytes() for x in given] == before
        for i, g in enumerate(found):
            for other in [*given, *found[:i]]:
                assert not np.shares_memory(g, other)


def by_grad(sample: Sample, u: Arrays, create_graph: bool) -> Arrays:
    xs = tensors(sample.inputs, sample.wrt)
    wanted = [xs[i] for i in sample.wrt]
    return [g.array for g in tl.grad(outputs(sample, xs), wanted, tensors(u), create_graph=create_graph)]


def by_backward(sample: Sample, u: Arrays, create_graph: bool) -> Arrays:
    xs = tensors(sample.inputs, sample.wrt)
    for y, each in zip(outputs(sample, xs), tensors(u), strict=True):
        y.backward(each, retain_graph=True, create_graph=create_graph)
    return [xs[i].grad.array for i in sample.wrt]


@pytest.mark.parametrize("sample", WITH_DERIVATIVE + LARGE_ONES)
def test_same_bits_again(sample: Sample):
    """And what an op gave stays as it was when the op runs again on other numbers: no buffer is handed out twice."""
    u = upstream(sample)
    results = run(sample, sample.inputs, u)
    bits = [x.tobytes() for x in results]
    run(sample, sample.map(lambda x: x * 0.5, "f"), [np.asarray(each * -2) for each in u])
    assert [x.tobytes() for x in results] == bits
    assert [x.tobytes() for x in run(sample, sample.inputs, u)] == bits


# Where the derivative jumps --------------------------------------------------------------------------------


@pytest.mark.parametrize("f, x, expected", [
    (tl.relu, [-1.0, 0.0, 2.0], [0, 0, 1]),
    (tl.abs, [-1.0, 0.0, 2.0], [-1, 0, 1]),
    (tl.sign, [-1.0, 0.0, 2.0], [0, 0, 0]),
    (lambda x: tl.maximum(x, 1.0), [0.0, 1.0, 2.0], [0, 0.5, 1]),
    (lambda x: tl.minimum(x, 1.0), [0.0, 1.0, 2.0], [1, 0.5, 0]),
    (lambda x: tl.maximum(x, x), [0.0, 1.0], [1, 1]),
    (tl.amax, [3.0, 1.0, 3.0], [0.5, 0, 0.5]),
    (tl.amin, [3.0, 3.0, 3.0], [1 / 3] * 3),
    (lambda x: x.max(0).values, [1.0, 3.0, 3.0], [0, 1, 0]),
    (lambda x: x.min(0).values, [1.0, 3.0, 1.0], [1, 0, 0]),
    (lambda x: x**0, [0.0, 1.0], [0, 0]),
    (lambda x: x**1, [0.0, 1.0], [1, 1]),
    (lambda x: x**2, [0.0, -1.0], [0, -2]),
    (lambda x: x ** tl.tensor([0.0, 1.0, 2.0]), [0.0, 0.0, 0.0], [0, 1, 0]),
    (lambda x: tl.tensor([0.0, 0.0, 2.0]) ** x, [0.0, 2.0, 0.0], [0, 0, np.log(2)]),
    (lambda x: 0.0**x, [0.0, 2.0], [0, 0]),
])  # fmt: skip
def test_gradient_at_a_kink(f: Callable[..., Any], x: list[float], expected: list[float]):
    x = tl.tensor(x, requires_grad=True)
    f(x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-6)


# Running a sample ------------------------------------------------------------------------------------------


def upstream(sample: Sample, inputs: Sequence[Any] | None = None) -> Arrays:
    """A random gradient for each output."""
    rng = np.random.default_rng(1)
    ys = outputs(sample, sample.inputs if inputs is None else inputs)
    return [rng.standard_normal(np.shape(y)).astype(y.dtype if y.dtype.kind == "f" else float) for y in ys]


def gradients(sample: Sample, inputs: Sequence[Any], u: Arrays, wrt: Sequence[int] | None = None) -> Arrays:
    return run(sample, inputs, u, wrt)[-len(wrt or sample.wrt) :]


def run(sample: Sample, inputs: Sequence[Any], u: Arrays, wrt: Sequence[int] | None = None) -> Arrays:
    """The outputs of a sample and its gradients, through backward()."""
    wrt = wrt or sample.wrt
    xs = tensors(inputs, wrt)
    ys = outputs(sample, xs)
    if wrt:
        for y, each in zip(ys, u, strict=True):
            y.backward(each, retain_graph=True)
    return [y.array for y in ys] + [xs[i].grad.array for i in wrt]


def flatten(values: Any) -> Arrays:
    """The arrays among values, also those in tuples."""
    return [a for x in values for a in (x if isinstance(x, tuple) else (x,)) if isinstance(a, np.ndarray)]


def close(found: Sequence[np.ndarray], expected: Sequence[np.ndarray], tolerance: float, what: str) -> None:
    """Equal up to `tolerance` times the largest number."""
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype, what
        largest = np.abs(b[np.isfinite(b)]).max(initial=1)
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * float(largest), err_msg=what)
