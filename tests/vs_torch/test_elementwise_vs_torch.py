"""Functions of one number, against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
from compare import INF, NAN, call, compare, method

import tensorlite as tl
from tensorlite.check.samples.sample import normal, positive

EDGES = np.array([-INF, -100.0, -20.0, -2.5, -1.0, -0.1, 0.0, 1e-8, 0.1, 1.0, 3.0, 6.5, 20.0, 100.0, INF])
ELEMENTWISE = [
    "exp", "log", "sqrt", "rsqrt", "sin", "cos", "tanh", "sigmoid", "erf", "relu", "abs", "neg", "sign", "isnan",
    "isinf", "isfinite", "logical_not",
]  # fmt: skip


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise(name: str):
    for dtype in ("float64", "float32"):
        compare(call(name), EDGES.astype(dtype))
        compare(method(name), normal(2, 3).astype(dtype))
        compare(call(name), positive(0, 2).astype(dtype))
        compare(call(name), np.array(0.7, dtype))
        if name != "sign":  # of nan: PyTorch says 0
            compare(call(name), np.array([NAN], dtype), differentiate=False)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16"])
@pytest.mark.parametrize("name", ["exp", "log", "sqrt", "tanh", "sigmoid", "erf", "relu", "abs", "neg", "isnan"])
def test_elementwise_of(name: str, dtype: str):
    if dtype != "bool" or name not in ("relu", "abs"):  # PyTorch refuses these
        compare(call(name), np.array([1, 0, 1], dtype))


def test_relative_accuracy_of_sigmoid():
    """Far left the sigmoid is small, not 0: log(sigmoid(x)) depends on it."""
    x = tl.tensor([-80.0, -40.0, -20.0])
    np.testing.assert_allclose(tl.sigmoid(x).numpy(), np.exp(x.numpy()), rtol=1e-5)
