"""Declaring an op, and the levels at which it runs."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from leaves import leaf, same

import tensorlite as tl
from tensorlite.levels import LEVELS


@pytest.mark.usefixtures("_registry")
@pytest.mark.parametrize("arguments, error, text", [
    (dict(dx=lambda g, z: g), TypeError, r"new: a row asks for 'z', which is none of p, x, x_shape, y"),
    (dict(dx=lambda g, wants: g), TypeError, "a row asks for 'wants'"),
    (dict(dx=lambda y: y), TypeError, "a row's first parameter is g"),
    (dict(dx=lambda: 0), TypeError, "a row's first parameter is g"),
    (dict(dz=lambda g: g), TypeError, r"new: 'dz' is not d<input>; the inputs are x"),
    (dict(x=lambda g: g), TypeError, "'x' is not d<input>"),
    (dict(d=lambda g: g, dx=lambda g: g), TypeError, r"new: give either rows \(dx\) or one joint rule d=, not both"),
    (dict(residual=["r"], dx=lambda g, r: g), TypeError, "new: an op with residuals needs a reference="),
], ids=range(8))  # fmt: skip
def test_declaration_errors(arguments: dict[str, Any], error: type[Exception], text: str):
    with pytest.raises(error, match=text):
        tl.Op("new", lambda x, *, p: x, **arguments)
    assert "new" not in tl.OPS


@pytest.mark.usefixtures("_registry")
def test_declaration_under_a_name_that_is_taken():
    with pytest.raises(ValueError, match=r"an op called 'exp' exists already, in tensorlite\.ops\.elementwise"):
        tl.Op("exp", lambda x: x)
    assert tl.OPS["exp"](0.0) == 1


@pytest.mark.usefixtures("_registry")
def test_declaration_of_a_mixed_op():
    with pytest.raises(TypeError, match=r"new: the inputs set aside, \('b',\), must come first"):
        tl.Mixed("new", lambda a, b: a, aside=("b",))


@pytest.mark.usefixtures("_registry")
def test_declaration_of_an_attribute_with_a_default():
    with pytest.raises(TypeError, match="new: p has a default; give it to the function that users call"):
        tl.Op("new", lambda x, *, p=2.0: x * p, dx=lambda g, p: g * p)


@pytest.mark.usefixtures("_registry")
def test_declared_op_in_use():
    def cube(x: Any) -> Any:
        """x^3"""
        return x**3

    op = tl.Op("cube", cube, dx=lambda g, x: g * 3 * x**2)
    x = leaf(2.0)
    op(x).sum().backward()
    same(x.grad, [12])
    assert op(2.0) == 8 and op.__doc__ == "x^3" and repr(op) == "<Op cube>" and tl.OPS["cube"] is op


@pytest.mark.usefixtures("_registry")
def test_row_of_a_wrong_shape():
    op = tl.Op("wrong", lambda x: x.sum(axis=0), dx=lambda g: g)  # (3,) for an input of (2, 3)
    with pytest.raises(RuntimeError, match=r"row dx of \[wrong\] gave .* shape \(3,\) for an input of shape \(2, 3\)"):
        op(leaf([1.0, 2.0, 3.0], [4.0, 5.0, 6.0])).sum().backward()


@pytest.mark.usefixtures("_registry")
def test_row_that_gives_a_read_only_view():
    op = tl.Op("total", lambda x: x.sum(), dx=lambda g, x_shape: np.broadcast_to(g * 2, x_shape))
    x = leaf(1.0, 2.0)
    for _ in range(2):
        op(x).backward()
    same(x.grad, [4, 4])


@pytest.mark.usefixtures("_registry")
def test_kernel_that_declines_and_kernel_that_runs():
    op = tl.Op("twice", lambda x: x * 2, dx=lambda g: g * 2)
    calls = []

    def kernel(x: np.ndarray) -> Any:
        calls.append(x.dtype)
        return (x + x, "kept") if x.dtype == np.float64 else NotImplemented

    op.kernel("cpu", kernel, residual=["r"], dx=lambda g, r: g + g if r == "kept" else None)
    for dtype, ran in ((np.float64, True), (np.float32, False)):
        x = leaf(1.0, 2.0, dtype=dtype)
        y = op(x)
        assert (y.node.plan.names == ("r",)) == ran
        y.sum().backward()
        same(x.grad, [2, 2])
    with tl.using("plain"):
        op(x)
    assert calls == [np.float64, np.float32]


# levels ---------------------------------------------------------------------------------------------------


def test_using():
    assert tl.level() == LEVELS[-1]
    with tl.using("reference"):
        assert tl.level() == "reference"
        assert tl.softmax(leaf(1.0, 2.0), 0).node.op.name == "divide"
        with tl.using("plain"):
            assert tl.softmax(leaf(1.0, 2.0), 0).node.op.name == "softmax"
    assert tl.level() == LEVELS[-1]
    with pytest.raises(ValueError, match=r"no level 'fast'.*reference, plain, kernel"), tl.using("fast"):
        pass


def test_a_level_that_is_not_installed(monkeypatch):
    monkeypatch.setattr("tensorlite.levels.LEVELS", ("reference", "plain", "kernel"))
    needs = pytest.raises(RuntimeError, match=r"'compiled' needs Numba: pip install 'tensorlite\[compiled\]'")
    with needs, tl.using("compiled"):
        pass


@pytest.mark.parametrize(("name", "said"), [("plain", "plain"), ("fast", "there is no level 'fast'")])
def test_the_level_can_be_set_from_outside(name, said):
    environment = {**os.environ, "TENSORLITE_LEVEL": name}
    code = "import tensorlite as tl; print(tl.level())"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert said in done.stdout + done.stderr


def test_backward_outside_using():
    """The rows of the implementation that ran forward run backward, wherever that is."""
    x = leaf(1.0, 2.0, 3.0)
    with tl.using("plain"):
        y = tl.softmax(x, 0)[0]
    y.backward()
    p = np.exp([1, 2, 3]) / np.exp([1, 2, 3]).sum()
    same(x.grad, p[0] * (np.array([1, 0, 0]) - p))
