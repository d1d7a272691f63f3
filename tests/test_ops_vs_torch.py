"""The same line of code in PyTorch and in tensorlite: the same values, gradients, shapes, dtypes, and refusals.

    "mm and bmm": (lambda m, a, b: (m.mm(a, b), m.bmm(a[None], b[None])), normal(2, 3), normal(3, 2)),

`m` is either library, so a case also tests that names, argument order and defaults are PyTorch's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
from samples import booleans, distinct, integers, normal, positive, rng

import tensorlite as tl

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests and is not installed")

Case = tuple[Any, ...]  # a function of the library and the inputs, then the inputs
INF, NAN = math.inf, math.nan
START = rng.bit_generator.state

OPEN = {  # what is known to differ
    "norm at 0": "the row of sqrt gives 0/0 where PyTorch's norm takes the subgradient 0",
    "std of equal numbers": "as norm at 0",
    "softmax of a number": "the plain formula writes into a NumPy scalar",
    "softmax of no classes": "NumPy has no maximum of nothing; PyTorch gives an empty result",
    "relu of nan": "nan > 0 is false, so no gradient passes; PyTorch lets it pass",
}


# Running a case in both libraries --------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """NumPy warns of infinities and nan, PyTorch does not; here they are wanted. Each test draws the same numbers."""
    rng.bit_generator.state = START
    with np.errstate(all="ignore"):
        yield


def run(m: Any, f: Callable[..., Any], inputs: Case, differentiate: bool) -> tuple[list[Any], list[Any]]:
    """The outputs, and the gradients of the floating inputs."""
    xs = [m.tensor(x) if isinstance(x, np.ndarray) else x for x in inputs]
    floats = [x for x in xs if isinstance(x, m.Tensor) and x.is_floating_point()] if differentiate else []
    for x in floats:
        x.requires_grad_()
    ys = f(m, *xs)
    ys = list(ys) if isinstance(ys, (tuple, list)) else [ys]
    upstream = np.random.default_rng(0)
    for y in ys:
        g = np.asarray(upstream.standard_normal(tuple(y.shape)))
        if y.requires_grad:
            y.backward(m.tensor(g).to(y.dtype), retain_graph=True)
    return ys, [x.grad for x in floats]


def attempt(*arguments: Any) -> tuple[Any, Exception | None]:
    try:
        return run(*arguments), None
    except (RuntimeError, IndexError, ValueError, TypeError) as refusal:
        return None, refusal


def compare(f: Callable[..., Any], *inputs: Any, differentiate: bool = True) -> None:
    """Run f in both libraries. What PyTorch refuses tensorlite must refuse too."""
    expected, refusal = attempt(torch, f, inputs, differentiate)
    found, refused = attempt(tl, f, inputs, differentiate)
    if refusal is not None:
        assert refused is not None, f"PyTorch refuses: {refusal}; tensorlite gives {found}"
        return
    if refused is not None:
        raise refused
    for what, ours, theirs in zip(("value", "gradient"), found, expected, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert (a is None) == (b is None), what
            if a is not None:
                same(a.detach().numpy(), b.detach().numpy(), what)


def same(a: np.ndarray, b: np.ndarray, what: str) -> None:
    assert a.shape == b.shape and a.dtype == b.dtype, f"{what}: {a.shape} {a.dtype}, PyTorch {b.shape} {b.dtype}"
    tolerance = {"float64": 1e-12, "float32": 1e-5, "float16": 4e-3}.get(str(b.dtype), 0)
    largest = np.abs(b[np.isfinite(b)]).max(initial=1) if tolerance else 0
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * float(largest), err_msg=what)


def table(cases: dict[str, Case]) -> Any:
    def case(name: str) -> Any:
        marks = [pytest.mark.xfail(strict=True, reason=OPEN[name])] if name in OPEN else []
        return pytest.param(cases[name], id=name, marks=marks)

    return pytest.mark.parametrize("case", [case(name) for name in cases])


def call(name: str, *args: Any, **options: Any) -> Callable[..., Any]:
    return lambda m, *xs: getattr(m, name)(*xs, *args, **options)


def method(name: str, *args: Any, **options: Any) -> Callable[..., Any]:
    return lambda m, x, *xs: getattr(x, name)(*xs, *args, **options)


def functional(name: str, *args: Any, **options: Any) -> Callable[..., Any]:
    return lambda m, *xs: getattr(m.nn.functional, name)(*xs, *args, **options)


# Reductions ------------------------------------------------------------------------------------------------

REDUCTIONS: dict[str, Case] = {
    f"{name} of {shape} over {dim}, keepdim {keepdim}": (call(name, dim, keepdim=keepdim), distinct(*shape))
    for name in ("sum", "mean", "amax", "amin", "var", "std", "logsumexp", "all", "any", "argmax", "max", "min")
    for shape, dims in (((2, 3), (0, -1, 2)), ((2, 3, 4), (1, (0, 2), (-1, -3))), ((4, 1), (0,)))
    for dim in dims
    for keepdim in (False, True)
    if not (isinstance(dim, tuple) and name in ("argmax", "max", "min"))
}
REDUCTIONS |= {
    f"{name} of {shape}": (method(name), distinct(*shape))
    for name in ("sum", "mean", "max", "min", "argmax", "argmin", "all", "any", "norm", "var", "std")
    for shape in ((2, 3), (4,), ())
    if shape or name not in ("var", "std")
}
REDUCTIONS |= {
    f"{name} of {dtype}": (method(name), np.array([[1, 0, 2]], dtype))
    for name in ("sum", "mean", "max", "argmax", "all", "any", "var")
    for dtype in ("bool", "uint8", "int32", "int64", "float16")
    # PyTorch refuses the first, and its truth values of bytes are bytes.
    if (name, dtype) not in {("argmax", "bool"), ("all", "uint8"), ("any", "uint8")}
}
REDUCTIONS |= {f"var, correction {c}": (method("var", -1, correction=c), normal(3, 5)) for c in (0, 1, 2, 1.5)}
REDUCTIONS |= {f"norm {p}": (method("norm", p), normal(2, 3)) for p in (1, 2, 3, INF)}
REDUCTIONS |= {
    "var of one": (method("var"), normal(1)),
    "var with correction 0 of one": (method("var", correction=0), normal(1)),
    "var, too few": (lambda m, x: x.detach().var(0, correction=3), normal(2, 3)),
    "var, unbiased": (method("var", -1, unbiased=False), normal(3, 5)),
    "std, correction 0": (method("std", 0, correction=0, keepdim=True), normal(3, 5)),
    "std of equal numbers": (method("std"), np.ones(3)),
    "norm over a dimension": (method("norm", 2, -1, True), normal(2, 3)),
    "norm at 0": (method("norm"), np.zeros(3)),
    "sum, dtype": (lambda m, x: x.sum(dtype=m.float64), normal(2, 3).astype(np.float32)),
    "sum over no dimensions": (method("sum", dim=()), normal(2, 3)),
    "sum of nothing": (method("sum"), normal(0)),
    "sum over nothing": (method("sum", 1), normal(2, 0)),
    "amax over nothing": (method("amax", 1), normal(2, 0)),
    "mean of nothing": (method("mean"), normal(0)),
    "all and any of nothing": (lambda m, x: (x.all(), x.any()), normal(0)),
    "logsumexp of -inf": (method("logsumexp", -1), np.array([[-INF, -INF], [-INF, 1.0], [INF, 1.0]])),
    "logsumexp, large": (method("logsumexp", 0), np.array([1000.0, 1001.0])),
    "max with nan": (lambda m, x: (x.detach().max(), x.argmax(), *x.max(0)), np.array([1.0, NAN, 3.0, NAN])),
    "min with nan": (lambda m, x: (x.detach().min(), x.argmin(), *x.min(0)), np.array([1.0, NAN, 3.0])),
    "max with ties": (lambda m, x: (x.max(), x.amax(0), x.max(0).values), np.array([1.0, 3.0, 3.0])),
    "max of two": (lambda m, a, b: (m.max(a, b), a.min(b)), np.array([1.0, 4.0, 2.0]), np.array([1.0, 2.0, 3.0])),
}


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:(var|std).*degrees of freedom")
@table(REDUCTIONS)
def test_reductions(case: Case):
    compare(*case)


# Shapes ----------------------------------------------------------------------------------------------------

SHAPES: dict[str, Case] = {
    "reshape": (lambda m, x: (x.reshape(3, -1), x.reshape((6,)), x.view(-1), m.reshape(x, (2, 1, 3))), normal(2, 3)),
    "reshape of nothing": (lambda m, x: (x.reshape(0), x.reshape(3, 0, 5)), normal(0, 3)),
    "reshape to a number": (lambda m, x: (x.reshape(()), x.view(1, 1)), normal(1)),
    "view_as": (lambda m, x, y: x.view_as(y), normal(2, 3), normal(3, 2)),
    "flatten": (lambda m, x: (x.flatten(), x.flatten(1), x.flatten(0, 1), m.flatten(x, -2, -1)), normal(2, 3, 4)),
    "flatten of a number": (method("flatten"), normal()),
    "flatten, wrong dimension": (method("flatten", 3), normal(2, 3)),
    "squeeze": (lambda m, x: (x.squeeze(), x.squeeze(0), x.squeeze(-1), x.squeeze(1)), normal(1, 3, 1)),
    "squeeze of two dimensions": (method("squeeze", (0, 2)), normal(1, 3, 1)),
    "squeeze of a number": (lambda m, x: (x.squeeze(), x.squeeze(0), x.squeeze(-1)), normal()),
    "squeeze, wrong dimension": (method("squeeze", 2), normal(1, 3)),
    "unsqueeze": (lambda m, x: (x.unsqueeze(0), x.unsqueeze(-1), x.unsqueeze(2), x.unsqueeze(-3)), normal(2, 3)),
    "unsqueeze of a number": (lambda m, x: (x.unsqueeze(0), x.unsqueeze(-1)), normal()),
    "unsqueeze, wrong dimension": (method("unsqueeze", 4), normal(2, 3)),
    "permute": (lambda m, x: (x.permute(2, 0, 1), x.permute((0, -1, 1)), m.permute(x, (-1, -2, -3))), normal(2, 3, 4)),
    "permute, square, negative": (lambda m, x: (x.permute(0, -1, 1), x.permute(-1, 0, -2)), normal(3, 3, 3)),
    "permute, twice the same": (method("permute", 0, 0), normal(2, 3)),
    "transpose": (lambda m, x: (x.transpose(0, 1), x.transpose(-1, 0), m.transpose(x, 1, 2), x.mT), normal(2, 3, 4)),
    "t": (lambda m, x: (x.t(), x.T, m.t(x)), normal(2, 3)),
    "t of a vector": (method("t"), normal(3)),
    "expand": (lambda m, x: (x.expand(2, 3), x.expand(4, -1, 3), x.expand((2, -1))), normal(1, 3)),
    "expand to nothing": (method("expand", 0, 3), normal(1, 3)),
    "expand, -1 in front": (method("expand", -1, 3), normal(3)),
    "expand, too few": (method("expand", 3), normal(1, 3)),
    "expand_as": (method("expand_as"), normal(3), normal(2, 3)),
    "cat": (lambda m, x, y: (m.cat([x, y]), m.cat((x, y), dim=0), m.cat([x], 1)), normal(2, 3), normal(1, 3)),
    "cat of one twice": (lambda m, x: m.cat([x, x], -1), normal(2, 3)),
    "cat of dtypes": (lambda m, x, y: m.cat([x, y]), normal(3), integers(4, 2)),
    "cat, wrong shapes": (lambda m, x, y: m.cat([x, y]), normal(2, 3), normal(2, 2)),
    "cat, wrong dimension": (lambda m, x: m.cat([x, x], 2), normal(2, 3)),
    "cat of nothing": (lambda m: m.cat([]),),
    "cat of numbers": (lambda m, x: m.cat([x, x]), normal()),
    "stack": (lambda m, x, y: (m.stack([x, y]), m.stack((x, y), 1), m.stack([x], dim=-1)), normal(2, 3), normal(2, 3)),
    "stack of numbers": (lambda m, x: (m.stack([x, x]), m.stack([x], -1)), normal()),
    "stack, wrong shapes": (lambda m, x, y: m.stack([x, y]), normal(2), normal(3)),
    "stack, wrong dimension": (lambda m, x: m.stack([x, x], 3), normal(2)),
    "split": (lambda m, x: (*x.split(2), *m.split(x, 3, 1), *x.split([1, 4]), *x.split((2, 1), dim=-1)), normal(5, 3)),
    "split, wrong sizes": (method("split", [1, 1]), normal(5, 3)),
    "split of nothing": (method("split", 2), normal(0, 3)),
    "chunk": (lambda m, x: (*x.chunk(2), *m.chunk(x, 3, dim=-1), *x.chunk(9)), normal(5, 4)),
    "chunk of nothing": (method("chunk", 2), normal(0, 3)),
    "unbind": (lambda m, x: (*x.unbind(), *m.unbind(x, -1)), normal(2, 3)),
    "flip": (lambda m, x: (x.flip(0), x.flip(0, 1), x.flip((-1,)), m.flip(x, [0])), normal(2, 3)),
    "tril": (lambda m, x: (x.tril(), m.tril(x, 1), m.triu(x, diagonal=-1), x.triu(1)), normal(2, 3, 4)),
    "triu of ones": (lambda m: m.triu(m.ones(3, 3), diagonal=1).bool(),),
    "clone and contiguous": (lambda m, x: (x.clone(), x.T.contiguous(), x.contiguous()), normal(2, 3)),
    "to": (lambda m, x: (x.to(m.float32), x.double(), x.float() * 2, x.half(), x.to("cpu")), normal(2, 3)),
    "to integers": (lambda m, x: (x.long(), x.int(), x.bool(), x.to(m.uint8)), positive(2, 3) * 3),
    "to of integers": (lambda m, x: (x.float(), x.bool(), x.to(m.int32), x.double()), integers(3, 2)),
    "type_as": (method("type_as"), normal(2, 3), integers(3, 2)),
}


@table(SHAPES)
def test_shapes(case: Case):
    compare(*case)


# Elementwise -----------------------------------------------------------------------------------------------

EDGES = np.array([-INF, -100.0, -20.0, -2.5, -1.0, -0.1, 0.0, 1e-8, 0.1, 1.0, 3.0, 6.5, 20.0, 100.0, INF])
ELEMENTWISE = [
    "exp", "log", "sqrt", "rsqrt", "sin", "cos", "tanh", "sigmoid", "erf", "relu", "abs", "neg", "sign", "isnan",
    "isinf", "isfinite", "logical_not",
]  # fmt: skip


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise(name: str):
    for dtype in ("float64", "float32"):
        compare(call(name), EDGES.astype(dtype))
        compare(method(name), normal(2, 3).astype(dtype))
        compare(call(name), positive(0, 2).astype(dtype))
        compare(call(name), np.array(0.7, dtype))
        if name != "sign":  # of nan: PyTorch says 0
            compare(call(name), np.array([NAN], dtype), differentiate=False)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16"])
@pytest.mark.parametrize("name", ["exp", "log", "sqrt", "tanh", "sigmoid", "erf", "relu", "abs", "neg", "isnan"])
def test_elementwise_of(name: str, dtype: str):
    if dtype != "bool" or name not in ("relu", "abs"):  # PyTorch refuses these
        compare(call(name), np.array([1, 0, 1], dtype))


def test_relative_accuracy_of_sigmoid():
    """Far left the sigmoid is small, not 0: log(sigmoid(x)) depends on it."""
    x = tl.tensor([-80.0, -40.0, -20.0])
    np.testing.assert_allclose(tl.sigmoid(x).numpy(), np.exp(x.numpy()), rtol=1e-5)


SMOOTH = ["add", "subtract", "multiply", "divide", "maximum", "minimum"]


@pytest.mark.parametrize("name", [*SMOOTH, "pow", "remainder", "floor_divide"])
def test_two_operands(name: str):
    a, b = np.meshgrid([-INF, -2.0, -0.5, 0.0, 1.0, 3.0, INF], [-2.0, -1.0, 0.0, 0.5, 2.0, INF])
    compare(call(name), a, b, differentiate=name in SMOOTH)
    compare(call(name), positive(2, 1, 3), positive(4, 1) + 0.01, differentiate=name != "floor_divide")
    compare(call(name), np.array([NAN, NAN, 1.0]), np.array([1.0, NAN, NAN]), differentiate=False)


GRID = np.array([[0.0, 0.5, 1.0, 2.0], [0.0, -1.0, -2.0, 3.0]])
CONDITION = np.array([True, False])

ARITHMETIC: dict[str, Case] = {
    **{f"x ** {p}": (lambda m, x, p=p: x**p, GRID) for p in (0, 1, 2, 3, 0.5, -1, -2, 0.0, 1.5)},
    **{f"{b} ** x": (lambda m, x, b=b: b**x, GRID) for b in (2, 0.5, 1, 0.0, 3)},
    "0 to powers": (lambda m, a, b: a**b, np.zeros(4), np.array([0.0, 0.5, 1.0, 2.0])),
    "operators": (
        lambda m, x, y: (x + y, x - y, x * y, x / y, x % y, x**y, -x, abs(x), 1 + x, 2 - x, 2 * x, 2 / x),
        positive(2, 3), positive(3) + 0.01,
    ),
    "operators of integers": (lambda m, x, y: (x // y, 7 // y, 7 % y, x // 2), integers(9, 3), integers(9, 3) + 1),
    "comparisons": (
        lambda m, x, y: (x == y, x != y, x < y, x <= y, x > y, x >= y, x == 1, x < 1), integers(2, 2, 3), integers(2, 3)
    ),
    "and, or, not of booleans": (lambda m, x, y: (x & y, x | y, ~x, True & x), booleans(2, 3), booleans(3)),
    "and, or, not of integers": (lambda m, x, y: (x & y, x | y, ~x, x & 3, 4 | x), integers(9, 2, 3), integers(9, 3)),
    "and of floats": (lambda m, x: x & x, normal(3)),
    "logical_and, logical_or": (lambda m, x, y: (m.logical_and(x, y), m.logical_or(x, y)), normal(3), np.zeros(3)),
    "where": (
        lambda m, c, x, y: (m.where(c, x, y), m.where(c, x, 0.0), m.where(c, -INF, y), m.where(c, 1, 0)),
        booleans(2, 3), normal(3), normal(2, 1),
    ),
    "where does not pass nan on": (lambda m, c, x: m.where(c, x, 0.0), CONDITION, np.array([1.0, NAN])),
    "where of floats": (lambda m, x: m.where(x, x, x), normal(3)),
    "masked_fill": (
        lambda m, x, c: (x.masked_fill(c, -INF), x.masked_fill(c, 2), x.masked_fill(~c, 0.0)), normal(2, 3), booleans(3)
    ),
    "masked_fill of floats": (lambda m, x: x.masked_fill(x, 0.0), normal(3)),
    "integer division": (lambda m, x: (x / 2, x // 2, x % 3, -x // 2, -x % 3, x / x), np.array([1, 2, 3, 7])),
    "negative integer power": (lambda m, x: x**-1, np.array([1, 2])),
    "minus of booleans": (lambda m, x: -x, booleans(3)),
    "difference of booleans": (lambda m, x: x - x, booleans(3)),
    "broadcasting": (lambda m, x, y, z: x * y + z, normal(2, 1, 3), normal(4, 1), normal()),
    "no broadcasting": (lambda m, x, y: x + y, normal(2, 3), normal(2)),
    "size 0": (lambda m, x, y: (x * y, (x + y).sum()), normal(0, 3), normal(1, 3)),
    "relu of nan": (call("relu"), np.array([NAN, 1.0])),
    **{f"mse_loss, {how}": (functional("mse_loss", reduction=how), normal(2, 3), normal(2, 3))
       for how in ("mean", "sum", "none")},
}  # fmt: skip


@table(ARITHMETIC)
def test_arithmetic(case: Case):
    compare(*case)


# How dtypes mix --------------------------------------------------------------------------------------------

DTYPES = ["bool", "uint8", "int32", "int64", "float16", "float32", "float64"]
BOOLEANS = {"bool", "bool 0-d", "True"}
OPERANDS: dict[str, Any] = {
    **{dtype: np.array([1, 2], dtype) for dtype in DTYPES},
    **{f"{dtype} 0-d": np.array(2, dtype) for dtype in DTYPES},
    "True": True,
    "2": 2,
    "2.0": 2.0,
}
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
    """Arrays, 0-dimensional arrays and Python numbers of every dtype, each with each."""
    wrong = []
    for a, b in product(OPERANDS, OPERANDS):
        if {a, b} <= {"True", "2", "2.0"} or (op == "**" and {a, b} <= BOOLEANS):
            continue
        try:
            compare(MIXING[op], OPERANDS[a], OPERANDS[b], differentiate=False)
        except AssertionError as error:
            if "PyTorch refuses" not in str(error):  # to subtract and to divide booleans
                wrong.append(f"{a} {op} {b}: {str(error).strip().splitlines()[0]}")
    assert not wrong, "\n".join(wrong)


def test_promotion_of_maximum_and_cat():
    for a, b in product(DTYPES, DTYPES):
        compare(lambda m, a, b: (m.maximum(a, b), m.cat([a, b])), np.array([1, 2], a), np.array([2, 1], b))


DATA = [1.5, 1, True, [1, 2.5], [[True], [False]], [], [[]], np.arange(3), np.float64(2), (1, 2)]


@pytest.mark.parametrize("data", DATA, ids=repr)
def test_tensor(data: Any):
    ours, theirs = tl.tensor(data), torch.tensor(data)
    assert str(ours.dtype) == str(theirs.dtype).removeprefix("torch.") and ours.shape == tuple(theirs.shape)
    assert ours.tolist() == theirs.tolist()


def test_creation():
    for make in (
        lambda m: (m.arange(5), m.arange(2.0, 5), m.arange(5, 0, -2), m.arange(0, 1, 0.25), m.arange(0)),
        lambda m: (m.zeros(2, 3), m.zeros(()), m.zeros(0, 3), m.ones((2,), dtype=m.int64), m.eye(2, 3)),
        lambda m: (m.full((2, 2), 7), m.full((2,), 0.5), m.full((1,), True), m.linspace(0, 1, 5)),
        lambda m: (m.zeros_like(m.ones(2, dtype=m.int32)), m.full_like(m.ones(2), 3), m.ones_like(m.zeros(3))),
        lambda m: m.tensor([m.tensor(1.0), m.tensor(2.0)]),
    ):
        compare(make)


# Matrices --------------------------------------------------------------------------------------------------

PRODUCTS = [
    ((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,)), ((2, 3), (3, 4)), ((2, 2, 3), (3,)), ((3,), (2, 3, 4)),
    ((2, 2, 3), (3, 4)), ((2, 3), (2, 3, 4)), ((2, 2, 3), (2, 3, 4)), ((2, 1, 2, 3), (4, 3, 2)), ((1, 2, 3), (5, 3, 2)),
    ((2, 4, 2, 3), (2, 4, 3, 2)), ((0, 3), (3, 2)), ((2, 0), (0, 3)), ((2, 3), (3, 0)), ((0, 2, 3), (3, 4)),
    ((2, 0, 3), (3, 4)), ((2, 2, 0), (0, 3)), ((0,), (0,)), ((0,), (0, 3)), ((2, 2, 3), (3, 0)), ((0, 2, 3), (0, 3, 4)),
    ((1, 2, 3), (0, 3, 4)), ((2, 3), (2, 3)), ((3,), (2,)), ((2, 2, 3), (3, 3, 2)),
]  # fmt: skip


@pytest.mark.parametrize("a, b", PRODUCTS, ids=str)
def test_matmul(a: tuple[int, ...], b: tuple[int, ...]):
    compare(call("matmul"), normal(*a), normal(*b))
    compare(lambda m, a, b: a @ b, normal(*a), normal(*b))
    if len(a) > 1 and len(b) > 1:  # transposed in memory
        compare(lambda m, a, b: a.mT @ b.mT, normal(*a[:-2], a[-1], a[-2]), normal(*b[:-2], b[-1], b[-2]))


MATRICES: dict[str, Case] = {
    "mm and bmm": (lambda m, a, b: (m.mm(a, b), m.bmm(a[None], b[None])), normal(2, 3), normal(3, 2)),
    "dtypes": (lambda m, a, b: a @ b, normal(2, 3), normal(3, 2).astype(np.float32)),
    "integers": (lambda m, a, b: a @ b, integers(5, 2, 3), integers(5, 3, 2)),
    "a number": (lambda m, a: a @ a, normal()),
    **{f"linear of {shape}": (functional("linear"), normal(*shape), normal(4, 3), normal(4))
       for shape in ((3,), (2, 3), (2, 5, 3), (0, 3), (2, 0, 3))},
    "linear without bias": (functional("linear"), normal(2, 3), normal(4, 3)),
    "linear of nothing": (functional("linear"), normal(2, 0), normal(4, 0), normal(4)),
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
    "list": lambda m: [0, 2],
    "repeated": lambda m: [0, 2, 2],
    "empty list": lambda m: [],
    "list of booleans": lambda m: [True, False, True, True],
    "indices": lambda m: m.tensor([3, 0]),
    "negative indices": lambda m: m.tensor([-1, -4]),
    "index matrix": lambda m: m.tensor([[0, 1], [3, 2]]),
    "0-d index": lambda m: m.tensor(2),
    "int32 indices": lambda m: m.tensor([1, 1], dtype=m.int32),
    "no indices": lambda m: m.tensor([], dtype=m.int64),
    "two index lists": lambda m: ([0, 1, 1], [2, 2, 0]),
    "indices and slice": lambda m: (m.tensor([0, 0]), slice(None), m.tensor([1, 3])),
    "slice and indices": lambda m: (slice(1, None), m.tensor([2, 0])),
    "number, slice, indices": lambda m: (0, slice(None), m.tensor([1, 4])),
    "indices, slice, number": lambda m: (m.tensor([1, 0]), slice(1, None), 2),
    "None, number, Ellipsis, indices": lambda m: (None, 0, ..., m.tensor([1, 4])),
    "indices that broadcast": lambda m: (m.tensor([[0], [2]]), m.tensor([0, 1])),
    "indices and None": lambda m: (None, m.tensor([1, 0])),
    "Ellipsis and indices": lambda m: (..., m.tensor([1, 4])),
    "0-d index and slice": lambda m: (slice(None), m.tensor(1)),
    "mask of rows": lambda m: m.tensor([True, False, True, True]),
    "mask of nothing": lambda m: m.tensor([False] * 4),
    "mask of elements": lambda m: m.arange(60).reshape(4, 3, 5) % 7 < 3,
    "mask and number": lambda m: (m.tensor([True, False, False, True]), 1),
    "slice and mask": lambda m: (slice(None), m.tensor([True, False, True])),
    "slice by tensors": lambda m: slice(m.tensor(1), m.tensor(3)),
    "True": lambda m: True,
    "out of range": lambda m: 4,
    "index out of range": lambda m: m.tensor([4]),
    "too many": lambda m: (0, 0, 0, 0),
    "mask of another length": lambda m: m.tensor([True, False]),
    "floats": lambda m: m.tensor([0.0, 1.0]),
}


@table({name: (index,) for name, index in INDICES.items()})
def test_getitem(case: Case):
    compare(lambda m, x: x[case[0](m)], normal(4, 3, 5))


REPEATED = {"repeated", "two index lists", "int32 indices"}  # PyTorch leaves open which of two values stays


@table({name: (INDICES[name],) for name in sorted(INDICES.keys() - REPEATED - OPEN.keys())})
def test_setitem(case: Case):

    def assign(m: Any, x: Any, v: Any, value: str) -> Any:
        index, y = case[0](m), x * 1
        full = (v * 1).expand(4, 3, 5)
        y[index] = {"number": 7.0, "row": v, "whole": full[index]}[value]
        return y

    for value, recording in product(("number", "row", "whole"), (False, True)):
        f = lambda m, x, v, value=value: assign(m, x, v, value)
        compare(f, normal(4, 3, 5), normal(5), differentiate=recording)


PICKS: dict[str, Case] = {
    "gather": (lambda m, x, i: (m.gather(x, 1, i), x.gather(-1, i)), normal(3, 4), integers(4, 3, 6)),
    "gather along 0": (lambda m, x, i: x.gather(0, i), normal(3, 4), integers(3, 5, 4)),
    "gather, shorter index": (lambda m, x, i: x.gather(1, i), normal(3, 4, 2), integers(4, 2, 5, 1)),
    "gather of a vector": (lambda m, x, i: x.gather(0, i), normal(4), integers(4, 2)),
    "gather of nothing": (lambda m, x, i: x.gather(1, i), normal(3, 4), integers(4, 3, 0)),
    "gather, out of range": (lambda m, x: x.gather(1, m.tensor([[9]])), normal(3, 4)),
    "gather, longer index": (lambda m, x: x.gather(1, m.zeros(4, 1, dtype=m.int64)), normal(3, 4)),
    "take_along_dim": (lambda m, x, i: m.take_along_dim(x, i, 1), normal(3, 4), integers(4, 3, 2)),
    "take_along_dim, broadcast index": (lambda m, x, i: x.take_along_dim(i, 1), normal(3, 4), integers(4, 1, 2)),
    "take_along_dim, broadcast x": (lambda m, x, i: x.take_along_dim(i, 0), normal(4, 1), integers(4, 5, 3)),
    "topk": (lambda m, x: (*x.topk(2), *m.topk(x, 1, dim=0), *x.topk(3, -1, False)), distinct(3, 4)),
    "topk of all": (method("topk", 4), distinct(4)),
    "topk of none": (method("topk", 0), distinct(4)),
    "topk, too many": (method("topk", 5), distinct(4)),
    "topk of bytes": (lambda m, x: (x.topk(2)[0], x.topk(2, largest=False)[0]), np.array([0, 5, 3, 255], np.uint8)),
    "topk with infinities": (method("topk", 3), np.array([1.0, -INF, INF, 2.0])),
    "topk with nan": (lambda m, x: x.topk(2).indices, np.array([1.0, NAN, 3.0])),
    "embedding": (functional("embedding"), integers(5, 2, 3), normal(5, 4)),
    "embedding of one": (functional("embedding"), integers(5), normal(5, 4)),
    "embedding of nothing": (functional("embedding"), integers(5, 2, 0), normal(5, 4)),
    "embedding, repeated": (functional("embedding"), np.array([1, 1, 1, 0]), normal(2, 3)),
}  # fmt: skip


@table(PICKS)
def test_picks(case: Case):
    compare(*case)


# Neural ----------------------------------------------------------------------------------------------------

ROWS = np.array([[1.0, -INF, 2.0], [-INF, -INF, 0.0], [1e4, 0.0, -1e4]])
LINE = np.linspace(-8, 8, 50)

NEURAL: dict[str, Case] = {
    "softmax of a number": (method("softmax", 0), normal()),
    "softmax of no classes": (method("softmax", -1), normal(3, 0)),
    "softmax of no rows": (method("softmax", -1), normal(0, 3)),
    "gelu, wrong form": (functional("gelu", approximate="fast"), normal(2)),
    "layer_norm, constant rows": (functional("layer_norm", (4,)), np.ones((2, 4))),
    "layer_norm in float32": (functional("layer_norm", (64,)), normal(3, 64).astype(np.float32) * 10 + 5),
    "layer_norm, wrong shape": (functional("layer_norm", (3,)), normal(2, 4)),
    "layer_norm of no rows": (functional("layer_norm", (4,)), normal(0, 4)),
    "dropout of nothing": (functional("dropout", 0.0), normal(3)),
    "dropout of all": (functional("dropout", 1.0), normal(3)),
    "dropout in evaluation": (functional("dropout", 0.5, training=False), normal(3)),
}

for _name in ("softmax", "log_softmax"):
    NEURAL |= {
        **{f"{_name} over {dim}": (call(_name, dim), normal(2, 3, 4)) for dim in (0, 1, 2, -1, -3, 3)},
        f"{_name} with -inf": (method(_name, -1), ROWS),
        f"{_name} of -inf only": (method(_name, -1), np.full((1, 2), -INF)),
        f"{_name} with nan": (method(_name, -1), np.array([[1.0, NAN], [1.0, 2.0]])),
        f"{_name} in float32": (method(_name, -1), np.array([[80, -80, 0], [1, 2, 3]], np.float32)),
    }

for _form in ("none", "tanh"):
    NEURAL |= {
        f"gelu {_form}": (functional("gelu", approximate=_form), LINE.reshape(5, 10)),
        f"gelu {_form} in float32": (functional("gelu", approximate=_form), LINE.astype(np.float32)),
        f"gelu {_form} of a number": (functional("gelu", approximate=_form), np.array(0.7)),
    }

for _n, _w, _b in product([(4,), (3, 4)], [True, False], [True, False]):
    NEURAL[f"layer_norm over {_n}, weight {_w}, bias {_b}"] = (
        lambda m, x, w, b, n=_n: m.nn.functional.layer_norm(x, n, w, b, eps=1e-3),
        normal(2, 3, 4), positive(*_n) if _w else None, normal(*_n) if _b else None,
    )  # fmt: skip


@table(NEURAL)
def test_neural(case: Case):
    compare(*case)


def cross_entropy(**options: Any) -> Callable[..., Any]:
    """Of logits, targets and, if given, weights, which have no gradient."""
    return lambda m, x, t, w=None: m.nn.functional.cross_entropy(x, t, None if w is None else w.detach(), **options)


LOSSES: dict[str, Case] = {
    "-inf": (cross_entropy(), ROWS, np.array([0, 2, 0])),
    "impossible class": (cross_entropy(), ROWS, np.array([1, 2, 0])),
    "large logits": (cross_entropy(), np.array([[1e4, 0.0], [-1e4, 1e4]], np.float32), np.array([1, 1])),
    "target too large": (cross_entropy(), normal(1, 3), np.array([3])),
    "wrong batch": (cross_entropy(), normal(2, 3), np.array([1])),
    "wrong weights": (cross_entropy(), normal(2, 3), np.array([1, 0]), positive(4)),
}
for _how in ("mean", "sum", "none"):
    for _what, _options, _target in (
        ("plain", {}, [1, 4, 0, 1]),
        ("ignored", {}, [1, -100, 0, -100]),
        ("all ignored", {}, [-100] * 4),
        ("ignoring 1", {"ignore_index": 1}, [1, 4, 0, 1]),
    ):
        _loss = cross_entropy(reduction=_how, **_options)
        LOSSES[f"{_what}, {_how}"] = (_loss, normal(4, 5), np.array(_target))
        LOSSES[f"{_what}, weights, {_how}"] = (_loss, normal(4, 5), np.array(_target), positive(5))
    _loss = cross_entropy(reduction=_how, ignore_index=2)
    LOSSES |= {
        f"(C,), {_how}": (_loss, normal(5), np.array(3)),
        f"(N, C, d), {_how}": (_loss, normal(2, 5, 3), integers(5, 2, 3)),
        f"(N, C, d, e), weights, {_how}": (_loss, normal(2, 5, 3, 2), integers(5, 2, 3, 2), positive(5)),
        f"nothing, {_how}": (_loss, normal(0, 5), integers(5, 0)),
    }


@table(LOSSES)
def test_cross_entropy(case: Case):
    compare(*case)


def attention(**options: Any) -> Callable[..., Any]:
    return functional("scaled_dot_product_attention", **options)


def qkv(t: int, s: int, d: int = 4, dv: int = 4, lead: tuple[int, ...] = (2, 3)) -> list[np.ndarray]:
    return [normal(*lead, t, d), normal(*lead, s, d), normal(*lead, s, dv)]


def cast(arrays: list[np.ndarray], *dtypes: Any) -> list[np.ndarray]:
    return [x.astype(dtype) for x, dtype in zip(arrays, dtypes, strict=True)]


CAUSAL = attention(is_causal=True)
SINGLE = [np.float32] * 3
MASK = np.array([[True, False, True, True], [False, False, False, False], [True, True, True, True]])

ATTENTION: dict[str, Case] = {
    "plain": (attention(), *qkv(3, 3)),
    "T and S differ": (attention(), *qkv(3, 5)),
    "width of v": (attention(), *qkv(3, 5, 4, 2)),
    "causal": (CAUSAL, *qkv(4, 4)),
    "causal, T < S": (CAUSAL, *qkv(3, 5)),
    "causal, T > S": (CAUSAL, *qkv(5, 3)),
    "scale": (attention(scale=0.3), *qkv(3, 3)),
    "one query": (attention(), *qkv(1, 5)),
    "without heads": (attention(), *qkv(3, 4, lead=())),
    "one leading dimension": (attention(), *qkv(3, 4, lead=(2,))),
    "boolean mask": (attention(), *qkv(3, 4), booleans(3, 4) | np.eye(3, 4, dtype=bool)),
    "boolean mask of a batch": (attention(), *qkv(3, 4), np.array([[[[True, False, True, True]]], [[[True] * 4]]])),
    "row that may look at nothing": (attention(), *qkv(3, 4), MASK),
    "numbers as a mask": (attention(), *qkv(3, 4), normal(3, 4)),
    "numbers as a mask, broadcast": (attention(), *qkv(3, 4), normal(2, 1, 1, 4)),
    "-inf in a mask": (attention(), *qkv(3, 4), np.where(np.tri(3, 4), 0, -INF)),
    "dtypes": (attention(), *cast(qkv(3, 3), np.float32, np.float64, np.float64)),
    "dtype of the mask": (attention(), *cast(qkv(3, 4), *SINGLE), normal(3, 4)),
    "integers as a mask": (attention(), *qkv(3, 4), integers(2, 3, 4)),
    "widths of q and k": (attention(), normal(1, 1, 3, 4), normal(1, 1, 3, 5), normal(1, 1, 3, 5)),
    "float32": (CAUSAL, *cast(qkv(40, 40, 16, 16), *SINGLE)),
    "large scores": (attention(), *[x * 10 for x in qkv(6, 6)]),
    "as a GPT calls it": (
        lambda m, x: (
            m.nn.functional.scaled_dot_product_attention(
                *[part.view(2, 5, 2, 3).transpose(1, 2) for part in x.split(6, dim=2)], is_causal=True
            ).transpose(1, 2).contiguous().view(2, 5, 6)
        ),
        normal(2, 5, 18),
    ),
}  # fmt: skip


@table(ATTENTION)
def test_attention(case: Case):
    compare(*case)
