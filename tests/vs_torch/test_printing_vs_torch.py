"""repr, against PyTorch's, which says torch.float64 where this says float64."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from compare import INF, NAN, torch

import tensorlite as tl

rng = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


DATA: list[Any] = [
    # numbers
    1.0, 0.0, -2.5, NAN, INF, -INF, 1e-5, 1e9, 1, True, [1.0, NAN], [NAN, NAN], [INF, 1.5], [0.0, -0.0], [-0.0, 1.5],
    # where scientific begins
    [1e-5, 1.0], [1e9, 1.0], [1000.0, 1.0], [1001.0, 1.0], [123456.0, 2.0], [-1e8, 1.0], [1e-4, 0.05], [1e10, 2e10],
    np.array([1e300, 1e-300]), np.array([5e-324]), np.float16(65504), np.array([1e-7, 1], np.float16),
    # dtypes, and nothing
    [True, False], [1, -200, 3], [[1, 2], [30, 4]], np.arange(3, dtype=np.uint8), np.array([1 + 2j, -0.5 - 1j]),
    [], [[]], np.zeros((3, 0)), np.zeros(0, np.int64), np.zeros((2, 0), bool),
    # lines and layers
    normal(3, 4), normal(2, 3, 4), normal(2, 2, 2, 2), normal(100), np.arange(30) + 0.1, np.eye(3) * 1e5,
    # in part
    normal(1001), normal(40, 40), normal(7, 200), normal(6, 200), normal(10, 11, 12), normal(1100, 1),
    normal(1, 1, 1100), np.arange(2000), np.arange(2000.0), np.arange(2000).reshape(2, 1000),
    np.ones(2000) > 0, np.ones(1100) * 1j,
]  # fmt: skip

OPTIONS: list[dict[str, Any]] = [
    {}, {"precision": 2}, {"sci_mode": True}, {"sci_mode": False}, {"edgeitems": 1, "threshold": 5}, {"linewidth": 30},
    {"edgeitems": 0, "threshold": 5}, {"profile": "short"}, {"profile": "full"}, {"profile": "default"},
]  # fmt: skip


@pytest.fixture(autouse=True)
def _default() -> Iterator[None]:
    yield
    for m in (tl, torch):
        m.set_printoptions(profile="default")


def one_line_of_notes(text: str) -> str:
    """Six letters more or less may decide whether a note stands on a line of its own."""
    return re.sub(r",\s+(?=(dtype|requires_grad|size)=)", ", ", text.replace("torch.", ""))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_repr(options: dict[str, Any]):
    for m in (tl, torch):
        m.set_printoptions(**options)
    for data in DATA:
        ours, theirs = tl.tensor(data), torch.tensor(data)
        assert one_line_of_notes(repr(ours)) == one_line_of_notes(repr(theirs))
        if ours.is_floating_point() and theirs.is_floating_point():
            note = one_line_of_notes(repr(theirs.requires_grad_()))
            assert one_line_of_notes(repr(ours.requires_grad_())) == note


def test_parameter_and_result():
    assert repr(tl.nn.Parameter(tl.ones(2))) == repr(torch.nn.Parameter(torch.ones(2)))
    x = [m.tensor([1.0, 2.0], requires_grad=True) * 2 for m in (tl, torch)]
    assert [repr(y) for y in x] == [f"tensor([2., 4.], grad_fn=<{name}>)" for name in ("multiply", "MulBackward0")]


@pytest.mark.parametrize("data", [1.5, 2, True, [1.5], [1.0, 2.0]], ids=str)
@pytest.mark.parametrize("spec", ["", ".3f", ">10"])
def test_format(data: Any, spec: str):
    def attempt(m: Any) -> str:
        try:
            return format(m.tensor(data), spec)
        except (TypeError, ValueError) as error:
            return type(error).__name__

    assert attempt(tl) == attempt(torch)
