"""Samples of every op: the inputs on which the gradient checks run. An op without samples fails the suite.

    "multiply": [S(normal(2, 3), normal(3)), S(normal(2, 3), 2.0), …],

A sample is a call of the op. Its floating arrays are differentiated, unless `wrt` names (by position) those
that are. Shapes are small, so that each element can be checked; `large` ones are for comparing the levels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Any

import numpy as np
import pytest

import tensorlite as tl

rng = np.random.default_rng(0)

# Ops that are not analytic functions of complex numbers: differences instead of the complex step.
NOT_ANALYTIC = {"abs", "sign", "relu", "maximum", "minimum", "remainder", "amax", "amin", "to"}
# Ops without a derivative: their results must not require a gradient.
NO_DERIVATIVE = {
    "isnan", "isinf", "isfinite", "floor_divide", "eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or",
    "logical_not", "bitwise_and", "bitwise_or", "bitwise_not", "argmax", "argmin", "all", "any",
}  # fmt: skip


@dataclass(frozen=True)
class Sample:
    inputs: tuple[Any, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    wrt: tuple[int, ...] = ()
    op: str = ""

    def __call__(self, *inputs: Any) -> Any:
        return tl.OPS[self.op](*inputs, **self.attributes)

    @property
    def analytic(self) -> bool:
        return self.op not in NOT_ANALYTIC

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


def booleans(*shape: int) -> np.ndarray:
    return np.asarray(rng.random(shape) < 0.6)


# Families ------------------------------------------------------------------------------------------------

Make = Callable[..., np.ndarray]

BROADCASTS = [
    ((2, 3), (2, 3)), ((2, 3), (3,)), ((3,), (2, 3)), ((2, 1), (1, 3)), ((2, 3), ()), ((), (3,)), ((), ()),
    ((1,), (1,)), ((1, 1), (2,)), ((2, 1, 2), (3, 1)), ((0, 3), (3,)), ((0, 1), (1, 2)), ((2, 0), (1,)),
]  # fmt: skip


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
        ((2, 3), None), ((2, 3), (0,)), ((2, 3), (1,)), ((2, 3, 2), (0, 2)), ((2, 3, 2), (2, 1)), ((2, 3), (0, 1)),
        ((2, 1, 3), (1,)), ((4,), (0,)), ((1,), None), ((), None), ((0, 3), (1,)),
    ]  # fmt: skip
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


def attend(q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: Any = None, **options: Any) -> Sample:
    return S(q, k, v, mask, **{"is_causal": False, "scale": 0.7, "dropout_p": 0.0, "seed": 0} | options)


def truth(*numbers: int) -> np.ndarray:
    return np.array(numbers, bool)


ROW_OF_NOTHING = np.array([[True, False, True], [False, False, False]])

INDICES: list[tuple[tuple[int, ...], Any]] = [
    ((4,), 1), ((4,), -1), ((4, 3), slice(1, 3)), ((4, 3), (slice(None), 1)), ((4, 3), slice(None, None, -2)),
    ((4, 3), (..., None, slice(0, 2))), ((4, 3), None), ((4, 3), ()), ((4, 3), (1, 2)), ((4, 3), slice(2, 2)),
    ((0, 3), slice(None)), ((), ()), ((), None), ((), ...),
    ((4, 3), np.array([0, 2, 2])), ((4, 3), np.array([[3, -1], [0, 3]])), ((4, 3), np.array(2)),
    ((4, 3), np.zeros(0, int)), ((4, 3), (np.array([0, 0, 1]), np.array([2, 2, 0]))),
    ((4, 3), (slice(1, None), np.array([0, 0]))), ((4, 3), (np.array([[0], [3]]), np.array([0, 0, 1]))),
    ((2, 3, 4), (np.array([0, 1, 1]), slice(None), np.array([3, 0, 0]))), ((2, 3), (0, np.array([1, 1]))),
    ((4,), truth(1, 0, 1, 1)), ((4, 3), truth(1, 0, 0, 1)), ((2, 2), truth(1, 0, 1, 1).reshape(2, 2)),
    ((4, 3), (truth(1, 0, 1, 0), 1)), ((4, 3), (slice(None), truth(0, 1, 1))), ((4, 3), truth(0, 0, 0, 0)),
]  # fmt: skip


# The table -----------------------------------------------------------------------------------------------

SAMPLES: dict[str, list[Sample]] = {
    # arithmetic
    "add": pairs(normal, normal),
    "subtract": pairs(normal, normal),
    "multiply": pairs(normal, normal),
    "divide": pairs(normal, awayfrom0),
    "pow": [*pairs(positive, normal)] + [S(awayfrom0(2, 3), p) for p in (0, 1, 2, 3, -1, -2)] + [S(positive(3), 0.5)],
    "maximum": [S(*apart(m, n)) for m, n in BROADCASTS] + [S(distinct(2, 3), 0.33), S(0, distinct(3))],
    "minimum": [S(*apart(m, n)) for m, n in BROADCASTS] + [S(distinct(2, 3), 0.33), S(0, distinct(3))],
    "where": [S(booleans(*m), normal(*m), normal(*n)) for m, n in BROADCASTS]
    + [S(booleans(2, 1), normal(3), 1.0), S(booleans(3), -1.5, normal(2, 3)), S(booleans(2, 3), normal(), normal())],
    "floor_divide": [S(normal(2, 3), positive(3)), S(integers(9, 4), 2)],
    "remainder": [S(np.array([[5.3, -4.1, 0.7], [2.9, -0.3, 7.7]]), np.array([2.0, -1.5, 0.4])), S(normal(2), 100.0)],
    **{name: [S(integers(2, 2, 3), integers(2, 3)), S(normal(3), 0), S(0.5, normal(2)), S(normal(0), normal(1))]
       for name in ("eq", "ne", "lt", "le", "gt", "ge")},
    "logical_and": [S(booleans(2, 3), booleans(3)), S(integers(2, 4), integers(2, 4))],
    "logical_or": [S(booleans(2, 3), booleans(3)), S(integers(2, 4), integers(2, 4))],
    "logical_not": [S(booleans(2, 3)), S(integers(2, 4))],
    "bitwise_and": [S(booleans(2, 3), booleans(3)), S(integers(9, 4), integers(9, 2, 4)), S(integers(9, 4), 5)],
    "bitwise_or": [S(booleans(2, 3), booleans(3)), S(integers(9, 4), integers(9, 2, 4)), S(integers(9, 4), 5)],
    "bitwise_not": [S(booleans(2, 3)), S(integers(9, 4))],
    # elementwise
    "neg": unary(normal),
    "abs": unary(distinct),
    "sign": unary(distinct),
    "exp": unary(normal),
    "log": unary(positive),
    "sqrt": unary(positive),
    "rsqrt": unary(positive),
    "sin": unary(normal),
    "cos": unary(normal),
    "tanh": unary(normal),
    "sigmoid": [*unary(normal), S(normal(4) * 20)],
    "erf": [*unary(awayfrom0), S(awayfrom0(4) * 3)],
    "relu": unary(distinct),
    "isnan": [S(np.array([1.0, np.nan, inf]))],
    "isinf": [S(np.array([1.0, np.nan, -inf]))],
    "isfinite": [S(np.array([1.0, np.nan, inf])), S(integers(3, 2))],
    # indexing
    "getitem": [S(normal(*shape), index=index) for shape, index in INDICES],
    "setitem": [S(normal(*np.zeros(shape)[index].shape), index=index, shape=shape) for shape, index in INDICES],
    "take_along_dim": [
        S(normal(2, 3), integers(3, 2, 5), dim=1), S(normal(2, 3), integers(2, 4, 3), dim=0),
        S(normal(2, 3), integers(3, 2, 1), dim=-1), S(normal(3), np.array([-1, 0, -1]), dim=0),
        S(normal(2, 3), integers(3, 1, 2), dim=1), S(normal(1, 3), integers(3, 4, 2), dim=1),
        S(normal(3, 2).T, integers(3, 2, 2), dim=1), S(normal(2, 3), integers(3, 2, 0), dim=1),
        S(normal(0, 3), integers(3, 0, 2), dim=1),
    ],
    "put_along_dim": [
        S(normal(*i), integers(high, *i), dim=dim, shape=(2, 3))
        for i, high, dim in (((2, 5), 3, 1), ((4, 3), 2, 0), ((2, 1), 3, -1), ((2, 0), 3, 1))
    ],
    "embedding": [
        S(normal(5, 2), integers(5, 2, 4)), S(normal(5, 2), integers(5)), S(normal(5, 2), integers(5, 0)),
        S(normal(1, 2), integers(1, 3)), S(normal(2, 5).T, integers(5, 3).astype(np.uint16)),
    ],
    "embedding_grad": [
        S(normal(2, 4, 2), integers(5, 2, 4), count=5), S(normal(2), integers(5), count=5),
        S(normal(0, 2), integers(5, 0), count=5), S(normal(2, 3).T, integers(5, 3), count=5),
    ],
    # shape
    "reshape": [S(normal(2, 3), shape=(3, 2)), S(normal(3, 2).T, shape=(6,)), S(normal(2, 3), shape=(-1, 1, 3)),
                S(normal(1), shape=()), S(normal(), shape=(1, 1)), S(normal(0, 3), shape=(3, 0))],
    "permute": [S(normal(2, 3, 4), dims=dims) for dims in ((2, 0, 1), (0, 2, 1), (-1, 0, 1), (0, -1, -2))]
    + [S(normal(2, 2, 2), dims=(0, -1, 1)), S(normal(2, 2, 2), dims=(-1, 0, -2)), S(normal(), dims=())],
    "transpose": [S(normal(2, 3, 4), dim0=i, dim1=j) for i, j in ((0, 1), (-1, 0), (-2, -1), (1, 1))]
    + [S(normal(0, 3), dim0=0, dim1=1)],
    "expand": [S(normal(1, 3), shape=(2, 3)), S(normal(3), shape=(2, 3)), S(normal(), shape=(2, 2)),
               S(normal(2, 1), shape=(2, 0)), S(normal(2, 1), shape=(3, 2, 1)),
               S(normal(2), shape=(2,)), S(normal(1, 3), shape=(0, 3))],
    "split": [S(normal(5, 2), sizes=(2, 3), dim=0), S(normal(2, 6), sizes=(1, 2, 3), dim=-1),
              S(normal(3), sizes=(3,), dim=0), S(normal(2, 3), sizes=(0, 3), dim=1),
              S(normal(4, 2).T, sizes=(1, 3), dim=1)],
    "cat": [S(normal(2, 3), normal(1, 3), dim=0), S(normal(2, 1), normal(2, 2), normal(2, 3), dim=-1),
            S(normal(3), dim=0), S(normal(0, 2), normal(2, 2), dim=0), S(normal(3, 2).T, normal(2, 3), dim=1),
            S(normal(2), integers(4, 3), normal(1), dim=0)],
    "flip": [S(normal(2, 3, 2), dims=dims) for dims in ((0,), (-1,), (0, 2))] + [S(normal(0, 2), dims=(1,))],
    "tril": [S(normal(*shape), diagonal=k) for shape in ((3, 3), (2, 2, 4), (3, 2)) for k in (0, 1, -1)],
    "triu": [S(normal(*shape), diagonal=k) for shape in ((3, 3), (2, 2, 4), (3, 2)) for k in (0, 1, -1)],
    "clone": unary(normal),
    "to": [S(normal(2, 3), dtype=np.dtype("float64")), S(normal(), dtype=np.dtype("float64"))],
    "move": [S(normal(2, 3), source=tl.device("cpu"), target=tl.device("cpu"))],
    # matrices
    "matmul": [S(normal(*a), normal(*b)) for a, b in (
        ((2, 3), (3, 4)), ((1, 1), (1, 1)), ((2, 2, 3), (2, 3, 2)), ((2, 1, 2, 3), (3, 3, 2)), ((2, 3), (2, 3, 2)),
        ((2, 2, 3), (3, 2)), ((1, 2, 3), (2, 3, 1)), ((2, 0), (0, 3)), ((0, 3), (3, 2)), ((2, 0, 3), (3, 1)),
        ((0, 2, 3), (3, 2)),
    )] + [S(normal(3, 2).T, normal(4, 3).T), S(normal(2, 3, 2).swapaxes(1, 2), normal(2, 4, 3).swapaxes(1, 2))],
    "linear": [
        S(normal(*x), normal(4, 3), bias)
        for x in ((2, 3), (2, 2, 3), (3,), (0, 3), (1, 3)) for bias in (normal(4), None)
    ] + [S(normal(3, 2).T, normal(3, 1).T, normal(2)[::2]), S(normal(3, 2, 2).T, normal(3, 4).T, None)],
    # reductions
    "sum": reductions(normal),
    "mean": reductions(normal, empty=False),
    "var": [*reductions(normal, empty=False, correction=0), *reductions(normal, empty=False, correction=0.5),
            *(S(normal(2, 3), dim=dim, correction=1, keepdim=keep) for dim, keep in (((1,), False), (None, True)))],
    "amax": reductions(distinct, empty=False),
    "amin": reductions(distinct, empty=False),
    "argmax": [S(normal(2, 3), dim=dim, keepdim=keepdim) for dim in (None, 0, -1) for keepdim in (False, True)],
    "argmin": [S(normal(2, 3), dim=dim, keepdim=keepdim) for dim in (None, 0, -1) for keepdim in (False, True)],
    "all": [S(booleans(2, 3), dim=dim, keepdim=dim is None) for dim in (None, (0,), (0, 1))]
    + [S(integers(2, 3), dim=None, keepdim=True)],
    "any": [S(booleans(2, 3), dim=dim, keepdim=dim is None) for dim in (None, (0,), (0, 1))]
    + [S(integers(2, 3), dim=None, keepdim=True)],
    # neural
    "softmax": [*over_a_dim(), S(np.array([[0.3, -inf, 0.1]]), dim=1), S(normal(2, 3) + 1000, dim=-1)],
    "log_softmax": [*over_a_dim(), S(normal(2, 3) - 1000, dim=-1)],
    "gelu": [S(*s.inputs, approximate=form) for form in ("none", "tanh") for s in unary(awayfrom0)]
    + [S(awayfrom0(3) * 4, approximate=form) for form in ("none", "tanh")],
    "dropout": [S(normal(2, 3), booleans(2, 3), p=0.4), S(normal(3, 2).T, booleans(2, 3), p=0.1),
                S(normal(), booleans(), p=0.5)],
    "cross_entropy": [
        S(normal(4, 5), integers(5, 4), None), S(normal(4, 5), integers(5, 4), positive(4), wrt=(0,)),
        S(normal(5, 4).T, integers(5, 4), None), S(normal(0, 5), integers(5, 0), None),
        S(normal(3, 1), integers(1, 3), None),
        S(np.array([[0.1, -inf, 0.4]]), np.array([2]), None), S(normal(2, 3) * 100, integers(3, 2), None),
        S(normal(3, 4), integers(4, 3).astype(np.uint16), np.array([1.0, 0.0, 2.0]), wrt=(0,)),
    ],
    "layer_norm": [
        S(normal(*shape), weight, bias, dims=dims, eps=1e-2)
        for shape, dims in (((2, 4), 1), ((2, 2, 3), 1), ((2, 3, 2), 2), ((4,), 1), ((2, 1), 1), ((0, 3), 1))
        for n in [shape[len(shape) - dims :]]
        for weight, bias in ((normal(*n), normal(*n)), (normal(*n), None), (None, normal(*n)), (None, None))
    ] + [S(normal(4, 2).T, normal(4), normal(4), dims=1, eps=1e-5)],
    "attention": [
        attend(normal(3, 2), normal(3, 2), normal(3, 2)),
        attend(normal(3, 2), normal(3, 2), normal(3, 2), is_causal=True),
        attend(normal(2, 2), normal(4, 2), normal(4, 3), is_causal=True),
        attend(normal(4, 2), normal(2, 2), normal(2, 3), is_causal=True, scale=1.5),
        attend(normal(2, 2, 2), normal(2, 3, 2), normal(2, 3, 1), booleans(2, 3)),
        attend(normal(2, 2), normal(3, 2), normal(3, 2), ROW_OF_NOTHING),
        attend(normal(2, 1, 2, 2), normal(1, 2, 3, 2), normal(3, 2), booleans(2, 1, 1, 3)),
        attend(normal(2, 2, 2), normal(2, 3, 2), normal(2, 3, 2), normal(2, 3)),
        attend(normal(2, 2, 2), normal(2, 3, 2), normal(2, 3, 2), normal(2, 1, 3), is_causal=True),
        attend(normal(2, 2), normal(3, 2), normal(3, 2), np.where(ROW_OF_NOTHING, 0.5, -inf), wrt=(0, 1, 2)),
        attend(normal(2, 3, 2), normal(2, 3, 2), normal(2, 3, 2), is_causal=True, dropout_p=0.4, seed=7),
        attend(normal(2, 2), normal(3, 2), normal(3, 2), normal(2, 3), dropout_p=0.2, seed=2**40),
        attend(normal(2, 3).T, normal(2, 3).T, normal(3, 2)[:, ::-1]),
        attend(normal(1, 1), normal(1, 1), normal(1, 1)),
        attend(normal(0, 2), normal(3, 2), normal(3, 2)),
        attend(normal(0, 2, 2), normal(0, 3, 2), normal(0, 3, 2), is_causal=True),
    ],
}  # fmt: skip

# Sizes at which kernels leave their simplest path: several blocks, and a rest.
LARGE: dict[str, list[Sample]] = {
    "exp": [S(normal(300, 700))],
    "gelu": [S(normal(130, 1025), approximate=form) for form in ("none", "tanh")],
    "softmax": [S(normal(130, 513), dim=-1), S(normal(513, 40), dim=0)],
    "log_softmax": [S(normal(130, 513), dim=-1)],
    "layer_norm": [S(normal(4, 65, 130), normal(130), normal(130), dims=1, eps=1e-5)],
    "linear": [S(normal(3, 67, 96), normal(130, 96), normal(130)), S(normal(96, 70).T, normal(65, 96), None)],
    "dropout": [S(normal(70, 1100), booleans(70, 1100), p=0.3)],
    "embedding": [S(normal(300, 65), integers(300, 4, 99))],
    "cross_entropy": [
        S(normal(70, 3001), integers(3001, 70), None), S(normal(70, 3001), integers(3001, 70), positive(70), wrt=(0,)),
    ],
    "attention": [
        attend(normal(2, 3, 150, 16), normal(2, 3, 150, 16), normal(2, 3, 150, 16), is_causal=True, scale=0.25),
        attend(normal(2, 3, 300, 8), normal(2, 3, 270, 8), normal(2, 3, 270, 5), scale=0.3),
        attend(normal(3, 140, 8), normal(3, 200, 8), normal(3, 200, 8), booleans(140, 200)),
        attend(normal(3, 140, 8), normal(3, 140, 8), normal(3, 140, 8), is_causal=True, dropout_p=0.2, seed=3),
        attend(normal(140, 2, 2, 8).transpose(1, 2, 0, 3), normal(2, 2, 140, 8), normal(2, 2, 140, 8), is_causal=True),
    ],
}  # fmt: skip

for _table in (SAMPLES, LARGE):
    for _op, _samples in _table.items():
        _table[_op] = [Sample(s.inputs, s.attributes, () if _op in NO_DERIVATIVE else s.wrt, _op) for s in _samples]


def named(table: dict[str, list[Sample]], size: str = "") -> list[Any]:
    """The samples of a table, as parameters of a test."""
    return [pytest.param(s, id=f"{op}-{size}{i}") for op, samples in table.items() for i, s in enumerate(samples)]
