"""Edges where a careless engine gives a wrong number, or none, without a word."""

import math

import numpy as np
import pytest

import tensorlite as tl
from tensorlite.nn import functional as F


@pytest.mark.parametrize("level", ["reference", "plain", "kernel"])
def test_an_ignored_row_counts_for_nothing_whatever_it_holds(level):
    x = tl.tensor([[-math.inf, 1.0, 2.0], [0.5, 1.0, 2.0]], requires_grad=True)
    with tl.using(level), np.errstate(all="ignore"):
        loss = F.cross_entropy(x, tl.tensor([-100, 2]))
        loss.backward()
    assert loss.item() == pytest.approx(math.log(sum(map(math.exp, (0.5, 1, 2)))) - 2, rel=1e-6)
    assert np.isfinite(x.grad.numpy()[1]).all()
    if level != "reference":  # composed, the gradient passes through -inf - -inf
        assert not x.grad.numpy()[0].any()


def test_attention_refuses_what_has_no_meaning():
    x = tl.randn(1, 2, 4, 8)
    for p in (-0.5, 1.0, 1.5):
        with pytest.raises(ValueError, match="dropout_p is from 0 to below 1"):
            F.scaled_dot_product_attention(x, x, x, dropout_p=p)
    with pytest.raises(RuntimeError, match="attn_mask and is_causal exclude each other"):
        F.scaled_dot_product_attention(x, x, x, attn_mask=tl.ones(4, 4).bool(), is_causal=True)


@pytest.mark.parametrize("level", ["plain", "kernel"])
def test_linear_refuses_a_bias_that_only_broadcasts(level):
    x, w = tl.randn(5, 3), tl.randn(2, 3)
    for bias in (tl.zeros(1, 2), tl.zeros(5, 2), tl.zeros(1), tl.zeros(2, dtype=tl.float64)):
        with tl.using(level), pytest.raises(RuntimeError, match=r"bias has shape .*; it must have \(2,\) and float32"):
            F.linear(x, w, bias)


def test_integers_are_not_normalised_or_dropped():
    x = tl.arange(6).reshape(2, 3)
    with pytest.raises(RuntimeError, match=r"\[layer_norm\] of int64"):
        F.layer_norm(x, 3)
    with pytest.raises(RuntimeError, match=r"\[dropout\] of int64"):
        F.dropout(x, 0.5)


def test_what_a_global_hook_was_shown_stays_as_it_was():
    shown = []

    class Collect(tl.Hook):
        def after_backward(self, node, gradient, contributions):
            shown.extend((c, c.copy()) for c in contributions if c is not None)

    x = tl.tensor([1.0, 2.0], requires_grad=True)
    with tl.hooked(Collect()):
        (x * tl.tensor([3.0, 4.0])).sum().backward()
        (x * tl.tensor([3.0, 4.0])).sum().backward()
    assert x.grad.tolist() == [6, 8]
    assert all(np.array_equal(now, then) for now, then in shown)


def test_augmented_assignment_writes_into_the_same_memory():
    mask, number = tl.tensor([True, True, False]), tl.tensor([7, 8, 9])
    mask_alias, number_alias = mask, number
    mask &= tl.tensor([True, False, True])
    mask |= tl.tensor([False, False, True])
    number //= 2
    number %= 3
    assert mask is mask_alias
    assert mask.tolist() == [True, False, True]
    assert number is number_alias
    assert number.tolist() == [0, 1, 1]


def test_a_gradient_of_another_shape_is_not_broadcast():
    x = tl.ones(2, requires_grad=True)
    for other in (tl.zeros(3, 2), tl.zeros(2, dtype=tl.float64)):
        with pytest.raises(RuntimeError, match=r"grad: .* are \(2,\), float32 and cpu; this one has"):
            x.grad = other
    with pytest.raises(TypeError, match="grad: expected a Tensor or None, not int"):
        x.grad = 3
    x.grad = tl.zeros(2)
    x.data = tl.zeros(3)
    with pytest.raises(RuntimeError, match=r"a leaf of shape \(3,\) was given a \.grad of shape \(2,\)"):
        x.sum().backward()


def test_an_input_named_twice_gets_its_gradient_once():
    x = tl.ones(2, requires_grad=True)
    x.sum().backward(inputs=[x, x])
    assert x.grad.tolist() == [1, 1]


def test_numbers_and_indices_are_set_where_they_are_read():
    x, ids = tl.zeros(2, 3, 4), tl.tensor([3, 1])
    x[1, :, ids] = tl.arange(6.0).reshape(3, 2)
    assert x[1, :, ids].tolist() == [[0, 1], [2, 3], [4, 5]]
    leaf = tl.arange(6.0).reshape(3, 2).requires_grad_()
    y = tl.zeros(2, 3, 4)
    y[1, :, ids] = leaf * 1
    assert y.tolist() == x.tolist()
    y[1, :, 3].sum().backward()
    assert leaf.grad.tolist() == [[1, 0]] * 3
    number = tl.tensor(5.0)
    number[...] = 3
    number[()] = number + 1
    assert number.item() == 4
