"""einsum: sums of products, written with a letter for each dimension. Composed of permute, reshape and matmul."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .. import mode
from ..op import OpError
from ..tensor import Tensor
from .matrix import diagonal, matmul
from .reduction import sum
from .shape import permute, reshape

Labels = list[Any]  # per dimension its letter, or -1, -2 … for what an ellipsis stands for, counted from its end


def einsum(equation: str, *operands: Any) -> Tensor:
    """The sum of products that the equation describes: einsum("ik,kj->ij", a, b) is a @ b.

    equation  per operand a letter for each dimension, then, after ->, those of the result. A letter that the result
              lacks is summed over; one that an operand has twice takes its diagonal; "..." stands for any other
              dimensions, which broadcast. Without -> the result has the letters that occur once, in alphabetical order
    operands  Tensors of one dtype. A dimension of length 1 broadcasts

    Two operands meet as matrices, from left to right, so the work is BLAS's. Raises OpError where the equation does
    not fit the operands. PyTorch's other form, with lists of numbers in place of letters, is left out.
    """
    if not isinstance(equation, str):
        raise TypeError(f"einsum: expected an equation such as 'ij,jk->ik' first, not {type(equation).__name__}")
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    operands = tuple(mode.cast("matmul", *operands))
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        raise OpError(f"[einsum] {equation!r} describes {len(terms)} operand(s), and {len(operands)} are given")
    if len({x.dtype for x in operands}) > 1:
        raise OpError(f"[einsum] the operands must have one dtype, not {', '.join(str(x.dtype) for x in operands)}")
    labels = [_labels(term, x.ndim, f"operand {i} of shape {x.shape} in {equation!r}") for i, (term, x) in enumerate(zip(terms, operands, strict=True))]
    result = _result(right, labels, equation) if arrow else _implied(labels)
    lengths = _lengths(labels, operands, equation)

    pairs = [_simple(x, names, lengths) for x, names in zip(operands, labels, strict=True)]
    y, names = pairs[0]
    for i, (x, others) in enumerate(pairs[1:], 1):
        later = {label for _, rest in pairs[i + 1 :] for label in rest}.union(result)
        y, names = _product(*_summed(y, names, later.union(others)), *_summed(x, others, later.union(names)), later)
    y, names = _summed(y, names, set(result))
    y = _ordered(y, names, [label for label in result if label in names])
    y = reshape(y, [lengths[label] if label in names else 1 for label in result]) if len(names) < len(result) else y
    if len(operands) > 1 and isinstance(y, Tensor):  # a product, of which nobody else has a view: it may be written
        y.version = None
        if y.node is not None:
            y.node.version = None
    return y


def _labels(term: str, ndim: int, where: str) -> Labels:
    """The labels of one operand's dimensions."""
    before, dots, after = term.partition("...")
    letters = before + after
    if bad := [c for c in letters if not (c.isascii() and c.isalpha())]:
        raise OpError(f"[einsum] {bad[0]!r} in {where}: expected letters, and at most one '...'")
    rest = ndim - len(letters)
    if rest < 0 or (rest and not dots):
        raise OpError(f"[einsum] {term!r} names {len(letters)} dimensions of {where}, which has {ndim}")
    return [*before, *range(-rest, 0), *after]


def _result(term: str, labels: Sequence[Labels], equation: str) -> Labels:
    """The labels that stand after the arrow."""
    most = max([len([label for label in names if isinstance(label, int)]) for names in labels])
    letters = term.replace("...", "", 1)
    out = _labels(term, len(letters) + most * ("..." in term), f"the result of {equation!r}")
    known = {label for names in labels for label in names}
    if unknown := [label for label in out if label not in known]:
        raise OpError(f"[einsum] the result of {equation!r} has {unknown[0]!r}, which no operand has")
    if len(set(out)) < len(out):
        raise OpError(f"[einsum] the result of {equation!r} has a letter twice")
    return out


def _implied(labels: Sequence[Labels]) -> Labels:
    """Without an arrow: what the ellipsis stands for, then the letters that occur once."""
    every = [label for names in labels for label in names]
    return sorted({label for label in every if isinstance(label, int)}) + sorted(
        label for label in every if isinstance(label, str) and every.count(label) == 1
    )


def _lengths(labels: Sequence[Labels], operands: Sequence[Any], equation: str) -> dict[Any, int]:
    """The length of each label: where they differ all but one must be 1."""
    lengths: dict[Any, int] = {}
    for names, x in zip(labels, operands, strict=True):
        for label, n in zip(names, x.shape, strict=True):
            if n != 1 and lengths.setdefault(label, n) == 1:
                lengths[label] = n
            if n not in (1, lengths.setdefault(label, n)):
                raise OpError(f"[einsum] {label!r} in {equation!r} has length {lengths[label]} and {n}")
    return lengths


def _simple(x: Any, names: Labels, lengths: dict[Any, int]) -> tuple[Any, Labels]:
    """x with each label once, and without those of length 1 that are longer elsewhere: they broadcast."""
    for label in [label for i, label in enumerate(names) if label in names[:i]]:
        first = names.index(label)
        second = names.index(label, first + 1)
        if x.shape[first] != x.shape[second]:
            raise OpError(f"[einsum] {label!r} stands twice for shape {tuple(x.shape)}, where lengths differ")
        x = diagonal(x, 0, first, second)
        names = [other for i, other in enumerate(names) if i not in (first, second)] + [label]
    kept = [i for i, label in enumerate(names) if x.shape[i] == lengths[label]]
    return reshape(x, [x.shape[i] for i in kept]) if len(kept) < len(names) else x, [names[i] for i in kept]


def _summed(x: Any, names: Labels, wanted: set[Any]) -> tuple[Any, Labels]:
    """x summed over the labels that nobody wants."""
    gone = tuple([i for i, label in enumerate(names) if label not in wanted])
    return (sum(x, gone, dtype=x.dtype) if gone else x), [label for label in names if label in wanted]


def _product(a: Any, a_names: Labels, b: Any, b_names: Labels, wanted: set[Any]) -> tuple[Any, Labels]:
    """a times b, summed over the labels that both have and nobody wants."""
    both = [label for label in a_names if label in b_names]
    batch, inner = [label for label in both if label in wanted], [label for label in both if label not in wanted]
    rows, columns = [label for label in a_names if label not in both], [label for label in b_names if label not in both]
    a = _ordered(a, a_names, [*batch, *rows, *inner])
    b = _ordered(b, b_names, [*batch, *inner, *columns])
    n, r = len(batch), len(rows)
    shape = (*a.shape[: n + r], *b.shape[n + len(inner) :])
    if not inner:  # no sum: elements meet by broadcasting
        y = reshape(a, (*a.shape, *[1] * len(columns))) * reshape(b, (*b.shape[:n], *[1] * r, *b.shape[n:]))
    else:
        height, width = math.prod(a.shape[n : n + r]), math.prod(a.shape[n + r :])
        y = matmul(_grouped(a, n, height, width), _grouped(b, n, width, math.prod(shape[n + r :])))
    return (y if y.shape == shape else reshape(y, shape)), [*batch, *rows, *columns]


def _ordered(x: Any, names: Labels, order: Labels) -> Any:
    return x if names == order else permute(x, [names.index(label) for label in order])


def _grouped(x: Any, batch: int, height: int, width: int) -> Any:
    """x as matrices of that height and width, behind its batch dimensions; no copy where they are so already."""
    shape = (*x.shape[:batch], height, width)
    return x if x.shape == shape else reshape(x, shape)


__all__ = ["einsum"]
