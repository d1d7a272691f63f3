"""The same line of code in PyTorch and in tensorlite: the same values, gradients, shapes, dtypes, and refusals.

    "softmax over dim 0": (lambda m, x: m.softmax(x, 0), normal(2, 3)),

`m` is either library, so a case also tests that names, argument order and defaults are PyTorch's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
from samples import booleans, distinct, integers, normal, positive

import tensorlite as tl
from tensorlite.ops.indexing import _index

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests and is not installed")

Case = tuple[Any, ...]  # a function of the library and the inputs, and the inputs
INF, NAN = math.inf, math.nan


def f32(*values: Any) -> np.ndarray:
    return np.array(values, np.float32)


# Running a case in both libraries --------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """NumPy warns of infinities and nan, PyTorch does not; here they are wanted."""
    with np.errstate(all="ignore"):
        yield


def run(m: Any, f: Callable[..., Any], inputs: tuple[Any, ...], differentiate: bool) -> tuple[list[Any], list[Any]]:
    """The outputs, and the gradients of the floating inputs."""
    xs = [m.tensor(x) if isinstance(x, np.ndarray) else x for x in inputs]
    floats = [x for x in xs if isinstance(x, m.Tensor) and x.is_floating_point()] if differentiate else []
    for x in floats:
        x.requires_grad_()
    ys = f(m, *xs)
    ys = list(ys) if isinstance(ys, (tuple, list)) else [ys]
    rng = np.random.default_rng(0)
    for y in ys:
        if y.requires_grad:
            y.backward(m.tensor(np.asarray(rng.standard_normal(tuple(y.shape)), str(y.dtype).removeprefix("torch."))), retain_graph=True)
    return ys, [x.grad for x in floats]


def compare(f: Callable[..., Any], *inputs: Any, differentiate: bool = True, tolerance: float | None = None) -> None:
    """Run f in both libraries. What PyTorch refuses tensorlite must refuse too."""
    try:
        expected = run(torch, f, inputs, differentiate)
    except (RuntimeError, IndexError, ValueError, TypeError) as refusal:
        with pytest.raises((RuntimeError, IndexError, ValueError, TypeError)):
            pytest.fail(f"PyTorch refuses: {refusal}; tensorlite gives {run(tl, f, inputs, differentiate)[0]}", pytrace=False)
        return
    found = run(tl, f, inputs, differentiate)
    for what, ours, theirs in zip(("value", "gradient"), found, expected, strict=True):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            if a is None or b is None:
                assert a is None and b is None, what
                continue
            a, b = a.detach().numpy(), b.detach().numpy()
            assert a.shape == b.shape and a.dtype == b.dtype, f"{what}: {a.shape} {a.dtype}, PyTorch {b.shape} {b.dtype}"
            bound = tolerance or {"float64": 1e-12, "float32": 1e-5, "float16": 4e-3}.get(str(a.dtype), 0)
            largest = np.abs(b[np.isfinite(b)]).max(initial=1) if b.dtype.kind == "f" else 0
            np.testing.assert_allclose(a, b, rtol=bound, atol=bound * float(largest), err_msg=what)


def table(cases: dict[str, Case]) -> Any:
    return pytest.mark.parametrize("case", cases.values(), ids=list(cases))


# Shapes and reductions -------------------------------------------------------------------------------------

REDUCTIONS: dict[str, Case] = {
    f"{name} of {shape} over {dim}, keepdim {keepdim}": (
        (lambda m, x, name=name, dim=dim, keepdim=keepdim: getattr(m, name)(x, dim, keepdim=keepdim)), distinct(*shape)
    )
    for name in ("sum", "mean", "amax", "amin", "var", "std", "logsumexp", "argmax", "max", "min", "all", "any")
    for shape, dim in (((2, 3), 0), ((2, 3), -1), ((2, 3, 4), 1), ((2, 3, 4), (0, 2)), ((2, 3, 4), (-1, -3)), ((4, 1), 0), ((2, 3), 2))
    for keepdim in (False, True)
    if not (isinstance(dim, tuple) and name in ("argmax", "max", "min"))
}  # fmt: skip

FULL: dict[str, Case] = {
    **{f"{name} of {shape}": (lambda m, x, name=name: getattr(x, name)(), distinct(*shape))
       for name in ("sum", "mean", "max", "min", "argmax", "argmin", "all", "any", "norm", "var", "std")
       for shape in ((2, 3), (4,), ())
       if not (shape == () and name in ("var", "std"))},
    "var of one": (lambda m, x: x.var(), normal(1)),
    "var with correction 0 of one": (lambda m, x: x.var(correction=0), normal(1)),
    "var, too few": (lambda m, x: x.var(0, correction=3), normal(2, 3)),
    **{f"var, correction {c}": (lambda m, x, c=c: x.var(-1, correction=c), normal(3, 5)) for c in (0, 1, 2, 1.5)},
    "var, unbiased": (lambda m, x: x.var(-1, unbiased=False), normal(3, 5)),
    "std, correction 0": (lambda m, x: x.std(0, correction=0, keepdim=True), normal(3, 5)),
    **{f"norm {p}": (lambda m, x, p=p: x.norm(p), normal(2, 3)) for p in (1, 2, 3, INF)},
    "norm over a dimension": (lambda m, x: x.norm(2, -1, True), normal(2, 3)),
    "sum, dtype": (lambda m, x: x.sum(dtype=m.float64), normal(2, 3).astype(np.float32)),
    "sum over no dimensions": (lambda m, x: x.sum(dim=()), normal(2, 3)),
    "sum of nothing": (lambda m, x: x.sum(), normal(0)),
    "sum over nothing": (lambda m, x: x.sum(1), normal(2, 0)),
    "amax over nothing": (lambda m, x: x.amax(1), normal(2, 0)),
    "mean of nothing": (lambda m, x: x.mean(), normal(0)),
    "all and any of nothing": (lambda m, x: (x.all(), x.any()), normal(0)),
    "logsumexp of -inf": (lambda m, x: x.logsumexp(-1), np.array([[-INF, -INF], [-INF, 1.0], [INF, 1.0]])),
    "logsumexp, large": (lambda m, x: x.logsumexp(0), np.array([1000.0, 1001.0])),
    **{f"{name} of {dtype}": (lambda m, x, name=name: getattr(x, name)(), np.array([[1, 0, 2]], dtype))
       for name in ("sum", "mean", "max", "argmax", "all", "any", "var") for dtype in ("bool", "uint8", "int32", "int64", "float16")
       if (name, dtype) not in {("argmax", "bool"), ("all", "uint8"), ("any", "uint8")}},  # refused; uint8 for a truth value
    "max with nan": (lambda m, x: (x.detach().max(), x.argmax(), *x.max(0)), np.array([1.0, NAN, 3.0, NAN])),
    "min with nan": (lambda m, x: (x.detach().min(), x.argmin(), *x.min(0)), np.array([1.0, NAN, 3.0])),
    "max with ties": (lambda m, x: (x.max(), x.amax(0), x.max(0).values), np.array([1.0, 3.0, 3.0])),
    "maximum": (lambda m, a, b: (m.maximum(a, b), m.minimum(a, b), m.max(a, b)), np.array([1.0, 4.0, 2.0]), np.array([1.0, 2.0, 3.0])),
}  # fmt: skip

SHAPES: dict[str, Case] = {
    "reshape": (lambda m, x: (x.reshape(3, -1), x.reshape((6,)), x.view(-1), m.reshape(x, (2, 1, 3))), normal(2, 3)),
    "reshape of nothing": (lambda m, x: (x.reshape(0), x.reshape(3, 0, 5)), normal(0, 3)),
    "reshape to a number": (lambda m, x: (x.reshape(()), x.view(1, 1)), normal(1)),
    "view_as": (lambda m, x, y: x.view_as(y), normal(2, 3), normal(3, 2)),
    "flatten": (lambda m, x: (x.flatten(), x.flatten(1), x.flatten(0, 1), m.flatten(x, -2, -1)), normal(2, 3, 4)),
    "flatten of a number": (lambda m, x: x.flatten(), normal()),
    "flatten, wrong dimension": (lambda m, x: x.flatten(3), normal(2, 3)),
    "squeeze": (lambda m, x: (x.squeeze(), x.squeeze(0), x.squeeze(-1), x.squeeze(1), x.squeeze((0, 2))), normal(1, 3, 1)),
    "squeeze of a number": (lambda m, x: (x.squeeze(), x.squeeze(0), x.squeeze(-1)), normal()),
    "squeeze, wrong dimension": (lambda m, x: x.squeeze(2), normal(1, 3)),
    "unsqueeze": (lambda m, x: (x.unsqueeze(0), x.unsqueeze(-1), x.unsqueeze(2), x.unsqueeze(-3)), normal(2, 3)),
    "unsqueeze of a number": (lambda m, x: (x.unsqueeze(0), x.unsqueeze(-1)), normal()),
    "unsqueeze, wrong dimension": (lambda m, x: x.unsqueeze(4), normal(2, 3)),
    "permute": (lambda m, x: (x.permute(2, 0, 1), x.permute((0, -1, 1)), m.permute(x, (-1, -2, -3))), normal(2, 3, 4)),
    "permute, square, negative": (lambda m, x: (x.permute(0, -1, 1), x.permute(-1, 0, -2)), normal(3, 3, 3)),
    "permute, twice the same": (lambda m, x: x.permute(0, 0), normal(2, 3)),
    "transpose": (lambda m, x: (x.transpose(0, 1), x.transpose(-1, 0), m.transpose(x, 1, 2), x.mT), normal(2, 3, 4)),
    "t": (lambda m, x: (x.t(), x.T, m.t(x)), normal(2, 3)),
    "t of a vector": (lambda m, x: x.t(), normal(3)),
    "expand": (lambda m, x: (x.expand(2, 3), x.expand(4, -1, 3), x.expand((2, -1))), normal(1, 3)),
    "expand to nothing": (lambda m, x: x.expand(0, 3), normal(1, 3)),
    "expand, -1 in front": (lambda m, x: x.expand(-1, 3), normal(3)),
    "expand, too few": (lambda m, x: x.expand(3), normal(1, 3)),
    "expand_as": (lambda m, x, y: x.expand_as(y), normal(3), normal(2, 3)),
    "cat": (lambda m, x, y: (m.cat([x, y]), m.cat((x, y), dim=0), m.cat([x, x], -1), m.cat([x], 1)), normal(2, 3), normal(1, 3)),
    "cat of dtypes": (lambda m, x, y: m.cat([x, y]), normal(3), integers(4, 2)),
    "cat, wrong shapes": (lambda m, x, y: m.cat([x, y]), normal(2, 3), normal(2, 2)),
    "cat, wrong dimension": (lambda m, x: m.cat([x, x], 2), normal(2, 3)),
    "cat of nothing": (lambda m: m.cat([])),
    "cat of numbers": (lambda m, x: m.cat([x, x]), normal()),
    "stack": (lambda m, x, y: (m.stack([x, y]), m.stack((x, y), 1), m.stack([x, y], dim=-1)), normal(2, 3), normal(2, 3)),
    "stack of numbers": (lambda m, x: (m.stack([x, x]), m.stack([x], -1)), normal()),
    "stack, wrong shapes": (lambda m, x, y: m.stack([x, y]), normal(2), normal(3)),
    "stack, wrong dimension": (lambda m, x: m.stack([x, x], 3), normal(2)),
    "split": (lambda m, x: (*x.split(2), *m.split(x, 3, 1), *x.split([1, 4]), *x.split((2, 1), dim=-1)), normal(5, 3)),
    "split, wrong sizes": (lambda m, x: x.split([1, 1]), normal(5, 3)),
    "split of nothing": (lambda m, x: x.split(2), normal(0, 3)),
    "chunk": (lambda m, x: (*x.chunk(2), *m.chunk(x, 3, dim=-1), *x.chunk(9)), normal(5, 4)),
    "chunk of nothing": (lambda m, x: x.chunk(2), normal(0, 3)),
    "unbind": (lambda m, x: (*x.unbind(), *m.unbind(x, -1)), normal(2, 3)),
    "flip": (lambda m, x: (x.flip(0), x.flip(0, 1), x.flip((-1,)), m.flip(x, [0])), normal(2, 3)),
    "tril": (lambda m, x: (x.tril(), m.tril(x, 1), m.triu(x, diagonal=-1), x.triu(1)), normal(2, 3, 4)),
    "triu of ones": (lambda m: m.triu(m.ones(3, 3), diagonal=1).bool()),
    "clone and contiguous": (lambda m, x: (x.clone(), x.T.contiguous(), x.contiguous()), normal(2, 3)),
    "to": (lambda m, x: (x.to(m.float32), x.double(), x.float() * 2, x.half(), x.long(), x.int(), x.bool()), normal(2, 3) * 3),
    "type_as": (lambda m, x, y: x.type_as(y), normal(2, 3), integers(3, 2)),
    "to of integers": (lambda m, x: (x.float(), x.bool(), x.to(m.int32), x.to("cpu")), integers(3, 2)),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:var..: degrees of freedom", "ignore:std..: degrees of freedom")
@table({**REDUCTIONS, **FULL})
def test_reductions(case: Case):
    compare(*case)


@table(SHAPES)
def test_shapes(case: Case):
    compare(*(case if isinstance(case, tuple) else (case,)))


# Elementwise -----------------------------------------------------------------------------------------------

EDGES = np.array([-INF, -100.0, -20.0, -2.5, -1.0, -0.1, 0.0, 1e-8, 0.1, 1.0, 3.0, 6.5, 20.0, 100.0, INF])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", [
    "exp", "log", "sqrt", "rsqrt", "sin", "cos", "tanh", "sigmoid", "erf", "relu", "abs", "neg", "sign", "isnan", "isinf",
    "isfinite", "logical_not",
])  # fmt: skip
def test_elementwise(name: str, dtype: str):
    compare(lambda m, x: getattr(m, name)(x), EDGES.astype(dtype))
    if name != "sign":  # of nan: PyTorch says 0
        compare(lambda m, x: getattr(m, name)(x), np.array([NAN], dtype), differentiate=False)
    compare(lambda m, x: getattr(x, name)(), normal(2, 3).astype(dtype))
    compare(lambda m, x: getattr(m, name)(x), positive(0, 2).astype(dtype))
    compare(lambda m, x: getattr(m, name)(x), np.asarray(positive().astype(dtype)))


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16"])
@pytest.mark.parametrize("name", ["exp", "log", "sqrt", "tanh", "sigmoid", "erf", "relu", "abs", "neg", "isnan", "logical_not"])
def test_elementwise_of(name: str, dtype: str):
    if dtype == "bool" and name in ("relu", "abs"):
        return  # PyTorch refuses
    compare(lambda m, x: getattr(m, name)(x), np.array([1, 0, 1], dtype))


def test_relative_accuracy_of_sigmoid():
    """Far left the sigmoid is small, not 0: log(sigmoid(x)) depends on it."""
    x = tl.tensor([-80.0, -40.0, -20.0])
    np.testing.assert_allclose(tl.sigmoid(x).numpy(), np.exp(x.numpy()), rtol=1e-5)


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide", "pow", "maximum", "minimum", "remainder", "floor_divide"])
def test_two_operands(name: str):
    a, b = (each.reshape(-1) for each in np.meshgrid([-INF, -2.0, -0.5, 0.0, 1.0, 3.0, INF, NAN], [-2.0, -1.0, 0.0, 0.5, 2.0, INF]))
    differentiable = name != "floor_divide"
    compare(lambda m, a, b: getattr(m, name)(a, b), a, b, differentiate=False)
    compare(lambda m, a, b: getattr(m, name)(a, b), positive(2, 1, 3), positive(4, 1) + 0.01, differentiate=differentiable)
    if name not in ("pow", "remainder", "floor_divide"):
        numbers = ~np.isnan(a)
        compare(lambda m, a, b: getattr(m, name)(a, b), a[numbers], b[numbers])


GRID = np.array([[0.0, 0.5, 1.0, 2.0], [0.0, -1.0, -2.0, 3.0]])

ARITHMETIC: dict[str, Case] = {
    **{f"x ** {p}": (lambda m, x, p=p: x**p, GRID) for p in (0, 1, 2, 3, 0.5, -1, -2, 0.0, 1.5)},
    **{f"{b} ** x": (lambda m, x, b=b: b**x, GRID) for b in (2, 0.5, 1, 0.0, 3)},
    "0 to powers": (lambda m, a, b: a**b, np.zeros(4), np.array([0.0, 0.5, 1.0, 2.0])),
    "operators": (lambda m, x, y: (x + y, x - y, x * y, x / y, x % y, -x, abs(x), 1 + x, 2 - x, 2 * x, 2 / x, 7 % y, x.detach() // y.detach()),
                  positive(2, 3), positive(3) + 0.01),
    "comparisons": (lambda m, x, y: (x == y, x != y, x < y, x <= y, x > y, x >= y, x == 1, 1 < y), integers(2, 2, 3), integers(2, 3)),
    "and, or, not of booleans": (lambda m, x, y: (x & y, x | y, ~x, True & x), booleans(2, 3), booleans(3)),
    "and, or, not of integers": (lambda m, x, y: (x & y, x | y, ~x, x & 3, 4 | x), integers(9, 2, 3), integers(9, 3)),
    "and of floats": (lambda m, x: x & x, normal(3)),
    "logical functions": (lambda m, x, y: (m.logical_and(x, y), m.logical_or(x, y), m.logical_not(x)), normal(3), np.zeros(3)),
    "where": (lambda m, c, x, y: (m.where(c, x, y), m.where(c, x, 0.0), m.where(c, -INF, y), m.where(c, 1, 0)),
              booleans(2, 3), normal(3), normal(2, 1)),
    "where does not pass nan on": (lambda m, c, x: m.where(c, x, 0.0), np.array([True, False]), np.array([1.0, NAN])),
    "where of floats": (lambda m, x: m.where(x, x, x), normal(3)),
    "masked_fill": (lambda m, x, c: (x.masked_fill(c, -INF), x.masked_fill(c, 2), x.masked_fill(~c, 0.0)), normal(2, 3), booleans(3)),
    "masked_fill of floats": (lambda m, x: x.masked_fill(x, 0.0), normal(3)),
    "integer division": (lambda m, x: (x / 2, x // 2, x % 3, -x // 2, -x % 3, x / x), np.array([1, 2, 3, 7])),
    "negative integer power": (lambda m, x: x**-1, np.array([1, 2])),
    "minus of booleans": (lambda m, x: -x, booleans(3)),
    "difference of booleans": (lambda m, x: x - x, booleans(3)),
    "broadcasting": (lambda m, x, y, z: x * y + z, normal(2, 1, 3), normal(4, 1), normal()),
    "no broadcasting": (lambda m, x, y: x + y, normal(2, 3), normal(2)),
    "size 0": (lambda m, x, y: (x * y, (x + y).sum()), normal(0, 3), normal(1, 3)),
    "mse_loss": (lambda m, x, y: [m.nn.functional.mse_loss(x, y, reduction=r) for r in ("mean", "sum", "none")], normal(2, 3), normal(2, 3)),
}  # fmt: skip


@table(ARITHMETIC)
def test_arithmetic(case: Case):
    compare(*case)


# How dtypes mix --------------------------------------------------------------------------------------------

DTYPES = ["bool", "uint8", "int32", "int64", "float16", "float32", "float64"]
OPERANDS: dict[str, Any] = {
    **{dtype: np.array([1, 2], dtype) for dtype in DTYPES},
    **{f"{dtype} 0-d": np.array(2, dtype) for dtype in DTYPES},
    "True": True, "2": 2, "2.0": 2.0,
}  # fmt: skip
BOOLEANS = {"bool", "bool 0-d", "True"}
MIXING: dict[str, Callable[..., Any]] = {
    "+": lambda m, a, b: a + b,
    "-": lambda m, a, b: a - b,
    "*": lambda m, a, b: a * b,
    "/": lambda m, a, b: a / b,
    "//": lambda m, a, b: a // b,
    "**": lambda m, a, b: a**b,
    "<": lambda m, a, b: a < b,
    "where": lambda m, a, b: m.where(m.tensor([True, False]), a, b),
}


@pytest.mark.parametrize("op", MIXING)
def test_promotion(op: str):
    wrong = []
    for a, b in product(OPERANDS, OPERANDS):
        if not any(isinstance(OPERANDS[x], np.ndarray) for x in (a, b)) or (op == "**" and {a, b} <= BOOLEANS):
            continue
        try:
            compare(MIXING[op], OPERANDS[a], OPERANDS[b], differentiate=False)
        except AssertionError as error:
            wrong.append(f"{a} {op} {b}: {str(error).strip().splitlines()[0]}")
        except pytest.fail.Exception:
            pass  # PyTorch refuses to subtract, divide or raise booleans
    assert not wrong, "\n".join(wrong)


def test_promotion_of_maximum():
    for a, b in product(DTYPES, DTYPES):
        compare(lambda m, a, b: (m.maximum(a, b), m.cat([a, b])), np.array([1, 2], a), np.array([2, 1], b), differentiate=False)


@pytest.mark.parametrize("data", [1.5, 1, True, [1, 2.5], [[True], [False]], [], [[]], np.arange(3), np.float64(2), (1, 2)], ids=repr)
def test_tensor_dtype(data: Any):
    ours, theirs = tl.tensor(data), torch.tensor(data)
    assert str(ours.dtype) == str(theirs.dtype).removeprefix("torch.") and ours.shape == tuple(theirs.shape)
    assert ours.tolist() == theirs.tolist()


def test_creation():
    for f in (
        lambda m: m.arange(5), lambda m: m.arange(2.0, 5), lambda m: m.arange(5, 0, -2), lambda m: m.arange(0, 1, 0.25),
        lambda m: m.zeros(2, 3), lambda m: m.ones((2,), dtype=m.int64), lambda m: m.full((2, 2), 7), lambda m: m.full((2,), 0.5),
        lambda m: m.full((1,), True), lambda m: m.eye(2, 3), lambda m: m.linspace(0, 1, 5), lambda m: m.zeros(()),
        lambda m: m.zeros_like(m.ones(2, dtype=m.int32)), lambda m: m.full_like(m.ones(2), 3), lambda m: m.ones_like(m.zeros(3)),
        lambda m: m.arange(0), lambda m: m.zeros(0, 3), lambda m: m.tensor([m.tensor(1.0), m.tensor(2.0)]),
    ):  # fmt: skip
        compare(f)


# Matrices --------------------------------------------------------------------------------------------------

PRODUCTS = [
    ((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,)), ((2, 3), (3, 4)), ((2, 2, 3), (3,)), ((3,), (2, 3, 4)), ((2, 2, 3), (3, 4)),
    ((2, 3), (2, 3, 4)), ((2, 2, 3), (2, 3, 4)), ((2, 1, 2, 3), (4, 3, 2)), ((1, 2, 3), (5, 3, 2)), ((2, 4, 2, 3), (2, 4, 3, 2)),
    ((0, 3), (3, 2)), ((2, 0), (0, 3)), ((2, 3), (3, 0)), ((0, 2, 3), (3, 4)), ((2, 0, 3), (3, 4)), ((2, 2, 0), (0, 3)),
    ((0,), (0,)), ((0,), (0, 3)), ((2, 2, 3), (3, 0)), ((0, 2, 3), (0, 3, 4)), ((1, 2, 3), (0, 3, 4)),
    ((2, 3), (2, 3)), ((3,), (2,)), ((2, 2, 3), (3, 3, 2)),
]  # fmt: skip


@pytest.mark.parametrize("a, b", PRODUCTS, ids=str)
def test_matmul(a: tuple[int, ...], b: tuple[int, ...]):
    compare(lambda m, a, b: m.matmul(a, b), normal(*a), normal(*b))
    compare(lambda m, a, b: a @ b, normal(*a), normal(*b))
    compare(lambda m, a, b: a.mT @ b.mT if a.ndim > 1 and b.ndim > 1 else a @ b, normal(*a[:-2], *a[:-3:-1]), normal(*b[:-2], *b[:-3:-1]))


MATRICES: dict[str, Case] = {
    "mm and bmm": (lambda m, a, b: (m.mm(a, b), m.bmm(a[None], b[None])), normal(2, 3), normal(3, 2)),
    "dtypes": (lambda m, a, b: a @ b, normal(2, 3), normal(3, 2).astype(np.float32)),
    "integers": (lambda m, a, b: a @ b, integers(5, 2, 3), integers(5, 3, 2)),
    "a number": (lambda m, a: a @ a, normal()),
    **{f"linear of {shape}": (lambda m, x, w, b: m.nn.functional.linear(x, w, b), normal(*shape), normal(4, 3), normal(4))
       for shape in ((3,), (2, 3), (2, 5, 3), (0, 3), (2, 0, 3))},
    "linear without bias": (lambda m, x, w: m.nn.functional.linear(x, w), normal(2, 3), normal(4, 3)),
    "linear of nothing": (lambda m, x, w, b: m.nn.functional.linear(x, w, b), normal(2, 0), normal(4, 0), normal(4)),
    "linear of a transpose": (lambda m, x, w: m.nn.functional.linear(x.T, w), normal(3, 2), normal(4, 3)),
}  # fmt: skip


@table(MATRICES)
def test_matrices(case: Case):
    compare(*case)


# Indexing --------------------------------------------------------------------------------------------------

INDICES: dict[str, Callable[[Any], Any]] = {
    "0": lambda m: 0,
    "-1": lambda m: -1,
    "1:3": lambda m: slice(1, 3),
    "::2": lambda m: slice(None, None, 2),
    "[:, 1]": lambda m: (slice(None), 1),
    "[1, 2]": lambda m: (1, 2),
    "[1, 2, 3]": lambda m: (1, 2, 3),
    "[..., 0]": lambda m: (..., 0),
    "[None]": lambda m: None,
    "[:, None, 0]": lambda m: (slice(None), None, 0),
    "[..., None, :2]": lambda m: (..., None, slice(0, 2)),
    "()": lambda m: (),
    "empty slice": lambda m: slice(3, 1),
    "beyond the end": lambda m: slice(2, 100),
    "list": lambda m: [0, 2, 2],
    "empty list": lambda m: [],
    "list of booleans": lambda m: [True, False, True, True],
    "indices": lambda m: m.tensor([3, 0, 3]),
    "negative indices": lambda m: m.tensor([-1, -4]),
    "index matrix": lambda m: m.tensor([[0, 1], [1, 0]]),
    "0-d index": lambda m: m.tensor(2),
    "int32 indices": lambda m: m.tensor([1, 1], dtype=m.int32),
    "no indices": lambda m: m.tensor([], dtype=m.int64),
    "two index lists": lambda m: ([0, 1, 1], [2, 2, 0]),
    "indices and slice": lambda m: (m.tensor([0, 0]), slice(None), m.tensor([1, 3])),
    "slice and indices": lambda m: (slice(1, None), m.tensor([2, 2, 0])),
    "number, slice, indices": lambda m: (0, slice(None), m.tensor([1, 1])),
    "indices that broadcast": lambda m: (m.tensor([[0], [2]]), m.tensor([0, 1, 1])),
    "indices and None": lambda m: (None, m.tensor([1, 0])),
    "Ellipsis and indices": lambda m: (..., m.tensor([1, 1])),
    "mask of rows": lambda m: m.tensor([True, False, True, True]),
    "mask of nothing": lambda m: m.tensor([False] * 4),
    "mask of elements": lambda m: m.arange(60).reshape(4, 3, 5) % 7 < 3,
    "mask and number": lambda m: (m.tensor([True, False, False, True]), 1),
    "slice and mask": lambda m: (slice(None), m.tensor([True, False, True])),
    "True": lambda m: True,
    "out of range": lambda m: 4,
    "index out of range": lambda m: m.tensor([4]),
    "too many": lambda m: (0, 0, 0, 0),
    "mask of another length": lambda m: m.tensor([True, False]),
    "floats": lambda m: m.tensor([0.0, 1.0]),
    "0-d index and slice": lambda m: (slice(None), m.tensor(1)),
    "slice by tensors": lambda m: slice(m.tensor(1), m.tensor(3)),
}


@pytest.mark.parametrize("index", INDICES)
def test_getitem(index: str):
    compare(lambda m, x: x[INDICES[index](m)], normal(4, 3, 5))


@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize("value", ["number", "tensor", "row"])
def test_setitem(index: str, value: str):
    """Out of the graph, and in it."""

    def set(m: Any, x: Any, v: Any) -> Any:
        i = INDICES[index](m)
        y = x * 1
        y[i] = 7.0 if value == "number" else v if value == "row" else (v[None, None] * 1).expand(4, 3, 5)[i]
        return y

    times = np.zeros((4, 3, 5))
    try:
        np.add.at(times, _index(INDICES[index](tl)), 1)
    except IndexError:
        pass
    else:
        if times.max() > 1:
            return  # PyTorch leaves open which value stays
    compare(set, normal(4, 3, 5), normal(5))
    compare(set, normal(4, 3, 5), normal(5), differentiate=False)


PICKS: dict[str, Case] = {
    "gather": (lambda m, x, i: (m.gather(x, 1, i), x.gather(-1, i)), normal(3, 4), integers(4, 3, 6)),
    "gather along 0": (lambda m, x, i: x.gather(0, i), normal(3, 4), integers(3, 5, 4)),
    "gather, shorter index": (lambda m, x, i: x.gather(1, i), normal(3, 4, 2), integers(4, 2, 5, 1)),
    "gather of a vector": (lambda m, x, i: x.gather(0, i), normal(4), integers(4, 2)),
    "gather of nothing": (lambda m, x, i: x.gather(1, i), normal(3, 4), integers(4, 3, 0)),
    "gather, out of range": (lambda m, x: x.gather(1, m.tensor([[9]])), normal(3, 4)),
    "gather, longer index": (lambda m, x: x.gather(1, m.zeros(4, 1, dtype=m.int64)), normal(3, 4)),
    "take_along_dim": (lambda m, x, i: (m.take_along_dim(x, i, 1), x.take_along_dim(i, -1)), normal(3, 4), integers(4, 3, 2)),
    "take_along_dim, broadcast index": (lambda m, x, i: x.take_along_dim(i, 1), normal(3, 4), integers(4, 1, 2)),
    "take_along_dim, broadcast x": (lambda m, x, i: x.take_along_dim(i, 0), normal(4, 1), integers(4, 5, 3)),
    "topk": (lambda m, x: (*x.topk(2), *m.topk(x, 1, dim=0), *x.topk(3, -1, False)), distinct(3, 4)),
    "topk of all": (lambda m, x: x.topk(4), distinct(4)),
    "topk of none": (lambda m, x: x.topk(0), distinct(4)),
    "topk, too many": (lambda m, x: x.topk(5), distinct(4)),
    "topk of bytes": (lambda m, x: (x.topk(2)[0], x.topk(2, largest=False)[0]), np.array([0, 5, 3, 255], np.uint8)),
    "topk with infinities": (lambda m, x: x.topk(3), np.array([1.0, -INF, INF, 2.0])),
    "topk with nan": (lambda m, x: x.topk(2).indices, np.array([1.0, NAN, 3.0])),
    "embedding": (lambda m, i, w: m.nn.functional.embedding(i, w), integers(5, 2, 3), normal(5, 4)),
    "embedding of one": (lambda m, i, w: m.nn.functional.embedding(i, w), integers(5), normal(5, 4)),
    "embedding of nothing": (lambda m, i, w: m.nn.functional.embedding(i, w), integers(5, 2, 0), normal(5, 4)),
    "embedding, repeated": (lambda m, i, w: m.nn.functional.embedding(i, w), np.array([1, 1, 1, 0]), normal(2, 3)),
}  # fmt: skip


@table(PICKS)
def test_picks(case: Case):
    compare(*case)


# Neural ----------------------------------------------------------------------------------------------------

ROWS = np.array([[1.0, -INF, 2.0], [-INF, -INF, 0.0], [1e4, 0.0, -1e4]])

NEURAL: dict[str, Case] = {
    **{f"{name} over {dim}": (lambda m, x, name=name, dim=dim: getattr(m, name)(x, dim), normal(2, 3, 4))
       for name in ("softmax", "log_softmax") for dim in (0, 1, 2, -1, -3, 3)},
    **{f"{name} with -inf": (lambda m, x, name=name: getattr(x, name)(-1), ROWS) for name in ("softmax", "log_softmax")},
    **{f"{name} of -inf only": (lambda m, x, name=name: getattr(x, name)(-1), np.full((1, 2), -INF)) for name in ("softmax", "log_softmax")},
    **{f"{name} with nan": (lambda m, x, name=name: getattr(x, name)(-1), np.array([[1.0, NAN], [1.0, 2.0]])) for name in ("softmax", "log_softmax")},
    **{f"{name} in float32": (lambda m, x, name=name: getattr(x, name)(-1), f32([80.0, -80.0, 0.0], [1.0, 2.0, 3.0])) for name in ("softmax", "log_softmax")},
    "softmax of no rows": (lambda m, x: x.softmax(-1), normal(0, 3)),
    "softmax of integers": (lambda m, x: x.float().softmax(-1), integers(5, 2, 3)),
    **{f"gelu {form}": (lambda m, x, form=form: m.nn.functional.gelu(x, approximate=form), np.linspace(-8, 8, 50).reshape(5, 10)) for form in ("none", "tanh")},
    **{f"gelu {form} in float32": (lambda m, x, form=form: m.nn.functional.gelu(x, approximate=form), np.linspace(-8, 8, 50, dtype=np.float32)) for form in ("none", "tanh")},
    **{f"gelu {form} of a number": (lambda m, x, form=form: m.nn.functional.gelu(x, approximate=form), np.array(0.7)) for form in ("none", "tanh")},
    "gelu, wrong form": (lambda m, x: m.nn.functional.gelu(x, approximate="fast"), normal(2)),
    **{f"layer_norm over {shape}, {which}": (
        lambda m, x, w, b, shape=shape, which=which: m.nn.functional.layer_norm(
            x, shape, w if "weight" in which else None, b if "bias" in which else None, eps=1e-3),
        normal(2, 3, 4), positive(*shape), normal(*shape))
       for shape in ((4,), (3, 4)) for which in ("weight and bias", "weight", "bias", "nothing")},
    "layer_norm, constant rows": (lambda m, x: m.nn.functional.layer_norm(x, (4,)), np.ones((2, 4))),
    "layer_norm in float32": (lambda m, x: m.nn.functional.layer_norm(x, (64,)), normal(3, 64).astype(np.float32) * 10 + 5),
    "layer_norm, wrong shape": (lambda m, x: m.nn.functional.layer_norm(x, (3,)), normal(2, 4)),
    "layer_norm of no rows": (lambda m, x: m.nn.functional.layer_norm(x, (4,)), normal(0, 4)),
    "dropout, p 0 and in evaluation": (lambda m, x: (m.nn.functional.dropout(x, 0.0), m.nn.functional.dropout(x, 0.5, training=False)), normal(3)),
    "dropout of all": (lambda m, x: m.nn.functional.dropout(x, 1.0), normal(3)),
}  # fmt: skip

TARGETS = np.array([1, 4, 0, 1])
IGNORED = np.array([1, -100, 0, -100])

for _reduction in ("mean", "sum", "none"):
    for _what, _options, _target in (
        ("plain", {}, TARGETS), ("ignored", {}, IGNORED), ("all ignored", {}, np.full(4, -100)), ("ignoring 1", {"ignore_index": 1}, TARGETS),
    ):  # fmt: skip
        NEURAL[f"cross_entropy, {_what}, {_reduction}"] = (
            lambda m, x, t, r=_reduction, o=_options: m.nn.functional.cross_entropy(x, t, reduction=r, **o), normal(4, 5), _target
        )  # fmt: skip
        NEURAL[f"cross_entropy with weights, {_what}, {_reduction}"] = (
            lambda m, x, t, w, r=_reduction, o=_options: m.nn.functional.cross_entropy(x, t, w.detach(), reduction=r, **o),
            normal(4, 5), _target, positive(5),
        )  # fmt: skip
    NEURAL[f"cross_entropy of (N, C, d), {_reduction}"] = (
        lambda m, x, t, r=_reduction: m.nn.functional.cross_entropy(x, t, reduction=r), normal(2, 5, 3), integers(5, 2, 3)
    )  # fmt: skip
    NEURAL[f"cross_entropy of (N, C, d, e), ignored, {_reduction}"] = (
        lambda m, x, t, w, r=_reduction: m.nn.functional.cross_entropy(x, t, w.detach(), 2, reduction=r) if m is tl
        else m.nn.functional.cross_entropy(x, t, w.detach(), ignore_index=2, reduction=r),
        normal(2, 5, 3, 2), integers(5, 2, 3, 2), positive(5),
    )  # fmt: skip
    NEURAL[f"cross_entropy of (C,), {_reduction}"] = (
        lambda m, x, t, r=_reduction: m.nn.functional.cross_entropy(x, t, reduction=r), normal(5), np.array(3)
    )  # fmt: skip
    NEURAL[f"cross_entropy of nothing, {_reduction}"] = (
        lambda m, x, t, r=_reduction: m.nn.functional.cross_entropy(x, t, reduction=r), normal(0, 5), integers(5, 0)
    )  # fmt: skip

NEURAL |= {
    "cross_entropy with -inf": (lambda m, x, t: m.nn.functional.cross_entropy(x, t), ROWS, np.array([0, 2, 0])),
    "cross_entropy, impossible class": (lambda m, x, t: m.nn.functional.cross_entropy(x, t), ROWS, np.array([1, 2, 0])),
    "cross_entropy, large logits": (lambda m, x, t: m.nn.functional.cross_entropy(x, t), f32([1e4, 0.0], [-1e4, 1e4]), np.array([1, 1])),
    "cross_entropy, target too large": (lambda m, x, t: m.nn.functional.cross_entropy(x, t), normal(1, 3), np.array([3])),
    "cross_entropy, wrong batch": (lambda m, x, t: m.nn.functional.cross_entropy(x, t), normal(2, 3), np.array([1])),
}  # fmt: skip


@table(NEURAL)
def test_neural(case: Case):
    compare(*case)


def attention(m: Any, *inputs: Any, **options: Any) -> Any:
    return m.nn.functional.scaled_dot_product_attention(*inputs, **options)


def qkv(t: int, s: int, d: int = 4, dv: int = 4, lead: tuple[int, ...] = (2, 3)) -> tuple[np.ndarray, ...]:
    return normal(*lead, t, d), normal(*lead, s, d), normal(*lead, s, dv)


MASK = np.array([[True, False, True, True], [False, False, False, False], [True, True, True, True]])

ATTENTION: dict[str, Case] = {
    "plain": (attention, *qkv(3, 3)),
    "T and S differ": (attention, *qkv(3, 5)),
    "width of v": (attention, *qkv(3, 5, 4, 2)),
    "causal": (lambda m, *x: attention(m, *x, is_causal=True), *qkv(4, 4)),
    "causal, T < S": (lambda m, *x: attention(m, *x, is_causal=True), *qkv(3, 5)),
    "causal, T > S": (lambda m, *x: attention(m, *x, is_causal=True), *qkv(5, 3)),
    "scale": (lambda m, *x: attention(m, *x, scale=0.3), *qkv(3, 3)),
    "one query": (attention, *qkv(1, 5)),
    "without heads": (attention, *qkv(3, 4, lead=())),
    "one leading dimension": (attention, *qkv(3, 4, lead=(2,))),
    "boolean mask": (lambda m, q, k, v, mask: attention(m, q, k, v, mask), *qkv(3, 4), booleans(3, 4) | np.eye(3, 4, dtype=bool)),
    "boolean mask of a batch": (lambda m, q, k, v, mask: attention(m, q, k, v, mask), *qkv(3, 4), np.array([[1, 0, 1, 1], [1, 1, 0, 0]], bool)[:, None, None]),
    "row that may look at nothing": (lambda m, q, k, v, mask: attention(m, q, k, v, mask), *qkv(3, 4), MASK),
    "numbers as a mask": (lambda m, q, k, v, mask: attention(m, q, k, v, mask), *qkv(3, 4), normal(3, 4)),
    "numbers as a mask, broadcast": (lambda m, q, k, v, mask: attention(m, q, k, v, mask), *qkv(3, 4), normal(2, 1, 1, 4)),
    "-inf as a mask": (lambda m, q, k, v, mask: attention(m, q, k, v, mask.detach()), *qkv(3, 4), np.where(np.tri(3, 4), 0, -INF)),
    "dtypes": (attention, *[x.astype(t) for x, t in zip(qkv(3, 3), (np.float32, np.float64, np.float64), strict=True)]),
    "dtype of the mask": (lambda m, q, k, v, mask: attention(m, q, k, v, mask), *[x.astype(np.float32) for x in qkv(3, 4)], normal(3, 4)),
    "integers as a mask": (lambda m, q, k, v, mask: attention(m, q, k, v, mask), *qkv(3, 4), integers(2, 3, 4)),
    "widths of q and k": (lambda m, q, v: attention(m, q, v, v), normal(1, 1, 3, 4), normal(1, 1, 3, 5)),
    "float32": (lambda m, *x: attention(m, *x, is_causal=True), *[x.astype(np.float32) for x in qkv(40, 40, 16, 16)]),
    "large scores": (attention, *[x * 40 for x in qkv(6, 6)]),
    "from views, as a GPT makes them": (
        lambda m, x: attention(m, *[part.view(2, 5, 2, 3).transpose(1, 2) for part in x.split(6, dim=2)], is_causal=True)
        .transpose(1, 2).contiguous().view(2, 5, 6), normal(2, 5, 18)),
}  # fmt: skip


@table(ATTENTION)
def test_attention(case: Case):
    compare(*case)
