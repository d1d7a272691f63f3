"""The same numbers in another shape, dtype or place. What only changes the shape is a view: it copies nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import index
from typing import Any

import numpy as np

from ..device import current, device_of, is_pinned, move, pinned, xp
from ..dtype import bfloat16, is_floating, kind
from ..op import Op, OpError
from ..tensor import Tensor, array_of, attach, method

# fmt: off
_reshape   = Op("reshape",   lambda x, *, shape: x.reshape(shape),                dx=lambda g, x_shape: g.reshape(x_shape), view=True)
_permute   = Op("permute",   lambda x, *, dims: x.transpose(dims),                dx=lambda g, dims: permute(g, _inverse(dims)), view=True)
_transpose = Op("transpose", lambda x, *, dim0, dim1: x.swapaxes(dim0, dim1),     dx=lambda g, dim0, dim1: transpose(g, dim0, dim1), view=True)
broadcast  = Op("expand",    lambda x, *, shape: xp(x).broadcast_to(x, shape),    dx=lambda g: g, view=True)
_clone     = Op("clone",     lambda x: x.copy(),                                  dx=lambda g: g, moves=True)
_cast      = Op("to",        lambda x, *, dtype: x.astype(dtype),                 dx=lambda g: g, moves=True)
_move      = Op("move",      lambda x, *, target, source, non_blocking: move(x, target, non_blocking),
                             dx=lambda g, source, target: _move(g, target=source, source=target, non_blocking=False), moves=True)
# fmt: on


def _inverse(dims: tuple[int, ...]) -> list[int]:
    """The permutation that undoes `dims`."""
    return np.argsort([d % len(dims) for d in dims]).tolist()


def _place(dim: int, ndim: int, x: Any, op: str) -> int:
    """A dimension counted from the start, of x or of a result with `ndim` dimensions; 0-dimensional counts as one."""
    ndim = ndim or 1
    if not -ndim <= dim < ndim:
        raise IndexError(f"[{op}] dimension {dim} does not exist for shape {tuple(x.shape)}: {-ndim} to {ndim - 1} do")
    return dim % ndim


def _places(dims: Any, x: Any, op: str) -> list[int]:
    """One dimension or several of x, counted from the start. Raises OpError for one that is named twice."""
    places = [_place(index(d), x.ndim, x, op) for d in ((dims,) if isinstance(dims, (int, np.integer)) else dims)]
    if len(set(places)) < len(places):
        raise OpError(f"[{op}] the dimensions {tuple(dims)} of shape {tuple(x.shape)} name one of them twice")
    return places


def _ints(values: tuple[Any, ...], named: Any = None) -> tuple[int, ...]:
    """The shape given as f(2, 3), as f((2, 3)), or by the name of the argument."""
    values = values if named is None else (*values, named)
    if len(values) == 1 and not isinstance(values[0], (int, np.integer, Tensor)):
        values = tuple(values[0])
    return tuple([index(n) for n in values])


@method
def reshape(input: Tensor, *sizes: Any, shape: Any = None) -> Tensor:
    """The same elements, in the same order, in another shape; -1 stands for what is left. A view where possible."""
    return _reshape(input, shape=_ints(sizes, shape))


@method
def view(self: Tensor, *shape: Any) -> Tensor:
    """As `reshape`, but raises RuntimeError where that would have to copy. A dtype as argument is refused."""
    if shape and isinstance(shape[0], (np.dtype, type)):
        raise TypeError(f"view: expected a shape, not {shape[0]}; use .to(dtype) to convert, .numpy().view(dtype) for the bits")
    out = _reshape(self, shape=_ints(shape))
    if out.version is None and self.array.size:  # it shares no memory
        raise RuntimeError(
            f"view: shape {self.shape} with strides {self.array.strides} cannot be seen as {out.shape} without a copy; "
            "use .reshape(...) or .contiguous().view(...)"
        )
    return out


@method
def view_as(self: Tensor, other: Tensor) -> Tensor:
    return view(self, other.shape)


@method
def reshape_as(self: Tensor, other: Tensor) -> Tensor:
    return reshape(self, other.shape)


@method
def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Dimensions start_dim to end_dim as one."""
    shape = input.shape or (1,)
    first, last = [_place(dim, input.ndim, input, "flatten") for dim in (start_dim, end_dim)]
    if first > last:
        raise OpError(f"[flatten] start_dim {start_dim} comes after end_dim {end_dim} in shape {input.shape}")
    return reshape(input, (*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :]))


@method
def ravel(input: Tensor) -> Tensor:
    """All dimensions as one."""
    return flatten(input)


@method
def unflatten(input: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """Dimension dim as several, of those sizes; -1 stands for what is left."""
    at, sizes = _place(dim, input.ndim, input, "unflatten"), list(sizes)
    length = input.shape[at] if input.ndim else 1
    if sizes.count(-1) == 1 and (rest := -math.prod(sizes)):
        sizes[sizes.index(-1)] = length // rest
    if not sizes or min(sizes) < 0 or math.prod(sizes) != length:
        raise OpError(f"[unflatten] sizes {tuple(sizes)} do not multiply to {length}, dimension {dim} of shape {input.shape}")
    return reshape(input, (*input.shape[:at], *sizes, *input.shape[at + 1 :]))


@method
def squeeze(input: Tensor, dim: int | Sequence[int] | None = None) -> Tensor:
    """Without its dimensions of length 1 (all of them, or those named, where they have length 1)."""
    dims = _places(range(input.ndim) if dim is None else dim, input, "squeeze")
    return reshape(input, tuple([n for i, n in enumerate(input.shape) if i not in dims or n != 1]))


@method
def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """With a new dimension of length 1 at position dim."""
    at = _place(dim, input.ndim + 1, input, "unsqueeze")
    return reshape(input, (*input.shape[:at], 1, *input.shape[at:]))


@method
def permute(input: Tensor, *order: Any, dims: Any = None) -> Tensor:
    """Dimension i of the result is dimension dims[i] of the input."""
    return _permute(input, dims=_ints(order, dims))


@method
def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dimensions exchanged."""
    first, second = _place(dim0, input.ndim, input, "transpose"), _place(dim1, input.ndim, input, "transpose")
    return _transpose(input, dim0=first, dim1=second) if input.ndim else reshape(input, ())


swapaxes = swapdims = transpose


@method
def movedim(input: Tensor, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """The dimensions `source` moved to the positions `destination`; the others keep their order."""
    start, end = _places(source, input, "movedim"), _places(destination, input, "movedim")
    if len(start) != len(end):
        raise OpError(f"[movedim] source {source} and destination {destination} name different numbers of dimensions")
    order = [i for i in range(input.ndim) if i not in start]
    for to, i in sorted(zip(end, start, strict=True)):
        order.insert(to, i)
    return permute(input, order[: input.ndim])  # a number has none


moveaxis = movedim


@method
def t(input: Tensor) -> Tensor:
    """The transpose of a matrix; what has fewer dimensions stays as it is."""
    if input.ndim > 2:
        raise OpError(f"[t] expected at most 2 dimensions, not shape {input.shape}; use .mT or .transpose(dim0, dim1)")
    return input if input.ndim < 2 else transpose(input, 0, 1)


attach(
    swapaxes=transpose, swapdims=transpose, moveaxis=movedim,
    mT=property(lambda self: transpose(self, -2, -1), doc="The last two dimensions exchanged."),
    T=property(lambda self: permute(self, tuple(range(self.ndim))[::-1]), doc="All dimensions in reverse order."),
)


@method
def expand(self: Tensor, *shape: Any) -> Tensor:
    """A view in which dimensions of length 1 are repeated; -1 leaves a dimension as it is. It cannot be written."""
    target = _ints(shape)
    extra = len(target) - self.ndim
    if extra < 0 or -1 in target[:extra]:
        raise OpError(f"[expand] shape {self.shape} cannot become {target}: -1 stands for a dimension that is there already")
    return broadcast(self, shape=tuple([self.shape[i - extra] if n == -1 else n for i, n in enumerate(target)]))


@method
def expand_as(self: Tensor, other: Tensor) -> Tensor:
    return expand(self, other.shape)


@method
def broadcast_to(input: Tensor, size: Sequence[int]) -> Tensor:
    """As `expand`."""
    return expand(input, size)


def broadcast_tensors(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Each expanded to the shape that all broadcast to."""
    try:
        shape = np.broadcast_shapes(*[x.shape for x in tensors])
    except ValueError:
        raise OpError(f"[broadcast_tensors] {', '.join(str(x.shape) for x in tensors)} do not broadcast") from None
    return tuple([expand(x, shape) for x in tensors])


@method
def clone(input: Tensor) -> Tensor:
    """A copy with memory of its own."""
    return _clone(input)


def own(x: Tensor) -> Tensor:
    """x, or a copy of it if it is a view: what PyTorch returns as a copy may be written, and does not change with x."""
    return x if x.version is None else clone(x)


@method
def contiguous(self: Tensor) -> Tensor:
    """Itself if its elements lie in order in memory, else a copy in which they do."""
    return self if self.is_contiguous() else clone(self)


@method
def to(
    self: Tensor, *args: Any, dtype: Any = None, device: Any = None, non_blocking: bool = False, copy: bool = False
) -> Tensor:
    """On another device, in another dtype, or both: `.to("cuda")`, `.to(float64)`, `.to("cuda", float64)`, `.to(other)`.

    Itself if it is so already, unless `copy`. `non_blocking`: a copy from page-locked memory (`pin_memory`) to a GPU goes
    on while the program does; do not write the source before the GPU has it, as after `cuda.synchronize()`.
    Integers and booleans have no gradient, so the result is cut off from the graph.
    """
    for arg in [a for a in args if not isinstance(a, bool)]:
        if isinstance(arg, Tensor):
            device, dtype = arg.device, arg.dtype
        elif isinstance(arg, (np.dtype, type)):
            dtype = arg
        else:
            device = arg
    flags = [a for a in args if isinstance(a, bool)]  # (…, non_blocking, copy)
    non_blocking, copy = non_blocking or flags[:1] == [True], copy or flags[1:] == [True]
    out = self if device is None else _to_device(self, device, non_blocking)
    if dtype is None or out.dtype == np.dtype(dtype):
        return clone(out) if copy and out is self else out
    if kind(np.dtype(dtype)) not in "biufc":
        raise TypeError(f"to: {dtype} is not a dtype of Tensors")
    if isinstance(out, Tensor) and not is_floating(np.dtype(dtype)):
        out = out.detach()
    return _cast(out, dtype=np.dtype(dtype))


def _to_device(x: Tensor, where: Any, non_blocking: bool) -> Tensor:
    source, target = device_of(array_of(x)), current(where)
    return x if source == target else _move(x, target=target, source=source, non_blocking=non_blocking)


@method
def pin_memory(self: Tensor) -> Tensor:
    """A copy in page-locked memory, from which `.to("cuda", non_blocking=True)` copies while the program goes on.
    Itself if it is there already. RuntimeError without a GPU, or for a Tensor on one."""
    if not isinstance(self.array, np.ndarray):
        raise RuntimeError(f"pin_memory: this Tensor lies on {self.device}; only memory of the CPU can be page-locked")
    return self if is_pinned(self.array) else Tensor._of(pinned(self.array))


attach(is_pinned=lambda self, device=None: is_pinned(self.array))


def _to_dtype(dtype: Any) -> Any:
    return lambda self: to(self, np.dtype(dtype))


if bfloat16 is not None:
    attach(bfloat16=_to_dtype(bfloat16))
attach(half=_to_dtype("float16"), float=_to_dtype("float32"), double=_to_dtype("float64"), bool=_to_dtype("bool"))
attach(byte=_to_dtype("uint8"), short=_to_dtype("int16"), int=_to_dtype("int32"), long=_to_dtype("int64"))
attach(type=lambda self, dtype: to(self, np.dtype(dtype)), type_as=lambda self, other: to(self, other.dtype))
attach(cpu=lambda self: to(self, "cpu"))
attach(cuda=lambda self, device="cuda", non_blocking=False:
       to(self, f"cuda:{device}" if isinstance(device, int) else device, non_blocking=non_blocking))


__all__ = [
    "broadcast_tensors", "broadcast_to", "clone", "flatten", "moveaxis", "movedim", "permute", "ravel", "reshape",
    "squeeze", "swapaxes", "swapdims", "t", "transpose", "unflatten", "unsqueeze",
]  # fmt: skip
