"""Writing in place, against PyTorch: the same values and gradients; what PyTorch refuses is refused or right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from compare import Case, attempt, compare, same, table, torch

import tensorlite as tl
from tensorlite import inplace
from tensorlite.check.samples.sample import integers, normal, positive

NO_ARGUMENTS = {
    "abs", "neg", "square", "reciprocal", "sqrt", "rsqrt", "exp", "exp2", "expm1", "log", "log2", "log10", "log1p",
    "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "erf", "sigmoid", "relu", "floor", "ceil",
    "round", "trunc", "frac", "sign", "nan_to_num", "tril", "triu",
}  # fmt: skip
NUMBERS = {
    "mul", "multiply", "div", "divide", "true_divide", "pow", "remainder", "fmod", "eq", "ne", "lt", "le",
    "gt", "ge", "clamp_min", "clamp_max", "add", "sub",
}  # fmt: skip

CASES: dict[str, Case] = {
    **{name: (lambda m, x, name=name: getattr(x, f"{name}_")(), positive(2, 3) * 0.45) for name in NO_ARGUMENTS},
    **{name: (lambda m, x, name=name: getattr(x, f"{name}_")(0.8), positive(2, 3)) for name in NUMBERS},
    **{
        f"{name} of Tensors": (lambda m, x, y, name=name: getattr(x, f"{name}_")(y), positive(2, 3), positive(3))
        for name in NUMBERS
    },
    "clamp": (lambda m, x: x.clamp_(0.7, max=1.2), positive(2, 3)),
    "cumsum": (lambda m, x: x.cumsum_(1), normal(2, 3)),
    "cumprod": (lambda m, x: x.cumprod_(0), positive(2, 3)),
    "add with alpha": (lambda m, x, y: x.add_(y, alpha=-2).sub_(y, alpha=0.5), normal(2, 3), normal(3)),
    "addcmul": (lambda m, x, y: x.addcmul_(y, y, value=0.5), normal(2, 3), normal(3)),
    "addcdiv": (lambda m, x, y: x.addcdiv_(y, y + 1, value=0.5), normal(2, 3), positive(3)),
    "lerp": (lambda m, x, y: x.lerp_(y, 0.3), normal(2, 3), normal(2, 3)),
    "masked_fill": (lambda m, x: x.masked_fill_(m.arange(3) > 1, -7), normal(2, 3)),
    "fill": (lambda m, x: x.fill_(0.1), normal(2, 3)),
    "fill with a Tensor": (lambda m, x, y: x.fill_(y), normal(2, 3), normal()),
    "zero": (lambda m, x: x.zero_(), normal(2, 3)),
    "copy": (lambda m, x, y: x.copy_(y, non_blocking=True), normal(2, 3), normal(3)),
    "copy of integers": (lambda m, x, i: x.copy_(i), normal(2, 3), integers(5, 2, 3)),
    "scatter": (lambda m, x, i: x.scatter_(1, i, 2.0), normal(2, 3), np.array([[0], [2]])),
    "scatter_add": (lambda m, x, i, y: x.scatter_add_(1, i, y), normal(2, 3), np.array([[0, 0], [2, 1]]), normal(2, 2)),
    "index_add": (lambda m, x, i, y: x.index_add_(0, i, y, alpha=2), normal(2, 3), np.array([1, 1]), normal(2, 3)),
    "index_copy": (lambda m, x, i, y: x.index_copy_(0, i, y), normal(3, 3), np.array([2, 0]), normal(2, 3)),
    "index_fill": (lambda m, x, i: x.index_fill_(1, i, 0.1), normal(2, 3), np.array([2, 0])),
    "addmm": (lambda m, x, a, b: x.addmm_(a, b, beta=0.5), normal(2, 2), normal(2, 3), normal(3, 2)),
    "baddbmm": (lambda m, x, a, b: x.baddbmm_(a, b, alpha=2), normal(1, 2, 2), normal(1, 2, 3), normal(1, 3, 2)),
}

INTEGERS: dict[str, Case] = {
    **{
        f"bitwise_{name}": (
            lambda m, x, y, name=name: getattr(x, f"bitwise_{name}_")(y),
            integers(8, 3),
            integers(8, 3),
        )
        for name in ("and", "or", "xor")
    },
    **{
        f"logical_{name}": (
            lambda m, x, y, name=name: getattr(x, f"logical_{name}_")(y),
            integers(2, 3),
            integers(2, 3),
        )
        for name in ("and", "or", "xor")
    },
    "logical_not": (lambda m, x: x.logical_not_(), integers(2, 3)),
    "bitwise_not": (lambda m, x: x.bitwise_not_(), integers(8, 3)),
    "mul": (lambda m, x: x.mul_(3).add_(1).sub_(x), integers(8, 3)),
    "floor_divide": (lambda m, x: x.floor_divide_(2).remainder_(3).pow_(2), integers(8, 3)),
    "fill": (lambda m, x: x.fill_(7).masked_fill_(x > 3, 2), integers(8, 3)),
    "copy of floats": (lambda m, x: x.copy_(m.tensor([1.7, -2.7, 0.0])), integers(8, 3)),
    "float added": (lambda m, x: x.add_(0.5), integers(8, 3)),
    "float alpha": (lambda m, x: x.add_(1, alpha=0.5), integers(8, 3)),
    "divided": (lambda m, x: x.div_(2), integers(8, 3)),
    "exp": (lambda m, x: x.exp_(), integers(8, 3)),
    "Tensor of floats": (lambda m, x: x.mul_(m.ones(3)), integers(8, 3)),
    "integer into boolean": (lambda m, x: (x > 3).add_(1), integers(8, 3)),
    "float64 into float32": (lambda m, x: x.float().add_(m.ones(3, dtype=m.float64)), integers(8, 3)),
    "operators": (lambda m, x: augmented(x), integers(8, 3)),
    "normal": (lambda m, x: x.normal_(), integers(8, 3)),
    "uniform": (lambda m, x: x.uniform_(), integers(8, 3)),
    "exponential": (lambda m, x: x.exponential_(), integers(8, 3)),
}


def augmented(x: Any) -> Any:
    x += 2
    x -= 1
    x *= 3
    x //= 2
    x %= 5
    x **= 2
    x &= 6
    x |= 1
    return x


def known(cases: dict[str, Case]) -> dict[str, Case]:
    """Those whose names stand for a method that there is."""
    words = {name: name.split()[0] for name in cases}
    return {
        name: case
        for name, case in cases.items()
        if words[name] not in inplace.NAMES or hasattr(tl.Tensor, words[name])
    }


def inside(f: Callable[..., Any]) -> Callable[..., Any]:
    """f of the result of a node. Every input is an output too, because PyTorch gives one that was written over zeros as
    its gradient, and we None."""
    return lambda m, x, *rest: (f(m, x * 1, *rest), x * 1, *[each * 1 for each in rest])


@table(known(CASES))
def test_inside_the_graph(case: Case):
    compare(inside(case[0]), *case[1:])


@table(known(CASES))
def test_a_leaf_under_no_grad(case: Case):
    f, *inputs = case

    def write(m: Any, x: Any, *rest: Any) -> Any:
        with m.no_grad():
            same_one = f(m, x, *rest)
        assert same_one is x
        return x * 2

    compare(write, *inputs)


@table(known(CASES))
def test_a_leaf_while_recording_is_refused(case: Case):
    compare(*case)


@table(known(CASES))
def test_a_part_of_a_plain_tensor(case: Case):
    """A view is written through: the whole sees it."""
    f, x, *rest = case

    def write(m: Any, *xs: Any) -> Any:
        whole = m.tensor(np.stack([x, x]))
        f(m, whole[1], *xs)
        return whole

    compare(write, *rest, differentiate=False)


@table(known(INTEGERS))
def test_integers(case: Case):
    compare(*case)


def test_every_name_is_tried():
    tried = {name.split()[0] for name in [*CASES, *INTEGERS]}
    assert set(inplace.NAMES) <= tried
    assert all(hasattr(torch.Tensor, f"{name}_") for name in inplace.NAMES)


MORE: dict[str, Case] = {
    "a number": (lambda m, x: (x * 1).add_(1).mul_(x).exp_(), normal()),
    "of nothing": (lambda m, x: (x * 1).add_(1).mul_(x), normal(0, 3)),
    "into a smaller one": (lambda m, x, y: (x * 1).add_(y), normal(3), normal(2, 3)),
    "into a smaller leaf": (lambda m, x, y: x.detach().mul_(y.detach()), normal(3), normal(2, 3)),
    "copied into a smaller one": (lambda m, x, y: (x * 1).copy_(y), normal(3), normal(2, 3)),
    "filled with several": (lambda m, x: (x * 1).fill_(x), normal(3)),
    "of an expanded": (lambda m, x: x.detach().expand(2, 3).add_(1), normal(3)),
    "float64 into float32": (lambda m, x, y: (x * 1).mul_(y.detach()), normal(3).astype(np.float32), normal(3)),
    "chained": (lambda m, x, y: (x * 1).mul_(y).add_(x).mul_(y), normal(3), normal(3)),
    "into a plain Tensor": (lambda m, x: m.zeros(3, dtype=m.float64).add_(x).mul_(x), normal(3)),
    "set in a plain Tensor": (lambda m, x: put(m.zeros(2, 3, dtype=m.float64), x), normal(3)),
    "std below 0": (lambda m, x: x.detach().normal_(0, -1), normal(3)),
    "uniform, exchanged": (lambda m, x: x.detach().uniform_(1, 0), normal(3)),
    "exponential, negative": (lambda m, x: x.detach().exponential_(-1), normal(3)),
    "bernoulli, beyond 1": (lambda m, x: x.detach().bernoulli_(1.5), normal(3)),
    "bernoulli, certain": (lambda m, x: (x.detach().bernoulli_(1), (x > 9).bernoulli_(m.ones(3)),
        x.long().bernoulli_(0)), normal(3)),
    "cut off by zero": (lambda m, x: (x * 1).zero_().add_(x * 2), normal(3)),
}  # fmt: skip


def put(x: Any, value: Any) -> Any:
    x[1] = value
    x[:, 0] = value[:2] * 2
    return x


@table(MORE)
def test_more(case: Case):
    compare(*case)


def after(op: str) -> Callable[..., Any]:
    """What PyTorch's engine watches: a Tensor is kept by an op, then written in place."""

    def f(m: Any, x: Any, *rest: Any) -> Any:
        h = x * 1
        y = {"exp": lambda: h.exp(), "mul": lambda: h * h, "sum": lambda: h.sum(), "add": lambda: h + 1,
             "matmul": lambda: h @ h, "softmax": lambda: m.softmax(h, -1), "view": lambda: h.view(-1) * h.view(-1),
             "sigmoid": lambda: h.sigmoid()}[op]()  # fmt: skip
        h.mul_(2)
        return y + h.sum()

    return f


@pytest.mark.parametrize("op", ["exp", "mul", "sum", "add", "matmul", "softmax", "view", "sigmoid"])
def test_written_after_use(op: str):
    """Where PyTorch gives a gradient, so do we, and the same; where it refuses, we refuse or are right."""
    x = normal(2, 2)
    expected, _ = attempt(torch, after(op), (x,), True)
    found, refused = attempt(tl, after(op), (x,), True)
    without, _ = attempt(tl, lambda m, x: use(m, op, x), (x,), True)
    assert (found is None) == (refused is not None)
    if expected is not None and found is not None:
        same(found[1][0].numpy(), expected[1][0].numpy(), "gradient")
    if found is not None:
        same(found[1][0].numpy(), without[1][0].numpy(), "gradient")
    else:
        assert op == "view"


def use(m: Any, op: str, x: Any) -> Any:
    """As `after`, with the form that returns a new Tensor."""
    h = x * 1
    y = {"exp": lambda: h.exp(), "mul": lambda: h * h, "sum": lambda: h.sum(), "add": lambda: h + 1,
         "matmul": lambda: h @ h, "softmax": lambda: m.softmax(h, -1), "view": lambda: h.view(-1) * h.view(-1),
         "sigmoid": lambda: h.sigmoid()}[op]()  # fmt: skip
    return y + (h * 2).sum()


def test_a_write_to_a_plain_tensor_is_seen_by_backward():
    for m in (torch, tl):
        w, x = m.ones(3).requires_grad_(), m.ones(3)
        for write in (
            lambda x: x.mul_(2),
            lambda x: x.view(-1)[1:].zero_(),
            lambda x: x.__setitem__(0, 5.0),
            lambda x: x.exp_(),
        ):
            y = w * x
            write(x)
            with pytest.raises(RuntimeError, match=r"modified by an inplace operation|written in place"):
                y.sum().backward()


@pytest.mark.parametrize("name, options, mean, low, high", [
    ("normal_", (2.0, 0.5), 2.0, -2, 6), ("uniform_", (-1.0, 3.0), 1.0, -1, 3),
    ("exponential_", (2.0,), 0.5, 1e-45, 40), ("bernoulli_", (0.25,), 0.25, 0, 1),
])  # fmt: skip
def test_drawn(name: str, options: tuple[float, ...], mean: float, low: float, high: float):
    """Other numbers than PyTorch's, of the same distribution."""
    for dtype in ("float16", "float32", "float64"):
        drawn = {}
        for m in (torch, tl):
            x = getattr(m.zeros(20000, dtype=getattr(m, dtype)), name)(*options)
            assert low <= x.min().item() <= x.max().item() <= high
            assert abs(x.double().mean().item() - mean) < 0.03
            drawn[m] = x.double().std().item()
        assert abs(drawn[tl] - drawn[torch]) < 0.03
        generators = [tl.Generator().manual_seed(3) for _ in range(2)]
        a, b = [getattr(tl.zeros(5), name)(*options, generator=each).tolist() for each in generators]
        assert a == b
