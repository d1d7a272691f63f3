"""Methods that end in `_` and `x[i] = y`: a leaf is written in place, an interior Tensor gets a new node.

The memory of what a node computed is never written, since other nodes may keep it: inside the graph `x.add_(y)`
makes the name x stand for x + y. Where a view would still show the old numbers, it raises instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import random
from .device import on, where_it_lies, xp
from .dtype import fits, is_floating
from .mode import is_grad_enabled
from .op import OpError
from .ops.indexing import _getitem, _index, filled, numbers_first, put
from .tensor import Tensor, array_of, attach, method, writable, written

# These are `x.name(…)` in place, whichever file defines `name`.
NAMES = [
    "abs", "neg", "square", "reciprocal", "sqrt", "rsqrt", "exp", "exp2", "expm1", "log", "log2", "log10", "log1p",
    "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "erf", "sigmoid", "relu", "floor", "ceil",
    "round", "trunc", "frac", "sign", "clamp", "clamp_min", "clamp_max", "nan_to_num", "cumsum", "cumprod", "tril",
    "triu", "mul", "multiply", "div", "divide", "true_divide", "pow", "floor_divide", "remainder", "fmod",
    "masked_fill", "eq", "ne", "lt", "le", "gt", "ge", "bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not",
    "logical_and", "logical_or", "logical_xor", "logical_not", "scatter", "scatter_add", "index_add", "index_copy",
    "index_fill", "addmm", "baddbmm",
]  # fmt: skip


@where_it_lies
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
        _writable(x, name)[...] = array_of(value)
        return written(x)
    if x.node is not None and not is_grad_enabled():
        raise RuntimeError(
            f"{name}: this Tensor is the result of [{x.node.op.name}], and other nodes may need its numbers; "
            "use .detach().clone() for a copy that may be written"
        )
    if x.version is not None and x.version.shared:
        raise RuntimeError(
            f"{name}: this Tensor shares its memory with a view, which would not see the change; "
            "write into a copy, x = x.clone(), or use a form that returns a new Tensor"
        )
    value = value.to(x.dtype) if isinstance(value, Tensor) else Tensor._of(value)
    if value.version is not None:  # memory that is somebody else's too
        value = value.clone()
    x.array, x.node, x.index, x._requires_grad = value.array, value.node, value.index, value._requires_grad
    x.version = x.hooks = None
    if x.retains_grad:  # from now on that of the new numbers
        x.retains_grad = False
        x.retain_grad()
    return x


def _writable(x: Tensor, name: str) -> Any:
    if not writable(x.array):
        raise RuntimeError(
            f"{name}: this memory cannot be written, because several elements of what was expanded share one place, "
            "or because NumPy protects it; use .clone() for a copy that can be"
        )
    return x.array


def _define(name: str, function: Callable) -> Callable:
    def inplace(self: Tensor, *args: Any, **options: Any) -> Tensor:
        return _replace(self, lambda: function(self, *args, **options), name)

    inplace.__name__ = inplace.__qualname__ = name
    inplace.__doc__ = f"`{name.rstrip('_')}` in place."
    return method(inplace)


for _name in NAMES:
    _define(f"{_name}_", lambda x, *args, _name=_name, **options: getattr(x, _name)(*args, **options))
add_ = _define("add_", lambda x, other, *, alpha=1: x + (other if alpha == 1 else other * alpha))
sub_ = _define("sub_", lambda x, other, *, alpha=1: x - (other if alpha == 1 else other * alpha))
_define("copy_", lambda x, source, non_blocking=False: source.to(x).expand(x.shape))
_define("addcmul_", lambda x, a, b, *, value=1: x + a * b * value)
_define("addcdiv_", lambda x, a, b, *, value=1: x + a / b * value)
_define("lerp_", lambda x, end, weight: x + (end - x) * weight)


@method
def fill_(self: Tensor, value: Any) -> Tensor:
    """Every element set to value, a number or a Tensor without dimensions."""
    if getattr(value, "ndim", 0):
        raise RuntimeError(f"fill_: expected one number, not shape {value.shape}; copy_ takes a Tensor that broadcasts")
    return _replace(self, lambda: filled(self, self.shape, value), "fill_")


@method
def zero_(self: Tensor) -> Tensor:
    """Every element set to 0."""
    return _replace(self, lambda: filled(self, self.shape, 0), "zero_")


def _drawn(x: Tensor, name: str, draw: Callable[[Any], Any], generator: Any) -> Tensor:
    if not is_floating(x.dtype):
        raise RuntimeError(f"{name}: what is drawn are no integers, but the Tensor is {x.dtype}; use .float() first")
    return _replace(x, lambda: draw(random.source(generator, x.device)), name)


@method
def normal_(self: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Any = None) -> Tensor:
    """Filled with normally distributed numbers. Raises RuntimeError for std < 0, and for integers."""
    if std < 0:
        raise RuntimeError(f"normal_: std is {std}; expected at least 0")
    return _drawn(self, "normal_", lambda source: random.normal(self.shape, mean, std, self.dtype, source), generator)


@method
def uniform_(self: Tensor, a: float = 0.0, b: float = 1.0, *, generator: Any = None) -> Tensor:
    """Filled with numbers from [a, b), all equally likely. Raises RuntimeError for a > b, and for integers."""
    if a > b:
        raise RuntimeError(f"uniform_: expected a <= b, not {a} and {b}")
    return _drawn(self, "uniform_", lambda source: random.uniform(self.shape, a, b, self.dtype, source), generator)


@method
def exponential_(self: Tensor, lambd: float = 1.0, *, generator: Any = None) -> Tensor:
    """Filled with numbers > 0 of density lambd exp(-lambd x). Raises RuntimeError for lambd <= 0, and for integers."""
    if lambd <= 0:
        raise RuntimeError(f"exponential_: lambd is {lambd}; expected more than 0")

    def draw(source: Any) -> Any:
        x = source.numbers.standard_exponential(self.shape) / lambd
        return x.clip(np.finfo(self.dtype).tiny).astype(self.dtype)  # not 0: one divides by it to sample

    return _drawn(self, "exponential_", draw, generator)


@method
def bernoulli_(self: Tensor, p: Any = 0.5, *, generator: Any = None) -> Tensor:
    """Filled with 1, with probability p (a number, or a Tensor that broadcasts), and 0."""
    p = array_of(p)
    if xp(p) is np and not np.all((p >= 0) & (p <= 1)):  # a GPU would have to be waited for
        raise RuntimeError(f"bernoulli_: p must be from 0 to 1, not {p}")
    source = random.source(generator, self.device)
    return _replace(self, lambda: (random.uniform(self.shape, 0, 1, None, source) < p).astype(self.dtype), "bernoulli_")


def _part(array: Any, index: tuple[Any, ...]) -> Any:
    """A view of the part that an index of numbers and slices names; the whole array if it names nothing."""
    return array[index] if index else array


def _set_item(self: Tensor, index: Any, value: Any) -> None:
    first, rest = numbers_first(_index(index))

    def computed() -> Tensor:
        if not first:
            return put(self, rest, value)
        return put(self, first, put(_getitem(self.clone(), index=first), rest, value))

    try:
        recording = is_grad_enabled() and (self._requires_grad or getattr(value, "requires_grad", False))
        if self.node is not None or recording:
            _replace(self, computed, "__setitem__")
        else:
            array = array_of(value)
            if getattr(array, "ndim", 0) and array.size == 1:  # NumPy would not put it in the place of a number
                array = array.reshape(())
            with on(self.device):
                _part(_writable(self, "__setitem__"), first)[rest] = array
            written(self)
    except OpError:
        raise
    except (IndexError, ValueError) as error:
        kind = IndexError if isinstance(error, IndexError) else OpError
        raise kind(
            f"x[index] = value: {error}\ngiven: x {self.shape}, value {getattr(value, 'shape', value)}"
        ) from error


_members = vars(Tensor)
attach(__setitem__=_set_item, __iadd__=add_, __isub__=sub_)
attach(**{f"__i{name}__": _members[f"{op}_"] for name, op in (
    ("mul", "mul"), ("truediv", "div"), ("pow", "pow"), ("floordiv", "floor_divide"), ("mod", "remainder"),
    ("and", "bitwise_and"), ("or", "bitwise_or"), ("xor", "bitwise_xor"),
)})  # fmt: skip
