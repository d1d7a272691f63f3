"""Creation, against PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
from compare import compare, table, torch

import tensorlite as tl

DATA = [1.5, 1, True, [1, 2.5], [[True], [False]], [], [[]], np.arange(3), np.float64(2), (1, 2)]


@pytest.mark.parametrize("data", DATA, ids=repr)
def test_tensor(data: Any):
    ours, theirs = tl.tensor(data), torch.tensor(data)
    assert str(ours.dtype) == str(theirs.dtype).removeprefix("torch.") and ours.shape == tuple(theirs.shape)
    assert ours.tolist() == theirs.tolist()


CREATION: dict[str, Callable[[Any], Any]] = {
    "arange": lambda m: (m.arange(5), m.arange(2.0, 5), m.arange(5, 0, -2), m.arange(0, 1, 0.25), m.arange(0)),
    "arange by name": lambda m: (m.arange(end=3), m.arange(1, end=3), m.arange(0, 3, dtype=m.float64), m.arange(True)),
    "arange of Tensors": lambda m: (m.arange(m.tensor(2.5)), m.arange(m.tensor(1), m.tensor(3))),
    "arange, step 0": lambda m: m.arange(0, 1, 0),
    "arange, the wrong way": lambda m: m.arange(5, 0),
    "arange, the wrong way down": lambda m: m.arange(0, 5, -1),
    "arange to nan": lambda m: m.arange(0, m.nan),
    "arange to infinity": lambda m: m.arange(0.0, m.inf),
    "zeros, ones": lambda m: (m.zeros(2, 3), m.zeros(()), m.zeros(0, 3), m.ones((2,), dtype=m.int64), m.ones([2, 1])),
    "size by name": lambda m: (m.zeros(size=(2, 3)), m.ones(size=[2]), m.full(size=(2,), fill_value=1)),
    "two sizes": lambda m: m.zeros(2, size=(3,)),
    "no size": lambda m: m.zeros(),
    "negative size": lambda m: m.ones(2, -1),
    "size of a fraction": lambda m: m.zeros(2.5),
    "sizes of fractions": lambda m: m.zeros((2.5, 1)),
    "full": lambda m: (m.full((2, 2), 7), m.full((2,), 0.5), m.full((1,), True), m.full([2], 1.7, dtype=m.int64)),
    "full of a Tensor": lambda m: m.full((2,), m.tensor(3.0)),
    "full of too much": lambda m: m.full((2,), 300, dtype=m.uint8),
    "linspace": lambda m: (m.linspace(0, 1, 5), m.linspace(0, 1, 1), m.linspace(0, 1, steps=0), m.linspace(3, -1, 4)),
    "linspace, dtypes": lambda m: (m.linspace(5, 0, 4, dtype=m.int64), m.linspace(0, 1, 3, dtype=m.float16)),
    "linspace of Tensors": lambda m: m.linspace(m.tensor(0.0), m.tensor(1.0), 3),
    "linspace, -1 steps": lambda m: m.linspace(0, 1, -1),
    "eye": lambda m: (m.eye(2, 3), m.eye(3), m.eye(0), m.eye(2, m=1, dtype=m.bool)),
    "eye, negative": lambda m: m.eye(-1),
    "triangles": lambda m: (
        m.tril_indices(3, 2), m.triu_indices(2, 3, 1), m.tril_indices(3, 3, offset=-1, dtype=m.int32),
        m.triu_indices(0, 2),
    ),
    "like": lambda m: (
        m.zeros_like(m.ones(2, dtype=m.int32)), m.full_like(m.ones(2), 3), m.ones_like(m.zeros(3), dtype=m.bool),
        m.empty_like(m.ones(2, 0)), m.full_like(m.ones(2, dtype=m.int64), 2.5),
    ),
    "new": lambda m: [
        y for x in (m.ones(1), m.ones(1, dtype=m.int64)) for y in (
            x.new_zeros(2, 3), x.new_ones((2,)), x.new_full((2,), 1.5), x.new_tensor([1.5]), x.new_empty(0),
            x.new_zeros(size=(2,)), x.new_ones(2, dtype=m.float64),
        )
    ],
    "Tensors in a list": lambda m: m.tensor([m.tensor(1.0), m.tensor(2.0)]),
    "as_tensor": lambda m: (m.as_tensor([1.5]), m.as_tensor(m.tensor([1]), dtype=m.float32), m.as_tensor(2)),
    "numbers": lambda m: m.tensor([m.pi, m.e, m.inf, m.nan]),
    "names of dtypes": lambda m: [
        m.zeros(1, dtype=getattr(m, name)) for name in (
            "float16 half float32 float float64 double int8 int16 short int32 int int64 long uint8 uint16 uint32 bool"
        ).split()
    ],
    "random, certain": lambda m: (
        m.randint(1, 2, (2,)), m.randint(1, (3,)), m.randint(high=1, size=[2]), m.randint(0, 1, (2,), dtype=m.float32),
        m.randint_like(m.ones(2), 5, 6), m.randint_like(m.ones(2, dtype=m.int32), 1), m.randperm(1), m.randperm(0),
        m.randperm(1, dtype=m.float32), m.bernoulli(m.tensor([0.0, 1.0])), m.bernoulli(m.tensor([0, 1]), 1.0),
        m.tensor([0.5]).bernoulli(0.0), m.normal(m.tensor([1.0, 2.0]), m.zeros(2)), m.normal(m.tensor([1, 2.0]), 0.0),
        m.normal(3.0, m.zeros(2)), m.normal(2.0, 0.0, (2, 1)), m.normal(mean=2.0, std=0.0, size=(2,), dtype=m.float64),
    ),
    "random shapes": lambda m: [
        x * 0 for x in (
            m.rand(2, 3), m.randn((2,)), m.rand(size=(1,)), m.randn(size=[2, 0]), m.rand(()),
            m.rand(2, dtype=m.float64), m.rand_like(m.ones(2, dtype=m.float16)),
            m.randn_like(m.ones(2), dtype=m.float64), m.empty(2).fill_(1),
        )
    ],
    **{f"{name}, which there is not": f for name, f in {
        "randint": lambda m: m.randint(3, 3, (2,)), "byte": lambda m: m.randint(0, 300, (2,), dtype=m.uint8),
        "permutation": lambda m: m.randperm(-1), "uniform integer": lambda m: m.rand(2, dtype=m.int64),
        "normal integer": lambda m: m.randn(2, dtype=m.int64), "uniform truth": lambda m: m.rand_like(m.ones(2).bool()),
        "probability": lambda m: m.bernoulli(m.tensor([0.5, 1.5])), "chance": lambda m: m.bernoulli(m.ones(2), -0.5),
        "bernoulli of integers": lambda m: m.bernoulli(m.tensor([0, 1])),
        "negative std": lambda m: m.normal(0.0, -1.0, (2,)),
        "negative stds": lambda m: m.normal(m.zeros(1), -m.ones(1)),
        "integer gradient": lambda m: m.zeros(2, dtype=m.int64, requires_grad=True),
        "random integer gradient": lambda m: m.randint(0, 2, (2,), requires_grad=True),
    }.items()},
}  # fmt: skip


@table({name: (f,) for name, f in CREATION.items()})
def test_creation(case: Any):
    compare(*case)


def test_requires_grad():
    for m in (tl, torch):
        made = [
            m.zeros(1, requires_grad=True),
            m.empty_like(m.ones(1), requires_grad=True),
            m.rand(1, requires_grad=True),
        ]
        made += [m.linspace(0, 1, 2, requires_grad=True), m.ones(1).new_full((1,), 2, requires_grad=True)]
        assert all(x.requires_grad for x in made)


NAMES = "bool uint8 int8 int16 int32 int64 float16 float32 float64".split()


def test_dtypes():
    for a, b in product(NAMES, NAMES):
        ours, theirs = (getattr(tl, a), getattr(tl, b)), (getattr(torch, a), getattr(torch, b))
        assert f"torch.{tl.promote_types(*ours)}" == str(torch.promote_types(*theirs))
        assert tl.can_cast(*ours) == torch.can_cast(*theirs)
    for x, y in (
        (1, 2.0),
        (1, True),
        (np.ones(1, "int64"), 1.5),
        (np.ones(1, "float16"), np.array(1.0)),
        (np.array(1), 1.0),
    ):
        ours, theirs = ([m.tensor(v) if isinstance(v, np.ndarray) else v for v in (x, y)] for m in (tl, torch))
        assert f"torch.{tl.result_type(*ours)}" == str(torch.result_type(*theirs))
    for name in NAMES:
        ours, theirs = getattr(tl, name), getattr(torch, name)
        assert isinstance(ours, tl.dtype) and str(theirs) == f"torch.{ours}"
        if ours != tl.bool:
            made = [m.finfo(t) if ours.kind == "f" else m.iinfo(t) for m, t in ((tl, ours), (torch, theirs))]
            names = "min max bits".split() + "eps tiny smallest_normal".split() * (ours.kind == "f")
            assert [getattr(made[0], name) for name in names] == [getattr(made[1], name) for name in names]


def test_questions():
    for m in (tl, torch):
        x = m.ones(2, 3)
        assert m.is_tensor(x) and not m.is_tensor([1]) and not m.is_tensor(np.ones(1))
        assert m.numel(x) == 6 and m.is_floating_point(x) and not m.is_floating_point(x.long())


@pytest.fixture
def _float64() -> Iterator[None]:
    for m in (tl, torch):
        m.set_default_dtype(m.float64)
    yield
    for m in (tl, torch):
        m.set_default_dtype(m.float32)


@pytest.mark.usefixtures("_float64")
def test_default_dtype():
    for f in (
        lambda m: (
            m.tensor(1.5),
            m.tensor([1, 2.5]),
            m.zeros(2),
            m.arange(0.0, 1, 0.25),
            m.linspace(0, 1, 3),
            m.eye(2),
        ),
        lambda m: (m.full((1,), 1.5), m.rand(2) * 0, m.tensor([1, 2]) / 2, m.tensor([1, 2]) * 1.5, m.tensor([1]).exp()),
        lambda m: (
            m.tensor([1.5], dtype=m.float32) * 2.5,
            m.ones(2, dtype=m.float16).exp(),
            m.where(m.ones(1) > 0, 1.0, 0),
        ),
    ):
        compare(f)
    assert tl.get_default_dtype() == tl.float64


def test_default_dtype_is_a_float():
    for m in (tl, torch):
        with pytest.raises(TypeError):
            m.set_default_dtype(m.int64)
    assert tl.get_default_dtype() == tl.float32
    assert (tl.tensor([1]) * 1.5).dtype == tl.float32
