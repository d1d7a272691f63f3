"""Methods that end in `_` and `x[i] = y`: a leaf is written in place, an interior Tensor gets a new node.

The memory of what a node computed is never written, since other nodes may keep it: inside the graph `x.add_(y)`
makes the name x stand for x + y. Where a view would still show the old numbers, it raises instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import random
from .device import device_of, xp
from .dtype import fits
from .mode import is_grad_enabled
from .ops.arithmetic import (
    add,
    bitwise_and,
    bitwise_or,
    divide,
    floor_divide,
    multiply,
    power,
    remainder,
    subtract,
    where,
)  # fmt: skip
from .ops.indexing import _index, _setitem, numbers_first
from .tensor import Tensor, array_of, attach, method, written


def _replace(x: Tensor, compute: Callable[[], Any], name: str) -> Tensor:
    """x, with what `compute` gives in the place of its numbers."""
    if x._requires_grad and x.node is None and is_grad_enabled():
        raise RuntimeError(
            f"{name}: this leaf requires a gradient, so it cannot be changed while recording; do it under no_grad()"
        )
    value = compute()
    if isinstance(value, Tensor) and value.shape != x.shape:
        raise RuntimeError(
            f"{name}: the result has shape {value.shape}, which does not fit into a Tensor of shape {x.shape}"
        )
    if not fits(value.dtype, x.dtype):
        raise RuntimeError(f"{name}: the result is {value.dtype}, which cannot be written into a Tensor of {x.dtype}")
    if x.node is None and not (isinstance(value, Tensor) and value.node is not None):
        x.array[...] = array_of(value)
        return written(x)
    if x.node is not None and not is_grad_enabled():
        raise RuntimeError(
            f"{name}: this Tensor is the result of [{x.node.op.name}], and other nodes may need its numbers; "
            "use .detach().clone() for a copy that may be written"
        )
    if x.version is not None and x.version.shared:
        raise RuntimeError(
            f"{name}: this Tensor shares its memory with a view, which would not see the change; "
            f"use the form that returns a new Tensor, x = x.{name.rstrip('_')}(…)"
        )
    value = value.to(x.dtype) if isinstance(value, Tensor) else Tensor._of(value)
    if value.version is not None:  # memory that is somebody else's too
        value = value.clone()
    x.array, x.node, x.index, x._requires_grad = value.array, value.node, value.index, value._requires_grad
    x.version = x.hooks = None
    return x


def _filled(x: Tensor, shape: tuple[int, ...], value: Any) -> Any:
    """`value`, a number or what broadcasts, in that shape and in x's dtype."""
    if not isinstance(value, Tensor):
        return xp(x.array).full(shape, value, x.dtype)
    while value.ndim > len(shape) and value.shape[0] == 1:
        value = value.squeeze(0)
    return value.to(x.dtype).expand(shape)


def _define(name: str, function: Callable) -> Callable:
    def inplace(self: Tensor, *args: Any, **options: Any) -> Tensor:
        return _replace(self, lambda: function(self, *args, **options), name)

    inplace.__name__ = name
    inplace.__doc__ = f"`{name.rstrip('_')}` in place."
    return method(inplace)


def _add(x: Tensor, other: Any, alpha: float = 1) -> Tensor:
    return add(x, other if alpha == 1 else other * alpha)


def _sub(x: Tensor, other: Any, alpha: float = 1) -> Tensor:
    return subtract(x, other if alpha == 1 else other * alpha)


add_ = _define("add_", _add)
sub_ = _define("sub_", _sub)
mul_ = _define("mul_", multiply)
div_ = _define("div_", divide)
pow_ = _define("pow_", power)
and_ = _define("bitwise_and_", bitwise_and)
or_ = _define("bitwise_or_", bitwise_or)
floor_divide_ = _define("floor_divide_", floor_divide)
remainder_ = _define("remainder_", remainder)
_define("masked_fill_", lambda x, mask, value: x.masked_fill(mask, value))
_define("copy_", lambda x, source: source.to(x.dtype).expand(x.shape))
_define("addcmul_", lambda x, a, b, value=1: x + a * b * value)
_define("addcdiv_", lambda x, a, b, value=1: x + a / b * value)
_define("lerp_", lambda x, end, weight: x + (end - x) * weight)


@method
def fill_(self: Tensor, value: Any) -> Tensor:
    """Every element set to value."""
    return _replace(self, lambda: _filled(self, self.shape, value), "fill_")


@method
def zero_(self: Tensor) -> Tensor:
    """Every element set to 0."""
    return fill_(self, 0)


@method
def normal_(self: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Any = None) -> Tensor:
    """Filled with normally distributed numbers."""
    source = generator or random.default_generator(device_of(self.array))
    return _replace(self, lambda: random.normal(self.shape, mean, std, self.dtype, source), "normal_")


@method
def uniform_(self: Tensor, a: float = 0.0, b: float = 1.0, *, generator: Any = None) -> Tensor:
    """Filled with numbers from [a, b), all equally likely."""
    source = generator or random.default_generator(device_of(self.array))
    return _replace(self, lambda: random.uniform(self.shape, a, b, self.dtype, source), "uniform_")


def _part(array: Any, index: tuple[Any, ...]) -> Any:
    """A view of the part that an index of numbers and slices names; the whole array if it names nothing."""
    return array[index] if index else array


def _set_item(self: Tensor, index: Any, value: Any) -> None:
    first, rest = numbers_first(_index(index))
    if self.node is None and not (
        is_grad_enabled() and (self._requires_grad or getattr(value, "requires_grad", False))
    ):
        _part(self.array, first)[rest] = array_of(value)
        written(self)
        return

    def computed() -> Tensor:
        library = xp(self.array)
        place, last = library.zeros(self.shape, bool), _part(library.zeros(self.shape, int), first)
        _part(place, first)[rest] = True
        order = library.arange(last[rest].size).reshape(last[rest].shape)
        last[rest] = order
        new = where(last[rest] == order, _filled(self, order.shape, value), 0)  # an element named twice keeps the last
        new = _setitem(new, index=rest, shape=last.shape)
        return where(place, _setitem(new, index=first, shape=self.shape) if first else new, self)

    _replace(self, computed, "__setitem__")


attach(__iadd__=add_, __isub__=sub_, __imul__=mul_, __itruediv__=div_, __ipow__=pow_, __setitem__=_set_item)
attach(__iand__=and_, __ior__=or_, __ifloordiv__=floor_divide_, __imod__=remainder_)
