"""The checker's command line, its table, JSON and page, the pages in docs/ and where it finds rows in the source."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import tensorlite as tl
from tensorlite.check import document, source
from tensorlite.check.__main__ import main

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.usefixtures("_registry")


# The command line ------------------------------------------------------------------------------------------


MINE = """
import numpy as np
import tensorlite as tl
from tensorlite import check

cube = tl.Mixed("my_cube", lambda x: x * x * x, dx=lambda g, x: g * {factor} * x * x)
{sampled}check.sample(cube, np.array([[1.0, -2.0, 0.5, 1.5]]))
"""


def mine(tmp_path: Path, factor: int = 3, sampled: str = "") -> str:
    file = tmp_path / "my_ops_for_a_test.py"
    file.write_text(MINE.format(factor=factor, sampled=sampled))
    return str(file)


def test_the_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "110")
    assert main(["--op", "gelu", "--op", "abs", "--op", "eq"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["op", "gelu", "abs", "eq"] and max(map(len, lines[:4])) <= 110
    assert "lambda x, *, approximate: _gelu_tanh(x)" in lines[1] and lines[1].endswith("right")
    assert re.fullmatch(
        r"3 of 3 ops right on \d+ samples; worst error: complex step \S+, differences \S+, second order \S+; \S+ s",
        lines[-1],
    )


def test_json_and_html(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    numbers, page = tmp_path / "o.json", tmp_path / "o.html"
    assert main(["--op", "linear", "--op", "where", "--json", str(numbers), "--html", str(page)]) == 0
    told = json.loads(numbers.read_text())
    assert [op["op"] for op in told["ops"]] == ["linear", "where"] and told["wrong"] == []
    assert told["ops"][0]["source"]["file"] == "tensorlite/ops/matrix.py"
    assert told["worst"]["complex step, order 1"] <= 1e-12 and told["worst"]["differences, order 2"] <= 1e-7
    text = page.read_text()
    assert "dweight=lambda g, x: matmul(rows(g).mT, rows(x))" in text and "tensorlite/kernels/cpu/matrix.py:" in text
    Balanced().feed(text)


class Balanced(HTMLParser):
    """Raises AssertionError for elements that do not nest, and for what a page would load from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "img", "iframe")
        assert all(name != "src" and (name != "href" or (value or "").startswith("#")) for name, value in attrs)
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_ones_own_ops(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "150")
    assert main([mine(tmp_path), "--op", "my_cube"]) == 0
    assert "x * x * x, dx=lambda g, x: g * 3 * x * x" in capsys.readouterr().out


@pytest.mark.parametrize("changes, words", [
    (dict(factor=2), "WRONG: factor"), (dict(factor=12), "4 times too large"), (dict(sampled="# "), "NO SAMPLES"),
])  # fmt: skip
def test_ones_own_ops_that_fail(changes: dict, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    page, numbers = tmp_path / "o.html", tmp_path / "o.json"
    assert (
        main(["--import", mine(tmp_path, **changes), "--op", "my_cube", "--html", str(page), "--json", str(numbers)])
        == 1
    )
    printed = capsys.readouterr().out
    assert words in printed and "0 of 1 ops right" in printed
    assert json.loads(numbers.read_text())["wrong"] == ["my_cube"]
    Balanced().feed(page.read_text())


@pytest.mark.parametrize("arguments, words", [
    (["--op", "sotfmax"], "there is no op 'sotfmax'; did you mean 'softmax'?"),
    (["no_such_module_here"], "no_such_module_here cannot be imported: ModuleNotFoundError"),
    (["no_such_file.py"], "there is no file no_such_file.py"),
    (["--html", "no/such/folder/o.html"], "there is no folder no/such/folder"),
    (["--frobnicate"], "unrecognized arguments"),
])  # fmt: skip
def test_a_command_line_that_cannot_be_obeyed(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2 and words in capsys.readouterr().err


def test_tensorlite_does_not_import_the_checker():
    program = (
        "import sys, tensorlite; assert not [m for m in sys.modules if m.startswith('tensorlite.check')]; "
        "import tensorlite.check as check; assert tensorlite.check is check"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


# The source, and the pages ---------------------------------------------------------------------------------


def test_every_row_is_found_in_the_source():
    for name, op in tl.OPS.items():
        row = source.row(op)
        assert row is not None and f'"{name}"' in row.text and row.file.name == op.__module__.rpartition(".")[2] + ".py"
        assert row.text in row.file.read_text(encoding="utf-8")
        for device in op.kernels:
            kernel = source.kernel(op, device)
            assert kernel is not None and ".kernel(" in kernel.text


def test_a_row_without_a_source():
    space: dict[str, Any] = {"tl": tl}
    exec("op = tl.Op('typed', lambda x: x * 2, dx=lambda g: g * 2)", space)
    assert source.row(space["op"]) is None and source.one_line(space["op"], 40) == "(no source)"


def test_docs_ops_is_up_to_date():
    if not all(op.kernels for op in [tl.OPS["gelu"], tl.OPS["linear"]]):
        pytest.skip("the page names the kernels, which are not here")
    written = (ROOT / "docs" / "ops.md").read_text(encoding="utf-8")
    assert written == document.document(), f"docs/ops.md is stale; renew it with: {document.COMMAND}"


def test_the_guide_runs(capsys: pytest.CaptureFixture[str]):
    """The code of docs/checking.md, from top to bottom; what it says is printed, is."""
    guide = (ROOT / "docs" / "checking.md").read_text(encoding="utf-8")
    space: dict[str, Any] = {}
    for language, code in re.findall(r"^```(\w+)\n(.*?)^```$", guide, re.M | re.S):
        if language == "python":
            capsys.readouterr()
            exec(compile(code, "docs/checking.md", "exec"), space)
        elif language == "text" and code.startswith("forgetful"):
            assert capsys.readouterr().out == code
