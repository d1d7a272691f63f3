"""MultiheadAttention and what it is made of, compared with PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compare import same, torch

import tensorlite as tl

CAUSAL = np.triu(np.ones((3, 3), bool), 1)
ATTN = np.random.default_rng(1).random((3, 5)) < 0.3
ATTN[:, 0] = False
PADDING = np.array([[False, False, False, True, True], [False, False, True, False, False]])
PER_HEAD = np.repeat(ATTN[None], 4, 0)
PER_HEAD[1, 2, 3] = True
NUMBERS = np.random.default_rng(2).standard_normal((3, 5))

# name -> options of the module, options of the call
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "no bias": ({"bias": False}, {}),
    "batch first": ({"batch_first": True}, {}),
    "other widths": ({"kdim": 3, "vdim": 7}, {}),
    "other widths, no bias, batch first": ({"kdim": 3, "bias": False, "batch_first": True}, {}),
    "every head's weights": ({}, {"average_attn_weights": False}),
    "attn_mask": ({}, {"attn_mask": ATTN}),
    "a mask of numbers": ({}, {"attn_mask": NUMBERS}),
    "a mask for each head": ({}, {"attn_mask": PER_HEAD}),
    "padding": ({}, {"key_padding_mask": PADDING}),
    "padding of numbers": ({}, {"key_padding_mask": np.where(PADDING, -1.5, 0.0)}),
    "both masks": ({"batch_first": True}, {"key_padding_mask": PADDING, "attn_mask": ATTN}),
    "both, for each head": ({}, {"key_padding_mask": PADDING, "attn_mask": PER_HEAD}),
    "numbers and padding of numbers": ({}, {"key_padding_mask": np.where(PADDING, -1.5, 0.0), "attn_mask": NUMBERS}),
}


def modules(**options: Any) -> tuple[Any, Any]:
    ours = tl.nn.MultiheadAttention(6, 2, dtype=tl.float64, **options)
    theirs = torch.nn.MultiheadAttention(6, 2, dtype=torch.float64, **options)
    for p in ours.parameters():
        with tl.no_grad():
            p.normal_()
    theirs.load_state_dict({name: torch.tensor(x.numpy()) for name, x in ours.state_dict().items()})
    return ours, theirs


def attend(m: Any, library: Any, arrays: list[np.ndarray], options: dict[str, Any]) -> list[Any]:
    """Outputs, weights, and all gradients; arrays that are one object become one Tensor."""
    made = {id(x): library.tensor(x, requires_grad=True) for x in arrays}
    options = {k: library.tensor(x) if isinstance(x, np.ndarray) else x for k, x in options.items()}
    output, weights = m(*(made[id(x)] for x in arrays), **options)
    loss = (output * output).sum()
    (loss if weights is None else loss + (weights * weights).sum()).backward()
    found = [output, weights, *(x.grad for x in made.values()), *(p.grad for p in m.parameters())]
    return [None if x is None else x.detach().numpy() for x in found]


def compared(m: tuple[Any, Any], arrays: list[np.ndarray], options: dict[str, Any]) -> None:
    for ours, theirs in zip(attend(m[0], tl, arrays, options), attend(m[1], torch, arrays, options), strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            same(ours, theirs, "MultiheadAttention")


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_multihead_attention(name: str, need_weights: bool) -> None:
    options, call = CASES[name]
    m = modules(**options)
    draw = np.random.default_rng(0).standard_normal
    widths = (6, options.get("kdim", 6), options.get("vdim", 6))
    shapes = [(3, 2, widths[0]), (5, 2, widths[1]), (5, 2, widths[2])]
    arrays = [draw(shape) for shape in shapes]
    if options.get("batch_first"):
        arrays = [x.swapaxes(0, 1) for x in arrays]
    compared(m, arrays, {**call, "need_weights": need_weights})
    unbatched = {k: x[0] if k == "key_padding_mask" else x[:2] if x is PER_HEAD else x for k, x in call.items()}
    compared(m, [draw((n, w)) for n, w in zip((3, 5, 5), widths)], {**unbatched, "need_weights": need_weights})


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("padding", [None, PADDING[:, 1:4]], ids=["no padding", "padding"])
def test_self_attention_with_a_causal_mask(need_weights: bool, padding: Any) -> None:
    x = np.random.default_rng(0).standard_normal((3, 2, 6))
    options = {"attn_mask": CAUSAL, "is_causal": True, "need_weights": need_weights}
    compared(modules(), [x, x, x], options | ({} if padding is None else {"key_padding_mask": padding}))
    memory = np.random.default_rng(1).standard_normal((3, 2, 6))
    compared(modules(), [x, memory, memory], options)


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"kdim": 3}, {"vdim": 6}], ids=str)
def test_its_parameters_are_pytorchs(options: dict[str, Any]) -> None:
    ours, theirs = tl.nn.MultiheadAttention(6, 2, **options), torch.nn.MultiheadAttention(6, 2, **options)
    a, b = ([(name, tuple(x.shape)) for name, x in m.named_parameters()] for m in (ours, theirs))
    assert a == b and list(ours.state_dict()) == list(theirs.state_dict())
    for name, p in theirs.named_parameters():
        q = ours.get_parameter(name).detach()
        assert abs(p).max().item() == pytest.approx(abs(q).max().item(), rel=0.25), name  # the bounds are the same


def test_dropout_of_the_weights() -> None:
    tl.manual_seed(0)
    m = tl.nn.MultiheadAttention(8, 2, dropout=0.5)
    x = tl.randn(50, 4, 8)
    dropped, kept = m(x, x, x)[1], m.eval()(x, x, x)[1]
    assert abs((dropped == 0).float().mean().item() - 0.25) < 0.02  # in both heads
    assert (kept > 0).all() and abs(kept.sum(-1) - 1).max().item() < 1e-6
    for need_weights in (True, False):
        many = tl.stack([m.train()(x, x, x, need_weights=need_weights)[0] for _ in range(200)]).mean(0)
        assert abs((many - m.eval()(x, x, x)[0]).detach().numpy()).max() < 0.2


REFUSED: dict[str, Any] = {
    "7 must be a positive multiple of num_heads=2": lambda: tl.nn.MultiheadAttention(7, 2),
    "add_bias_kv and add_zero_attn are not": lambda: tl.nn.MultiheadAttention(6, 2, add_zero_attn=True),
    r"have the shapes \[\(3, 6\), \(2, 3, 6\), \(3, 6\)\]; expected \(T, B": lambda: call(
        tl.ones(3, 6), key=tl.ones(2, 3, 6)
    ),
    r"with the last dimensions \(6, 6, 6\)": lambda: call(tl.ones(3, 5)),
    r"attn_mask has shape \(3,\); expected \(3, 3\) or \(2, 3, 3\)": lambda: call(attn_mask=tl.zeros(3)),
    r"key_padding_mask has shape \(2, 3\); expected \(3,\)": lambda: call(key_padding_mask=tl.zeros(2, 3)),
    "attn_mask must be boolean or floating, not int64": lambda: call(attn_mask=tl.ones(3, 3).long()),
    "is_causal=True says what attn_mask is, so give attn_mask too": lambda: call(is_causal=True),
}


def call(x: Any = None, key: Any = None, **options: Any) -> Any:
    x = tl.ones(3, 6) if x is None else x
    return tl.nn.MultiheadAttention(6, 2)(x, x if key is None else key, x, **options)


@pytest.mark.parametrize("message", REFUSED)
def test_what_it_refuses(message: str) -> None:
    with pytest.raises((ValueError, TypeError, RuntimeError, NotImplementedError), match=message):
        REFUSED[message]()
