"""Loops compiled by Numba: their exponential and maximum, and that they say what the formulas in NumPy say, at every
length, since a compiler treats the rest of a row that does not fill a vector apart."""

import os
import subprocess
import sys

import numpy as np
import pytest

import tensorlite as tl
from tensorlite.block import Block
from tensorlite.optim import adamw

numba = pytest.importorskip("numba", reason="the extra 'compiled' is not installed")
from tensorlite.kernels.compiled import loop  # noqa: E402
from tensorlite.kernels.cpu import activation, attention, loss, normalisation  # noqa: E402

INF, NAN = np.inf, np.nan


@numba.njit
def exponentials(x, y):
    for i in range(x.size):
        y[i] = loop.exp(x[i])


def test_the_exponential_is_right_to_one_unit_in_the_last_place():
    x = np.linspace(-87.2, 88.2, 200_001).astype(np.float32)
    y = np.empty_like(x)
    exponentials(x, y)
    right = np.exp(x.astype(np.float64))
    assert (abs(y - right) <= np.spacing(right.astype(np.float32))).all()


def test_the_exponential_of_what_is_far_out():
    x = np.array([NAN, INF, -INF, 0, -0.0, -88, 89, 1e30, -1e30], np.float32)
    y = np.empty_like(x)
    exponentials(x, y)
    np.testing.assert_array_equal(y, np.array([NAN, INF, 0, 1, 1, 0, INF, INF, 0], np.float32))


@pytest.mark.parametrize("row", [[-3, -1, -2], [-1, 5, 2], [INF, 1], [-0.0], [3], [1, NAN, 7], list(range(40))])
def test_the_largest_of_a_row(row):
    row = np.array(row, np.float32)
    np.testing.assert_array_equal(loop.largest(row), row.max())


@pytest.mark.parametrize("row", [[], [-INF, -INF]])
def test_the_largest_of_nothing_can_be_subtracted(row):
    assert loop.largest(np.array(row, np.float32)) == np.finfo(np.float32).min


def arrays(rng, n, c):
    """For each block: its arguments, of rows of length c."""

    def new(*shape):
        return rng.standard_normal(shape, np.float32)

    def one_hot():
        return rng.integers(0, c, n), abs(new(n))

    yield activation.gelu_tanh, (new(n * c), new(n * c), new(n * c))
    yield activation.gelu_tanh, (new(n * c), new(n * c), None)
    yield activation.gelu_erf, (new(n * c), new(n * c), new(n * c))
    yield activation.silu, (new(n * c), new(n * c), new(n * c))
    yield activation.swiglu, (new(n * c), new(n * c), new(n * c))
    yield activation.swiglu_slopes, tuple(new(n * c) for _ in range(5))
    for block in (activation.softmax, activation.log_softmax):
        yield block, (new(n, c), new(n, c))
    for block in (activation.softmax_slope, activation.log_softmax_slope):
        yield block, (new(n, c), new(n, c), new(n, c))
    yield normalisation.normalise, (new(n, c), new(n, c), new(n, 1), new(n, 1), new(c), new(c), 1e-5)
    yield normalisation.normalise, (new(n, c), new(n, c), None, new(n, 1), None, None, 1e-5)
    for mean in (new(n, 1), None):
        given = (new(n, c), new(n, c), mean, abs(new(n, 1)), new(c), new(n, c))
        yield normalisation.normalise_slope, (*given, new(c), new(c))
        yield normalisation.normalise_slope, (*given, None, None)
    yield loss.logsumexp_rows, (new(n, c), new(n, 1))
    target, share = one_hot()
    yield loss.logits_slope, (new(n, c), new(n, 1), target, share, new(n, c))
    share[0] = 0
    for slope in (False, True):
        yield loss.losses_and_slope, (new(n, c), target, share, new(n), slope)
    for seen in (c, c - 2, c - 4):  # the last query sees all keys
        kept = rng.random((2, 1, n, c)) < 0.5
        top, sums = new(2, 1, n, 1), abs(new(2, 1, n, 1))
        for mask in (kept, None):
            yield attention.exponentials, (new(2, 1, n, c), seen, top, mask, sums, new(2, 1, n, 3))
            given = (new(2, 1, n, c), new(2, 1, n, c), seen, 3 + sums, new(2, 1, n, 1))
            yield attention.weights_and_slope, (*given, mask, 2.0)
    yield attention.draw_kept, (rng.random((3, n, c)) < 0.5, np.arange(4, 7), 0.3, 2**61 + c, 100, 1000)
    yield attention.inner_products, (new(2, n, 1, c), new(2, n, 1, c), new(2, n, 1, 1))
    for top in (new(2, n, 1, 1), None):
        yield attention.divided, (new(2, n, 1, c), top, abs(new(2, n, 1, 1)) + 1, new(2, n, 1, c), 1.25)
    for largest in (None, abs(new(n * c))):
        numbers = adamw.Numbers(0.9, 0.99, 1e-3, 1e-2, 0.999, 0.1, -1.0)
        yield adamw.adam_step, (new(n * c), new(n * c), new(n * c), abs(new(n * c)), largest, *numbers)


@pytest.mark.parametrize("block", [activation.gelu_tanh, activation.gelu_erf, activation.silu])
def test_a_slope_does_not_change_the_result(block):
    x = np.random.default_rng(0).standard_normal(1003, np.float32)
    alone, beside = np.empty_like(x), np.empty_like(x)
    with tl.using("compiled"):
        block(x, alone, None)
        block(x, beside, np.empty_like(x))
    np.testing.assert_array_equal(alone, beside)


def copies(arguments):
    return [x.copy() if isinstance(x, np.ndarray) else x for x in arguments]


@pytest.mark.parametrize("c", [1, 7, 32, 77])
def test_a_loop_does_what_the_formula_does(c):
    rng = np.random.default_rng(c)
    tried = set()
    for block, arguments in arrays(rng, 5, c):
        formula, looped = copies(arguments), copies(arguments)
        block.formula(*formula)
        with tl.using("compiled"):
            assert block.compiled(looped[0].dtype)
            block(*looped)
        for i, (right, mine) in enumerate(zip(formula, looped)):
            if isinstance(right, np.ndarray) and not same_rubbish(block, i, formula):
                np.testing.assert_allclose(
                    mine, right, rtol=2e-5, atol=2e-5, err_msg=f"{block.formula.__name__}, argument {i}"
                )
        tried.add(block)
    modules = (activation, attention, loss, normalisation, adamw)
    assert tried == {each for module in modules for each in vars(module).values() if isinstance(each, Block)}


def same_rubbish(block, i, arguments):
    """Whether an argument is left with what nobody reads: probabilities that no slope was asked of."""
    return block is loss.losses_and_slope and i == 0 and not arguments[4]


def test_a_numba_that_cannot_be_loaded_is_done_without():
    code = """
import sys, warnings, types
numba = types.ModuleType("numba")
def refuse(name): raise ImportError("Numba needs NumPy 1.0 or less")
numba.__getattr__ = refuse
import tensorlite as tl
sys.modules["numba"] = numba
with warnings.catch_warnings(record=True) as said:
    y = [tl.nn.functional.silu(tl.ones(3)).sum().item() for _ in range(2)]
print([str(w.message) for w in said], round(y[1], 3))
"""
    environment = {**os.environ, "TENSORLITE_LEVEL": "compiled"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    said = "tensorlite runs without compiled loops, since Numba cannot be loaded: "
    assert done.stdout.startswith(f"['{said}") and done.stdout.endswith("2.193\n")
    assert "Numba needs NumPy 1.0 or less" in done.stdout


def test_other_formats_and_other_levels_go_through_numpy():
    assert not activation.silu.compiled(np.float64)
    with tl.using("kernel"):
        assert not activation.silu.compiled(np.float32)
