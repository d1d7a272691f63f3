"""Ops as NumPy expressions: a forward from the op's own formula, a rule from the ops that it runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..levels import using
from ..mode import Hook, hooked, no_grad
from ..op import Op
from ..tensor import Tensor
from .traced import Traced, template

# Where the op's own formula is longer than what it means --------------------------------------------------

Spelling = Callable[..., Traced]


def _transpose(y: Any, x: Traced, *, dim0: int, dim1: int) -> Traced:
    whole = x.ndim == 2 and dim0 % 2 != dim1 % 2
    return template("_0.T", y, x) if whole else template(f"_0.swapaxes({dim0}, {dim1})", y, x)


def _reduced(name: str) -> Spelling:
    def spell(y: Any, x: Traced, *, dim: tuple[int, ...] | None, keepdim: bool) -> Traced:
        given = "" if dim is None else str(dim[0] if len(dim) == 1 else dim)
        return template(f"_0.{name}({', '.join(filter(None, [given, 'keepdims=True' * keepdim]))})", y, x)

    return spell


def _getitem(y: Any, x: Traced, *, index: Any) -> Traced:
    return Traced(y, x[index].term)


def _setitem(y: Any, x: Any, *, index: Any, shape: tuple[int, ...]) -> Traced:
    """Zeros, and the numbers added where the index says: one that is named twice gets both."""
    return template("scatter_add(_0, _1, _2)", y, shape, index if isinstance(index, tuple) else (index,), x)


def _put_along(y: Any, x: Any, indices: Any, *, dim: int, shape: tuple[int, ...]) -> Traced:
    return template(f"put_along(_0, _1, {dim % len(shape)}, _2)", y, shape, indices, x)


def _embedding_grad(y: Any, x: Any, ids: Any, *, count: int) -> Traced:
    return _setitem(y, x, index=(ids,), shape=(count, x.shape[-1]))


def _linear(y: Any, x: Any, weight: Any, bias: Any) -> Traced:
    return template("_0 @ _1.T", y, x, weight) if bias is None else template("_0 @ _1.T + _2", y, x, weight, bias)


SPELLED: dict[str, Spelling] = {
    "matmul": lambda y, a, b: template("_0 @ _1", y, a, b),
    "linear": _linear,
    "masked": lambda y, x, mask: template("np.where(_1, _0, 0)", y, x, mask),
    "transpose": _transpose,
    "reshape": lambda y, x, *, shape: template("_0.reshape(_1)", y, x, tuple(np.shape(y))),
    "sum": _reduced("sum"),
    "mean": _reduced("mean"),
    "getitem": _getitem,
    "setitem": _setitem,
    "put_along_dim": _put_along,
    "embedding": lambda y, weight, ids: template("_0[_1]", y, weight, ids),
    "embedding_grad": _embedding_grad,
    "erf": lambda y, x: template("erf(_0)", y, x),
    "sign": lambda y, x: template("np.sign(_0)", y, x),
}

HELPERS = {
    "scatter_add": '''
def scatter_add(shape, index, x):
    """Zeros of that shape, with x added at the index; a place that is named twice gets both."""
    out = np.zeros(shape, x.dtype)
    np.add.at(out, index, x)
    return out
''',
    "put_along": '''
def put_along(shape, indices, dim, x):
    """Zeros of that shape, with x added at the indices along dim: the reverse of np.take_along_axis."""
    grid = [m if k == dim else max(n, m) for k, (n, m) in enumerate(zip(shape, indices.shape))]
    index = [indices if k == dim else i % n for k, (i, n) in enumerate(zip(np.indices(grid, sparse=True), shape))]
    return scatter_add(shape, tuple(index), x)
''',
    "erf": """
def erf(x):
    return np.vectorize(math.erf, otypes=[x.dtype])(x)
""",
}


# Running formulas -----------------------------------------------------------------------------------------


def spell(op: Op, arguments: Sequence[Any], attributes: dict[str, Any], results: Sequence[Any]) -> Sequence[Traced]:
    """The outputs of an op, as expressions of its arguments. `results`: its numbers."""
    if not any(isinstance(x, Traced) for x in _each(arguments)):
        return results  # of constants alone
    if op.name == "gelu" and attributes["approximate"] == "none":  # whose own formula has a series for erf
        return [template("0.5 * _0 * (1 + erf(_0 * _1))", results[0], arguments[0], math.sqrt(0.5))]
    if op.name in SPELLED:
        return [SPELLED[op.name](results[0], *arguments, **attributes)]
    if op.name == "watch":
        return [Traced(y, x.term) for y, x in zip(results, arguments)]
    y = plain(op, arguments, attributes)
    return y if op.several else [y]


def _each(x: Any) -> Iterator[Any]:
    for each in x:
        yield from _each(each) if isinstance(each, (tuple, list)) else (each,)


def plain(op: Op, arguments: Sequence[Any], attributes: dict[str, Any]) -> Any:
    with using("plain"), np.errstate(all="ignore"), no_grad():
        return op.plain.forward(*arguments, **attributes)


class _Follow(Hook):
    """Writes down the ops that a row runs on Tensors."""

    def __init__(self) -> None:
        self.terms: dict[int, Traced] = {}
        self.alive: list[Any] = []

    def know(self, x: Traced) -> Tensor:
        tensor = Tensor._of(np.asarray(x.value))
        self._keep(tensor, x)
        return tensor

    def _keep(self, tensor: Tensor, x: Traced) -> None:
        self.terms[id(tensor)] = x
        self.alive.append(tensor)

    def traced(self, x: Any) -> Any:
        return self.terms.get(id(x), x.array) if isinstance(x, Tensor) else x

    def after_forward(self, op: Op, inputs: Sequence[Any], attributes: dict[str, Any], output: Any) -> None:
        outputs = output if isinstance(output, tuple) else (output,)
        arguments = [self.traced(x) for x in inputs]
        for y, x in zip(outputs, spell(op, arguments, attributes, [y.array for y in outputs])):
            self._keep(y, x)


def by_tensors(plan: Any, g: Any, kept: Sequence[Any]) -> Sequence[Any]:
    """Run rows on Tensors, as for a gradient of a gradient, and follow what they do."""
    follow = _Follow()

    def tensor(x: Any) -> Any:
        if isinstance(x, tuple) and any(isinstance(each, Traced) for each in x):
            return tuple(map(tensor, x))
        return follow.know(x) if isinstance(x, Traced) else x

    with using("plain"), no_grad(), hooked(follow):
        found = plan.run(tensor(g), [tensor(x) for x in kept])
    return [follow.traced(x) for x in found]
