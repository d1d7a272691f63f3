"""Hooks on Tensors, hooks that watch every op, and the one that looks for nan."""

from __future__ import annotations

import math

import pytest
from leaves import leaf, same

import tensorlite as tl


def test_register_hook_sees_and_replaces():
    x, seen = leaf(1.0, 2.0), []
    h = x * 2
    h.register_hook(lambda g: seen.append(g.tolist()))
    h.register_hook(lambda g: g * 10)
    x.register_hook(lambda g: -g)
    (h * 3).sum().backward()
    assert seen == [[3, 3]]
    same(x.grad, [-60, -60])


def test_register_hook_sees_the_whole_gradient_once():
    x, seen = leaf(1.0), []
    x.register_hook(lambda g: seen.append(g.item()))
    h = x * 1
    h.register_hook(lambda g: seen.append(g.item()))
    (h + h + x + x).sum().backward()
    assert seen == [2, 4]


def test_register_hook_handle():
    x = leaf(1.0)
    handle = x.register_hook(lambda g: g * 100)
    other = x.register_hook(lambda g: g + 1)
    handle.remove()
    handle.remove()  # once more does nothing
    (x * 2).sum().backward()
    same(x.grad, [3])
    other.remove()
    x.grad = None
    (x * 2).sum().backward()
    same(x.grad, [2])


def test_hook_that_removes_itself():
    x, calls = leaf(1.0), []
    handle = x.register_hook(lambda g: (calls.append("first"), handle.remove())[:0] or None)
    x.register_hook(lambda g: calls.append("second"))
    (x * 2).sum().backward()
    assert calls == ["first", "second"]


def test_register_hook_on_one_output_of_several():
    x, seen = leaf(1.0, 2.0, 3.0), []
    a, b, c = x.split(1)
    b.register_hook(lambda g: g * 10)
    c.register_hook(lambda g: seen.append(g))  # nobody uses c
    (a + b).sum().backward()
    same(x.grad, [1, 10, 0])
    assert seen == []


def test_register_hook_refuses_a_constant():
    with pytest.raises(RuntimeError, match="register_hook: this Tensor does not require a gradient"):
        tl.tensor([1.0]).register_hook(print)


def test_hook_that_gives_another_shape():
    x = leaf(1.0, 2.0)
    x.register_hook(lambda g: g.sum())
    with pytest.raises(RuntimeError, match=r"hook.*shape \(\).*\(2,\)"):
        (x * 2).sum().backward()


def test_hook_watches_every_op():
    class Log(tl.Hook):
        def __init__(self):
            self.lines: list[str] = []

        def before_forward(self, op, inputs, attributes):
            self.lines.append(f"> {op.name}")

        def after_forward(self, op, inputs, attributes, output):
            self.lines.append(f"{op.name} {output.tolist()}")

        def before_backward(self, node, gradient):
            self.lines.append(f"< {node.op.name}")

        def after_backward(self, node, gradient, contributions):
            self.lines.append(f"{node.op.name} {[None if c is None else c.tolist() for c in contributions]}")

    x, log = leaf(1.0, 2.0), Log()
    with tl.hooked(log) as entered:
        y = (x * 3).sum()
        y.backward()
    assert entered is log
    x.exp()  # not seen
    assert log.lines == [
        "> multiply", "multiply [3.0, 6.0]", "> sum", "sum 9.0",
        "< sum", "sum [[1.0, 1.0]]", "< multiply", "multiply [[3.0, 3.0], None]",
    ]  # fmt: skip


def test_hook_is_taken_off_after_an_exception():
    with pytest.raises(ZeroDivisionError), tl.hooked(tl.Hook()):
        raise ZeroDivisionError
    from tensorlite import mode

    assert mode.hooks == []


def test_post_accumulate_hook_sees_the_gradient_in_its_place():
    x, seen = leaf(1.0, 2.0), []
    handle = x.register_post_accumulate_grad_hook(lambda leaf: seen.append((leaf is x, leaf.grad.tolist())))
    (x * 2 + x).sum().backward()
    x.sum().backward(inputs=[x])
    handle.remove()
    x.sum().backward()
    assert seen == [(True, [3, 3]), (True, [4, 4])]
    for other in (x * 2, tl.zeros(2)):
        with pytest.raises(RuntimeError, match="register_post_accumulate_grad_hook: only a leaf"):
            other.register_post_accumulate_grad_hook(print)


def test_retain_grad_is_of_what_was_written():
    """As in PyTorch: written in place, the Tensor keeps the gradient of its new numbers."""
    x = tl.tensor([1.0, 2.0], requires_grad=True)
    h = x * 2
    h.retain_grad()
    h.mul_(3)
    (h * h).sum().backward()
    assert h.grad.tolist() == [12.0, 24.0]
    assert x.grad.tolist() == [72.0, 144.0]


def test_retain_grad_keeps_what_other_hooks_return():
    """As in PyTorch, also of hooks that come after it."""
    x = tl.tensor([1.0], requires_grad=True)
    h = x * 2
    h.retain_grad()
    h.register_hook(lambda g: g * 10)
    h.sum().backward()
    assert h.grad.tolist() == [10.0]
    assert x.grad.tolist() == [20.0]


def test_retain_grad_twice_is_once():
    x = leaf(1.0)
    h = x * 2
    assert not h.retains_grad
    h.retain_grad()
    h.retain_grad()
    h.sum().backward()
    assert h.retains_grad and h.grad.tolist() == [1]
    with pytest.raises(RuntimeError, match="retain_grad: this Tensor does not require a gradient"):
        tl.zeros(1).retain_grad()


def test_next_functions_are_the_graph():
    x = leaf(1.0, 2.0)
    a, b = x.split(1)
    y = (b * 3).grad_fn
    assert y.name() == "multiply" and repr(y) == "<Node multiply>" and b.output_nr == 1
    assert y.next_functions == ((a.grad_fn, 1), (None, 0))
    assert a.grad_fn.next_functions == ((x, 0),)


def divided(x: tl.Tensor) -> tl.Tensor:
    return (x * 0).sqrt() * 0  # here the gradient is 0 · ∞


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_detect_anomaly_names_the_op_and_the_line():
    x = leaf(1.0, 2.0)
    text = r"the backward of \[sqrt\] gave nan as the gradient of its input 0 \(x\)\n.*test_hooks\.py:\d+, in divided: "
    with tl.autograd.detect_anomaly():
        assert tl.autograd.is_anomaly_enabled()
        y = divided(x).sum()
        with pytest.raises(RuntimeError, match=text):
            y.backward()
    assert not tl.autograd.is_anomaly_enabled()
    divided(x).sum().backward()
    assert x.grad.isnan().all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_detect_anomaly_of_what_came_in_or_ran_before():
    x = leaf(1.0)
    y = x * 2
    with tl.autograd.detect_anomaly(), pytest.raises(RuntimeError, match=r"nan is what it was given\n.*not known"):
        y.backward(tl.tensor([math.nan]))
    with tl.autograd.detect_anomaly(check_nan=False):
        y.backward(tl.tensor([math.nan]))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_detect_anomaly_in_the_forward():
    x = tl.tensor([0.0, 1.0])
    with tl.autograd.detect_anomaly(check_forward=True):
        (x + x).masked_fill(x == 0, -math.inf).exp()  # infinity that was given is none that was made
        with pytest.raises(RuntimeError, match=r"\[log\] made nan or infinity of finite numbers\nat .*test_hooks"):
            x.log()


def test_set_detect_anomaly_as_a_call():
    tl.autograd.set_detect_anomaly(True)
    with tl.autograd.set_detect_anomaly(False):
        assert not tl.autograd.is_anomaly_enabled()
    assert tl.autograd.is_anomaly_enabled()
    tl.autograd.set_detect_anomaly(False)
    assert not tl.autograd.is_anomaly_enabled()
