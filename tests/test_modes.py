"""no_grad and its kin, in blocks, as decorators and in threads; detach and data."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from leaves import leaf, same

import tensorlite as tl


def test_no_grad_and_enable_grad_nest():
    x = leaf(1.0)
    with tl.no_grad():
        assert not tl.is_grad_enabled() and not (x * 2).requires_grad
        with tl.enable_grad():
            assert (x * 2).requires_grad
            with tl.set_grad_enabled(False):
                assert not (x * 2).requires_grad
            assert tl.is_grad_enabled()
        assert not tl.is_grad_enabled()
    assert tl.is_grad_enabled()


def test_modes_end_with_an_exception():
    for mode in (tl.no_grad, lambda: tl.set_grad_enabled(False)):
        with pytest.raises(ZeroDivisionError), mode():
            raise ZeroDivisionError
        assert tl.is_grad_enabled()


def test_set_grad_enabled_is_a_call_too():
    tl.set_grad_enabled(False)
    try:
        assert not tl.is_grad_enabled()
    finally:
        tl.set_grad_enabled(True)
    assert tl.is_grad_enabled()


@pytest.mark.parametrize("mode, inside", [(tl.no_grad, False), (tl.enable_grad, True)], ids=["no_grad", "enable_grad"])
def test_mode_as_decorator(mode: Any, inside: bool):
    @mode()
    def depth(n: int) -> int:
        assert tl.is_grad_enabled() == inside
        return n and depth(n - 1)

    assert depth(3) == 0 and tl.is_grad_enabled()
    with tl.set_grad_enabled(not inside):
        depth(2)
        assert tl.is_grad_enabled() != inside


@pytest.mark.parametrize("inside", [False, True])
def test_set_grad_enabled_as_decorator(inside: bool):
    @tl.set_grad_enabled(inside)
    def depth(n: int) -> int:
        assert tl.is_grad_enabled() == inside
        return n and depth(n - 1)

    try:
        assert tl.is_grad_enabled()  # decorating changed nothing
        depth(2)
        assert tl.is_grad_enabled()
        with tl.no_grad():
            depth(2)
            assert not tl.is_grad_enabled()
    finally:
        tl.set_grad_enabled(True)


def in_thread(f: Callable[[], Any]) -> Any:
    result: list[Any] = []
    thread = threading.Thread(target=lambda: result.append(f()))
    thread.start()
    thread.join()
    return result[0]


def test_modes_are_per_thread():
    with tl.no_grad():
        assert in_thread(tl.is_grad_enabled)
        assert not tl.is_grad_enabled()


def test_decorated_function_in_two_threads():
    """The decorator is one object for all threads; what was before must not cross over."""
    inside, leave = threading.Event(), threading.Event()

    @tl.no_grad()
    def wait() -> None:
        inside.set()
        leave.wait(10)

    def thread() -> bool:
        with tl.enable_grad():
            wait()
            return tl.is_grad_enabled()

    with tl.no_grad():
        results: list[bool] = []
        other = threading.Thread(target=lambda: results.append(thread()))
        other.start()
        inside.wait(10)
        tl.no_grad()(lambda: None)()
        leave.set()
        other.join()
        assert results == [True] and not tl.is_grad_enabled()


def test_no_grad_keeps_leaves_as_they_are():
    with tl.no_grad():
        w = tl.zeros(2, requires_grad=True)
    assert w.requires_grad and w.is_leaf


def test_detach():
    x = leaf(1.0, 2.0)
    d = (x * 2).detach()
    assert d.is_leaf and not d.requires_grad
    ((x * 2) * d).sum().backward()
    same(x.grad, [4, 8])
    assert np.shares_memory(x.detach().array, x.array) and np.shares_memory(x.data.array, x.array)


def test_data_can_be_replaced():
    x = leaf(1.0, 2.0)
    y = x * x
    x.data = tl.tensor([5.0, 6.0], dtype=np.float64)
    same(x, [5, 6])
    with pytest.raises(RuntimeError, match="in place"):
        y.sum().backward()
    with pytest.raises(RuntimeError, match="data: only a leaf's numbers"):
        (x * 2).data = x


def test_mode_as_decorator_without_brackets():
    class Model:
        @tl.no_grad
        def method(self) -> bool:
            """Its text."""
            return tl.is_grad_enabled()

    @tl.inference_mode
    def function() -> tuple[bool, bool]:
        return tl.is_grad_enabled(), tl.is_inference_mode_enabled()

    assert Model().method() is False and Model.method.__doc__ == "Its text."
    assert function() == (False, True) and not tl.is_inference_mode_enabled()
    with tl.no_grad():
        assert tl.enable_grad(tl.is_grad_enabled)()


def test_generator_has_its_mode_only_while_it_runs():
    @tl.no_grad()
    def steps() -> Any:
        try:
            got = yield tl.is_grad_enabled()
            yield got, tl.is_grad_enabled()
        except ValueError:
            yield "caught", tl.is_grad_enabled()
        finally:
            closed.append(tl.is_grad_enabled())
        return "end"

    closed: list[bool] = []
    generator = steps()
    assert next(generator) is False and tl.is_grad_enabled()
    assert generator.send(7) == (7, False) and tl.is_grad_enabled()
    assert generator.throw(ValueError()) == ("caught", False) and tl.is_grad_enabled()
    with pytest.raises(StopIteration) as end:
        next(generator)
    assert end.value.value == "end"
    generator = steps()
    next(generator)
    generator.close()
    assert closed == [False, False] and tl.is_grad_enabled()


def test_inference_mode():
    x = leaf(1.0, 2.0)
    with tl.inference_mode():
        y = x * 2
        assert not y.requires_grad
        with tl.inference_mode(False):
            assert tl.is_grad_enabled() and not tl.is_inference_mode_enabled()
        assert tl.is_inference_mode_enabled()
    (x * y).sum().backward()  # PyTorch refuses this
    same(x.grad, [2, 4])
