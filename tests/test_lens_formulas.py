"""The formulas that the page shows in the place of a function which a rule calls: their numbers are the function's."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite.lens import mathematics, rows
from tensorlite.lens.formulas import FORMULAS, statements

rng = np.random.default_rng(0)
N, C, T, D = 5, 4, 3, 2
SIGNED, POSITIVE = rng.normal(size=(N, C)), rng.uniform(0.5, 2, size=(N, C))
TARGET = rng.integers(C, size=N)
PLACES = np.array([[0.3, 1.0, -1.0, 1.0], [2.0, 0.1, 0.2, 0.3]])  # of which a row has its largest number twice
WAYS = dict(zip("gqkv", rng.normal(size=(4, T, D))))


def _attention() -> dict[str, Any]:
    mask = rng.normal(size=(T, T))
    s = 0.7 * WAYS["q"] @ WAYS["k"].T + mask
    logsumexp = np.log(np.exp(s).sum(-1, keepdims=True))
    y = np.exp(s - logsumexp) @ WAYS["v"]
    return {**WAYS, "mask": mask, "y": y, "logsumexp": logsumexp, "is_causal": False, "scale": 0.7, "dropout_p": 0.0,
            "seed": 0}  # fmt: skip


def _normalised(centred: bool) -> dict[str, Any]:
    mean = SIGNED.mean(1, keepdims=True) if centred else None
    c = SIGNED - (mean if centred else 0)
    return {"g": POSITIVE, "x": SIGNED, "weight": rng.normal(size=C), "mean": mean, "dims": 1,
            "rstd": 1 / np.sqrt((c * c).mean(1, keepdims=True) + 1e-5)}  # fmt: skip


GIVEN: dict[str, Callable[[], dict[str, Any]]] = {
    "_product_db": lambda: {"g": SIGNED, "a": rng.normal(size=(N, 3)), "b_shape": (3, C)},
    "_power_da": lambda: {"g": SIGNED, "a": POSITIVE, "b": SIGNED + 3},
    "_power_db": lambda: {"g": SIGNED, "a": POSITIVE, "b": SIGNED, "y": POSITIVE**SIGNED},
    "_if_larger": lambda: {"g": SIGNED, "a": SIGNED, "b": np.where(SIGNED > 0.5, SIGNED, -SIGNED)},
    "_to_the_extreme": lambda: {"g": np.array([[2.0], [3.0]]), "x": PLACES, "y": PLACES.max(1, keepdims=True),
                                "dim": (1,), "keepdim": True},
    "_norm_dx": lambda: {"g": POSITIVE[:, :1], "x": SIGNED, "y": np.linalg.norm(SIGNED, 3, axis=1, keepdims=True),
                         "p": 3.0, "dim": (1,), "keepdim": True},
    "_freedom": lambda: {"x": SIGNED, "dim": None, "correction": 1},
    "_silu_slope": lambda: {"x": SIGNED},
    "_times": lambda: {"g": 3.0, "slope": SIGNED},
    "_cross_entropy_dlogits": lambda: {"g": POSITIVE[:, 0], "weight": POSITIVE[:, 1], "logits": SIGNED,
                                       "target": TARGET, "logsumexp": np.log(np.exp(SIGNED).sum(1, keepdims=True))},
    "_normalise_backward": lambda: _normalised(True),
    "_normalise_backward[:2]": lambda: _normalised(False),
    "_attend_backward": _attention,
}  # fmt: skip


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


class Transposing(np.ndarray):
    mT = property(lambda x: np.swapaxes(x, -1, -2))


WORDS: dict[str, Any] = {
    "log": np.log, "abs": np.abs, "sign": np.sign, "softmax": _softmax, "count": np.size, "spread": lambda x: x,
    "masked": lambda g, mask: np.where(mask, g, 0), "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "sum": lambda x, dim: np.sum(x, dim[0], keepdims=True), "average": lambda x: x.mean(-1, keepdims=True),
    "rowsum": lambda x: x.sum(-1, keepdims=True), "onehot": lambda t: np.eye(C)[t],
}  # fmt: skip


def _function(name: str, parameters: list[str]) -> Callable:
    modules = [vars(m) for key, m in sys.modules.items() if key.startswith("tensorlite.ops.")]
    found = [m[name] for m in modules if name in m and list(inspect.signature(m[name]).parameters) == parameters]
    assert found, f"no file of ops has a function {name}({', '.join(parameters)})"
    return found[0]


@pytest.mark.parametrize("key", FORMULAS)
def test_a_formula_has_the_numbers_of_its_function(key: str):
    name, _, parameters = key.removesuffix(")").partition("(")
    names, given, lines = parameters.split(", "), GIVEN[name](), FORMULAS[key]
    found = _function(name.removesuffix("[:2]"), names)(*(given[each] for each in names))
    results = dict(zip(lines, found)) if isinstance(lines, dict) else {"": found}  # in the order of the op's inputs
    for part, text in (lines if isinstance(lines, dict) else {"": lines}).items():
        space = {k: x.view(Transposing) if isinstance(x, np.ndarray) else x for k, x in given.items()} | WORDS
        if name == "_cross_entropy_dlogits":  # a number per row
            space |= {"g": given["g"][:, None], "weight": given["weight"][:, None]}
        for left, body in statements(text):
            space[left or "found"] = eval(compile(ast.Expression(body), key, "eval"), {}, space)
        np.testing.assert_allclose(np.asarray(space["found"]), results[part], rtol=1e-9, atol=1e-12, err_msg=part)


def _read(op: str, name: str) -> str:
    rule = rows.derivative(tl.OPS[op], tl.OPS[op].inputs.index(name))
    return re.sub(r"<[^>]*>|&#x\w+;", "", mathematics.derivative(rule, name))


def test_what_the_page_shows():
    assert _read("matmul", "b") == "∂L∂b=a⊤g"
    assert _read("pow", "a") == "∂L∂a=g⊙b⊙ab−1"
    assert _read("minimum", "a") == "∂L∂a=g·[b&gt;a]+g·[b=a]2"  # called with its arguments exchanged
    assert _read("cross_entropy", "logits") == "∂L∂logits=g⊙weight⊙(softmax(logits)−onehot(target))"
    assert _read("layer_norm", "x").startswith("∂L∂x=σ⁻¹⊙(h−average(h)−n⊙average(h⊙n))with")
    assert _read("layer_norm", "x").endswith("n=(x−μ)⊙σ⁻¹andh=g⊙weight")
    assert _read("linear_cross_entropy", "weight") == "∂L∂weight=g⊙dweight"
