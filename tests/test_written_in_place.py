"""Writes in place: into leaves, into the graph, and what a node notices of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from leaves import leaf, same

import tensorlite as tl
from tensorlite.nn import functional as F


def written_raises(y: tl.Tensor, op: str, name: str) -> None:
    with pytest.raises(RuntimeError, match=rf"\[{op}\] kept its {name}, which has been written in place"):
        y.sum().backward()


def test_write_to_a_kept_leaf():
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    y = x * w
    with tl.no_grad():
        w.add_(1)
    written_raises(y, "multiply", "input b")


def test_optimizer_step_before_backward():
    w = leaf(1.0, 2.0)
    (w * 2).sum().backward()
    y = w.exp() * w
    tl.optim.SGD([w], lr=0.1).step()
    written_raises(y, "multiply", "input b")


def test_write_to_what_is_not_kept():
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    y = x + w
    with tl.no_grad():
        w.mul_(2)
        x[0] = 7.0
    y.sum().backward()
    same(w.grad, [1, 1])


def test_write_between_forward_passes():
    x = leaf(1.0, 2.0)
    for step in range(3):
        x.grad = None
        (x * x).sum().backward()
        same(x.grad, 2 * (np.array([1, 2]) + step))
        with tl.no_grad():
            x += 1


VIEWS: dict[str, Callable[[tl.Tensor], tl.Tensor]] = {
    "itself": lambda x: x,
    "detach": lambda x: x.detach(),
    "data": lambda x: x.data,
    "index": lambda x: x.detach()[0],
    "slice of view": lambda x: x.detach().view(-1)[1:],
    "transpose": lambda x: x.detach().reshape(2, 1).T,
    "split": lambda x: x.data.split(1)[1],
    "detach of view": lambda x: x.view(-1).detach(),
}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("view", VIEWS)
def test_write_through_a_view(view: str, when: str):
    x = leaf(1.0, 2.0)
    before = VIEWS[view](x)
    y = x * x
    with tl.no_grad():
        (before if when == "before" else VIEWS[view](x)).zero_()
    written_raises(y, "multiply", "input [ab]")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("view", [name for name in VIEWS if name != "itself"])
def test_write_through_a_view_of_a_result(view: str, when: str):
    """What is detached shares its memory with the result of a node, which may be kept as an input and as y."""
    h = leaf(1.0, 2.0) * 2
    before = VIEWS[view](h)
    y = h * h
    (before if when == "before" else VIEWS[view](h)).zero_()
    written_raises(y, "multiply", "input [ab]")
    y = h.exp()
    VIEWS[view](y).zero_()
    written_raises(y, "exp", "output y")


def test_write_to_an_interior_tensor_that_nobody_kept():
    x = leaf(1.0, 2.0)
    h = x * 2
    h.detach().zero_()
    (h + 1).sum().backward()
    same(x.grad, [2, 2])


def test_write_to_indices():
    x, i = leaf(1.0, 2.0), tl.tensor([0])
    y = x[i]  # an index is an attribute, of which the op has a copy
    i.add_(1)
    y.backward()
    same(x.grad, [1, 0])
    for pick in (lambda: x.take_along_dim(i, 0), lambda: x.gather(0, i), lambda: F.embedding(i, x.view(2, 1))):
        i.zero_()
        y = pick()
        i.add_(1)
        with pytest.raises(RuntimeError, match=r"kept its input i.*, which has been written in place"):
            y.sum().backward()


def test_write_to_targets():
    logits, target = leaf([1.0, 2.0], [1.0, 2.0]), tl.tensor([0, 1])
    loss = F.cross_entropy(logits, target)
    target.zero_()
    written_raises(loss, "cross_entropy", "input target")


def test_write_to_targets_of_which_some_are_ignored():
    logits, target = leaf([1.0, 2.0], [1.0, 2.0]), tl.tensor([0, -100])
    loss = F.cross_entropy(logits, target)
    target.zero_()
    loss.backward()
    same(logits.grad[1], [0, 0])


def test_write_to_a_mask():
    x, mask = leaf(1.0, 2.0), tl.tensor([True, False])
    y = x.masked_fill(mask, 0.0)
    mask.zero_()
    written_raises(y, "where", "input condition")


def test_leaf_is_not_written_while_recording():
    x = leaf(1.0)
    for write in (lambda: x.add_(1), lambda: x.zero_(), lambda: x.__setitem__(0, 1.0), lambda: x.normal_()):
        with pytest.raises(RuntimeError, match=r"this leaf requires a gradient.*under no_grad\(\)"):
            write()
    same(x, [1])


def test_interior_is_not_written_under_no_grad():
    y = leaf(1.0).exp()
    with tl.no_grad(), pytest.raises(RuntimeError, match=r"add_: .* the result of \[exp\].*detach\(\)\.clone\(\)"):
        y.add_(1)


def test_inplace_in_the_graph_is_a_new_node():
    x = leaf(1.0, 2.0)
    h = x * 1
    y = h.exp()  # keeps its output, and h no more
    same_object = h
    h += 1
    h *= x
    h.sub_(1).div_(2).pow_(2)
    assert h is same_object
    (h.sum() + y.sum()).backward()
    a = np.array([1.0, 2.0])
    same(h, ((a + 1) * a - 1) ** 2 / 4)
    same(x.grad, ((a + 1) * a - 1) * (2 * a + 1) / 2 + np.exp(a))


def test_masked_fill_in_the_graph():
    """Attention as the book writes it."""
    x = leaf([1.0, 2.0], [3.0, 4.0])
    scores = x @ x.transpose(0, 1)
    mask = tl.triu(tl.ones(2, 2), diagonal=1).bool()
    scores.masked_fill_(mask, -tl.inf)
    weights = tl.softmax(scores / 2**0.5, dim=-1)
    same(weights[0], [1, 0])
    (weights @ x).sum().backward()

    z = leaf([1.0, 2.0], [3.0, 4.0])
    weights = tl.softmax((z @ z.T).masked_fill(mask, -tl.inf) / 2**0.5, dim=-1)
    (weights @ z).sum().backward()
    same(x.grad, z.grad)


def test_inplace_in_the_graph_refuses_with_views():
    h = leaf(1.0, 2.0) * 1
    view = h[0]
    for x in (h, view):
        with pytest.raises(RuntimeError, match=r"shares its memory with a view.*x = x\.clone\(\)"):
            x.mul_(2)


def test_inplace_on_the_result_of_a_batched_matmul():
    """No view of the user's is in the way."""
    x, w = tl.ones(2, 3, 4), tl.ones(4, 5, requires_grad=True)
    y = x @ w
    y += 1
    y.sum().backward()
    same(w.grad, np.full((4, 5), 6.0))


def test_inplace_with_a_leaf_that_requires_none():
    buffer, x = tl.zeros(2), leaf(1.0, 2.0, dtype=np.float32)
    buffer.add_(x * 3)
    assert buffer.requires_grad and not buffer.is_leaf
    buffer.sum().backward()
    same(x.grad, [3, 3])


def test_inplace_in_the_graph_leaves_what_was_kept_alone():
    buffer, w = tl.ones(2, dtype=tl.float64), leaf(1.0, 2.0)
    y = buffer * w
    buffer.add_(w)  # the name now stands for other memory
    buffer.detach().zero_()
    y.sum().backward()
    same(w.grad, [1, 1])


def test_inplace_fill_cuts_off_the_graph():
    for write in (lambda h: h.zero_(), lambda h: h.fill_(3), lambda h: h.normal_(), lambda h: h.uniform_()):
        x = leaf(1.0, 2.0)
        h = x * 2
        write(h)
        assert h.is_leaf and not h.requires_grad
        (h * x).sum().backward()
        same(x.grad, h)


def test_copy_takes_a_copy():
    source = leaf(1.0, 2.0)
    for buffer in (tl.zeros(2, dtype=np.float64), leaf(0.0, 0.0) * 1):
        buffer.copy_(source)
        assert not np.shares_memory(buffer.array, source.array)
        source.grad = None
        (buffer * buffer).sum().backward()
        same(source.grad, [2, 4])


def test_inplace_keeps_the_shape_and_the_dtype():
    x = tl.zeros(2)
    with pytest.raises(RuntimeError, match=r"add_: the result has shape \(3, 2\).*\(2,\)"):
        x.add_(tl.ones(3, 2))
    x.add_(tl.ones(2, dtype=tl.float64))
    assert x.dtype == tl.float32
    counts = tl.tensor([1, 2, 3])
    with pytest.raises(RuntimeError, match=r"div_.*float32.*int64"):
        counts /= 2
    with pytest.raises(RuntimeError, match=r"add_.*float32.*int64"):
        counts.add_(0.5)
    counts *= 2
    assert counts.tolist() == [2, 4, 6]


def test_inplace_formulas():
    x = tl.tensor([1.0, 2.0])
    assert x.clone().add_(1, alpha=3).tolist() == [4, 5]
    assert x.clone().sub_(x, alpha=2).tolist() == [-1, -2]
    assert x.clone().addcmul_(x, x, value=2).tolist() == [3, 10]
    assert x.clone().addcdiv_(tl.tensor([2.0, 2.0]), x, value=3).tolist() == [7, 5]
    assert x.clone().lerp_(tl.tensor([3.0, 3.0]), 0.5).tolist() == [2, 2.5]
    assert x.clone().masked_fill_(x > 1, 0).tolist() == [1, 0]
    assert x.clone().copy_(tl.tensor(7)).tolist() == [7, 7]
    assert x.clone().fill_(4).tolist() == [4, 4]


def test_setitem_outside_the_graph():
    x = tl.zeros(2, 3)
    x[0] = 1
    x[:, 2] = tl.tensor([5.0, 6.0])
    x[x == 0] = -1
    x[tl.tensor([1]), 0] += 10
    assert x.tolist() == [[1, 1, 5], [9, -1, 6]]


@pytest.mark.parametrize("index", [0, -1, slice(1, None), ..., [0, 2], (slice(None, None, 2),)], ids=str)
def test_setitem_in_the_graph(index: Any):
    x, v = leaf(1.0, 2.0, 3.0), leaf(10.0)
    y = x * 2
    y[index] = v * 3
    expected = 2 * x.detach().numpy()
    expected[index] = 30
    same(y, expected)
    hit = np.zeros(3, bool)
    hit[index] = True
    y.sum().backward()
    same(x.grad, np.where(hit, 0, 2))
    same(v.grad, [3 * hit.sum()])


def test_setitem_in_the_graph_with_a_mask_and_numbers():
    x = leaf(1.0, 2.0, 3.0)
    y = x * x
    y[y > 3] = 0
    y[0] = tl.tensor(7.0)
    same(y, [7, 0, 0])
    y.sum().backward()
    same(x.grad, [0, 0, 0])


def test_setitem_at_repeated_indices_keeps_the_last():
    """As out of the graph; a sum would be wrong."""
    for x, v in ((tl.zeros(3), tl.tensor([1.0, 2.0])), (tl.zeros(3), leaf(1.0, 2.0, dtype=np.float32))):
        x[[0, 0]] = v
        same(x, [2, 0, 0])
    x.sum().backward()
    same(v.grad, [0, 1])


def test_a_recorded_backward_hides_no_write():
    """It makes Tensors anew for the nodes it passes; a view of one must not replace the count that others watch."""
    w, x = tl.ones(2, 2, requires_grad=True), tl.ones(2, 2, requires_grad=True)
    h = w * 2
    z, y = (h * h).sum(), (x @ h).sum()
    view = h.view(4)
    tl.grad(y, x, create_graph=True)  # whose row takes a view of h
    view.detach().mul_(100)
    with pytest.raises(RuntimeError, match="kept its input"):
        z.backward()


def test_a_recorded_backward_counts_from_now():
    """What was written before the forward is no write since."""
    w = tl.ones(2, 2, requires_grad=True)
    with tl.no_grad():
        w.mul_(2)
    (g,) = tl.grad((w.view(4) ** 3).sum(), w, create_graph=True)
    (g * g).sum().backward()
    assert w.grad.tolist() == [[288.0, 288.0], [288.0, 288.0]]  # d(3 w²)²/dw = 36 w³
