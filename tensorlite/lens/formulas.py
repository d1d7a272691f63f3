"""What the functions compute that rules call, as formulas.

Written in Python, in each function's own parameters, so that a test holds their numbers against the function's. The
last line is the result; the lines before it name what stands in it. Where one function gives the gradients of all
inputs, there is a formula for each, in the order of the op's inputs.
"""

from __future__ import annotations

import ast
from functools import cache

_NORM = """
    n = (x - mean) * rstd
    h = g * weight
"""
_ATTENTION = """
    P = softmax(scale * (q @ k.mT) + mask)
    dS = P * (g @ v.mT - rowsum(g * y))
"""
FORMULAS: dict[str, str | dict[str, str]] = {
    "_product_db(g, a, b_shape)": "a.mT @ g",
    "_power_da(g, a, b)": "g * b * a ** (b - 1)",
    "_power_db(g, y, a, b)": "g * y * log(a)",
    "_if_larger(g, a, b)": "masked(g, a > b) + masked(g, a == b) / 2",
    "_to_the_extreme(g, x, y, dim, keepdim)": "masked(spread(g), x == spread(y)) / sum(x == spread(y), dim)",
    "_norm_dx(g, x, y, p, dim, keepdim)": "spread(g) * sign(x) * (abs(x) / spread(y)) ** (p - 1)",
    "_freedom(x, dim, correction)": "count(x) - correction",
    "_silu_slope(x)": "sigmoid(x) * (1 + x * (1 - sigmoid(x)))",
    "_times(g, slope)": "g * slope",
    "_cross_entropy_dlogits(g, logits, target, weight, logsumexp)":
        "g * weight * (softmax(logits) - onehot(target))",
    "_normalise_backward(g, x, weight, mean, rstd, dims)": {
        "x": _NORM + "rstd * (h - average(h) - n * average(h * n))",
        "weight": "g * ((x - mean) * rstd)",
        "bias": "g",
    },
    "_normalise_backward[:2](g, x, weight, mean, rstd, dims)": {
        "x": _NORM.replace("(x - mean)", "x") + "rstd * (h - n * average(h * n))",
        "weight": "g * (x * rstd)",
    },
    "_attend_backward(g, q, k, v, mask, y, logsumexp, is_causal, scale, dropout_p, seed)": {
        "q": _ATTENTION + "scale * (dS @ k)",
        "k": _ATTENTION + "scale * (dS.mT @ q)",
        "v": _ATTENTION.partition("dS")[0] + "P.mT @ g",
        "mask": _ATTENTION + "dS",
    },
}  # fmt: skip


def formula(body: ast.expr, left: str, name: str) -> list[tuple[str, ast.expr]]:
    """The rule with the syntax tree `body` by the input `name`: what is defined first, by name, and last, under "", the
    derivative. `left` is what the rule gives: "dx, dw" for a joint one, of which a tuple has a part for each."""
    if isinstance(body, ast.Tuple):
        body = dict(zip(left.split(", "), body.elts)).get(f"d{name}", body)
    call, part = (body.value, "[:2]") if isinstance(body, ast.Subscript) else (body, "")
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
        parameters, lines = _table().get(call.func.id + part, ([], ""))
        text = lines.get(name, "") if isinstance(lines, dict) else lines
        if text and len(parameters) == len(call.args):
            return [(left, _put(x, parameters, call.args)) for left, x in statements(text)]
    return [("", body)]


def inlined(call: ast.Call) -> ast.expr | None:
    """What stands in a formula in the place of a call, if the table knows its function, and in one line."""
    parameters, lines = _table().get(call.func.id if isinstance(call.func, ast.Name) else "", ([], ""))
    if isinstance(lines, dict) or len(parameters) != len(call.args):
        return None
    return _put(statements(lines)[0][1], parameters, call.args)


def statements(text: str) -> list[tuple[str, ast.expr]]:
    """Lines of a formula: (name, expression), the last without a name."""
    found = []
    for line in ast.parse("\n".join(line.strip() for line in text.strip().splitlines())).body:
        assert isinstance(line, (ast.Assign, ast.Expr))
        found.append((ast.unparse(line.targets[0]) if isinstance(line, ast.Assign) else "", line.value))
    return found


@cache
def _table() -> dict[str, tuple[list[str], str | dict[str, str]]]:
    found = {}
    for key, lines in FORMULAS.items():
        name, _, parameters = key.removesuffix(")").partition("(")
        found[name] = (parameters.split(", "), lines)
    return found


def _put(x: ast.expr, parameters: list[str], arguments: list[ast.expr]) -> ast.expr:
    """`x` with a call's arguments in the place of the parameters."""
    given = dict(zip(parameters, arguments))

    class Put(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            return given.get(node.id, node)

    return Put().visit(ast.parse(ast.unparse(x), mode="eval").body)
