"""Run lessons, and hold what they print against what stands in them.

    python docs/lessons/run.py                 all lessons, in turn
    python docs/lessons/run.py 4 12            these two
    python docs/lessons/run.py 4 --write       put what a lesson prints, and its pictures, into the text

A lesson is Markdown. Its Python blocks are cells: they run in order, in one namespace, with --write in the folder of
the lessons and else in an empty one, and, as in a notebook, a cell whose last line is an expression shows its value. A
text block right below a cell is what the cell prints; `...` in it stands for anything, and spaces and line ends do not
count. `jupytext --to notebook` makes a notebook of a lesson.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import doctest
import io
import linecache
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent
_BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```\n(?:\n?```text\n(?P<printed>.*?)^```\n)?", re.DOTALL | re.MULTILINE)


class Cell(NamedTuple):
    """A Python block of a lesson. line: where its code begins; printed: the block below it, None without one."""

    code: str
    line: int
    printed: str | None
    end: int  # where in the text the cell, with what it prints, is over


def lessons(numbers: list[int] | None = None) -> list[Path]:
    """The files of the lessons, in order. Raises ValueError for a number that no lesson has."""
    found = {int(path.name[:2]): path for path in sorted(FOLDER.glob("[0-9][0-9]-*.md"))}
    unknown = set(numbers or ()) - set(found)
    if unknown:
        raise ValueError(f"there is no lesson {min(unknown)}; the lessons are {', '.join(map(str, found))}")
    return [found[n] for n in numbers or found]


def cells(text: str) -> list[Cell]:
    return [
        Cell(m["code"], text.count("\n", 0, m.start("code")) + 1, m["printed"], m.end()) for m in _BLOCK.finditer(text)
    ]


def run(path: Path) -> Iterator[tuple[Cell, str]]:
    """Run a lesson; gives each cell with what it printed. An exception of a cell names the line in the lesson.

    It has one thread: of arrays as small as a lesson's, a second one costs more than it gives, and very much more where
    other programs run beside it.
    """
    import tensorlite as tl

    text = path.read_text(encoding="utf-8")
    only_code = [""] * (
        text.count("\n") + 1
    )  # each line where it stands in the lesson: so tracebacks, and the lens, find it
    for cell in cells(text):
        lines = cell.code.splitlines()
        only_code[cell.line - 1 : cell.line - 1 + len(lines)] = lines
    source = [line + "\n" for line in only_code]
    linecache.cache[str(path)] = (sum(map(len, source)), None, source, str(path))
    space: dict[str, Any] = {"__name__": "__main__"}
    threads = tl.get_num_threads()
    tl.set_num_threads(1)
    try:
        for cell in cells(text):
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                value = _execute("\n" * (cell.line - 1) + cell.code, str(path), space)
                if value is not None:
                    print(repr(value))
            yield cell, out.getvalue()
    finally:
        tl.set_num_threads(threads)


def _execute(code: str, name: str, space: dict[str, Any]) -> Any:
    """Run a cell; gives the value of its last line, if that is an expression."""
    tree = ast.parse(code, name)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, name, "exec"), space)
    return eval(compile(ast.Expression(last.value), name, "eval"), space) if isinstance(last, ast.Expr) else None


def differs(cell: Cell, printed: str) -> str | None:
    """What is to be said if a cell printed something else than stands below it."""
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    written = cell.printed or ""
    if doctest.OutputChecker().check_output(written, printed, flags):
        return None
    return doctest.OutputChecker().output_difference(doctest.Example(cell.code, written), printed, flags)


def renewed(text: str, results: list[tuple[Cell, str]]) -> str:
    """The lesson with what its cells print; a block that agrees stays as it is."""
    parts, start = [], 0
    for cell, printed in results:
        whole = text[start : cell.end]
        start = cell.end
        if differs(cell, printed):
            code = whole[: whole.index(cell.code) + len(cell.code)] + "```\n"
            lines = "\n".join(line.rstrip() for line in printed.rstrip().splitlines())
            whole = code + (f"\n```text\n{lines}\n```\n" if lines else "")
        parts.append(whole)
    return "".join([*parts, text[start:]])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="docs/lessons/run.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("number", nargs="*", type=int, help="the lessons to run; default: all")
    parser.add_argument("--write", action="store_true", help="put what is printed into the text")
    options = parser.parse_args(arguments)
    try:
        chosen = lessons(options.number)
    except ValueError as error:
        parser.error(str(error))
    with tempfile.TemporaryDirectory() as scratch:  # for pictures that nobody asked to keep
        (Path(scratch) / "pictures").mkdir()
        os.chdir(FOLDER if options.write else scratch)
        try:
            return _run_all(chosen, options.write)
        finally:
            os.chdir(FOLDER)


def _run_all(chosen: list[Path], write: bool) -> int:
    failed = 0
    for path in chosen:
        start, results = time.perf_counter(), []
        for cell, printed in run(path):
            results.append((cell, printed))
            said = differs(cell, printed)
            if said and not write:
                failed += 1
                print(f"{path.name}:{cell.line} printed something else\n{said}", file=sys.stderr)
        if write:
            text = path.read_text(encoding="utf-8")
            path.write_text(renewed(text, results), encoding="utf-8")
        print(f"{path.name:<36} {len(results):>3} cells  {time.perf_counter() - start:6.1f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.path.insert(0, str(FOLDER.parents[1]))
    from tensorlite.utils.pipe import reader_may_leave

    with reader_may_leave():
        sys.exit(main())
