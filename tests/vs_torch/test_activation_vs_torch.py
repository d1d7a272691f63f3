"""Activations, against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compare import INF, NAN, Case, call, compare, functional, method, table

import tensorlite as tl
from tensorlite.check.samples.sample import normal

KNOWN = {"gelu {'approximate': 'tanh'} far out, in float32": "PyTorch's slope is nan where a power of x overflows"}

ROWS = np.array([[1.0, -INF, 2.0], [-INF, -INF, 0.0], [1e4, 0.0, -1e4]])
LINE = np.linspace(-8, 8, 50)
FAR = np.array([-1e30, -1e13, -1e4, -800.0, -100.0, -20.5, -1e-9, 0.0, 1e-9, 20.5, 100.0, 800.0, 1e4, 1e13, 1e30])


def inplace(name: str, *args: Any) -> Any:
    """The result, and what the input holds afterwards."""

    def both(m: Any, x: Any) -> Any:
        x = x * 1
        return getattr(m.nn.functional, name)(x, *args, inplace=True), x

    return both


def _swiglu(m, gate, up):
    """PyTorch has none: what it is made of."""
    F = m.nn.functional
    return F.swiglu(gate, up) if hasattr(F, "swiglu") else F.silu(gate) * up


ACTIVATIONS: dict[str, Case] = {
    "gelu, wrong form": (functional("gelu", approximate="fast"), normal(2)),
    "dropout of nothing": (functional("dropout", 0.0), normal(3)),
    "dropout of all": (functional("dropout", 1.0), normal(3)),
    "dropout of all, in place": (inplace("dropout", 1.0), normal(3)),
    "dropout in evaluation": (functional("dropout", 0.5, training=False), normal(3)),
    "dropout in evaluation, in place": (inplace("dropout", 0.5, False), normal(3)),
    "dropout, p too large": (functional("dropout", 1.5), normal(3)),
    "swiglu": (_swiglu, normal(2, 3), normal(2, 3)),
    "swiglu in float32": (_swiglu, LINE.astype(np.float32), LINE[::-1].astype(np.float32)),
    "swiglu in float16": (_swiglu, LINE.astype(np.float16), LINE[::-1].astype(np.float16)),
    "swiglu, broadcast": (_swiglu, normal(2, 1, 3), normal(4, 1)),
    "swiglu far out": (_swiglu, FAR, normal(*FAR.shape)),
    "in place on a leaf": (lambda m, x: m.nn.functional.relu(x, inplace=True), normal(3)),
    "in place without a graph": (
        lambda m, x: (m.nn.functional.silu(y := x.detach().clone(), inplace=True), y), normal(3),
    ),
}  # fmt: skip

for _name in ("softmax", "log_softmax"):
    ACTIVATIONS |= {
        **{f"{_name} over {dim}": (call(_name, dim), normal(2, 3, 4)) for dim in (0, 1, 2, -1, -3, 3, -4)},
        f"{_name} in nn.functional": (functional(_name, dim=1), normal(2, 3)),
        f"{_name} as a method": (method(_name, dim=1), normal(2, 3)),
        f"{_name} of a number": (method(_name, 0), normal()),
        f"{_name} of a number, over -1": (method(_name, -1), normal()),
        f"{_name} of a number, over 1": (method(_name, 1), normal()),
        f"{_name} of no classes": (method(_name, -1), normal(3, 0)),
        f"{_name} of no rows": (method(_name, -1), normal(0, 3)),
        f"{_name} to float64": (lambda m, x, n=_name: getattr(m, n)(x, 1, dtype=m.float64), ROWS.astype(np.float32)),
        f"{_name} of integers to float32": (lambda m, x, n=_name: getattr(m, n)(x, 0, dtype=m.float32), np.arange(3)),
        f"{_name} without dim": (call(_name), normal(3)),
        f"{_name} with -inf": (method(_name, -1), ROWS),
        f"{_name} of -inf only": (method(_name, -1), np.full((1, 2), -INF)),
        f"{_name} with nan": (method(_name, -1), np.array([[1.0, NAN], [1.0, 2.0]])),
        f"{_name} in float32": (method(_name, -1), np.array([[80, -80, 0], [1, 2, 3]], np.float32)),
        f"{_name} in float16": (method(_name, -1), normal(2, 3).astype(np.float16)),
    }

for _name, _options in [
    ("relu", {}), ("leaky_relu", {}), ("leaky_relu", {"negative_slope": 0.3}), ("leaky_relu", {"negative_slope": 0.0}),
    ("elu", {}), ("elu", {"alpha": 0.5}), ("silu", {}), ("softplus", {}), ("softplus", {"beta": 3.0, "threshold": 5.0}),
    ("softplus", {"beta": 0.5}), ("logsigmoid", {}), ("sigmoid", {}), ("tanh", {}), ("gelu", {}),
    ("gelu", {"approximate": "tanh"}),
]:  # fmt: skip
    _f, _case = functional(_name, **_options), f"{_name} {_options or ''}"
    ACTIVATIONS |= {
        _case: (_f, LINE.reshape(5, 10)),
        f"{_case} in float32": (_f, LINE.astype(np.float32)),
        f"{_case} in float16": (_f, LINE.astype(np.float16)),
        f"{_case} of a number": (_f, np.array(0.7)),
        f"{_case} of nothing": (_f, normal(0, 3)),
        f"{_case} far out": (_f, FAR),
        f"{_case} far out, in float32": (_f, FAR.astype(np.float32)),
        f"{_case} of nan": (lambda m, x, f=_f: f(m, x.detach()), np.array([NAN, INF])),
    }
    if _name in ("relu", "leaky_relu", "elu", "silu"):
        ACTIVATIONS[f"{_case} in place"] = (inplace(_name, *_options.values()), LINE)
    if _name not in ("gelu", "silu"):  # whose gradient at infinity is nan in PyTorch
        ACTIVATIONS[f"{_case} of infinity"] = (_f, np.array([-INF, INF]))


@table(ACTIVATIONS, KNOWN)
def test_activations(case: Case):
    compare(*case)


def test_the_slope_of_gelu_far_out_at_every_level():
    for level in tl.levels.LEVELS:
        for form in ("none", "tanh"):
            for dtype in (np.float32, np.float64):
                x = tl.tensor(FAR.astype(dtype), requires_grad=True)
                with tl.using(level):
                    tl.nn.functional.gelu(x, approximate=form).sum().backward()
                far = abs(FAR) >= 100
                np.testing.assert_array_equal(x.grad.numpy()[far], (FAR > 0)[far], f"{level} {form}")


def test_softmax_does_not_guess_its_dim():
    for f in (tl.softmax, tl.log_softmax, tl.nn.functional.softmax):
        with pytest.raises(TypeError, match=r"softmax: dim must be given, for instance dim=-1"):
            f(tl.ones(2, 3), None)
