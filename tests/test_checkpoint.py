"""checkpoint: the same numbers, the same random numbers, and less memory."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import nn
from tensorlite.nn import functional as F
from tensorlite.utils.checkpoint import checkpoint


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.rise, self.fall = nn.LayerNorm(8), nn.Linear(8, 32), nn.Linear(32, 8)

    def forward(self, x: tl.Tensor) -> tl.Tensor:
        return x + self.fall(F.dropout(F.gelu(self.rise(self.norm(x))), 0.3))


tl.manual_seed(0)
BLOCKS = [Block() for _ in range(4)]
WEIGHTS = [p for block in BLOCKS for p in block.parameters()]
a, b, c, d = BLOCKS


def plain(x: tl.Tensor) -> tl.Tensor:
    return d(c(b(a(x))))


WAYS: dict[str, Callable[[tl.Tensor], tl.Tensor]] = {
    "each": lambda x: checkpoint(d, checkpoint(c, checkpoint(b, checkpoint(a, x)))),
    "some": lambda x: d(checkpoint(lambda x: c(b(x)), a(x), use_reentrant=False)),
    "all": lambda x: checkpoint(plain, x),
    "nested": lambda x: checkpoint(lambda x: checkpoint(d, c(checkpoint(WAYS["inner"], x))), x),
    "inner": lambda x: checkpoint(b, checkpoint(a, x)),
}


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    yield
    for p in WEIGHTS:
        p.grad = None


def gradients(function: Callable) -> list[Any]:
    tl.manual_seed(3)
    x = tl.randn(5, 8, requires_grad=True)
    for p in WEIGHTS:
        p.grad = None
    y = function(x)
    (y * y).sum().backward()
    return [y.tolist(), x.grad.tolist(), *(p.grad.tolist() for p in WEIGHTS), tl.rand(1).item()]


@pytest.mark.parametrize("way", ["each", "some", "all", "nested"])
def test_same_bits_with_dropout(way: str):
    assert gradients(WAYS[way]) == gradients(plain)


@pytest.mark.parametrize("way", ["each", "some", "all", "nested"])
def test_differentiated_twice(way: str):
    def second(function: Callable) -> np.ndarray:
        tl.manual_seed(3)
        x = tl.randn(5, 8, requires_grad=True)
        (g,) = tl.grad((function(x) ** 3).sum(), x, create_graph=True)
        return tl.grad((g * g).sum(), WEIGHTS[0])[0].numpy()

    expected = second(plain)
    np.testing.assert_allclose(second(WAYS[way]), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def kept(function: Callable) -> int:
    """Bytes held between forward and backward."""
    gc.collect()
    tracemalloc.start()
    try:
        y = function(tl.randn(20_000, 8))
        return tracemalloc.get_traced_memory()[0] - y.nbytes
    finally:
        tracemalloc.stop()


def test_memory_is_that_of_what_stands_between():
    one = 20_000 * 8 * 4
    assert kept(plain) > 40 * one
    assert kept(WAYS["each"]) < 4.5 * one  # the input of each
    assert kept(WAYS["all"]) < 1.5 * one
    assert kept(WAYS["nested"]) < 1.5 * one


def test_peak_of_the_backward():
    def peak(function: Callable) -> int:
        tracemalloc.start()
        try:
            y = function(tl.randn(20_000, 8)).sum()
            tracemalloc.reset_peak()
            y.backward()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(WAYS["each"]) < 0.75 * peak(plain)


def test_arguments_and_results_of_every_kind():
    x, w = tl.tensor([1.0, 2.0], requires_grad=True), tl.tensor([3.0, 4.0], requires_grad=True)

    def f(x: tl.Tensor, n: int, nothing: None, *, scale: tl.Tensor) -> tuple:
        return (x.exp() * n).split(1), x.sin() * scale * w, n

    (first, second), third, number = checkpoint(f, x, 2, None, scale=w)
    assert number == 2
    (first.sum() + third.sum()).backward(retain_graph=True)
    (second.sum() + third.sum()).backward()
    expected = 2 * np.exp([1, 2]) + 2 * np.cos([1, 2]) * [9, 16]
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-5)
    np.testing.assert_allclose(w.grad.numpy(), 2 * 2 * np.sin([1, 2]) * [3, 4], rtol=1e-5)
    with pytest.raises(RuntimeError, match="freed it"):
        third.sum().backward()


def test_no_input_requires_a_gradient():
    x = tl.ones(5, 8)
    checkpoint(a, x).sum().backward()
    assert all(p.grad is not None for p in a.parameters())


def test_runs_once_under_no_grad_and_twice_in_training():
    runs = []

    def f(x: tl.Tensor) -> tl.Tensor:
        runs.append(tl.is_grad_enabled())
        return x.exp()

    x = tl.ones(2, requires_grad=True)
    with tl.no_grad():
        assert not checkpoint(f, x).requires_grad
    y = checkpoint(f, x)
    assert runs == [False, True]
    tl.grad(y.sum(), x, retain_graph=True)
    tl.grad(y.sum(), x)
    assert runs == [False, True, True]


def test_an_argument_that_the_function_writes():
    def f(h: tl.Tensor) -> tl.Tensor:
        h += 1
        return h.exp() * h

    x = tl.tensor([0.5], requires_grad=True)
    checkpoint(f, x * 1).backward()
    assert x.grad.item() == pytest.approx(np.exp(1.5) * 2.5)


def test_what_is_not_the_same_twice_is_refused():
    x = tl.tensor([1.0, 2.0], requires_grad=True)
    calls = []

    def changing(x: tl.Tensor) -> tl.Tensor:
        calls.append(1)
        return x.exp() if len(calls) == 1 else x.sin()

    with pytest.raises(RuntimeError, match=r"changing did not .* twice: op number 0 was \[exp\], .*\[sin\]"):
        checkpoint(changing, x).sum().backward()

    w = tl.tensor([1.0, 2.0], requires_grad=True)
    for read, write in ((lambda x: (x + w).exp(), w), (lambda x: (x + 1).exp(), x)):
        y = checkpoint(read, x)
        with tl.no_grad():
            write.add_(1)
        with pytest.raises(RuntimeError, match="has been written in place since"):
            y.sum().backward()


def test_a_backward_inside():
    """The gradient of a gradient penalty, all of it computed again."""

    def penalty(x: tl.Tensor) -> tl.Tensor:
        (g,) = tl.grad((x**3).sum(), x, create_graph=True)
        return (g * g).sum()

    x = tl.tensor([2.0], requires_grad=True)
    checkpoint(penalty, x).backward()
    assert x.grad.item() == pytest.approx(36 * 8)
