"""grad() and gradients of gradients."""

from __future__ import annotations

import numpy as np
import pytest
from leaves import leaf, same

import tensorlite as tl


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


def test_grad_materialize_grads():
    x, other = leaf(2.0), leaf(3.0, 4.0)
    g, zeros = tl.grad((x * x).sum(), [x, other], materialize_grads=True)
    same(g, [4])
    same(zeros, [0, 0])
    with pytest.raises(ValueError, match="materialize_grads=True gives zeros"):
        tl.grad((x * x).sum(), x, allow_unused=False, materialize_grads=True)


def test_grad_of_a_wrong_number():
    x = leaf(2.0)
    with pytest.raises(RuntimeError, match="grad: 2 Tensors, but 1 gradients"):
        tl.grad([x * 2, x * 3], x, tl.tensor([1.0]))
    with pytest.raises(RuntimeError, match="grad: inputs is empty"):
        tl.grad(x * 2, [])


def test_functional_says_what_is_wrong():
    f = tl.autograd.functional
    x = tl.tensor([1.0, 2.0])
    for act, error, text in (
        (lambda: f.jacobian(lambda x: 3, x), TypeError, "jacobian: what func returned: expected a Tensor"),
        (lambda: f.hessian(lambda x: x * 2, x), RuntimeError, r"hessian: func must return .* one element, not \(2,\)"),
        (lambda: f.vjp(lambda x: x * 2, x), RuntimeError, "vjp: v can only be left out"),
        (lambda: f.jvp(lambda x: x * 2, x, x[:1]), RuntimeError, r"jvp: v has the shapes \[\(1,\)\]; expected"),
        (lambda: f.vjp(lambda x: tl.ones(1), x, strict=True), RuntimeError, "vjp: with strict=True"),
    ):
        with pytest.raises(error, match=text):
            act()
