"""Creation, against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compare import compare, torch

import tensorlite as tl

DATA = [1.5, 1, True, [1, 2.5], [[True], [False]], [], [[]], np.arange(3), np.float64(2), (1, 2)]


@pytest.mark.parametrize("data", DATA, ids=repr)
def test_tensor(data: Any):
    ours, theirs = tl.tensor(data), torch.tensor(data)
    assert str(ours.dtype) == str(theirs.dtype).removeprefix("torch.") and ours.shape == tuple(theirs.shape)
    assert ours.tolist() == theirs.tolist()


def test_creation():
    for make in (
        lambda m: (m.arange(5), m.arange(2.0, 5), m.arange(5, 0, -2), m.arange(0, 1, 0.25), m.arange(0)),
        lambda m: (m.zeros(2, 3), m.zeros(()), m.zeros(0, 3), m.ones((2,), dtype=m.int64), m.eye(2, 3)),
        lambda m: (m.full((2, 2), 7), m.full((2,), 0.5), m.full((1,), True), m.linspace(0, 1, 5)),
        lambda m: (m.zeros_like(m.ones(2, dtype=m.int32)), m.full_like(m.ones(2), 3), m.ones_like(m.zeros(3))),
        lambda m: m.tensor([m.tensor(1.0), m.tensor(2.0)]),
    ):
        compare(make)
