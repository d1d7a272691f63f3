"""Rows by id, against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
from compare import Case, compare, functional, table

import tensorlite as tl
from tensorlite.check.samples.sample import integers, normal
from tensorlite.nn import functional as F

LOOKUPS: dict[str, Case] = {
    "embedding": (functional("embedding"), integers(5, 2, 3), normal(5, 4)),
    "embedding of one": (functional("embedding"), integers(5), normal(5, 4)),
    "embedding of nothing": (functional("embedding"), integers(5, 2, 0), normal(5, 4)),
    "embedding, repeated": (functional("embedding"), np.array([1, 1, 1, 0]), normal(2, 3)),
    "embedding with padding": (functional("embedding", padding_idx=1), integers(3, 2, 5), normal(3, 4)),
    "embedding with padding from the end": (functional("embedding", padding_idx=-1), integers(3, 2, 5), normal(3, 4)),
    "embedding with padding of one": (functional("embedding", padding_idx=0), np.array(0), normal(3, 4)),
    "embedding, out of range": (functional("embedding"), np.array([5]), normal(5, 4)),
    "embedding, negative": (functional("embedding"), np.array([-1]), normal(5, 4)),
    "embedding by floats": (functional("embedding"), normal(2), normal(5, 4)),
    "embedding in a vector": (functional("embedding"), np.array([0]), normal(5)),
    "one_hot": (functional("one_hot"), np.array([[0, 2], [1, 0]])),
    "one_hot of five": (functional("one_hot", 5), np.array([0, 2])),
    "one_hot by keyword": (functional("one_hot", num_classes=3), np.array(2)),
    "one_hot of nothing": (functional("one_hot", 3), integers(4, 0)),
    "one_hot of nothing, unknown": (functional("one_hot"), integers(4, 0)),
    "one_hot, too few": (functional("one_hot", 2), np.array([0, 2])),
    "one_hot, negative": (functional("one_hot", 2), np.array([-1])),
    "one_hot, no classes": (functional("one_hot", 0), np.array([0])),
    "one_hot of floats": (functional("one_hot", 2), np.array([0.0])),
}  # fmt: skip


@table(LOOKUPS)
def test_lookups(case: Case):
    compare(*case)


def test_padding_is_a_row():
    with pytest.raises(RuntimeError, match="padding_idx 5 is outside the vocabulary of 5"):
        F.embedding(tl.tensor([0]), tl.ones(5, 4), padding_idx=5)
