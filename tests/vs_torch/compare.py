"""The same line of code in PyTorch and in tensorlite: the same values, gradients, shapes, dtypes, and refusals.

    "mm and bmm": (lambda m, a, b: (m.mm(a, b), m.bmm(a[None], b[None])), normal(2, 3), normal(3, 2)),

`m` is either library, so a case also tests that names, argument order and defaults are PyTorch's.
With TENSORLITE_DEVICE=cuda tensorlite computes on a GPU, and PyTorch on the CPU as ever.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import tensorlite as tl

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests and is not installed")

Case = tuple[Any, ...]  # a function of the library and the inputs, then the inputs
INF, NAN = math.inf, math.nan
DEVICE = os.environ.get("TENSORLITE_DEVICE", "cpu")


class OnDevice:
    """tensorlite, where Tensors are made on DEVICE unless another is given."""

    Tensor = tl.Tensor

    def __getattr__(self, name: str) -> Any:
        member = getattr(tl, name)
        return partial(member, device=DEVICE) if name in MAKING else member


MAKING = {"arange", "empty", "eye", "full", "linspace", "ones", "rand", "randn", "tensor", "zeros"}
OURS: Any = tl if DEVICE == "cpu" else OnDevice()


def run(m: Any, f: Callable[..., Any], inputs: Case, differentiate: bool) -> tuple[list[Any], list[Any]]:
    """The outputs, and the gradients of the floating inputs."""
    xs = [m.tensor(x) if isinstance(x, np.ndarray) else x for x in inputs]
    floats = [x for x in xs if isinstance(x, m.Tensor) and x.is_floating_point()] if differentiate else []
    for x in floats:
        x.requires_grad_()
    ys = f(m, *xs)
    ys = list(ys) if isinstance(ys, (tuple, list)) else [ys]
    upstream = np.random.default_rng(0)
    for y in ys:
        g = np.asarray(upstream.standard_normal(tuple(y.shape)))
        if y.requires_grad:
            y.backward(m.tensor(g).to(y.device).to(y.dtype), retain_graph=True)
    if m is not torch and DEVICE != "cpu":
        tl.cuda.synchronize(DEVICE)  # what the GPU found wrong with an id is raised now
    return ys, [x.grad for x in floats]


def attempt(*arguments: Any) -> tuple[Any, Exception | None]:
    try:
        return run(*arguments), None
    except (RuntimeError, IndexError, ValueError, TypeError) as refusal:
        return None, refusal


def compare(f: Callable[..., Any], *inputs: Any, differentiate: bool = True) -> None:
    """Run f in both libraries. What PyTorch refuses tensorlite must refuse too."""
    expected, refusal = attempt(torch, f, inputs, differentiate)
    found, refused = attempt(OURS, f, inputs, differentiate)
    if refusal is not None:
        assert refused is not None, f"PyTorch refuses: {refusal}; tensorlite gives {found}"
        return
    if refused is not None:
        raise refused
    for what, ours, theirs in zip(("value", "gradient"), found, expected, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert (a is None) == (b is None), what
            if a is not None:
                same(a.detach().cpu().numpy(), b.detach().numpy(), what)


def same(a: np.ndarray, b: np.ndarray, what: str) -> None:
    assert a.shape == b.shape and a.dtype == b.dtype, f"{what}: {a.shape} {a.dtype}, PyTorch {b.shape} {b.dtype}"
    tolerance = {"float64": 1e-12, "float32": 1e-5, "float16": 4e-3}.get(str(b.dtype), 0)
    largest = np.abs(b[np.isfinite(b)]).max(initial=1) if tolerance else 0
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * float(largest), err_msg=what)


def table(cases: dict[str, Case], known: dict[str, str] | None = None) -> Any:
    """The cases as parameters of a test; `known` says why some of them differ today."""
    known = known or {}

    def case(name: str) -> Any:
        marks = [pytest.mark.xfail(strict=True, reason=known[name])] if name in known else []
        return pytest.param(cases[name], id=name, marks=marks)

    return pytest.mark.parametrize("case", [case(name) for name in cases])


def call(name: str, *args: Any, **options: Any) -> Callable[..., Any]:
    return lambda m, *xs: getattr(m, name)(*xs, *args, **options)


def method(name: str, *args: Any, **options: Any) -> Callable[..., Any]:
    return lambda m, x, *xs: getattr(x, name)(*xs, *args, **options)


def functional(name: str, *args: Any, **options: Any) -> Callable[..., Any]:
    return lambda m, *xs: getattr(m.nn.functional, name)(*xs, *args, **options)
