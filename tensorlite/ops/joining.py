"""Tensors put together, taken apart, repeated and padded. What is taken apart are views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..device import where_it_lies, xp
from ..op import Mixed, Op, OpError
from ..tensor import Tensor, array_of, method
from .indexing import index_select
from .shape import _ints, _place, _places, clone, expand, flatten, own, reshape, squeeze, unsqueeze

# fmt: off
_cat   = Mixed("cat",  lambda *tensors, dim: xp(tensors[0]).concatenate(tensors, axis=dim),
                       d=lambda g, tensors_shape, dim: split(g, [shape[dim] for shape in tensors_shape], dim),
                       expects="tensors whose shapes differ only along dim")
_split = Op("split",   lambda x, *, sizes, dim: _pieces(x, sizes, dim),                        dx=lambda g, dim: cat(g, dim), view=True, several=True)
_flip  = Op("flip",    lambda x, *, dims: xp(x).flip(x, dims).copy(),                          dx=lambda g, dims: flip(g, dims), moves=True)
_roll  = Op("roll",    lambda x, *, shifts, dims: xp(x).roll(x, shifts, dims),                 dx=lambda g, shifts, dims: _roll(g, shifts=tuple([-n for n in shifts]), dims=dims), moves=True)
_pad   = Op("pad",     lambda x, *, widths, value: xp(x).pad(x, widths, constant_values=value), dx=lambda g, x_shape, widths: g[_inside(x_shape, widths)])
# fmt: on


def _pieces(x: Any, sizes: Sequence[int], dim: int) -> tuple[Any, ...]:
    if sum(sizes) != x.shape[dim] or min(sizes, default=0) < 0:
        raise ValueError(f"the sizes {list(sizes)} add up to {sum(sizes)}, but dimension {dim} has length {x.shape[dim]}")
    at = (slice(None),) * (dim % x.ndim)
    ends = np.cumsum(sizes).tolist()
    return tuple([x[(*at, slice(end - size, end))] for size, end in zip(sizes, ends, strict=True)])


def _inside(shape: tuple[int, ...], widths: Sequence[tuple[int, int]]) -> tuple[slice, ...]:
    """Where, in what was padded, the original stands."""
    return tuple([slice(before, before + n) for n, (before, _) in zip(shape, widths, strict=True)])


def _listed(tensors: Any, op: str) -> list[Any]:
    if not isinstance(tensors, (list, tuple)):
        raise TypeError(f"{op}: expected a list or tuple of Tensors, not {type(tensors).__name__}")
    if not tensors:
        raise OpError(f"[{op}] of nothing; expected at least one tensor")
    if bad := [x for x in tensors if not hasattr(x, "shape")]:
        raise TypeError(f"{op}: expected a list or tuple of Tensors, and {type(bad[0]).__name__} is among them")
    return list(tensors)


def cat(tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """Tensors end to end along an existing dimension. One of shape (0,) fits among any others."""
    tensors = _listed(tensors, "cat")
    if any(x.shape == (0,) for x in tensors):
        shape = next((x.shape for x in tensors if x.shape != (0,)), (0,))
        at = _place(dim, len(shape), tensors[0], "cat")
        tensors = [reshape(x, (*shape[:at], 0, *shape[at + 1 :])) if x.shape == (0,) else x for x in tensors]
    return _cat(*tensors, dim=dim)


concat = concatenate = cat


def stack(tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """Tensors of one shape side by side along a new dimension."""
    return cat([unsqueeze(x, dim) for x in _listed(tensors, "stack")], dim)


def vstack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors on top of each other, vectors as rows."""
    return cat([x if x.ndim > 1 else reshape(x, (1, -1)) for x in _listed(tensors, "vstack")], 0)


def hstack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors side by side: along dimension 1, vectors and numbers along their only one."""
    tensors = [x if x.ndim else reshape(x, 1) for x in _listed(tensors, "hstack")]
    return cat(tensors, min(tensors[0].ndim - 1, 1))


def _length(x: Tensor, dim: int, op: str) -> int:
    if not x.ndim:
        raise OpError(f"[{op}] a number has no dimension that could be split")
    return x.shape[_place(dim, x.ndim, x, op)]


@method
def split(tensor: Tensor, split_size_or_sections: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Pieces along dim: of one size (the last may be shorter), or of the sizes listed. Views."""
    sizes, length = split_size_or_sections, _length(tensor, dim, "split")
    if isinstance(sizes, (int, np.integer)):
        if sizes < 0 or (not sizes and length):
            raise OpError(f"[split] pieces of size {sizes} do not make up dimension {dim} of shape {tensor.shape}")
        sizes = [min(sizes, length - start) for start in range(0, length or 1, sizes or 1)]
    return _split(tensor, sizes=tuple(sizes), dim=dim)


@method
def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` pieces of equal size along dim (the last may be shorter)."""
    length = _length(input, dim, "chunk")
    if chunks < 1:
        raise OpError(f"[chunk] expected at least one piece, not {chunks}")
    return split(input, -(-length // chunks) if length else [0] * chunks, dim)


@method
def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """The slices along dim, without that dimension."""
    if not input.ndim:
        raise IndexError("[unbind] a number has no dimensions")
    return tuple([squeeze(piece, dim) for piece in split(input, 1, dim)]) if _length(input, dim, "unbind") else ()


@method
def repeat(self: Tensor, *repeats: Any) -> Tensor:
    """Copies end to end, repeats[i] of them along dimension i; dimensions that self lacks are put in front."""
    times = _ints(repeats)
    lengths = (1,) * (len(times) - self.ndim) + self.shape
    if len(times) < self.ndim or min(times, default=0) < 0:
        raise OpError(f"[repeat] {times} must give a count for every dimension of shape {self.shape}")
    apart = reshape(self, [n for length in lengths for n in (1, length)])
    apart = expand(apart, [n for pair in zip(times, lengths, strict=True) for n in pair])
    return own(reshape(apart, [n * length for n, length in zip(times, lengths, strict=True)]))


@method
def tile(input: Tensor, *counts: Any, dims: Any = None) -> Tensor:
    """As `repeat`, with counts of 1 in front where there are too few."""
    times = _ints(counts, dims)
    return repeat(input, (1,) * (input.ndim - len(times)) + times)


@method
@where_it_lies
def repeat_interleave(input: Tensor, repeats: int | Tensor, dim: int | None = None) -> Tensor:
    """Each element along dim (of the flattened Tensor without dim) `repeats` times, one after another.

    repeats  a count, or a Tensor of integers: one count for each element
    """
    if dim is None:
        return repeat_interleave(flatten(input), repeats, 0)
    length = _length(input, dim, "repeat_interleave")
    counts = xp(array_of(repeats)).asarray(array_of(repeats))
    if counts.dtype.kind not in "iu":
        raise TypeError(f"repeat_interleave: repeats must be an integer or a Tensor of integers, not {repeats}")
    if counts.ndim > 1 or counts.size not in (1, length) or (counts < 0).any():
        raise OpError(f"[repeat_interleave] repeats {counts} must be one count or {length}, along dimension {dim} of {input.shape}")
    if counts.size > 1:
        return index_select(input, dim, xp(counts).repeat(xp(counts).arange(length), counts.tolist()))
    # A view and one copy; backward a sum, where an index would be added up one by one.
    at, n, shape = dim % input.ndim, counts.item(), input.shape
    wide = expand(unsqueeze(input, at + 1), (*shape[: at + 1], n, *shape[at + 1 :]))
    return own(reshape(wide, (*shape[:at], length * n, *shape[at + 1 :])))


@method
def flip(input: Tensor, *order: Any, dims: Any = None) -> Tensor:
    """The order of the elements reversed along dims. A copy."""
    if not order and dims is None:
        raise TypeError("flip: expected the dimensions along which to reverse")
    return _flip(input, dims=tuple(_places(_ints(order, dims), input, "flip")[: input.ndim]))


@method
def roll(input: Tensor, shifts: int | Sequence[int], dims: int | Sequence[int] | None = None) -> Tensor:
    """Elements moved by `shifts` places along dims (all in a row without dims); what falls off comes in at the start."""
    if dims is None and input.ndim != 1:
        return reshape(roll(flatten(input), shifts, 0), input.shape)
    shifts = (shifts,) if isinstance(shifts, (int, np.integer)) else tuple(shifts)
    dims = [dims or 0] if isinstance(dims, (int, np.integer, type(None))) else dims
    if len(shifts) != len(dims):
        raise OpError(f"[roll] shifts {shifts} and dims {tuple(dims)} must be as many")
    return _roll(input, shifts=shifts, dims=tuple([_place(d, input.ndim, input, "roll") for d in dims]))


MODES: dict[str, Any] = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}  # PyTorch's names of them, and NumPy's


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """More elements around the edges, or fewer where a width is negative.

    pad    widths, from the last dimension on: (before, after) of the last, (before, after) of the one before it …
    mode   "constant": `value` (0); "reflect": mirrored at the edge, which itself is not repeated; "replicate": the
           edge; "circular": what stands at the other end

    Raises OpError for an odd number of widths, for more than there are dimensions, or wider than the mode allows.
    """
    widths = [(before, after) for before, after in zip(pad[::2], pad[1::2], strict=False)][::-1]
    if len(pad) % 2 or len(widths) > input.ndim:
        raise OpError(f"[pad] {tuple(pad)} must be pairs of widths, at most one for each dimension of shape {input.shape}")
    widths = [(0, 0)] * (input.ndim - len(widths)) + widths
    if any(n + min(before, 0) + min(after, 0) < 0 for n, (before, after) in zip(input.shape, widths, strict=True)):
        raise OpError(f"[pad] {tuple(pad)} takes more away than shape {input.shape} has")
    if min(pad, default=0) < 0:
        input = input[tuple([slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(input.shape, widths, strict=True)])]
        widths = [(max(a, 0), max(b, 0)) for a, b in widths]
    if mode == "constant":
        return _pad(input, widths=tuple(widths), value=value or 0) if widths else clone(input)
    if mode not in MODES or value is not None:
        raise OpError(f"[pad] mode {mode!r} with value {value}; the modes are 'constant', which takes a value, and {', '.join(map(repr, MODES))}")
    for dim, (n, around) in enumerate(zip(input.shape, widths, strict=True)):
        if any(around) and (max(around) > {"reflect": n - 1, "circular": n}.get(mode, np.inf) or not n):
            raise OpError(f"[pad] {around} is too wide for {mode!r} along dimension {dim} of shape {input.shape}")
        if any(around):
            input = index_select(input, dim, xp(array_of(input)).asarray(np.pad(np.arange(n), around, mode=MODES[mode])))
    return input


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """From vectors, the coordinates of a grid: per vector a Tensor with a dimension for each of them. Views.

    indexing  "ij": dimension k belongs to vector k; "xy": the first two are exchanged
    """
    given = list(tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else tensors)
    if indexing not in ("ij", "xy") or any(x.ndim > 1 for x in given):
        raise OpError(f"[meshgrid] expected vectors and indexing 'ij' or 'xy', not {[x.shape for x in given]} and {indexing!r}")
    sizes = [x.numel() for x in given]
    grid = [expand(reshape(x, [n if i == k else 1 for i, n in enumerate(sizes)]), sizes) for k, x in enumerate(given)]
    return tuple([x.transpose(0, 1) if indexing == "xy" and len(grid) > 1 else x for x in grid])


__all__ = [
    "cat", "chunk", "concat", "concatenate", "flip", "hstack", "meshgrid", "repeat_interleave", "roll", "split", "stack",
    "tile", "unbind", "vstack",
]  # fmt: skip
