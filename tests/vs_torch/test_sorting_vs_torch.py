"""Order and counting, against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compare import INF, NAN, Case, compare, method, table

import tensorlite as tl
from tensorlite.check.samples.sample import distinct, integers, normal

TIES = np.array([[2.0, 1.0, 2.0, 1.0], [0.0, 0.0, 0.0, -0.0]])

SORTING: dict[str, Case] = {
    "topk": (lambda m, x: (*x.topk(2), *m.topk(x, 1, dim=0), *x.topk(3, -1, False)), distinct(3, 4)),
    "topk of all": (method("topk", 4), distinct(4)),
    "topk of none": (method("topk", 0), distinct(4)),
    "topk, too many": (method("topk", 5), distinct(4)),
    "topk of bytes": (lambda m, x: (x.topk(2)[0], x.topk(2, largest=False)[0]), np.array([0, 5, 3, 255], np.uint8)),
    "topk with infinities": (method("topk", 3), np.array([1.0, -INF, INF, 2.0])),
    "topk with nan": (lambda m, x: x.topk(2).indices, np.array([1.0, NAN, 3.0])),
    "topk of a number": (lambda m, x: (*x.topk(1), *x.topk(1, 0)), normal()),
    "topk of a number, too many": (method("topk", 2), normal()),
    "topk, negative": (method("topk", -1), distinct(4)),
    "topk, wrong dimension": (method("topk", 1, 2), distinct(3, 4)),
    "topk of nothing": (lambda m, x: x.topk(0, 0), normal(0, 3)),
    "topk by keyword": (lambda m, x: m.topk(x, k=2, dim=0, largest=False, sorted=True), distinct(3, 4)),
    "sort": (lambda m, x: (*x.sort(), *m.sort(x, 0), *x.sort(dim=-2, descending=True), *x.sort(-1, True)),
        distinct(3, 4)),
    "sort, stable": (lambda m, x: (*m.sort(x, stable=True), *x.sort(dim=1, descending=True, stable=True)), TIES),
    "sort of a number": (lambda m, x: (*x.sort(), *m.sort(x, 0, descending=True)), normal()),
    "sort of nothing": (lambda m, x: (*x.sort(0), *x.sort(1)), normal(0, 3)),
    "sort, wrong dimension": (method("sort", 2), normal(3, 4)),
    "sort with nan": (lambda m, x: (*x.sort(), *x.sort(descending=True)), np.array([1.0, NAN, -INF, INF, 0.5])),
    "sort of integers": (lambda m, x: (*x.sort(), *x.sort(descending=True)), np.array([3, -1, 9, 0])),
    "sort of bytes": (lambda m, x: (*x.sort(descending=True), *x.bool().sort(stable=True)),
        np.array([3, 0, 9, 1], np.uint8)),
    "argsort": (
        lambda m, x: (x.argsort(), m.argsort(x, 0, True), x.argsort(dim=1, descending=True), m.argsort(x, stable=True)),
        distinct(3, 4),
    ),
    "argsort, stable": (lambda m, x: (x.argsort(stable=True), x.argsort(descending=True, stable=True)), TIES),
    "argsort of a number": (method("argsort"), normal()),
    "unique": (
        lambda m, x: (
            x.unique(), *m.unique(x, return_inverse=True), *x.unique(return_counts=True),
            *m.unique(x, True, True, True),
        ),
        integers(4, 3, 4),
    ),
    "unique with nan": (lambda m, x: x.detach().unique(return_counts=True), np.array([1.0, NAN, NAN, 0.0])),
    "unique of nothing": (lambda m, x: x.unique(return_inverse=True), integers(4, 0)),
    "unique of a number": (lambda m, x: x.unique(return_inverse=True), integers(4)),
    "bincount": (
        lambda m, x, w: (
            x.bincount(), m.bincount(x, minlength=9), x.bincount(w.detach()), x.bincount(w.detach().float(), 2),
            x.bincount(weights=x),
        ),
        integers(5, 8), normal(8),
    ),
    "bincount of nothing": (lambda m, x: (x.bincount(), x.bincount(minlength=3)), integers(4, 0)),
    "bincount, negative": (method("bincount"), np.array([1, -1])),
    "bincount of a matrix": (method("bincount"), integers(4, 2, 2)),
    "bincount of floats": (lambda m: m.bincount(m.ones(3)),),
    "bincount, wrong weights": (lambda m, x: x.bincount(x[:1]), integers(4, 3)),
    "bincount, negative length": (method("bincount", None, -1), integers(4, 3)),
    "nonzero": (
        lambda m, x: (x.nonzero(), m.nonzero(x), *x.nonzero(as_tuple=True), *m.where(x), *m.where(x > 0),
        (x > 0).nonzero()),
        integers(3, 2, 3),
    ),
    "nonzero of a number": (lambda m, x: (x.nonzero(), (x * 0).nonzero(), *x.nonzero(as_tuple=True)), np.array(5)),
    "nonzero of nothing": (lambda m, x: (x.nonzero(), *x.nonzero(as_tuple=True)), integers(3, 0, 2)),
    "searchsorted": (
        lambda m, s, v: (
            m.searchsorted(s, v), m.searchsorted(s, v, right=True), m.searchsorted(s, v[0, 0]), m.searchsorted(s, 2),
            m.searchsorted(s, v, side="right"), m.searchsorted(s, v, out_int32=True), m.searchsorted(s, s),
        ),
        np.array([1.0, 2.0, 2.0, 3.0]), np.array([[2.0, 9.0], [-1.0, 2.5]]),
    ),
    "searchsorted, both sides": (lambda m, s: m.searchsorted(s, s, right=True, side="left"), np.array([1.0, 2.0])),
}  # fmt: skip


@table(SORTING)
def test_sorting(case: Case):
    compare(*case)


def test_sort_names_its_results():
    def names(m: Any, x: Any) -> Any:
        found = x.sort(descending=True)
        return found.values, found.indices

    compare(names, distinct(5))


def test_a_sequence_per_row_is_refused():
    with pytest.raises(RuntimeError, match=r"\[searchsorted\] expected a vector, not shape \(2, 2\)"):
        tl.searchsorted(tl.zeros(2, 2), tl.zeros(2, 2))
