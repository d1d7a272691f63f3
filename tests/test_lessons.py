"""The lessons run and print what stands in them; what they, and the guides, cite are rows of the table."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest

from tensorlite.check import source
from tensorlite.lens import rows
from tensorlite.op import OPS

DOCS = Path(__file__).parents[1] / "docs"
TEXTS = [DOCS.parent / "README.md", *sorted(p for p in DOCS.rglob("*.md") if p.name != "ops.md")]
NAMES = [str(path.relative_to(DOCS.parent)) for path in TEXTS]


def _lessons():
    spec = importlib.util.spec_from_file_location("lessons", DOCS / "lessons" / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


lesson = _lessons()


@pytest.mark.usefixtures("_registry")
@pytest.mark.parametrize("path", lesson.lessons(), ids=lambda path: path.stem)
def test_a_lesson_prints_what_stands_in_it(path, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    (tmp_path / "pictures").mkdir()
    monkeypatch.chdir(tmp_path)
    wrong = [
        f"{path.name}:{cell.line}\n{said}" for cell, out in lesson.run(path) if (said := lesson.differs(cell, out))
    ]
    assert not wrong, "\n".join(wrong)
    shown = set(re.findall(r"\]\(pictures/([\w.-]+)\)", path.read_text(encoding="utf-8")))
    assert shown == {p.name for p in (tmp_path / "pictures").iterdir()}
    assert all((path.parent / "pictures" / name).is_file() for name in shown)


# What is cited ---------------------------------------------------------------------------------------------

CITED = re.compile(r"\[`([^`]+)`\]\((?:\.\./)*(?:docs/)?ops\.md#(\w+)\)")
ROW = re.compile(r"^\w+ *= (?:Op|Mixed|Analytic)\((?=\")(?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)", re.MULTILINE)


def _table():
    """The rules of every op, by its name: `dx = g * y`."""
    return {op.name: {str(rows.derivative(op, i)) for i in range(len(op.inputs))} for op in OPS.values()}


@pytest.mark.parametrize("path", TEXTS, ids=NAMES)
def test_a_formula_that_cites_a_row_is_that_row(path):
    table = _table()
    for formula, name in CITED.findall(path.read_text(encoding="utf-8")):
        assert name in table, f"{path.name} cites {name}, which is no op"
        if "=" in formula:
            assert " ".join(formula.split()) in table[name], f"{path.name}: {name} says {sorted(table[name])}"
        else:
            assert formula == name


def _mathematics(row):
    """The syntax tree of a row: name, forward, rules. A text may leave out the rest (expects, reference)."""
    call = ast.parse(row.strip()).body[0].value
    call.keywords = [k for k in call.keywords if k.arg.startswith("d")]
    return call


@pytest.mark.parametrize("path", TEXTS, ids=NAMES)
def test_a_row_that_is_shown_stands_so_in_the_source(path):
    for shown in ROW.findall(path.read_text(encoding="utf-8")):
        call = _mathematics(shown)
        op = OPS.get(call.args[0].value)
        if op is not None and (row := source.row(op)):
            assert ast.dump(call) == ast.dump(_mathematics(row.text)), f"{path.name}: {shown}"
