"""The engine's promises, one test each: recording, the walk, memory, in-place writes, modes, hooks, errors."""

from __future__ import annotations

import gc
import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite.nn import functional as F


def leaf(*values: Any, dtype: Any = np.float64) -> tl.Tensor:
    return tl.tensor(list(values), dtype=dtype, requires_grad=True)


def same(x: Any, expected: Any) -> None:
    np.testing.assert_allclose(x.detach().numpy() if isinstance(x, tl.Tensor) else x, expected, rtol=1e-12)


# backward() ------------------------------------------------------------------------------------------------


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


# grad() ----------------------------------------------------------------------------------------------------


def test_grad_leaves_grad_alone():
    x, y = leaf(2.0), leaf(3.0)
    gx, gy = tl.grad((x * y).sum(), [x, y])
    same(gx, [3])
    same(gy, [2])
    assert x.grad is None and y.grad is None


def test_grad_of_interior_and_of_inputs_upstream_of_each_other():
    x = leaf(2.0)
    h = x * x
    k = h * 3
    gx, gh, gk, again = tl.grad((k * k).sum(), [x, h, k, h])
    same(gk, [24])
    same(gh, [72])
    same(gx, [288])
    same(again, [72])
    assert not np.shares_memory(gh.array, again.array)


def test_grad_of_a_tensor_by_itself():
    x = leaf(2.0)
    y = x * 3
    same(tl.grad(y, y)[0], [1])
    same(tl.grad(x, x)[0], [1])
    same(tl.grad([y, y], x, [tl.tensor([2.0]), tl.tensor([5.0])])[0], [21])


def test_grad_allow_unused():
    x, other = leaf(2.0), leaf(3.0)
    with pytest.raises(RuntimeError, match=r"grad: no output depends on input 1 \(shape \(1,\)\).*allow_unused=True"):
        tl.grad((x * x).sum(), [x, other])
    assert tl.grad((x * x).sum(), [x, other], allow_unused=True)[1] is None


def test_grad_of_what_requires_none():
    x = leaf(2.0)
    with pytest.raises(RuntimeError, match=r"grad: input 0 \(shape \(1,\)\) does not require a gradient"):
        tl.grad(x * 2, [tl.tensor([1.0])])
    with pytest.raises(RuntimeError, match="grad: this Tensor does not require a gradient"):
        tl.grad(tl.tensor([1.0]), [x])


def test_grad_passes_only_towards_the_inputs():
    """Branches that lead elsewhere are neither walked nor freed."""
    x, y = leaf(2.0), leaf(3.0)
    left, right = x.exp(), y.exp()
    total = (left * right).sum()
    tl.grad(total, x, retain_graph=True)
    tl.grad(right.sum(), y)
    same(tl.grad(total, x)[0], [np.exp(5)])


def test_create_graph():
    x = leaf(2.0, 3.0)
    (g,) = tl.grad((x**3).sum(), x, create_graph=True)
    (gg,) = tl.grad((g * g).sum(), x, create_graph=True)  # of 9 x^4: 36 x^3
    same(gg, [36 * 8, 36 * 27])
    same(tl.grad(gg.sum(), x)[0], [108 * 4, 108 * 9])


def test_create_graph_through_backward():
    x = leaf(2.0)
    (x**3).sum().backward(create_graph=True)
    penalty = (x.grad**2).sum()
    x.grad = None
    penalty.backward()
    same(x.grad, [2 * 12 * 12])


def test_hessian_vector_product():
    x = leaf(1.0, 2.0, 3.0)
    v = np.array([1.0, -1.0, 2.0])
    f = (x.tanh() * x.sum()).sum()
    (g,) = tl.grad(f, x, create_graph=True)
    (hv,) = tl.grad(g, x, v)
    t, s = np.tanh([1, 2, 3]), 1 - np.tanh([1, 2, 3]) ** 2
    hessian = s[:, None] + s[None, :] + np.diag(-2 * t * s * 6)
    same(hv, hessian @ v)


def test_upstream_gradient_is_differentiable():
    """The double-backward trick: a Jacobian-vector product from two vector-Jacobian products."""
    x, u = leaf(1.0, 2.0), leaf(0.0, 0.0)
    (g,) = tl.grad(x.exp(), x, u, create_graph=True)
    same(tl.grad(g, u, np.array([1.0, 10.0]))[0], np.exp([1, 2]) * [1, 10])


def test_accumulating_into_a_gradient_that_has_a_graph():
    """x.grad from create_graph=True is part of a graph, whose arrays must not be written."""
    x = leaf(3.0)
    (x**3).sum().backward(create_graph=True)
    penalty = (x.grad * x.grad).sum()  # 9 x^4
    (x * 5).sum().backward()
    same(x.grad, [27 + 5])
    same(tl.grad(penalty, x)[0], [36 * 27])


# Hooks -----------------------------------------------------------------------------------------------------


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


# Modes -----------------------------------------------------------------------------------------------------


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


# dtypes ----------------------------------------------------------------------------------------------------


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
    for y in (*casts, *indices, x > 0, x.isnan(), x.norm(0)):
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


# Several outputs -------------------------------------------------------------------------------------------


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


# In-place writes -------------------------------------------------------------------------------------------


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
        with pytest.raises(RuntimeError, match=r"shares its memory with a view.*x = x\.mul\(…\)"):
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


# Levels, randomness ----------------------------------------------------------------------------------------


def test_using():
    assert tl.level() == "kernel"
    with tl.using("reference"):
        assert tl.level() == "reference"
        assert tl.softmax(leaf(1.0, 2.0), 0).node.op.name == "divide"
        with tl.using("plain"):
            assert tl.softmax(leaf(1.0, 2.0), 0).node.op.name == "softmax"
    assert tl.level() == "kernel"
    with pytest.raises(ValueError, match=r"no level 'fast'.*reference, plain, kernel"), tl.using("fast"):
        pass


def test_backward_outside_using():
    """The rows of the implementation that ran forward run backward, wherever that is."""
    x = leaf(1.0, 2.0, 3.0)
    with tl.using("plain"):
        y = tl.softmax(x, 0)[0]
    y.backward()
    p = np.exp([1, 2, 3]) / np.exp([1, 2, 3]).sum()
    same(x.grad, p[0] * (np.array([1, 0, 0]) - p))


def test_same_seed_same_bits():
    def run() -> tuple[bytes, ...]:
        tl.manual_seed(3)
        x = tl.randn(4, 5, requires_grad=True)
        y = F.dropout(x, 0.3) * tl.rand(4, 5)
        y = F.scaled_dot_product_attention(y, y, y, dropout_p=0.2)
        (y**2).sum().backward()
        picks = tl.multinomial(tl.rand(6), 3)
        return tuple(t.array.tobytes() for t in (x, x.grad, y, tl.randperm(9), tl.randint(9, (4,)), picks))

    first = run()
    assert run() == first
    tl.manual_seed(4)
    assert tl.randn(4, 5).array.tobytes() != first[0]


def test_generator_state():
    generator = tl.Generator().manual_seed(5)
    tl.randn(3, generator=generator)
    state = generator.get_state()
    after = [
        tl.randn(7, generator=generator).tolist(),
        tl.randperm(5, generator=generator).tolist(),
        generator.draw_seed(),
    ]
    other = tl.Generator().set_state(tl.tensor(state.tolist(), dtype=tl.uint8))
    assert other.initial_seed() == 5
    assert [tl.randn(7, generator=other).tolist(), tl.randperm(5, generator=other).tolist(), other.draw_seed()] == after
    with pytest.raises(ValueError, match="set_state: this is not a state that get_state"):
        generator.set_state(tl.tensor([1, 2], dtype=tl.uint8))


def test_default_generator_state():
    state = tl.get_rng_state()
    first = tl.rand(3).tolist()
    tl.set_rng_state(state)
    assert tl.rand(3).tolist() == first
    assert tl.default_generator() is tl.default_generator("cpu") is tl.manual_seed(0)


# Declaring an op -------------------------------------------------------------------------------------------


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
        assert (y.node.plan.rows[0][2] == ("r",)) == ran
        y.sum().backward()
        same(x.grad, [2, 2])
    with tl.using("plain"):
        op(x)
    assert calls == [np.float64, np.float32]


# What users do wrong ---------------------------------------------------------------------------------------

X = tl.zeros(2, 3)
IDS = tl.tensor([0, 1])


def attend(mask: Any = None, key: Any = X) -> tl.Tensor:
    return F.scaled_dot_product_attention(X, key, X, mask)


MISTAKES: dict[str, tuple] = {  # what is done, the error, and pieces of its text
    # shapes
    "matmul": (lambda: X @ X, RuntimeError, "[matmul]", "a (2, 3) float32, b (2, 3) float32", "expected: a (…, n, k)"),
    "matmul of dtypes": (lambda: X @ X.T.double(), RuntimeError, "a is float32 and b is float64", ".to(dtype)"),
    "add": (lambda: X + tl.zeros(2), RuntimeError, "[add]", "a (2, 3) float32, b (2,) float32"),
    "linear": (lambda: F.linear(X, X.T), RuntimeError, "[linear]", "weight (3, 2)", "expected: x (…, in), weight"),
    "cat": (lambda: tl.cat([X, X.T]), RuntimeError, "[cat]", "(2, 3)", "(3, 2)", "shapes differ only along dim"),
    "cat of nothing": (lambda: tl.cat([]), RuntimeError, "[cat]", "at least one"),
    "reshape": (lambda: X.reshape(4, 2), RuntimeError, "[reshape]", "x (2, 3) float32, shape=(4, 2)"),
    "view of a transpose": (lambda: X.T.view(6), RuntimeError, "view: shape (3, 2)", "without a copy", ".reshape("),
    "expand": (lambda: X.expand(2, 4), RuntimeError, "[expand]", "x (2, 3) float32, shape=(2, 4)"),
    "expand, -1 in front": (lambda: X.expand(-1, 2, 3), RuntimeError, "[expand]", "(2, 3) cannot become (-1, 2, 3)"),
    "split": (lambda: X.split([1, 1], 1), RuntimeError, "[split]", "[1, 1] add up to 2, but dimension 1 has length 3"),
    "attention": (lambda: attend(key=tl.zeros(2, 4)), RuntimeError, "[attention]", "k (2, 4)", "expected: q (…, T, D)"),
    "layer_norm": (lambda: F.layer_norm(X, 4), ValueError, "(2, 3) does not end in normalized_shape (4,)"),
    # dimensions and indices
    "sum": (lambda: X.sum(2), IndexError, "[sum] dimension 2 does not exist in shape (2, 3)"),
    "softmax": (lambda: tl.softmax(X, 2), IndexError, "[softmax]", "axis 2 is out of bounds"),
    "transpose": (lambda: X.transpose(0, 2), IndexError, "[transpose]"),
    "squeeze": (lambda: X.squeeze(3), IndexError, "[squeeze] dimension 3", "(2, 3)"),
    "unsqueeze": (lambda: X.unsqueeze(4), IndexError, "[unsqueeze] dimension 4", "(2, 3)", "-3 to 2"),
    "flatten": (lambda: X.flatten(0, 2), IndexError, "[flatten] dimension 2", "(2, 3)"),
    "index": (lambda: X[5], IndexError, "[getitem]", "5 is out of bounds", "x (2, 3)"),
    "too many indices": (lambda: X[0, 0, 0], IndexError, "[getitem]", "too many indices"),
    "index of floats": (lambda: X[tl.zeros(2)], IndexError, "[getitem]", "index"),
    "float as an index": (lambda: [1][tl.tensor(0.0)], TypeError, "only integer Tensors", "not float32"),
    "topk": (lambda: X.topk(4), ValueError, "topk: k is 4, but dimension -1 of shape (2, 3) has 3 elements"),
    # ids, targets, masks
    "token id": (lambda: F.embedding(IDS + 6, X), IndexError, "[embedding] token id 7 is outside the vocabulary of 2"),
    "negative token id": (lambda: F.embedding(-IDS, X), IndexError, "[embedding] token id -1 is outside"),
    "embedding exchanged": (lambda: F.embedding(X, IDS), TypeError, "[embedding] ids must be integers, not float32"),
    "target": (lambda: F.cross_entropy(X, IDS + 2), IndexError, "[cross_entropy] target 3 is not one of the 3 classes"),
    "negative target": (lambda: F.cross_entropy(X, -IDS), IndexError, "[cross_entropy] target -1 is not one of the 3"),
    "float targets": (lambda: F.cross_entropy(X, tl.zeros(2)), TypeError, "targets are class numbers", "float32"),
    "too few targets": (lambda: F.cross_entropy(X, IDS[:1]), ValueError, "cross_entropy", "(2, 3)", "(1,) do not fit"),
    "class weights": (lambda: F.cross_entropy(X, IDS, tl.ones(4)), ValueError, "weight must have shape (3,)", "(4,)"),
    "class weights of a dtype": (lambda: F.cross_entropy(X, IDS, X[0].double()), ValueError, "float32; it", "float64"),
    "class weights to learn": (lambda: F.cross_entropy(X, IDS, leaf(1.0, 1.0, 1.0, dtype=np.float32)), RuntimeError,
                               "weight has no derivative", "weight.detach()"),
    "mask": (lambda: X.masked_fill(X, 0), TypeError, "masked_fill: the mask must be boolean, not float32", "bool()"),
    "condition": (lambda: tl.where(X, X, X), TypeError, "where: the condition must be boolean, not float32"),
    "attention mask": (lambda: attend(IDS), TypeError, "attn_mask must be boolean or float32, not int64"),
    # options
    "reduction": (lambda: F.cross_entropy(X, IDS, reduction="avg"), ValueError, "'mean', 'sum' or 'none', not 'avg'"),
    "gelu": (lambda: F.gelu(X, "fast"), ValueError, "gelu: approximate is 'none' or 'tanh', not 'fast'"),
    "dropout": (lambda: F.dropout(X, 1.5), ValueError, "dropout: p is a probability, and 1.5"),
    "multinomial": (lambda: tl.multinomial(X, 1), ValueError, "multinomial: each row must hold finite weights"),
    "device": (lambda: X.to("gpu"), ValueError, "device: 'gpu' is not a device; use 'cpu', 'cuda'"),
    "mean of integers": (lambda: IDS.mean(), RuntimeError, "[mean] of int64", "x.float().mean()"),
    "no such name": (lambda: tl.fft, AttributeError, "tensorlite has no 'fft'"),
    # gradients
    "backward of many": (lambda: (leaf(1.0, 2.0) * 2).backward(), RuntimeError, "only a Tensor with one element",
                         "shape (2,)", ".sum()"),
    "backward without a graph": (lambda: X.sum().backward(), RuntimeError, "backward: this Tensor does not require"),
    "gradient of a wrong shape": (lambda: leaf(1.0).backward(X), RuntimeError, "given has shape (2, 3)", "(1,)"),
    "numpy of a parameter": (lambda: leaf(1.0).numpy(), RuntimeError, "requires a gradient", ".detach().numpy()"),
    "np.asarray of a parameter": (lambda: np.asarray(leaf(1.0)), RuntimeError, ".detach().numpy()"),
    "requires_grad of a result": (lambda: setattr(leaf(1.0) * 2, "requires_grad", False), RuntimeError, "multiply",
                                  ".detach()"),
    # in and out
    "item of many": (lambda: X.item(), RuntimeError, "item: the Tensor has 6 elements (shape (2, 3)), not one"),
    "truth of many": (lambda: bool(X), RuntimeError, "truth of a Tensor with 6 elements", ".any() or .all()"),
    "if on a comparison": (lambda: 1 if X == X else 0, RuntimeError, "ambiguous"),
    "len of a number": (lambda: len(tl.tensor(1.0)), TypeError, "len() of a 0-dimensional", ".item()"),
    "iteration over a number": (lambda: list(tl.tensor(1.0)), TypeError, "iteration over a 0-dimensional"),
    "tensor of text": (lambda: tl.tensor(["a"]), TypeError, "tensor: cannot make numbers of list"),
    "ragged lists": (lambda: tl.tensor([[1], [2, 3]]), ValueError, "inhomogeneous"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_error_text(mistake: str):
    act, error, *pieces = MISTAKES[mistake]
    with pytest.raises(error) as raised:
        act()
    for piece in pieces:
        assert piece in str(raised.value)
