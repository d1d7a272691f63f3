"""Where in the user's source an instruction stands. Python knows from which characters each was made (PEP 657)."""

from __future__ import annotations

import ast
import linecache
from functools import lru_cache
from types import CodeType
from typing import NamedTuple


class Place(NamedTuple):
    """An expression of the user's source, and the names to which its statement assigns."""

    line: int
    text: str
    targets: tuple[str, ...]
    whole: bool  # whether the expression is all of what is assigned
    operands: tuple[str, ...]  # the variables that it is made of, "" where something else stands
    subscript: tuple[str, ...]  # those between its square brackets


@lru_cache(maxsize=4096)
def place_of(code: CodeType, instruction: int) -> Place | None:
    """Where in the source an instruction stands; None if the source is not at hand."""
    first, last, start, end = list(code.co_positions())[instruction // 2]
    source = "".join(linecache.getlines(code.co_filename))
    tree = _parsed(source)
    if tree is None or None in (first, last, start, end):
        return None
    best: ast.expr | None = None
    for node, statement in tree:
        if (node.end_lineno, node.end_col_offset) != (last, end):
            continue
        exact = (node.lineno, node.col_offset) == (first, start)
        method = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if exact or (method and best is None):
            best, around = node, statement
            if exact:
                break
    if best is None:
        return None
    text = ast.get_source_segment(source, best) or ""
    value = getattr(around, "value", None)
    while isinstance(value, ast.Attribute) and value.attr in ("values", "indices"):  # of what max() and sort() give
        value = value.value
    return Place(best.lineno, " ".join(text.split()), _targets(around), value is best, *_operands(best))


@lru_cache(maxsize=64)
def _parsed(text: str) -> list[tuple[ast.expr, ast.AST]] | None:
    """Every expression of a source, with the statement (or walrus) that it belongs to."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return None
    found: list[tuple[ast.expr, ast.AST]] = []

    def look(node: ast.AST, around: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                found.append((child, around))
            look(child, child if isinstance(child, (ast.stmt, ast.NamedExpr)) else around)

    look(tree, tree)
    return found or None


def _operands(x: ast.expr) -> tuple[tuple[str, ...], tuple[str, ...]]:
    parts: list[ast.expr] = [x.left, x.right] if isinstance(x, ast.BinOp) else []
    index: list[ast.expr] = []
    if isinstance(x, ast.Subscript):
        parts, index = [x.value], x.slice.elts if isinstance(x.slice, ast.Tuple) else [x.slice]
    named = [tuple(each.id if isinstance(each, ast.Name) else "" for each in some) for some in (parts, index)]
    return named[0], named[1]


def _targets(statement: ast.AST) -> tuple[str, ...]:
    if isinstance(statement, ast.Assign):
        target: ast.AST = statement.targets[0]
    elif isinstance(statement, (ast.AnnAssign, ast.AugAssign, ast.NamedExpr)):
        target = statement.target
    else:
        return ()
    parts = target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]
    names = [p.id if isinstance(p, ast.Name) else p.attr if isinstance(p, ast.Attribute) else "" for p in parts]
    return tuple(names) if all(names) else ()
