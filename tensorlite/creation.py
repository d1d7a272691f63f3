"""Making Tensors: from data, filled, or counted; with dtype=, device= and requires_grad= where PyTorch has them.

Those drawn at random are in sampling.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import index
from typing import Any

import numpy as np

from .device import OutOfMemoryError, on
from .dtype import get_default_dtype, scalar
from .tensor import Tensor, attach


def _made(array: Any, requires_grad: bool) -> Tensor:
    tensor = Tensor._of(array)
    tensor.requires_grad = requires_grad
    return tensor


def _array(device: Any, name: str, *args: Any, **options: Any) -> Any:
    """What the function of that name in the device's library makes there."""
    try:
        with on(device) as library:
            return getattr(library, name)(*args, **options)
    except OutOfMemoryError as error:  # which does not know for what
        raise OutOfMemoryError(f"{name}({', '.join(map(str, args))}): {error}") from None


def _size(numbers: tuple[Any, ...], size: Any = None) -> tuple[int, ...]:
    """The shape given as f(2, 3), f((2, 3)) or f(size=(2, 3)). Raises TypeError for what is no shape, RuntimeError for
    negative lengths."""
    if (size is None) == (not numbers):
        raise TypeError(f"expected a size, as numbers or as size=(…), and got {'both' if numbers else 'none'}")
    given = numbers if size is None else (size,)
    try:
        shape = tuple([index(n) for n in (given[0] if len(given) == 1 and not _whole(given[0]) else given)])
    except TypeError:
        raise TypeError(f"a shape is made of whole numbers, not of {given}") from None
    if min(shape, default=0) < 0:
        raise RuntimeError(f"a shape has no negative lengths: {shape}")
    return shape


def _whole(x: Any) -> bool:
    return isinstance(x, (int, np.integer, Tensor))


def _number(x: Any) -> Any:
    """The number in a 0-dimensional Tensor; others as they are."""
    return x.item() if isinstance(x, Tensor) else x


def tensor(data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A Tensor with a copy of `data` (numbers, nested lists, an array, a Tensor).

    Python floats become float32, integers int64; what has a dtype keeps it.
    """
    return Tensor(data, dtype=dtype, device=device, requires_grad=requires_grad)


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """`data` as a Tensor, without a copy where that is possible."""
    if isinstance(data, Tensor):
        return data.to(dtype=dtype, device=device)
    return (
        from_numpy(data).to(dtype=dtype, device=device)
        if isinstance(data, np.ndarray)
        else Tensor(data, dtype=dtype, device=device)
    )


def is_tensor(obj: Any) -> bool:
    """Whether obj is a Tensor."""
    return isinstance(obj, Tensor)


def from_numpy(ndarray: np.ndarray) -> Tensor:
    """A Tensor that shares an array's memory. Raises TypeError for anything but a NumPy array."""
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(
            f"from_numpy: expected a NumPy array, not {type(ndarray).__name__}; tensor(…) copies other data"
        )
    return Tensor._of(np.asarray(ndarray))  # no matrix, whose * is another


def zeros(
    *numbers: Any, size: Any = None, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    return _made(_array(device, "zeros", _size(numbers, size), dtype or get_default_dtype()), requires_grad)


def ones(*numbers: Any, size: Any = None, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    return _made(_array(device, "ones", _size(numbers, size), dtype or get_default_dtype()), requires_grad)


def empty(
    *numbers: Any, size: Any = None, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A Tensor whose numbers are whatever was in memory."""
    return _made(_array(device, "empty", _size(numbers, size), dtype or get_default_dtype()), requires_grad)


def full(size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A Tensor with one number everywhere. Raises RuntimeError if the dtype cannot hold it."""
    value = _number(fill_value)
    dtype = dtype or (get_default_dtype() if isinstance(value, float) else np.asarray(value).dtype)
    return _made(_array(device, "full", _size((), size), scalar(value, dtype, "full"), dtype), requires_grad)


def arange(
    start: Any = 0,
    end: Any = None,
    step: Any = 1,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """arange(end), arange(start, end) or arange(start, end, step): the numbers from start until before end.

    Raises RuntimeError if no number of steps leads from start to end.
    """
    given = (0, start, step) if end is None else (start, end, step)
    first, last, by = (_number(x) for x in given)
    if by == 0 or not 0 <= (last - first) / by < math.inf:
        raise RuntimeError(f"arange: steps of {by} do not lead from {first} to {last}")
    floats = any(isinstance(x, (float, np.floating)) for x in (first, last, by))
    # In float64, because NumPy adds up a step that it has rounded to the dtype: in float32 its error would grow.
    numbers = _array(device, "arange", first, last, by, dtype=np.float64 if floats else np.int64)
    with on(device):
        return _made(numbers.astype(dtype or (get_default_dtype() if floats else np.int64), copy=False), requires_grad)


def linspace(
    start: Any, end: Any, steps: int, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """`steps` numbers from start to end, both included."""
    (steps,) = _size((steps,))
    numbers = _array(device, "linspace", _number(start), _number(end), steps, dtype=dtype or get_default_dtype())
    return _made(numbers, requires_grad)


def eye(n: int, m: int | None = None, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """The identity matrix (n, n), or the left or upper part of one, (n, m)."""
    shape = _size((n, n if m is None else m))
    return _made(_array(device, "eye", *shape, dtype=dtype or get_default_dtype()), requires_grad)


def tril_indices(row: int, col: int, offset: int = 0, *, dtype: Any = np.int64, device: Any = None) -> Tensor:
    """(2, count): the places in the lower triangle of a (row, col) matrix, its diagonal moved by offset."""
    return Tensor(np.stack(np.tril_indices(row, offset, col)), dtype=dtype, device=device)


def triu_indices(row: int, col: int, offset: int = 0, *, dtype: Any = np.int64, device: Any = None) -> Tensor:
    """(2, count): the places in the upper triangle of a (row, col) matrix, its diagonal moved by offset."""
    return Tensor(np.stack(np.triu_indices(row, offset, col)), dtype=dtype, device=device)


# Like another Tensor ---------------------------------------------------------------------------------------


def _as(x: Tensor, dtype: Any, device: Any) -> dict[str, Any]:
    """The dtype and the device, as given or else as x has them."""
    return {"dtype": dtype or x.dtype, "device": device or x.device}


def zeros_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    return zeros(input.shape, requires_grad=requires_grad, **_as(input, dtype, device))


def ones_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    return ones(input.shape, requires_grad=requires_grad, **_as(input, dtype, device))


def empty_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    return empty(input.shape, requires_grad=requires_grad, **_as(input, dtype, device))


def full_like(
    input: Tensor, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    return full(input.shape, fill_value, requires_grad=requires_grad, **_as(input, dtype, device))


def _new(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def new(self: Tensor, *args: Any, dtype: Any = None, device: Any = None, **options: Any) -> Tensor:
        return make(*args, **_as(self, dtype, device), **options)

    new.__doc__ = f"`{make.__name__}`, with this Tensor's dtype and device unless others are given."
    return new


attach(new_zeros=_new(zeros), new_ones=_new(ones), new_empty=_new(empty), new_full=_new(full), new_tensor=_new(tensor))

__all__ = [
    "arange", "as_tensor", "empty", "empty_like", "eye", "from_numpy", "full", "full_like", "is_tensor", "linspace",
    "ones", "ones_like", "tensor", "tril_indices", "triu_indices", "zeros", "zeros_like",
]  # fmt: skip
