"""The rows of the table of derivatives, one rule at a time, as they stand in the source."""

from __future__ import annotations

import ast
import inspect
from functools import cache
from typing import NamedTuple

from ..check import source
from ..op import Op


class Rule(NamedTuple):
    """A part of a row: the forward, or the derivative by an input.

    left   `dx`; `dq, dk, dv` for a joint rule; `y` for the forward
    text   the expression, as it stands in the source
    body   the same as a syntax tree
    joint  whether one rule gives the gradients of all inputs
    where  file and line
    """

    left: str
    text: str
    body: ast.expr | None
    joint: bool
    where: str

    def __str__(self) -> str:
        return f"{self.left} = {self.text}"


NO_SOURCE = "(its source is not at hand)"


def derivative(op: Op, i: int) -> Rule:
    """The rule that gives the gradient of input i."""
    name = op.input_name(i)
    if op.plain.joint is not None:
        return _rule(op, "d", ", ".join(f"d{each}" for each in op.inputs), True)
    return _rule(op, f"d{name}", f"d{name}", False)


def forward(op: Op) -> Rule:
    return _rule(op, "", ", ".join(["y", *op.plain.residual]), False)


@cache
def _rule(op: Op, key: str, left: str, joint: bool) -> Rule:
    statement = source.row(op)
    if statement is None:
        return Rule(left, NO_SOURCE, None, joint, "")
    for call in ast.walk(ast.parse(statement.text)):
        if isinstance(call, ast.Call):
            given = {k.arg: k.value for k in call.keywords}
            found = given.get(key) if key else call.args[1] if len(call.args) > 1 else given.get("forward")
            if found is not None and (not key or key in given):
                body = found.body if isinstance(found, ast.Lambda) else _called(op, key, found)
                where = f"{source.short(statement.file)}:{statement.line + getattr(body, 'lineno', found.lineno) - 1}"
                if isinstance(found, ast.Lambda):
                    text = ast.get_source_segment(statement.text, body) or ""
                else:
                    text = ast.unparse(body)
                return Rule(left, " ".join(text.split()), body, joint, where)
    return Rule(left, NO_SOURCE, None, joint, statement.where())


def _called(op: Op, key: str, function: ast.expr) -> ast.expr:
    """A rule that is a named function: its call with its own parameters."""
    row = op.plain.forward if not key else op.plain.joint if key == "d" else op.plain.rows[key[1:]]
    assert row is not None
    names: list[ast.expr] = [ast.Name(name) for name in inspect.signature(row).parameters]
    return ast.Call(function, names, [])
