"""Indexing, against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from compare import Case, compare, method, table

import tensorlite as tl
from tensorlite.check.samples.sample import integers, normal

INDICES: dict[str, Callable[[Any], Any]] = {
    "0": lambda m: 0,
    "-1": lambda m: -1,
    "1:3": lambda m: slice(1, 3),
    "::2": lambda m: slice(None, None, 2),
    "[:, 1]": lambda m: (slice(None), 1),
    "[1, 2]": lambda m: (1, 2),
    "[1, 2, 3]": lambda m: (1, 2, 3),
    "[..., 0]": lambda m: (..., 0),
    "[None]": lambda m: None,
    "[:, None, 0]": lambda m: (slice(None), None, 0),
    "[..., None, :2]": lambda m: (..., None, slice(0, 2)),
    "()": lambda m: (),
    "empty slice": lambda m: slice(3, 1),
    "beyond the end": lambda m: slice(2, 100),
    "list": lambda m: [0, 2],
    "repeated": lambda m: [0, 2, 2],
    "empty list": lambda m: [],
    "list of booleans": lambda m: [True, False, True, True],
    "indices": lambda m: m.tensor([3, 0]),
    "negative indices": lambda m: m.tensor([-1, -4]),
    "index matrix": lambda m: m.tensor([[0, 1], [3, 2]]),
    "0-d index": lambda m: m.tensor(2),
    "int32 indices": lambda m: m.tensor([1, 1], dtype=m.int32),
    "no indices": lambda m: m.tensor([], dtype=m.int64),
    "two index lists": lambda m: ([0, 1, 1], [2, 2, 0]),
    "indices and slice": lambda m: (m.tensor([0, 0]), slice(None), m.tensor([1, 3])),
    "slice and indices": lambda m: (slice(1, None), m.tensor([2, 0])),
    "number, slice, indices": lambda m: (0, slice(None), m.tensor([1, 4])),
    "indices, slice, number": lambda m: (m.tensor([1, 0]), slice(1, None), 2),
    "None, number, Ellipsis, indices": lambda m: (None, 0, ..., m.tensor([1, 4])),
    "indices that broadcast": lambda m: (m.tensor([[0], [2]]), m.tensor([0, 1])),
    "indices and None": lambda m: (None, m.tensor([1, 0])),
    "Ellipsis and indices": lambda m: (..., m.tensor([1, 4])),
    "0-d index and slice": lambda m: (slice(None), m.tensor(1)),
    "mask of rows": lambda m: m.tensor([True, False, True, True]),
    "mask of nothing": lambda m: m.tensor([False] * 4),
    "mask of elements": lambda m: m.arange(60).reshape(4, 3, 5) % 7 < 3,
    "mask and number": lambda m: (m.tensor([True, False, False, True]), 1),
    "slice and mask": lambda m: (slice(None), m.tensor([True, False, True])),
    "slice by tensors": lambda m: slice(m.tensor(1), m.tensor(3)),
    "True": lambda m: True,
    "False": lambda m: False,
    "True and indices": lambda m: (True, m.tensor([0, 1])),
    "number, True": lambda m: (1, True),
    "number, True, indices": lambda m: (1, True, m.tensor([0, 2])),
    "slice, True": lambda m: (slice(None), True),
    "0-d mask": lambda m: m.tensor(True),
    "0-d indices apart": lambda m: (m.tensor(1), slice(None), m.tensor([1, 4])),
    "0-d negative": lambda m: (..., m.tensor(-2)),
    "a range": lambda m: range(1, 3),
    "a NumPy number": lambda m: (np.int64(1), slice(None)),
    "step by tensor": lambda m: slice(None, None, m.tensor(2)),
    "negative step": lambda m: slice(None, None, -1),
    "step 0": lambda m: slice(None, None, 0),
    "a string": lambda m: "rows",
    "a float": lambda m: 1.0,
    "slice by floats": lambda m: slice(0.0, 1.0),
    "mask and indices": lambda m: (m.tensor([True, False, True, True]), m.tensor([0, 1, 2])),
    "mask and slice and indices": lambda m: (m.tensor([True, False, True, False]), slice(None), m.tensor([3, 0])),
    "indices that do not broadcast": lambda m: (m.tensor([0, 1]), m.tensor([0, 1, 2])),
    "negative out of range": lambda m: (slice(None), m.tensor([-4])),
    "number out of range": lambda m: (0, 0, -6),
    "out of range": lambda m: 4,
    "index out of range": lambda m: m.tensor([4]),
    "too many": lambda m: (0, 0, 0, 0),
    "mask of another length": lambda m: m.tensor([True, False]),
    "floats": lambda m: m.tensor([0.0, 1.0]),
}


@table({name: (index,) for name, index in INDICES.items()})
def test_getitem(case: Case):
    compare(lambda m, x: x[case[0](m)], normal(4, 3, 5))


REPEATED = {"repeated", "two index lists", "int32 indices"}  # PyTorch leaves open which of two values stays
NOTHING = {"False"}  # PyTorch gives a value that goes nowhere no gradient, instead of zeros


@table({name: (INDICES[name],) for name in sorted(INDICES.keys() - REPEATED - NOTHING)})
def test_setitem(case: Case):

    def assign(m: Any, x: Any, v: Any, value: str) -> Any:
        index, y = case[0](m), x * 1
        full = (v * 1).expand(4, 3, 5)
        y[index] = {"number": 7.0, "row": v, "whole": full[index]}[value]
        return y

    for value, recording in product(("number", "row", "whole"), (False, True)):
        f = lambda m, x, v, value=value: assign(m, x, v, value)
        compare(f, normal(4, 3, 5), normal(5), differentiate=recording)


@pytest.mark.parametrize("shape", [(1,), (1, 1), (1, 1, 1)])
def test_one_element_in_the_place_of_a_number(shape: tuple[int, ...]):
    def assign(m: Any, x: Any) -> Any:
        y = m.zeros(2, 3, dtype=m.float64)
        y[1, 2] = x
        return y

    for differentiate in (False, True):
        compare(assign, normal(*shape), differentiate=differentiate)


PICKS: dict[str, Case] = {
    "gather": (lambda m, x, i: (m.gather(x, 1, i), x.gather(-1, i)), normal(3, 4), integers(4, 3, 6)),
    "gather along 0": (lambda m, x, i: x.gather(0, i), normal(3, 4), integers(3, 5, 4)),
    "gather, shorter index": (lambda m, x, i: x.gather(1, i), normal(3, 4, 2), integers(4, 2, 5, 1)),
    "gather of a vector": (lambda m, x, i: x.gather(0, i), normal(4), integers(4, 2)),
    "gather of nothing": (lambda m, x, i: x.gather(1, i), normal(3, 4), integers(4, 3, 0)),
    "gather, out of range": (lambda m, x: x.gather(1, m.tensor([[9]])), normal(3, 4)),
    "gather, longer index": (lambda m, x: x.gather(1, m.zeros(4, 1, dtype=m.int64)), normal(3, 4)),
    "take_along_dim": (lambda m, x, i: m.take_along_dim(x, i, 1), normal(3, 4), integers(4, 3, 2)),
    "take_along_dim, broadcast index": (lambda m, x, i: x.take_along_dim(i, 1), normal(3, 4), integers(4, 1, 2)),
    "take_along_dim, broadcast x": (lambda m, x, i: x.take_along_dim(i, 0), normal(4, 1), integers(4, 5, 3)),
    "gather, negative": (lambda m, x: x.gather(1, m.tensor([[-1]])), normal(3, 4)),
    "gather by floats": (lambda m, x: x.gather(1, m.tensor([[0.0]])), normal(3, 4)),
    "gather by a vector": (lambda m, x: x.gather(1, m.tensor([0])), normal(3, 4)),
    "gather from a number": (lambda m, x: x.gather(0, m.tensor(0)), normal()),
    "gather, wrong dimension": (lambda m, x: x.gather(2, m.tensor([[0]])), normal(3, 4)),
    "take_along_dim of all": (lambda m, x, i: (x.take_along_dim(i), m.take_along_dim(x, i[0])), normal(3, 4),
        integers(9, 2, 2)),
    "scatter": (
        lambda m, x, i, v: (x.scatter(1, i, v), m.scatter(x, 1, i, 2.5), x.scatter(-1, i, value=-1),
                              x.scatter(dim=1, index=i, src=v)),
        normal(2, 4), np.array([[0, 2], [3, 1]]), normal(2, 2),
    ),
    "scatter along 0": (lambda m, x, i, v: x.scatter(0, i, v[:1, :2]), normal(2, 3), np.array([[1, 0]]), normal(2, 3)),
    "scatter of a longer src": (lambda m, x, i: x.scatter(0, i, x.detach() * 2), normal(2, 3), np.array([[1, 0]])),
    "scatter in three dimensions": (
        lambda m, x, i, v: (x.scatter(1, i, v), x.scatter_add(1, i, v)),
        normal(2, 3, 2), np.array([[[0, 1]], [[2, 2]]]), normal(2, 1, 2),
    ),
    "scatter of nothing": (lambda m, x: x.scatter(1, m.zeros(2, 0).long(), 1.0), normal(2, 3)),
    "scatter into integers": (lambda m, x: x.scatter(0, m.tensor([1]), 7), integers(5, 3)),
    "scatter of 0.1": (lambda m, x: x.scatter(0, m.tensor([1]), 0.1), normal(3)),
    "scatter into a number": (lambda m, x: x.scatter(0, m.tensor(0), 2.0), normal()),
    "scatter, out of range": (lambda m, x: x.scatter(1, m.tensor([[4]]), 1.0), normal(3, 4)),
    "scatter, negative": (lambda m, x: x.scatter(1, m.tensor([[-1]]), 1.0), normal(3, 4)),
    "scatter of another dtype": (lambda m, x: x.scatter(1, m.tensor([[0]]), x.float()), normal(3, 4)),
    "scatter, longer index": (lambda m, x: x.scatter(1, m.zeros(4, 1).long(), 1.0), normal(3, 4)),
    "scatter, shorter src": (lambda m, x: x.scatter(1, m.zeros(2, 1).long(), x[:1]), normal(3, 4)),
    "scatter_add": (
        lambda m, x, i, v: (x.scatter_add(1, i, v), m.scatter_add(x, -1, i, v)),
        normal(2, 3), integers(3, 2, 5), normal(2, 5),
    ),
    "scatter_add, out of range": (lambda m, x: x.scatter_add(0, m.tensor([3]), m.ones(1).double()), normal(3)),
    "scatter_add of another dtype": (lambda m, x: x.scatter_add(0, m.tensor([1]), m.ones(1)), normal(3)),
    "index_select": (
        lambda m, x, i: (x.index_select(0, i), m.index_select(x, -1, i), x.index_select(1, i[0]),
                              x.index_select(0, i[:0])),
        normal(3, 4), np.array([2, 0, 2]),
    ),
    "index_select, out of range": (lambda m, x: x.index_select(0, m.tensor([3])), normal(3, 4)),
    "index_select, negative": (lambda m, x: x.index_select(0, m.tensor([-1])), normal(3, 4)),
    "index_select by a matrix": (lambda m, x: x.index_select(0, m.tensor([[0]])), normal(3, 4)),
    "index_select by floats": (lambda m, x: x.index_select(0, m.tensor([0.0])), normal(3, 4)),
    "index_select, wrong dimension": (lambda m, x: x.index_select(2, m.tensor([0])), normal(3, 4)),
    "index_add": (
        lambda m, x, i, v: (x.index_add(0, i, v), m.index_add(x, 0, i, v, alpha=-2), x.index_add(1, i, v.T)),
        normal(3, 3), np.array([2, 0, 2]), normal(3, 3),
    ),
    "index_add, wrong shape": (lambda m, x: x.index_add(0, m.tensor([0]), x), normal(3, 4)),
    "index_add, negative": (lambda m, x: x.index_add(0, m.tensor([-1]), x[:1]), normal(3, 4)),
    "index_add of another dtype": (lambda m, x: x.index_add(0, m.tensor([1]), x[:1].float()), normal(3, 4)),
    "index_copy": (lambda m, x, v: (x.index_copy(0, m.tensor([2, 0]), v),
        m.index_copy(x, 1, m.tensor([1]), x[:, :1])), normal(3, 4), normal(2, 4)),
    "index_copy, out of range": (lambda m, x: x.index_copy(0, m.tensor([3]), x[:1]), normal(3, 4)),
    "index_fill": (lambda m, x: (x.index_fill(0, m.tensor([2, 0]), 0.1), m.index_fill(x, 1, m.tensor([1, 1]), -3)),
        normal(3, 4)),
    "index_fill with a Tensor": (lambda m, x, v: x.index_fill(1, m.tensor([0, 2]), v), normal(3, 4), normal()),
    "index_fill, out of range": (lambda m, x: x.index_fill(0, m.tensor([3]), 1.0), normal(3, 4)),
    "take": (lambda m, x: (x.take(m.tensor([[5, -1], [0, 0]])), m.take(x, m.tensor(3))), normal(3, 4)),
    "take, out of range": (lambda m, x: x.take(m.tensor([12])), normal(3, 4)),
    "select and narrow": (
        lambda m, x: (x.select(1, 2), m.select(x, -1, -1), x.narrow(1, 1, 2), m.narrow(x, 0, -2, 2),
                              x.narrow(1, 4, 0), x.narrow(1, 0, 4)),
        normal(3, 4),
    ),
    "select, out of range": (method("select", 1, 4), normal(3, 4)),
    "select of a number": (method("select", 0, 0), normal()),
    "narrow, too long": (method("narrow", 1, 3, 2), normal(3, 4)),
    "narrow, out of range": (method("narrow", 1, 5, 0), normal(3, 4)),
    "narrow, negative out of range": (method("narrow", 1, -5, 1), normal(3, 4)),
    "narrow, negative too long": (method("narrow", 1, -1, 2), normal(3, 4)),
    "narrow, negative length": (method("narrow", 1, 0, -1), normal(3, 4)),
    "narrow of nothing": (method("narrow", 0, 0, 0), normal(0, 4)),
    "narrow of a number": (method("narrow", 0, 0, 1), normal()),
    "masked_select": (lambda m, x: (x.masked_select(x > 0), m.masked_select(x, x[0] > 0), x[0].masked_select(x < 0)),
        normal(3, 4)),
    "masked_select of a number": (lambda m, x: (x.masked_select(x > -9), x.masked_select(x > 9)), normal()),
    "masked_select by numbers": (lambda m, x: x.masked_select(x), normal(3)),
    "masked_select, wrong shape": (lambda m, x: x.masked_select(x[:2] > 0), normal(3)),
}  # fmt: skip


@table(PICKS)
def test_picks(case: Case):
    compare(*case)


def test_several_values_for_one_place():
    """Where PyTorch leaves open which stays, the last one does, and it alone has a gradient."""
    x, v = tl.zeros(3, requires_grad=True), tl.tensor([1.0, 2.0, 3.0], requires_grad=True)
    for written in (lambda: x.scatter(0, tl.tensor([1, 1, 0]), v), lambda: x.index_copy(0, tl.tensor([1, 1, 0]), v)):
        x.grad = v.grad = None
        y = written()
        assert y.tolist() == [3, 2, 0]
        (y * tl.tensor([5.0, 6.0, 7.0])).sum().backward()
        assert x.grad.tolist() == [0, 0, 7]
        assert v.grad.tolist() == [0, 6, 5]


def test_contains():
    x = tl.tensor([[1.0, 2.0]])
    assert 2 in x
    assert 3 not in x
    assert tl.tensor([2.0, 1.0]) not in x + 5
    with pytest.raises(RuntimeError, match="a Tensor can contain numbers, not str"):
        assert "a" in x


def test_add_at_indices():
    def add(m: Any, x: Any) -> Any:
        y = x * 1
        y[:, m.tensor([0, 2])] += 1
        y[y > 1] = 0.5
        y[1] = m.tensor(0.25)
        return y

    compare(add, normal(3, 4))
    compare(add, normal(3, 4), differentiate=False)


def test_slice_bounds_are_those_of_the_forward():
    x, start = tl.arange(4.0).requires_grad_(), tl.tensor(1)
    y = x[start:]
    start += 2
    y.sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1]


MISTAKES = {
    "number": (lambda x: x[9], IndexError, r"index 9 is out of bounds.*\n?.*\(3, 4\)"),
    "indices": (lambda x: x[tl.tensor([0, 7])], IndexError, r"index 7 is out of bounds"),
    "set": (lambda x: x.__setitem__(9, 1.0), IndexError, r"index 9 is out of bounds.*\n.*x \(3, 4\)"),
    "set a shape": (lambda x: x.__setitem__(0, tl.ones(3)), RuntimeError, r"x \(3, 4\), value \(3,\)"),
    "gather": (
        lambda x: x.gather(1, tl.tensor([[-1]])),
        IndexError,
        r"index -1 is outside dimension 1, of length 4, of shape \(3, 4\)",
    ),
    "index_select": (
        lambda x: x.index_select(0, tl.tensor([3])),
        IndexError,
        r"index 3 is outside dimension 0, of length 3",
    ),
    "take_along_dim": (lambda x: x.take_along_dim(tl.tensor([[4]]), 1), IndexError, "index 4 is out of bounds"),
    "two Ellipses": (lambda x: x[..., ...], IndexError, "single ellipsis"),
    "list of numbers": (lambda x: x[[tl.tensor(1), tl.tensor(0)]], IndexError, "two meanings"),
    "step": (lambda x: x[::-1], ValueError, r"must be positive, not -1; \.flip"),
    "bytes": (lambda x: x[tl.tensor([1, 0], dtype=tl.uint8)], IndexError, r"uint8.*\.bool\(\) for a mask"),
    "list in a list": (lambda x: x[[[0, 1], [1, 0]]], IndexError, "two meanings"),
    "list of Tensors": (lambda x: x[[tl.tensor([0, 1]), tl.tensor([1, 0])]], IndexError, "two meanings"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake: str):
    act, error, message = MISTAKES[mistake]
    with pytest.raises(error, match=message):
        act(tl.ones(3, 4))
