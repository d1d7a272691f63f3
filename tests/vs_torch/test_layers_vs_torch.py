"""Every module against PyTorch's: its arguments, words and state, and what it computes in training and evaluation."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from compare import same, torch

import tensorlite as tl
from tensorlite.check.samples.sample import integers, normal, positive

# name: arguments, keyword arguments, inputs
Case = tuple[str, tuple[Any, ...], dict[str, Any], list[np.ndarray]]

X, ROWS = [normal(2, 4, 5)], [normal(6, 5)]
LABELS, PAIR = [normal(6, 5), integers(5, 6)], [normal(6, 5), normal(6, 5)]
CHANCES = [positive(6, 5) * 0.4, positive(6, 5) * 0.4]
WEIGHT, PER_CLASS = positive(6, 1), positive(5)

CASES: list[Case] = [
    ("Linear", (5, 3), {}, X),
    ("Linear", (5, 3, False), {}, X),
    ("Embedding", (6, 3), {}, [integers(6, 2, 4)]),
    ("LayerNorm", (5,), {}, X),
    ("LayerNorm", ((4, 5), 1e-3), {}, X),
    ("LayerNorm", (5,), {"bias": False}, X),
    ("LayerNorm", (5,), {"elementwise_affine": False}, X),
    ("RMSNorm", (5,), {}, X),
    ("RMSNorm", ([4, 5], 1e-3), {}, X),
    ("RMSNorm", (5,), {"elementwise_affine": False}, X),
    *(
        ("BatchNorm1d", args, options, x)
        for args, options, x in [
            ((5,), {}, ROWS),
            ((4,), {}, X),
            ((5, 1e-3, 0.5), {}, ROWS),
            ((5,), {"momentum": None}, ROWS),
            ((5,), {"momentum": 0.0}, ROWS),
            ((5,), {"affine": False}, ROWS),
            ((5,), {"bias": False}, ROWS),
            ((5,), {"track_running_stats": False}, ROWS),
        ]
    ),
    ("Dropout", (0.0,), {}, X),
    ("Dropout", (), {"p": 1.0}, X),
    ("ReLU", (), {}, X),
    ("LeakyReLU", (), {}, X),
    ("LeakyReLU", (0.2,), {}, X),
    ("ELU", (), {}, X),
    ("ELU", (), {"alpha": 0.5}, X),
    ("SiLU", (), {}, X),
    ("GELU", (), {}, X),
    ("GELU", ("tanh",), {}, X),
    ("Softplus", (), {}, X),
    ("Softplus", (2.0, 1.0), {}, X),
    ("Sigmoid", (), {}, X),
    ("LogSigmoid", (), {}, X),
    ("Tanh", (), {}, X),
    ("Softmax", (-1,), {}, X),
    ("Softmax", (), {"dim": 1}, X),
    ("LogSoftmax", (0,), {}, X),
    ("Identity", (7,), {"anything": 1}, X),
    ("Flatten", (), {}, X),
    ("Flatten", (0, 1), {}, X),
    ("Unflatten", (1, (2, -1)), {}, X),
    ("Unflatten", (-1, (5, 1)), {}, X),
    ("CrossEntropyLoss", (), {}, LABELS),
    ("CrossEntropyLoss", (PER_CLASS,), {"ignore_index": 1, "reduction": "sum", "label_smoothing": 0.1}, LABELS),
    ("NLLLoss", (), {}, LABELS),
    ("NLLLoss", (PER_CLASS,), {"ignore_index": 1, "reduction": "none"}, LABELS),
    ("MSELoss", (), {}, PAIR),
    ("MSELoss", (), {"reduction": "sum"}, PAIR),
    ("L1Loss", (), {}, PAIR),
    ("SmoothL1Loss", (), {}, PAIR),
    ("SmoothL1Loss", (), {"beta": 0.5}, PAIR),
    ("HuberLoss", (), {}, PAIR),
    ("HuberLoss", ("sum", 0.5), {}, PAIR),
    ("BCELoss", (), {}, CHANCES),
    ("BCELoss", (WEIGHT,), {}, CHANCES),
    ("BCEWithLogitsLoss", (), {}, PAIR),
    ("BCEWithLogitsLoss", (WEIGHT,), {"pos_weight": PER_CLASS, "reduction": "none"}, PAIR),
    ("KLDivLoss", (), {"reduction": "batchmean"}, CHANCES),
    ("KLDivLoss", (), {"reduction": "sum", "log_target": True}, PAIR),
    ("CosineSimilarity", (), {}, PAIR),
    ("CosineSimilarity", (0, 1e-3), {}, PAIR),
]
LEFT_OUT = {"size_average", "reduce", "max_norm", "norm_type", "scale_grad_by_freq", "sparse", "_weight", "_freeze"}
NAMES = sorted({case[0] for case in CASES})


def state(module: Any) -> dict[str, np.ndarray]:
    return {name: x.numpy() for name, x in module.state_dict().items()}


def make(m: Any, case: Case) -> Any:
    name, args, options, _ = case
    made = [m.tensor(x) if isinstance(x, np.ndarray) else x for x in args]
    named = {key: m.tensor(x) if isinstance(x, np.ndarray) else x for key, x in options.items()}
    return getattr(m.nn, name)(*made, **named)


def run(m: Any, module: Any, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """The output, and the gradients of the inputs and the parameters."""
    xs = [m.tensor(x) for x in arrays]
    floats = [x.requires_grad_() for x in xs if x.is_floating_point()]
    module.zero_grad()
    y = module(*xs)
    if y.requires_grad:
        y.backward(m.tensor(np.random.default_rng(0).standard_normal(tuple(y.shape))))
    wanted = [x.grad for x in (*floats, *module.parameters())]
    return [y.detach().numpy(), *(g.numpy() for g in wanted if g is not None)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} {case[1:3]}"[:60])
def test_module(case: Case):
    ours, theirs = make(tl, case).double(), make(torch, case).double()
    assert repr(ours) == repr(theirs)
    with torch.no_grad():
        for p in theirs.parameters():
            p.normal_()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(state(theirs))
    for training in (True, True, False):
        ours.train(training), theirs.train(training)
        for found, expected in zip(run(tl, ours, case[3]), run(torch, theirs, case[3]), strict=True):
            same(found, expected, f"training {training}")
        for name, expected in state(theirs).items():
            same(state(ours)[name], expected, name)


@pytest.mark.parametrize("name", NAMES)
def test_arguments(name: str):
    """The names, order and defaults are PyTorch's, but for what it calls deprecated and what is left out."""

    def arguments(m: Any) -> dict[str, Any]:
        parameters = inspect.signature(getattr(m.nn, name)).parameters.values()
        return {p.name: p.default for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}

    ours, theirs = arguments(tl), arguments(torch)
    if name in ("Softmax", "LogSoftmax"):
        theirs["dim"] = inspect.Parameter.empty  # which PyTorch otherwise guesses, with a warning
    assert list(ours.items()) == [(key, default) for key, default in theirs.items() if key not in LEFT_OUT]


@pytest.mark.parametrize("name", ["ReLU", "LeakyReLU", "ELU", "SiLU"])
def test_in_place(name: str):
    ours, theirs = (getattr(m.nn, name)(inplace=True) for m in (tl, torch))
    a, b = tl.tensor(X[0]), torch.tensor(X[0])
    assert repr(ours) == repr(theirs) and ours(a) is a and theirs(b) is b
    same(a.numpy(), b.numpy(), name)


def test_dropout_in_place():
    a = tl.ones(50)
    assert tl.nn.Dropout(0.5, inplace=True)(a) is a and set(a.tolist()) == {0.0, 2.0}
    assert repr(tl.nn.Dropout(0.5, True)) == repr(torch.nn.Dropout(0.5, True))


def test_embedding_of_given_rows():
    rows = normal(6, 3)
    for freeze in (True, False):
        ours = tl.nn.Embedding.from_pretrained(tl.tensor(rows), freeze=freeze)
        theirs = torch.nn.Embedding.from_pretrained(torch.tensor(rows), freeze=freeze)
        assert repr(ours) == repr(theirs) and ours.weight.requires_grad == theirs.weight.requires_grad
        ids = [integers(6, 4)]
        for found, expected in zip(run(tl, ours, ids), run(torch, theirs, ids), strict=True):
            same(found, expected, f"freeze {freeze}")
    with pytest.raises(ValueError, match=r"expected \(ids, width\), got shape \(3,\)"):
        tl.nn.Embedding.from_pretrained(tl.ones(3))


def test_embedding_with_padding_starts_at_0_there():
    for index in (2, -1):
        ours, theirs = tl.nn.Embedding(4, 3, padding_idx=index), torch.nn.Embedding(4, 3, padding_idx=index)
        assert repr(ours) == repr(theirs)
        assert [not row.any() for row in ours.weight.detach().numpy()] == [i == index % 4 for i in range(4)]
    for m in (tl, torch):
        with pytest.raises((ValueError, AssertionError)):
            m.nn.Embedding(4, 3, padding_idx=4)


@pytest.mark.parametrize(
    "name, args, x", [("BatchNorm1d", (3,), (3,)), ("BatchNorm1d", (3,), (1, 3)), ("BatchNorm1d", (3,), (2, 4))]
)
def test_what_pytorch_refuses(name: str, args: tuple[int, ...], x: tuple[int, ...]):
    for m in (tl, torch):
        with pytest.raises((RuntimeError, ValueError)):
            getattr(m.nn, name)(*args)(m.ones(*x))


def test_options_that_do_not_exist():
    with pytest.raises(
        TypeError, match=r"MSELoss: got an unexpected keyword argument 'reduce'; it is made with \(\*, reduction"
    ):
        tl.nn.MSELoss(reduce=True)


def test_batch_norm_starts_anew():
    layer, fresh = tl.nn.BatchNorm1d(3), tl.nn.BatchNorm1d(3)
    layer(tl.randn(4, 3))
    assert layer.num_batches_tracked.item() == 1
    layer.reset_parameters()
    for name, x in state(fresh).items():
        np.testing.assert_array_equal(state(layer)[name], x)
