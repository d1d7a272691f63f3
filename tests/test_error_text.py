"""What users do wrong, and what they read then."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from leaves import leaf

import tensorlite as tl
from tensorlite.nn import functional as F

X = tl.zeros(2, 3)
IDS = tl.tensor([0, 1])


def attend(mask: Any = None, key: Any = X) -> tl.Tensor:
    return F.scaled_dot_product_attention(X, key, X, mask)


MISTAKES: dict[str, tuple] = {  # what is done, the error, and pieces of its text
    # shapes
    "matmul": (lambda: X @ X, RuntimeError, "[matmul] a has 3 columns and b has 2 rows", "a (2, 3) float32, b (2, 3)",
               "expected: a (…, n, k)"),
    "matmul of dtypes": (lambda: X @ X.T.double(), RuntimeError, "a is float32 and b is float64", ".to(dtype)"),
    "add": (lambda: X + tl.zeros(2), RuntimeError, "[add]", "a (2, 3) float32, b (2,) float32"),
    "linear": (lambda: F.linear(X, X.T), RuntimeError, "[linear]", "weight (3, 2)", "expected: x (…, in), weight"),
    "linear of a width": (lambda: F.linear(X, tl.ones(4, 5)), RuntimeError, "x has 3 features and weight is for 5"),
    "linear of a dtype": (lambda: F.linear(X, X.double(), X[:, 0]), RuntimeError, "x is float32 and weight is float64"),
    "linear of a dtype, with bias": (lambda: tl.nn.Linear(3, 4)(X.double()), RuntimeError, "weight is float32"),
    "cat": (lambda: tl.cat([X, X.T]), RuntimeError, "[cat]", "(2, 3)", "(3, 2)", "shapes differ only along dim"),
    "cat of nothing": (lambda: tl.cat([]), RuntimeError, "[cat]", "at least one"),
    "reshape": (lambda: X.reshape(4, 2), RuntimeError, "[reshape]", "x (2, 3) float32, shape=(4, 2)"),
    "view of a transpose": (lambda: X.T.view(6), RuntimeError, "view: shape (3, 2)", "without a copy", ".reshape("),
    "expand": (lambda: X.expand(2, 4), RuntimeError, "[expand]", "x (2, 3) float32, shape=(2, 4)"),
    "expand, -1 in front": (lambda: X.expand(-1, 2, 3), RuntimeError, "[expand]", "(2, 3) cannot become (-1, 2, 3)"),
    "split": (lambda: X.split([1, 1], 1), RuntimeError, "[split]", "[1, 1] add up to 2, but dimension 1 has length 3"),
    "attention": (lambda: attend(key=tl.zeros(2, 4)), RuntimeError, "[attention]", "k (2, 4)", "expected: q (…, T, D)"),
    "layer_norm": (lambda: F.layer_norm(X, 4), ValueError, "(2, 3) does not end in normalized_shape (4,)"),
    # what is no number
    "where": (lambda: tl.where(X > 0, X, "a"), TypeError, "[where] expected Tensors and numbers, not str 'a'"),
    "exp": (lambda: tl.exp("a"), TypeError, "[exp] expected Tensors and numbers, not str 'a'"),
    "cat with None": (lambda: tl.cat([X, None]), TypeError, "cat: expected a list", "NoneType is among them"),
    "state of a list": (lambda: tl.nn.Linear(3, 4).load_state_dict([1]), TypeError, "state_dict() returns, not list"),
    "parameters": (lambda: tl.optim.AdamW(tl.nn.Linear(3, 4)), TypeError, "such as model.parameters(), not Linear"),
    "groups without params": (lambda: tl.optim.SGD([{"param": [X]}], 0.1), ValueError, "with 'params', not param"),
    "one beta": (lambda: tl.optim.AdamW([X], betas=0.9), ValueError, "AdamW: betas are two numbers, not 0.9"),
    "a learning rate in words": (lambda: tl.optim.SGD([X], "a"), ValueError, "SGD: lr must be at least 0, not 'a'"),
    # dimensions and indices
    "sum": (lambda: X.sum(2), IndexError, "[sum] dimension 2 does not exist in shape (2, 3)"),
    "softmax": (lambda: tl.softmax(X, 2), IndexError, "[softmax] dimension 2", "(2, 3)"),
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
    "float targets": (lambda: F.cross_entropy(X, tl.zeros(2)), TypeError, "targets are class numbers", "(2, 3)"),
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
    "swiglu": (lambda: F.swiglu(1.0, X), TypeError, "swiglu: gate is a Tensor, not float"),
    "swiglu of shapes": (lambda: F.swiglu(X, X.T), RuntimeError, "gate (2, 3) float32, up (3, 2) float32"),
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
