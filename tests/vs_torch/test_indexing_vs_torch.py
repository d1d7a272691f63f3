"""Indexing, against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
from compare import INF, NAN, Case, compare, functional, method, table

from tensorlite.check.samples.sample import distinct, integers, normal

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


@table({name: (INDICES[name],) for name in sorted(INDICES.keys() - REPEATED)})
def test_setitem(case: Case):

    def assign(m: Any, x: Any, v: Any, value: str) -> Any:
        index, y = case[0](m), x * 1
        full = (v * 1).expand(4, 3, 5)
        y[index] = {"number": 7.0, "row": v, "whole": full[index]}[value]
        return y

    for value, recording in product(("number", "row", "whole"), (False, True)):
        f = lambda m, x, v, value=value: assign(m, x, v, value)
        compare(f, normal(4, 3, 5), normal(5), differentiate=recording)


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
    "topk": (lambda m, x: (*x.topk(2), *m.topk(x, 1, dim=0), *x.topk(3, -1, False)), distinct(3, 4)),
    "topk of all": (method("topk", 4), distinct(4)),
    "topk of none": (method("topk", 0), distinct(4)),
    "topk, too many": (method("topk", 5), distinct(4)),
    "topk of bytes": (lambda m, x: (x.topk(2)[0], x.topk(2, largest=False)[0]), np.array([0, 5, 3, 255], np.uint8)),
    "topk with infinities": (method("topk", 3), np.array([1.0, -INF, INF, 2.0])),
    "topk with nan": (lambda m, x: x.topk(2).indices, np.array([1.0, NAN, 3.0])),
    "embedding": (functional("embedding"), integers(5, 2, 3), normal(5, 4)),
    "embedding of one": (functional("embedding"), integers(5), normal(5, 4)),
    "embedding of nothing": (functional("embedding"), integers(5, 2, 0), normal(5, 4)),
    "embedding, repeated": (functional("embedding"), np.array([1, 1, 1, 0]), normal(2, 3)),
}  # fmt: skip


@table(PICKS)
def test_picks(case: Case):
    compare(*case)
