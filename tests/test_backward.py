"""backward(): accumulation, memory, dtypes, several outputs."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pytest
from leaves import leaf, same

import tensorlite as tl


def test_second_backward_raises_and_says_why():
    x = leaf(1.0, 2.0)
    y = (x.exp() + 1).sum()
    y.backward()
    with pytest.raises(RuntimeError, match=r"\[exp\] needs what it kept \(y\).*freed it.*retain_graph=True"):
        y.backward()
    same(x.grad, np.exp([1, 2]))  # and nothing was added


def test_retain_graph():
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    same(x.grad, [4, 8])
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        y.backward()


def test_graph_freed_in_part():
    """What one backward() freed and another does not need is no obstacle."""
    x = leaf(1.0)
    h = x.exp()
    (h * h).sum().backward()
    (g,) = tl.grad((h * 3).sum(), h)  # does not pass through exp
    same(g, [3])


def test_leaf_alone():
    x = leaf(3.0)
    x.backward()
    same(x.grad, [1])


def test_gradient_given():
    x, g = leaf(1.0, 2.0), np.array([10.0, 20.0])
    (x * 2).backward(tl.tensor(g))
    (x * 2).backward(g)
    same(x.grad, [40, 80])
    same(g, [10, 20])


def test_gradient_of_a_tensor_of_one_element():
    x = leaf([2.0])
    (x * x).backward()
    same(x.grad, [[4]])


def test_inputs_limits_what_is_accumulated():
    x, y = leaf(2.0), leaf(3.0)
    (x * y).sum().backward(inputs=[x])
    same(x.grad, [3])
    assert y.grad is None


def test_inputs_may_be_one_tensor():
    x = leaf(2.0, 3.0)
    (x * x).sum().backward(inputs=x)
    same(x.grad, [4, 6])


def test_backward_of_several():
    x = leaf(1.0, 2.0)
    tl.autograd.backward([(x * 2).sum(), x * 3], [None, tl.tensor([10.0, 20.0])])
    same(x.grad, [32, 62])
    with pytest.raises(RuntimeError, match="backward: 1 Tensors, but 2 gradients"):
        tl.autograd.backward([x], [x, x])
    with pytest.raises(RuntimeError, match="backward: inputs is empty"):
        (x * 2).sum().backward(inputs=[])


def test_accumulation():
    x = leaf(1.0, 2.0)
    (x * x).sum().backward()
    first = x.grad
    (x * 3).sum().backward()
    same(x.grad, [5, 7])
    assert x.grad is first  # in place, as an optimizer that holds it expects
    x.grad = None
    (x * 3).sum().backward()
    same(x.grad, [3, 3])


@pytest.mark.parametrize("uses", [1, 2, 3, 4])
def test_fan_out(uses: int):
    for x in (leaf(2.0), tl.tensor(2.0, requires_grad=True)):
        sum((x * 1 for _ in range(uses)), 0.0).sum().backward()
        sum([x] * uses, 0.0).sum().backward()
        same(x.grad, np.full(x.shape, 2.0 * uses))
        assert type(x.grad.array) is np.ndarray
        x.grad.zero_()
        same(x.grad, np.zeros(x.shape))


def test_diamond():
    x = leaf(2.0)
    a = x * 3
    (a * a + a).sum().backward()
    same(x.grad, [39])


def test_grad_is_for_leaves():
    x = leaf(1.0)
    h = x * 2
    h.sum().backward()
    assert h.grad is None and not h.is_leaf and h.grad_fn.op.name == "multiply"
    assert x.is_leaf and x.grad_fn is None


def test_retain_grad():
    x = leaf(1.0, 2.0)
    h = x * 2
    h.retain_grad()
    x.retain_grad()  # does nothing
    (h * h).sum().backward(retain_graph=True)
    same(h.grad, [4, 8])
    same(x.grad, [8, 16])
    assert not np.shares_memory(h.grad.array, x.grad.array)
    (h + 1).sum().backward()
    same(h.grad, [5, 9])  # it adds up, as in a leaf


def test_interior_tensors_are_not_kept_alive():
    """A node points to nodes, and keeps only the arrays that its rows name."""
    x = leaf(*range(1000))
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        y = x
        for _ in range(100):
            y = y + 1.0
        assert tracemalloc.get_traced_memory()[0] - before < 100 * 2000  # the nodes; no more than one array of 8 kB
    finally:
        tracemalloc.stop()
    y.sum().backward()
    same(x.grad, np.ones(1000))


def test_memory_of_a_chain():
    """20 x (add, subtract, tanh) on 8 MB: tanh keeps its output, the others nothing. backward() frees as it goes."""
    size = 8_000_000
    x = tl.zeros(size // 4, requires_grad=True)
    tracemalloc.start()
    try:
        y = x
        for _ in range(20):
            y = ((y + 0.5) - 0.25).tanh()
        kept = tracemalloc.get_traced_memory()[0]
        assert kept < 20.5 * size  # the last output is one of them
        y = y.sum()
        tracemalloc.reset_peak()
        y.backward()
        after, peak = tracemalloc.get_traced_memory()
        assert after < 1.5 * size  # x.grad
        assert peak < kept + 5.5 * size
    finally:
        tracemalloc.stop()


def test_chain_of_100_000():
    x = leaf(1.0)
    y = x
    for _ in range(100_000):
        y = y + 1.0
    y.backward()
    same(x.grad, [1])
    node = y.node
    del y, node  # the graph goes, without a recursion either
    gc.collect()


def test_chain_of_100_000_never_walked():
    y = x = leaf(1.0)
    for _ in range(100_000):
        y = y * 1.0 + x
    del y
    gc.collect()


def test_graph_goes_without_the_garbage_collector():
    """No circles of references: what nobody holds is freed at once."""
    x = tl.zeros(1_000_000, requires_grad=True)
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(3):
            y = (x.exp() * 2).sum()
            y.backward(retain_graph=True)
            del y
        assert tracemalloc.get_traced_memory()[0] < 1.5 * x.nbytes  # x.grad
    finally:
        tracemalloc.stop()
        gc.enable()


def test_gradients_share_no_memory():
    x, y, z = leaf(1.0, 2.0), leaf(3.0, 4.0), leaf(5.0, 6.0)
    g = tl.tensor([1.0, 1.0], dtype=np.float64)
    for create_graph in (False, True):
        (x + y + z.view(2)).backward(g, create_graph=create_graph)
        arrays = [g.array, *(t.grad.array for t in (x, y, z))]
        assert not any(np.shares_memory(a, b) for i, a in enumerate(arrays) for b in arrays[:i])
        x.grad = y.grad = z.grad = None


def test_what_a_hook_saw_does_not_change():
    x, seen = leaf(1.0, 2.0), []
    x.register_hook(lambda g: seen.append(g))
    (x * x).sum().backward()
    (x * x).sum().backward()
    same(seen[0], [2, 4])
    same(x.grad, [4, 8])


def test_frozen_gradient_is_still_ours_to_add_to():
    """sum() spreads its gradient as a read-only view; .grad must be an array of its own."""
    x = leaf(1.0, 2.0)
    for _ in range(3):
        x.sum().backward()
    same(x.grad, [3, 3])
    assert x.grad.array.flags.writeable


# dtypes ---------------------------------------------------------------------------------------------------


def test_integers_cannot_require_a_gradient():
    with pytest.raises(RuntimeError, match=r"only floating-point.*int64.*\.float\(\)"):
        tl.tensor([1, 2], requires_grad=True)
    with pytest.raises(RuntimeError, match=r"only floating-point.*bool"):
        tl.tensor([True]).requires_grad_()
    with pytest.raises(RuntimeError, match="only floating-point"):
        tl.zeros(2, dtype=tl.int32, requires_grad=True)


def test_results_that_require_no_gradient():
    x = leaf(1.0, 2.0)
    casts = x.long(), x.bool(), x.to(tl.int32), x.sum(dtype=tl.int64)
    indices = x.argmax(), x.topk(1).indices, x.max(0).indices
    for y in (*casts, *indices, x > 0, x.isnan()):
        assert not y.requires_grad and y.is_leaf


def test_gradients_have_their_inputs_dtype():
    x, y = leaf(1.0, 2.0, dtype=np.float32), leaf(3.0, 4.0)
    z = tl.tensor(2.0, dtype=tl.float16, requires_grad=True)
    product = x * y * z
    assert product.dtype == np.float64
    product.sum().backward()
    assert (x.grad.dtype, y.grad.dtype, z.grad.dtype) == (np.float32, np.float64, np.float16)
    same(x.grad, [6, 8])
    same(y.grad, [2, 4])
    same(z.grad, 11)


def test_gradient_given_in_another_dtype():
    x = leaf(1.0, 2.0, dtype=np.float32)
    for create_graph in (False, True):
        x.grad = None
        (x * 2).backward(tl.tensor([1.0, 2.0], dtype=np.float64), create_graph=create_graph)
        assert x.grad.dtype == np.float32
        same(x.grad, [2, 4])


def test_a_number_becomes_an_array():
    for data in (np.float64(2), np.float32(2), np.int64(2), np.array(2.0), 2.0, 2, True):
        x = tl.tensor(data)
        assert type(x.array) is np.ndarray and x.shape == ()
        x.zero_()
        assert x.item() == 0


def test_split_with_unused_outputs():
    x = leaf(1.0, 2.0, 3.0, 4.0)
    _, b, _ = x.split([1, 2, 1])
    (b * b).sum().backward()
    same(x.grad, [0, 4, 6, 0])


def test_split_used_and_walked_twice():
    x = leaf(1.0, 2.0, 3.0)
    a, b, c = (x * 2).unbind()
    (a * b + b).backward(retain_graph=True)
    same(x.grad, [2 * 4, 2 * 2 + 2, 0])
    c.backward()
    same(x.grad, [8, 6, 2])


def test_split_with_create_graph():
    x = leaf(1.0, 2.0, 3.0)
    a, b, _ = x.split(1)
    (g,) = tl.grad(a * a * b.exp() * b, x, create_graph=True)
    e = np.exp(2)
    same(g, [4 * e, 3 * e, 0])
    same(tl.grad(g.sum(), x)[0], [4 * e + 6 * e, 6 * e + 4 * e, 0])
