"""The local Jacobian of a step: how much each element of an op's output moves with each element of one input."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import check
from ..device import xp
from ..levels import using
from .program import Step, Value, numbers, summed

LARGEST = 4096  # elements of a Jacobian that is computed
CHECKED = 4096  # elements of the inputs of a step that is checked


def gradients_of(step: Step) -> list[Any]:
    """The gradients of the op's outputs."""
    g = step.visit.gradient
    return list(g) if isinstance(g, tuple) else [g]


def jacobian(step: Step, largest: int = LARGEST) -> np.ndarray | None:
    """(elements of the output, elements of the input): row k is what the op's rule makes of a gradient that is 1 at
    output element k and 0 elsewhere. None where it would be too large, or the rule's arrays are not at hand."""
    call, plan = step.call, step.call.plan
    sizes = [y.size for y in gradients_of(step)]
    target = int(np.prod(step.to.shape))
    if plan is None or not 0 < sum(sizes) * target <= largest or sum(sizes) > 256:
        return None
    known = call.kept_by_name()
    if any(name not in known for name in plan.names):
        return None
    kept = [known[name] for name in plan.names]
    zero = [xp(g).zeros_like(g) for g in gradients_of(step)]
    rows = []
    for i, size in enumerate(sizes):
        for k in range(size):
            unit = [z.copy() for z in zero]
            unit[i].flat[k] = 1
            with np.errstate(all="ignore"):
                found = plan.run(tuple(unit) if call.op.several else unit[0], kept)[step.i]
            row = np.asarray(numbers(found))
            row = row.sum(summed(row.shape, step.to.shape)).reshape(step.to.shape)
            rows.append(row.ravel().copy())
    return np.array(rows)


def structure(j: np.ndarray) -> str:
    """What a Jacobian looks like, in words; `dense` where no simpler word fits."""
    if not j.any():
        return "zero: the output does not move"
    m, n = j.shape
    some = j != 0
    per_row, per_column = some.sum(1), some.sum(0)
    if m == n and (per_row <= 1).all() and (per_column <= 1).all() and np.array_equal(some, np.diag(np.diag(some))):
        return _diagonal(np.diag(j))
    values = np.unique(j[some])
    one = len(values) == 1
    if m == n and one and values[0] == 1 and (per_row == 1).all() and (per_column == 1).all():
        return "permutation: the same numbers at other places"
    if one and (per_column == 1).all() and (per_row == n // m).all() and m < n:
        return "row sum: each output adds up some inputs" + ("" if values[0] == 1 else f", times {values[0]:.6g}")
    if one and (per_row == 1).all() and m > n:
        return "copies: each input is handed to several outputs"
    if one and values[0] == 1 and (per_row == 1).all():
        return "selection: each output is one of the inputs"
    blocks = _blocks(some)
    if len(blocks) > 1:
        return _block_words(j, blocks)
    if min(m, n) > 1 and np.linalg.matrix_rank(j) == 1:
        return "outer product: a column times a row"
    return "dense: every output moves with every input" if some.all() else "sparse"


def _diagonal(d: np.ndarray) -> str:
    if (d == d[0]).all():
        return "identity" if d[0] == 1 else f"{d[0]:.6g} times the identity"
    return "diagonal: each output moves with its own input alone"


def _blocks(some: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """The outputs and inputs that hang together, as (rows, columns)."""
    left = np.ones(len(some), bool)
    found = []
    while left.any():
        rows = np.zeros(len(some), bool)
        rows[np.argmax(left)] = True
        while True:
            columns = some[rows].any(0)
            more = some[:, columns].any(1) | rows
            if (more == rows).all():
                break
            rows = more
        left &= ~rows
        if columns.any():
            found.append((np.flatnonzero(rows), np.flatnonzero(columns)))
    return found


def _block_words(j: np.ndarray, blocks: list[tuple[np.ndarray, np.ndarray]]) -> str:
    parts = [j[np.ix_(*block)] for block in blocks]
    shapes = {part.shape for part in parts}
    if len(shapes) > 1:
        return f"block: {len(blocks)} blocks of different sizes"
    (shape,) = shapes
    same = all(np.array_equal(part, parts[0]) for part in parts)
    next_to = all((np.diff(r) == 1).all() and (np.diff(c) == 1).all() for r, c in blocks)
    words = f"{len(blocks)} {'times the same block' if same else 'blocks'} of {shape[0]} × {shape[1]}"
    return f"{'block diagonal' if next_to else 'block (after reordering)'}: {words}"


def checked(step: Step) -> str:
    """The row of this very step, at these very inputs, held against slopes measured from the forward's values."""
    call = step.call
    inputs = [numbers(x.array) if isinstance(x, Value) else numbers(x) for x in call.inputs]
    if any(isinstance(x, Value) and x.array is None for x in call.inputs):
        return "not checked: an input was not kept"
    if sum(np.size(x) for x in inputs if x is not None) > CHECKED:
        return "not checked: too large"
    wide = [x.astype(np.float64) if hasattr(x, "dtype") and x.dtype.kind == "f" else x for x in inputs]
    try:
        with using("plain"):
            report = check.gradients(
                lambda *xs: call.op(*xs, **call.attributes), wide, wrt=(step.i,), second=False, raise_exception=False,
                name=call.op.name,
            )  # fmt: skip
    except Exception as error:  # whatever an op makes of inputs in float64
        return f"not checked: {str(error).partition(chr(10))[0]}"
    if not report.findings:
        return f"not checked: {'; '.join(report.complaints) or 'nothing to differentiate'}"
    found = report.findings[0]
    words = f"{found.method}: {found.verdict}, largest error {found.error:.1e}"
    return words + (f", {len(found.kinks)} at a kink" if found.kinks else "")
