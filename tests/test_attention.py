"""Attention: each stage, given the right weights, computes what the stage before it does."""

import math

import numpy as np
import pytest

import tensorlite as tl
from gpt.attention import (
    CausalAttention,
    MultiHeadAttention,
    MultiHeadAttentionWrapper,
    SelfAttention,
    SimplifiedSelfAttention,
)
from tensorlite.nn import functional as F

B, T, C, heads = 2, 6, 8, 4


@pytest.fixture
def x():
    tl.manual_seed(1)
    return tl.randn(B, T, C, dtype=tl.float64)


def close(a, b):
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=0, atol=1e-12)


def test_simplified_attention_is_an_average_by_resemblance(x):
    out = SimplifiedSelfAttention()(x)
    by_hand = np.zeros((B, T, C))
    for b in range(B):
        for t in range(T):
            weights = np.exp([float((x[b, t] * x[b, s]).sum()) for s in range(T)])
            by_hand[b, t] = weights / weights.sum() @ x.numpy()[b]
    np.testing.assert_allclose(out.numpy(), by_hand, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "stage",
    [
        SimplifiedSelfAttention(),
        SelfAttention(C, 5),
        CausalAttention(C, 5, T, 0.0),
        MultiHeadAttentionWrapper(C, 5, T, 0.0, heads),
    ],
)
def test_the_stages_take_one_sequence_too(x, stage):
    close(stage.double()(x[0]), stage(x)[0])


def test_tokens_that_are_alike_attend_evenly():
    same = tl.ones(1, T, C)
    close(SimplifiedSelfAttention()(same), same)


def test_self_attention_without_its_projections_and_scale_is_the_simplified_one(x):
    attention = SelfAttention(C, C).double()
    identity = tl.eye(C, dtype=tl.float64)
    weights = {"W_query": identity * math.sqrt(C), "W_key": identity, "W_value": identity}
    attention.load_state_dict({f"{name}.weight": weight for name, weight in weights.items()})
    close(attention(x), SimplifiedSelfAttention()(x))


def test_causal_attention_is_self_attention_of_what_came_before(x):
    full = SelfAttention(C, 5).double()
    causal = CausalAttention(C, 5, context_length=T + 3, dropout=0.0).double()
    causal.load_state_dict(full.state_dict())
    out = causal(x)
    for t in range(T):
        close(out[:, t], full(x[:, : t + 1])[:, t])


def test_a_wrapper_around_one_head_is_that_head(x):
    head = CausalAttention(C, 3, T, 0.0, qkv_bias=True).double()
    wrapper = MultiHeadAttentionWrapper(C, 3, T, 0.0, num_heads=1, qkv_bias=True).double()
    wrapper.heads[0].load_state_dict(head.state_dict())
    close(wrapper(x), head(x))


@pytest.mark.parametrize("qkv_bias", [False, True])
def test_multi_head_attention_is_the_wrapper_in_one_product(x, qkv_bias):
    wrapper = MultiHeadAttentionWrapper(C, C // heads, T, 0.0, heads, qkv_bias).double()
    fused = MultiHeadAttention(C, heads, qkv_bias=qkv_bias).double()

    def joined(kind):  # of all heads' queries, then keys, then values
        parts = ("W_query", "W_key", "W_value")
        return tl.cat([wrapper.get_parameter(f"heads.{i}.{part}.{kind}") for part in parts for i in range(heads)])

    with tl.no_grad():
        fused.c_attn.weight.copy_(joined("weight"))
        if qkv_bias:
            fused.c_attn.bias.copy_(joined("bias"))
        fused.c_proj.weight.copy_(tl.eye(C))
        fused.c_proj.bias.zero_()
    close(fused(x), wrapper(x))

    def gradients(module):
        module(x).pow(2).sum().backward()
        return module

    gradients(wrapper), gradients(fused)
    expected = tl.cat([head.W_query.weight.grad for head in wrapper.heads])
    close(fused.c_attn.weight.grad[:C], expected)


def test_nothing_looks_ahead(x):
    attention = MultiHeadAttention(C, heads).double()
    changed = x.clone()
    changed[:, 4:] += 1.0
    before, after = attention(x), attention(changed)
    close(before[:, :4], after[:, :4])
    assert not np.allclose(before[:, 4:].detach().numpy(), after[:, 4:].detach().numpy())


@pytest.mark.parametrize("module", [CausalAttention(C, C, T, 0.5), MultiHeadAttention(C, heads, dropout=0.5)])
def test_dropout_drops_weights_in_training_only(x, module):
    module.double()
    assert not np.allclose(module(x).detach().numpy(), module(x).detach().numpy())
    module.eval()
    close(module(x), module(x))


def test_dropout_keeps_the_mean():
    tl.manual_seed(0)
    x = tl.randn(1, 3, C).expand(4000, 3, C)
    attention = MultiHeadAttention(C, heads, dropout=0.3)
    dropped = attention(x).mean(0)
    np.testing.assert_allclose(dropped.detach().numpy(), attention.eval()(x[0:1])[0].detach().numpy(), atol=0.05)


def test_the_mask_moves_with_the_module_but_is_no_weight():
    attention = CausalAttention(C, C, T, 0.0)
    assert attention.mask.dtype == tl.bool and "mask" not in attention.state_dict()
    assert attention.mask.tolist() == [[key > query for key in range(T)] for query in range(T)]


@pytest.mark.parametrize("dtype, tolerance", [(tl.float32, 1e-5), (tl.float64, 1e-12)])
@pytest.mark.parametrize("mask", [None, "boolean", "numbers"])
@pytest.mark.parametrize("B", [1, 3, 9])
def test_one_query_is_computed_as_the_reference_says(dtype, tolerance, mask, B):
    """The kernel of a step of generation, whose keys are a part of a larger memory; also where all is masked."""
    rng = np.random.default_rng(0)
    q, memory = (tl.from_numpy(rng.standard_normal(shape)).to(dtype) for shape in ((B, 4, 1, 32), (2, B, 4, 300, 32)))
    k, v = memory[0, :, :, :250], memory[1, :, :, :250]
    seen = tl.from_numpy(np.arange(250) >= rng.integers(0, 250, (B, 1, 1, 1)))
    seen[0] = mask is None
    given = {None: None, "boolean": seen, "numbers": tl.where(seen, 0.5, -1e4).to(dtype)}[mask]
    with tl.no_grad():
        found = F.scaled_dot_product_attention(q, k, v, given)
        with tl.using("reference"):
            expected = F.scaled_dot_product_attention(q, k, v, given)
    assert found.dtype == dtype and found.shape == expected.shape
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=0, atol=tolerance)
    if mask == "boolean":
        assert not found[0].numpy().any()
