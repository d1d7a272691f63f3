"""Rows of a matrix looked up by id, and the vectors of 0 and 1 that ids stand for. Backward, each row's gradients add up."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..device import where_it_lies, xp
from ..op import Op, OpError
from ..tensor import Tensor, array_of
from .arithmetic import eq, where
from .indexing import _scatter, inside
from .shape import reshape

# fmt: off
_lookup  = Op("embedding",        lambda weight, ids: _rows(weight, ids),
                                  dweight=lambda g, weight_shape, ids: _add_rows(g, ids, count=weight_shape[0]),
                                  expects="weight (vocabulary, width) and integer ids, each at least 0 and less than the vocabulary", moves=True)
_add_rows = Op("embedding_grad",  lambda x, ids, *, count: _sum_by_id(x, ids, count),
                                  dx=lambda g, ids: _lookup(g, ids))
# fmt: on


def _rows(weight: Any, ids: Any) -> Any:
    inside(ids, len(weight), "ids", "token id {} is outside the vocabulary of {}")
    if weight.ndim != 2:
        raise ValueError("weight must be a matrix")
    return weight[ids]


def _sum_by_id(g: Any, ids: Any, count: int) -> Any:
    """(count, width): row i is the sum of the rows of g whose id is i. Sorting makes equal ids neighbours,
    so that each id is written once, in a fixed order (on the CPU)."""
    flat = ids.reshape(-1)
    if xp(g) is not np:  # in whatever order the threads come
        return _scatter(g.reshape(flat.size, g.shape[-1]), flat, (count, g.shape[-1]))
    out = np.zeros((count, g.shape[-1]), g.dtype)
    if not ids.size:
        return out
    order = np.argsort(flat, kind="stable")
    ordered = flat[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    out[ordered[starts]] = np.add.reduceat(g.reshape(flat.size, -1)[order], starts, axis=0)
    return out


def embedding(input: Tensor, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """Row `id` of weight for each id: (…) integers and (vocabulary, width) -> (…, width)

    padding_idx  a row that gets no gradient; negative counts from the end
    PyTorch's max_norm is left out: it writes into the weight in the forward.
    """
    rows = _lookup(weight, input)
    if padding_idx is None:
        return rows
    if not -len(weight) <= padding_idx < len(weight):
        raise OpError(f"[embedding] padding_idx {padding_idx} is outside the vocabulary of {len(weight)}")
    return where(reshape(eq(input, padding_idx % len(weight)), (*input.shape, 1)), rows.detach(), rows)


@where_it_lies
def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """(…) integers -> (…, num_classes): 1 at the place that the integer names, else 0, as int64.

    num_classes  -1 stands for one more than the largest
    """
    ids = array_of(tensor)
    if num_classes < 1:
        if num_classes != -1 or not ids.size:
            raise OpError(f"[one_hot] num_classes is {num_classes}, and the largest of {ids.size} integers must tell; give it")
        num_classes = int(ids.max()) + 1
    inside(ids, num_classes, "one_hot: the classes", "[one_hot] class {} is not one of {}")
    return Tensor._of((ids[..., None] == xp(ids).arange(num_classes)).astype(np.int64))
