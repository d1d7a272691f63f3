"""A sample: a call of an op on which its gradients are checked. And the numbers and families samples are made of.

    "multiply": [S(normal(2, 3), normal(3)), S(normal(2, 3), 2.0), …],

Its floating arrays are differentiated, unless `wrt` names (by position) those that are. Shapes are small, so that
each element can be checked; `LARGE` ones are for comparing the levels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...op import OPS

rng = np.random.default_rng(0)


@dataclass(frozen=True)
class Sample:
    inputs: tuple[Any, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    wrt: tuple[int, ...] = ()
    op: str = ""

    def __call__(self, *inputs: Any) -> Any:
        return OPS[self.op](*inputs, **self.attributes)

    def map(self, change: Callable[[np.ndarray], np.ndarray], only: str = "biuf") -> tuple[Any, ...]:
        """The inputs, with `change` applied to the arrays of those kinds."""
        arrays = [isinstance(x, np.ndarray) and x.dtype.kind in only for x in self.inputs]
        return tuple(np.asarray(change(x)) if array else x for x, array in zip(self.inputs, arrays, strict=True))


def S(*inputs: Any, wrt: tuple[int, ...] | None = None, **attributes: Any) -> Sample:  # noqa: N802
    floats = tuple(i for i, x in enumerate(inputs) if isinstance(x, np.ndarray) and x.dtype.kind == "f")
    return Sample(inputs, attributes, floats if wrt is None else wrt)


# Numbers -------------------------------------------------------------------------------------------------


def normal(*shape: int) -> np.ndarray:
    return np.asarray(rng.standard_normal(shape))


def positive(*shape: int) -> np.ndarray:
    return np.asarray(rng.uniform(0.5, 2, shape))


def awayfrom0(*shape: int) -> np.ndarray:
    return np.asarray(positive(*shape) * rng.choice([-1, 1], shape))


def apart(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    """Arrays no two of whose elements are near each other, nor any near 0: away from the kinks of max, relu, abs."""
    sizes = [int(np.prod(shape)) for shape in shapes]
    numbers = rng.permutation(np.arange(sum(sizes)) - sum(sizes) // 2 + 0.5) * 0.2
    return [part.reshape(shape) for part, shape in zip(np.split(numbers, np.cumsum(sizes)[:-1]), shapes, strict=True)]


def distinct(*shape: int) -> np.ndarray:
    return apart(shape)[0]


def integers(high: int, *shape: int) -> np.ndarray:
    return np.asarray(rng.integers(0, high, shape))


def truth(*numbers: int) -> np.ndarray:
    return np.array(numbers, bool)


def booleans(*shape: int) -> np.ndarray:
    return np.asarray(rng.random(shape) < 0.6)


# Families ------------------------------------------------------------------------------------------------

Make = Callable[..., np.ndarray]
Table = dict[str, list[Sample]]

BROADCASTS = [
    ((2, 3), (2, 3)),
    ((2, 3), (3,)),
    ((3,), (2, 3)),
    ((2, 1), (1, 3)),
    ((2, 3), ()),
    ((), (3,)),
    ((), ()),
    ((1,), (1,)),
    ((1, 1), (2,)),
    ((2, 1, 2), (3, 1)),
    ((0, 3), (3,)),
    ((0, 1), (1, 2)),
    ((2, 0), (1,)),
]


def unary(make: Make) -> list[Sample]:
    strided = [make(3, 2).T, make(4, 3)[::2], make(2, 3)[:, ::-1], np.broadcast_to(make(3), (2, 3))]
    return [S(x) for x in (make(2, 3), make(), make(1), make(0, 3), make(2, 1, 2), *strided)]


def pairs(a: Make, b: Make) -> list[Sample]:
    """Every broadcast, in both directions; transposed; and with Python numbers."""
    both = [S(a(*m), b(*n)) for m, n in BROADCASTS]
    left = [S(a(2, 3), 2.0), S(a(3), 2), S(a(), 2)]
    right = [S(2.0, b(2, 3)), S(2, b(3)), S(2, b())]
    return [*both, *left, *right, S(a(2, 3), b(3, 2).T)]


def reductions(make: Make, empty: bool = True, **attributes: Any) -> list[Sample]:
    shapes_dims: list[tuple[tuple[int, ...], tuple[int, ...] | None]] = [
        ((2, 3), None),
        ((2, 3), (0,)),
        ((2, 3), (1,)),
        ((2, 3, 2), (0, 2)),
        ((2, 3, 2), (2, 1)),
        ((2, 3), (0, 1)),
        ((2, 1, 3), (1,)),
        ((4,), (0,)),
        ((1,), None),
        ((), None),
        ((0, 3), (1,)),
    ]
    if empty:
        shapes_dims += [((0, 3), (0,)), ((0,), None)]
    return [
        S(x, dim=dim, keepdim=keepdim, **attributes)
        for shape, dim in shapes_dims
        for x, keepdim in ((make(*shape), False), (make(*shape[::-1]).T, True))
    ]


def over_a_dim() -> list[Sample]:
    shapes_dims = (((2, 3), -1), ((2, 3), 0), ((2, 3, 2), 1), ((3,), 0), ((2, 1), 1), ((0, 3), 1))
    return [*(S(normal(*shape), dim=dim) for shape, dim in shapes_dims), S(normal(3, 2).T, dim=1)]
