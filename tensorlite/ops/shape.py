"""The same numbers in another shape. Most of these are views: they copy nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..device import device, device_of, move, xp
from ..dtype import is_floating
from ..op import Mixed, Op, OpError
from ..tensor import Tensor, array_of, attach, method

# fmt: off
_reshape   = Op("reshape",   lambda x, *, shape: x.reshape(shape),                dx=lambda g, x_shape: g.reshape(x_shape), view=True)
_permute   = Op("permute",   lambda x, *, dims: x.transpose(dims),                dx=lambda g, dims: permute(g, _inverse(dims)), view=True)
_transpose = Op("transpose", lambda x, *, dim0, dim1: x.swapaxes(dim0, dim1),     dx=lambda g, dim0, dim1: transpose(g, dim0, dim1), view=True)
broadcast  = Op("expand",    lambda x, *, shape: xp(x).broadcast_to(x, shape),    dx=lambda g: g, view=True)
_split     = Op("split",     lambda x, *, sizes, dim: _pieces(x, sizes, dim),     dx=lambda g, dim: cat(g, dim), view=True, several=True)
_cat       = Mixed("cat",    lambda *tensors, dim: xp(tensors[0]).concatenate(tensors, axis=dim),
                             d=lambda g, tensors_shape, dim: split(g, [shape[dim] for shape in tensors_shape], dim),
                             expects="tensors whose shapes differ only along dim")
_flip      = Op("flip",      lambda x, *, dims: xp(x).flip(x, dims),              dx=lambda g, dims: flip(g, dims), view=True)
_tril      = Op("tril",      lambda x, *, diagonal: xp(x).tril(x, diagonal),      dx=lambda g, diagonal: tril(g, diagonal))
_triu      = Op("triu",      lambda x, *, diagonal: xp(x).triu(x, diagonal),      dx=lambda g, diagonal: triu(g, diagonal))
_clone     = Op("clone",     lambda x: x.copy(),                                  dx=lambda g: g)
_cast      = Op("to",        lambda x, *, dtype: x.astype(dtype),                 dx=lambda g: g)
_move      = Op("move",      lambda x, *, target, source: move(x, target),        dx=lambda g, source, target: _move(g, target=source, source=target))
# fmt: on


def _pieces(x: Any, sizes: Sequence[int], dim: int) -> tuple[Any, ...]:
    if sum(sizes) != x.shape[dim]:
        raise ValueError(f"the sizes {list(sizes)} add up to {sum(sizes)}, but dimension {dim} has length {x.shape[dim]}")
    at = (slice(None),) * (dim % x.ndim)
    ends = np.cumsum(sizes).tolist()
    return tuple([x[(*at, slice(end - size, end))] for size, end in zip(sizes, ends, strict=True)])


def _inverse(dims: tuple[int, ...]) -> list[int]:
    """The permutation that undoes `dims`."""
    return np.argsort([d % len(dims) for d in dims]).tolist()


def _place(dim: int, ndim: int, x: Any, op: str) -> int:
    """A dimension counted from the start, of x or of a result with `ndim` dimensions; 0-dimensional counts as one."""
    ndim = ndim or 1
    if not -ndim <= dim < ndim:
        raise IndexError(f"[{op}] dimension {dim} does not exist for shape {tuple(x.shape)}: {-ndim} to {ndim - 1} do")
    return dim % ndim


def _ints(values: tuple[Any, ...]) -> tuple[int, ...]:
    """The shape given as f(2, 3) or as f((2, 3))."""
    if len(values) == 1 and not isinstance(values[0], (int, np.integer, Tensor)):
        values = tuple(values[0])
    return tuple([int(n) for n in values])


@method
def reshape(input: Tensor, *shape: Any) -> Tensor:
    """The same elements, in the same order, in another shape; -1 stands for what is left. A view where possible."""
    return _reshape(input, shape=_ints(shape))


@method
def view(self: Tensor, *shape: Any) -> Tensor:
    """As `reshape`, but raises RuntimeError where that would have to copy. A dtype as argument is refused."""
    out = _reshape(self, shape=_ints(shape))
    if not np.may_share_memory(out.array, self.array) and self.array.size:
        raise RuntimeError(
            f"view: shape {self.shape} with strides {self.array.strides} cannot be seen as {out.shape} without a copy; "
            "use .reshape(...) or .contiguous().view(...)"
        )
    return out


@method
def view_as(self: Tensor, other: Tensor) -> Tensor:
    return view(self, other.shape)


@method
def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Dimensions start_dim to end_dim as one."""
    shape = input.shape or (1,)
    first, last = [_place(dim, input.ndim, input, "flatten") for dim in (start_dim, end_dim)]
    return reshape(input, (*shape[:first], int(np.prod(shape[first : last + 1])), *shape[last + 1 :]))


@method
def squeeze(input: Tensor, dim: int | Sequence[int] | None = None) -> Tensor:
    """Without its dimensions of length 1 (all of them, or those named, where they have length 1)."""
    given = range(input.ndim) if dim is None else [dim] if isinstance(dim, int) else dim
    dims = [_place(d, input.ndim, input, "squeeze") for d in given]
    return reshape(input, tuple([n for i, n in enumerate(input.shape) if i not in dims or n != 1]))


@method
def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """With a new dimension of length 1 at position dim."""
    at = _place(dim, input.ndim + 1, input, "unsqueeze")
    return reshape(input, (*input.shape[:at], 1, *input.shape[at:]))


@method
def permute(input: Tensor, *dims: Any) -> Tensor:
    """Dimension i of the result is dimension dims[i] of the input."""
    return _permute(input, dims=_ints(dims))


@method
def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dimensions exchanged."""
    return _transpose(input, dim0=dim0, dim1=dim1)


@method
def t(input: Tensor) -> Tensor:
    """The transpose of a matrix."""
    return input if input.ndim < 2 else transpose(input, 0, 1)


attach(
    mT=property(lambda self: transpose(self, -2, -1), doc="The last two dimensions exchanged."),
    T=property(lambda self: permute(self, tuple(range(self.ndim))[::-1]), doc="All dimensions in reverse order."),
)


@method
def expand(self: Tensor, *shape: Any) -> Tensor:
    """A view in which dimensions of length 1 are repeated; -1 leaves a dimension as it is."""
    target = _ints(shape)
    extra = len(target) - self.ndim
    if extra < 0 or -1 in target[:extra]:
        raise OpError(f"[expand] shape {self.shape} cannot become {target}: -1 stands for a dimension that is there already")
    return broadcast(self, shape=tuple([self.shape[i - extra] if n == -1 else n for i, n in enumerate(target)]))


@method
def expand_as(self: Tensor, other: Tensor) -> Tensor:
    return expand(self, other.shape)


def cat(tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """Tensors end to end along an existing dimension."""
    if not len(tensors):
        raise OpError("[cat] of nothing; expected at least one tensor")
    return _cat(*tensors, dim=dim)


def stack(tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """Tensors of one shape side by side along a new dimension."""
    return cat([unsqueeze(x, dim) for x in tensors], dim)


@method
def split(tensor: Tensor, split_size_or_sections: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Pieces along dim: of one size (the last may be shorter), or of the sizes listed. Views."""
    sizes = split_size_or_sections
    if isinstance(sizes, int):
        length = tensor.shape[dim]
        sizes = [min(sizes, length - start) for start in range(0, length or 1, sizes)]
    return _split(tensor, sizes=tuple(sizes), dim=dim)


@method
def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` pieces of equal size along dim (the last may be shorter)."""
    length = input.shape[dim]
    return split(input, -(-length // chunks) if length else [0] * chunks, dim)


@method
def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """The slices along dim, without that dimension."""
    return tuple([squeeze(piece, dim) for piece in split(input, 1, dim)])


@method
def flip(input: Tensor, *dims: Any) -> Tensor:
    """The order of the elements reversed along dims."""
    return _flip(input, dims=_ints(dims))


@method
def tril(input: Tensor, diagonal: int = 0) -> Tensor:
    """The lower triangle of the last two dimensions; zeros above the diagonal."""
    return _tril(input, diagonal=diagonal)


@method
def triu(input: Tensor, diagonal: int = 0) -> Tensor:
    """The upper triangle of the last two dimensions; zeros below the diagonal."""
    return _triu(input, diagonal=diagonal)


@method
def clone(input: Tensor) -> Tensor:
    """A copy with memory of its own."""
    return _clone(input)


@method
def contiguous(self: Tensor) -> Tensor:
    """Itself if its elements lie in order in memory, else a copy in which they do."""
    return self if self.is_contiguous() else clone(self)


@method
def to(self: Tensor, *args: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """On another device, in another dtype, or both: `.to("cuda")`, `.to(float64)`, `.to(other)`.
    Itself if it is so already."""
    for arg in args:
        if isinstance(arg, Tensor):
            device, dtype = arg.device, arg.dtype
        elif isinstance(arg, np.dtype) or (isinstance(arg, type) and issubclass(arg, np.generic)):
            dtype = arg
        else:
            device = arg
    out = self if device is None else _to_device(self, device)
    if dtype is None or out.dtype == dtype:
        return out
    if isinstance(out, Tensor) and not is_floating(np.dtype(dtype)):
        out = out.detach()  # integers have no gradient
    return _cast(out, dtype=np.dtype(dtype))


def _to_device(x: Tensor, where: Any) -> Tensor:
    source, target = device_of(array_of(x)), device(where)
    return x if source == target else _move(x, target=target, source=source)


def _to_dtype(dtype: str) -> Any:
    return lambda self: to(self, np.dtype(dtype))


attach(half=_to_dtype("float16"), float=_to_dtype("float32"), double=_to_dtype("float64"))
attach(int=_to_dtype("int32"), long=_to_dtype("int64"), bool=_to_dtype("bool"))
attach(type=lambda self, dtype: to(self, np.dtype(dtype)), type_as=lambda self, other: to(self, other.dtype))
attach(cpu=lambda self: to(self, "cpu"), cuda=lambda self, index=0: to(self, f"cuda:{index}"))


__all__ = [
    "cat", "chunk", "clone", "expand", "flatten", "flip", "permute", "reshape", "split", "squeeze", "stack", "t",
    "transpose", "tril", "triu", "unbind", "unsqueeze",
]  # fmt: skip
