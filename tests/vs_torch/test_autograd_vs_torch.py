"""autograd.functional and the modes, against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from compare import same, torch

import tensorlite as tl

rng = np.random.default_rng(0)
A, B, V, W = (rng.standard_normal(shape) for shape in ((2, 3), (3,), (2, 3), (2,)))


def row_sums(x: Any, y: Any) -> Any:
    return (x.exp() * y).sum(1)


def two(x: Any, y: Any) -> Any:
    return row_sums(x, y), x * x


def number(x: Any, y: Any) -> Any:
    return (x.tanh() * y * y).sum()


def create_graph(m: Any, f: Any) -> Any:
    x = m.tensor(A).requires_grad_()
    f.jacobian(lambda x: x.exp().sum(1), x, create_graph=True).sum().backward()
    return x.grad


def both(m: Any) -> tuple[Any, Any]:
    return m.tensor(A), m.tensor(B)


CASES: dict[str, Callable[[Any, Any], Any]] = {  # of the library and its functional
    "jacobian": lambda m, f: f.jacobian(row_sums, both(m)),
    "jacobian of two": lambda m, f: f.jacobian(two, both(m)),
    "jacobian, strict": lambda m, f: f.jacobian(two, both(m), strict=True),
    "jacobian of one": lambda m, f: f.jacobian(lambda x: x.exp(), m.tensor(A)),
    "jacobian of a number": lambda m, f: f.jacobian(lambda x: x.sum(), m.tensor(A)),
    "jacobian of a constant": lambda m, f: f.jacobian(lambda x: m.zeros(3), m.tensor(A)),
    "jacobian of no Tensor": lambda m, f: f.jacobian(lambda x: 3, m.tensor(A)),
    "jacobian, create_graph": create_graph,
    "hessian": lambda m, f: f.hessian(number, both(m)),
    "hessian of one": lambda m, f: f.hessian(lambda x: (x**3).sum(), m.tensor(A)),
    "hessian of a line": lambda m, f: f.hessian(lambda x: x.sum(), m.tensor(A)),
    "hessian of many": lambda m, f: f.hessian(row_sums, both(m)),
    "vjp": lambda m, f: f.vjp(row_sums, both(m), m.tensor(W)),
    "vjp of a number": lambda m, f: f.vjp(number, both(m)),
    "vjp of two": lambda m, f: f.vjp(two, both(m), (m.tensor(W), m.tensor(V))),
    "vjp without v": lambda m, f: f.vjp(row_sums, both(m)),
    "vjp, wrong v": lambda m, f: f.vjp(row_sums, both(m), m.tensor(V)),
    "jvp": lambda m, f: f.jvp(row_sums, both(m), (m.tensor(V), m.tensor(B))),
    "jvp of two": lambda m, f: f.jvp(two, both(m), (m.tensor(V), m.tensor(B))),
    "jvp of one": lambda m, f: f.jvp(lambda x: x * 2, m.tensor(A), m.tensor(V)),
    "jvp, too few v": lambda m, f: f.jvp(two, both(m), (m.tensor(V),)),
    "vhp": lambda m, f: f.vhp(number, both(m), (m.tensor(V), m.tensor(B))),
    "hvp": lambda m, f: f.hvp(number, both(m), (m.tensor(V), m.tensor(B))),
    "hvp of a line": lambda m, f: f.hvp(lambda x: x.sum(), m.tensor(A), m.tensor(V)),
}


def flat(x: Any) -> list[Any]:
    return [z for y in x for z in flat(y)] if isinstance(x, (tuple, list)) else [x.detach().numpy()]


def form(x: Any) -> Any:
    return [form(y) for y in x] if isinstance(x, tuple) else type(x).__name__


@pytest.mark.parametrize("case", CASES)
def test_functional(case: str):
    try:
        expected = CASES[case](torch, torch.autograd.functional)
    except (RuntimeError, TypeError) as refusal:
        with pytest.raises(type(refusal)):
            CASES[case](tl, tl.autograd.functional)
        return
    found = CASES[case](tl, tl.autograd.functional)
    assert form(found) == form(expected)
    for ours, theirs in zip(flat(found), flat(expected), strict=True):
        same(ours, theirs, case)


def test_modes():
    def walk(m: Any) -> list[Any]:
        seen: list[Any] = []

        def look(*more: Any) -> None:
            seen.append((*more, m.is_grad_enabled(), m.is_inference_mode_enabled()))

        @m.no_grad()
        def steps() -> Any:
            try:
                look((yield 1))
                yield 2
            except ValueError:
                look("caught")
                yield 3

        generator = steps()
        seen += [next(generator), generator.send("sent"), generator.throw(ValueError())]
        look()
        for mode in (m.no_grad, m.enable_grad, m.inference_mode, lambda: m.inference_mode(False)):
            with m.no_grad(), mode():
                look()
                mode()(look)("decorated")
            with mode(), m.set_grad_enabled(True):
                look()
        for decorator in (m.no_grad, m.enable_grad, m.inference_mode):
            decorator(look)("without brackets")
        look()
        return seen

    assert walk(tl) == walk(torch)


GRADS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "unused": lambda m, x, z: m.autograd.grad((x * x).sum(), [x, z]),
    "materialized": lambda m, x, z: m.autograd.grad((x * x).sum(), [x, z], materialize_grads=True),
    "materialized, not allowed": lambda m, x, z: m.autograd.grad(
        x.sum(), [x, z], allow_unused=False, materialize_grads=True
    ),
    "no inputs": lambda m, x, z: m.autograd.grad((x * x).sum(), []),
    "too few grad_outputs": lambda m, x, z: m.autograd.grad([x * 2, x * 3], x, m.ones(3)),
    "several": lambda m, x, z: m.autograd.grad([x * 2, x * z], [x, z], [m.ones(3), m.tensor([1.0, 2.0, 3.0])]),
    "backward, no inputs": lambda m, x, z: (x * x).sum().backward(inputs=[]),
    "backward of several": lambda m, x, z: (m.autograd.backward([(x * z).sum(), x], [None, m.ones(3)]), x.grad)[1:],
    "gradient of a wrong shape": lambda m, x, z: (x * x).backward(m.ones(2)),
}  # fmt: skip


@pytest.mark.parametrize("case", GRADS)
def test_grad(case: str):
    def attempt(m: Any) -> Any:
        x, z = (m.tensor([1.0, 2.0, 3.0], requires_grad=True) for _ in range(2))
        try:
            return [g.tolist() for g in GRADS[case](m, x, z)]
        except (RuntimeError, ValueError) as error:
            return type(error)

    assert attempt(tl) == attempt(torch)
