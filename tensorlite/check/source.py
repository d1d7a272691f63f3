"""The row of an op as it stands in the source, and where that is."""

from __future__ import annotations

import ast
import dis
import inspect
import textwrap
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, NamedTuple

from ..op import Implementation, Op


class Source(NamedTuple):
    file: Path
    line: int
    text: str

    def where(self) -> str:
        return f"{short(self.file)}:{self.line}"


def short(file: Path) -> Path:
    """The path from the folder of the package, or from the current one; as it is where it lies in neither."""
    for root in (Path(__file__).parents[2], Path.cwd()):
        if file.is_relative_to(root):
            return file.relative_to(root)
    return file


def row(op: Op) -> Source | None:
    """The statement that declares `op`; None where its source is not at hand (an op typed into an interpreter)."""
    return _statement(op.plain, lambda call: _string(call.args) == op.name)


def kernel(op: Op, device: str) -> Source | None:
    """The statement that attaches the kernel of `op` for `device`."""
    implementation = op.kernels[device]
    name = getattr(implementation.forward, "__name__", "")
    return _statement(implementation, lambda call: _string(call.args) == device and _mentions(call, name))


def one_line(op: Op, width: int) -> str:
    """What stands in the row of `op` after its name, on one line of at most `width` characters."""
    statement = row(op)
    if statement is None:
        return "(no source)"[:width]
    text = " ".join(" ".join(line.split("  #")[0] for line in statement.text.splitlines()).split())
    after = text.partition(f'"{op.name}", ')[2].removesuffix(")") or text
    return after if len(after) <= width else after[: max(width - 1, 0)] + "…"


def rules(op: Op) -> list[Callable]:
    """The named functions that the rows of `op` are, or call, which explain themselves in a docstring. Not those of
    other files, nor those that users call: they are explained where they stand."""
    found: dict[Callable, None] = {}
    for function in _functions(op.plain):
        if inspect.isfunction(function):
            public = function.__globals__.get("__all__", ())
            for each in (function, *_called(function)):
                named = inspect.isfunction(each) and each.__name__ != "<lambda>" and each.__name__ not in public
                if named and each.__doc__ and each.__code__.co_filename == function.__code__.co_filename:
                    found[each] = None
    return list(found)


def _functions(implementation: Implementation) -> list[Callable]:
    rows = [implementation.joint] if implementation.joint else list(implementation.rows.values())
    return [implementation.forward, *rows]


def _called(function: FunctionType) -> list[Any]:
    """What the code of a function names in its module."""
    names = [i.argval for i in dis.get_instructions(function) if i.opname == "LOAD_GLOBAL"]
    return [function.__globals__.get(name) for name in dict.fromkeys(names)]


# Finding a statement ---------------------------------------------------------------------------------------


def _statement(implementation: Implementation, is_it: Callable[[ast.Call], bool]) -> Source | None:
    """The statement with the call that `is_it`; else the one in which the forward is written (an op declared by a
    loop, whose name stands nowhere)."""
    codes = [code for f in _functions(implementation) if isinstance(code := getattr(f, "__code__", None), CodeType)]
    for file in dict.fromkeys(code.co_filename for code in codes):
        for statement, call in _calls(file):
            if is_it(call):
                return _source(file, statement)
    for code in codes:
        within = [s for s, _ in _calls(code.co_filename) if s.lineno <= code.co_firstlineno <= (s.end_lineno or 0)]
        if within:
            return _source(code.co_filename, max(within, key=lambda s: s.lineno))
    return None


@cache
def _text(file: str) -> str:
    return Path(file).read_text(encoding="utf-8") if Path(file).is_file() else ""


@cache
def _calls(file: str) -> list[tuple[ast.stmt, ast.Call]]:
    """Every call in a file, with the simple statement that it is part of."""
    found: list[tuple[ast.stmt, ast.Call]] = []
    for statement in ast.walk(ast.parse(_text(file))):
        if isinstance(statement, (ast.Assign, ast.AnnAssign, ast.Expr)):
            found += [(statement, node) for node in ast.walk(statement) if isinstance(node, ast.Call)]
    return found


def _source(file: str, statement: ast.stmt) -> Source:
    lines = _text(file).splitlines()[statement.lineno - 1 : statement.end_lineno]
    return Source(Path(file), statement.lineno, textwrap.dedent("\n".join(lines)))


def _string(arguments: list[ast.expr]) -> object:
    return arguments[0].value if arguments and isinstance(arguments[0], ast.Constant) else None


def _mentions(call: ast.Call, name: str) -> bool:
    return any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(call))
