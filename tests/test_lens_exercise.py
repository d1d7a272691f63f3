"""Exercises from a program: the file, its answers, and what is said about wrong ones."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import lens
from tensorlite.lens import example


@pytest.fixture(scope="module", params=[tl.float64, tl.float32], ids=["float64", "float32"])
def ninja(request) -> tuple[lens.Tape, tl.Tensor, dict[str, np.ndarray], dict[str, np.ndarray]]:
    given = {
        name: x.detach().to(request.param).requires_grad_() if x.requires_grad else x
        for name, x in example.data().items()
    }
    with lens.record() as tape:
        loss = example.forward(**given)
        loss.backward()
    values = {v.ident: v.array for v in tape.values}
    return tape, loss, values, {v.ident: v.gradient for v in tape.values}


def run(path: Path) -> list[str]:
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, cwd=path.parent)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_an_exercise_filled_in_by_as_numpy_passes(ninja, tmp_path: Path):
    tape, loss, *_ = ninja
    path = lens.exercise(loss, tmp_path / "exercise.py")
    text, key = path.read_text(), tape.as_numpy().partition("# Backward\n")[2]
    blanks = re.findall(r"^(\w+) = \.\.\.$", text, re.M)
    assert len(blanks) == 32 and blanks[:2] == ["dloss_mean", "dloss_getitem"] and blanks[-1] == "dC"
    lines = [line.rstrip() for line in run(path)]
    assert lines == [f"{name:<20} not filled in yet".rstrip() for name in blanks]
    for name in blanks:
        answer = [line for line in key.splitlines() if line.startswith(f"{name} = ")]
        text = text.replace(f"\n{name} = ...\n", "\n" + "\n".join(answer) + "\n")
    path.write_text(text)
    assert [line.split() for line in run(path)] == [[name, "exact"] for name in blanks]


def test_levels_of_help(ninja, tmp_path: Path):
    texts = [lens.exercise(ninja[1], tmp_path / f"e{level}.py", level).read_text() for level in range(5)]
    assert "# shape (4, 3)" in texts[1] and "# shape (4, 3)" not in texts[0]
    assert "# the rule of tanh, from dh" in texts[2] and "g * (1 - y * y)" not in texts[2]
    assert "# the rule of tanh, from dh: dx = g * (1 - y * y)" in texts[3] and "np.tanh(hpreact)" in texts[3]
    assert "dhpreact = dh * (1 - h * h)" in texts[4]
    assert all("exact" in line for line in run(tmp_path / "e4.py"))


MISTAKES: dict[str, tuple[str, Callable, str, str]] = {  # gradient, a wrong answer, name of the mistake, what is said
    "a factor n": ("dW2", lambda A, G: 4 * G["W2"], "count", "4 times too large"),
    "1/n of a mean before it": ("dbnvar_sum", lambda A, G: G["bnvar_sum"] / 4, "count", "4 times too small"),
    "1/n": ("dlogprobs", lambda A, G: G["logprobs"] / 4, "count", "4 times too small"),
    "a mean for a sum": ("db2", lambda A, G: G["logits"].mean(0), "count", "a mean over axis 0, of length 4"),
    "the sign": ("dbnmeani", lambda A, G: -G["bnmeani"], "sign", "the sign is wrong"),
    "transposed": ("dW1", lambda A, G: G["hprebn"].T @ A["embcat"], "transposed", "the shape of the transpose"),
    "no sum over an axis": ("db2", lambda A, G: G["logits"], "missing sum", "the sum over axis 0 is missing"),
    "one row for the sum": ("dbnvar_inv", lambda A, G: (G["bnraw"] * A["bndiff"])[:1], "missing sum", "position 0"),
    "no second contribution": ("dbndiff", lambda A, G: G["bnraw"] * A["bnvar_inv"], "missing contribution",
                               "2 contributions meet here, and that through bndiff2 (pow) is missing"),
    "the maximum's gradient": ("dlogit_maxes", lambda A, G: G["norm_logits"].sum(1, keepdims=True) + 0.1,
                               "the subtracted maximum", "0 but for rounding"),
    "g left out": ("dhpreact", lambda A, G: 1 - A["h"] ** 2, "upstream ignored", "dh, what arrives, is left out"),
    "handed on": ("dhpreact", lambda A, G: G["h"], "passed on", "the factor of tanh's rule is missing"),
    "the wrong operand": ("dbnraw", lambda A, G: G["hpreact"] * A["bnraw"], "other operand", "times bnraw"),
    "without its dimension": ("dbnbias", lambda A, G: G["hpreact"].sum(0), "shape", "numbers in another shape"),
    "in one of two": ("dhprebn", lambda A, G: G["bndiff"] - G["bnmeani_sum"], "sign", "through bnmeani_sum (sum)"),
    "another shape": ("dh", lambda A, G: np.zeros(7), "shape", "yours has shape (7,), and h has (4, 3)"),
    "no array": ("dh", lambda A, G: "h", "shape", "expected an array, not str"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_typical_mistakes_are_called_by_name(ninja, case: str):
    tape, loss, values, gradients = ninja
    name, mistake, expected, words = MISTAKES[case]
    found = lens.compare(name, mistake(values, gradients), of=loss)
    assert found.verdict == "wrong" and not found
    assert found.likely[0][0] == expected and words in str(found), str(found)


def _softmax(x: np.ndarray, axis: int = 1) -> np.ndarray:
    return np.exp(x) / np.exp(x).sum(axis, keepdims=True)


WITH_P: dict[str, Callable] = {  # the mistake, from the logits, p, y and the targets
    "y forgotten": lambda z, p, y, t: p,
    "only the target": lambda z, p, y, t: (p - y) * y,
    "whole columns": lambda z, p, y, t: p - y.max(0),
    "the wrong axis": lambda z, p, y, t: _softmax(z, 0) - y,
    "softmax twice": lambda z, p, y, t: _softmax(p) - y,
    "diagonal": lambda z, p, y, t: p * (1 - p),
    "sign": lambda z, p, y, t: y - p,
}


@pytest.mark.parametrize("weight", [None, tl.tensor([1.0, 2.0, 0.5, 1.0, 3.0], dtype=tl.float64)], ids=["", "weighted"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", WITH_P)
def test_mistakes_with_p_minus_y_are_called_by_name(case: str, weight: tl.Tensor | None, dtype: str):
    rng = np.random.default_rng(0)
    t = np.array([1, 0, 3, 3])
    with lens.record():
        x, w = (tl.tensor(rng.normal(size=shape).astype(dtype), requires_grad=True) for shape in ((4, 3), (3, 5)))
        logits = 3 * x @ w  # of which some are far apart, so that a p is nearly 1
        loss = tl.nn.functional.cross_entropy(
            logits, tl.tensor(t), weight.to(logits.dtype) if weight is not None else None
        )
        loss.backward()
    z = logits.numpy(force=True)
    w = np.ones(4) if weight is None else weight.numpy()[t]
    p, y = _softmax(z), np.eye(5)[t]
    assert lens.compare("dlogits", (p - y) * w[:, None] / w.sum(), of=loss)
    found = lens.compare("dlogits", WITH_P[case](z, p, y, t) * w[:, None] / w.sum(), of=loss)
    assert found.verdict == "wrong" and found.likely[0][0] == case, str(found)


def test_the_diagonal_of_softmax_alone():
    with lens.record():
        z = tl.tensor([[0.3, -1.0, 2.0], [1.0, 0.0, 0.5]], dtype=tl.float64, requires_grad=True)
        p = tl.softmax(z, 1)
        loss = (p * tl.tensor([[1.0, 3.0, -2.0], [0.5, 1.0, 4.0]])).sum()
        loss.backward()
    dp = lens.explain(loss)["p"].gradient
    p_ = p.numpy(force=True)
    found = lens.compare("dz", dp * p_ * (1 - p_), of=loss)
    assert found.likely[0][0] == "diagonal" and "takes from all other classes" in str(found)
    found = lens.compare("dz", dp * p_, of=loss)
    assert found.likely[0][0] == "the average" and "is not subtracted" in str(found)
    assert lens.compare("dz", p_ * (dp - (dp * p_).sum(1, keepdims=True)), of=loss)


def test_which_contributions_are_missing_also_of_many():
    with lens.record():
        x = tl.tensor([[1.0, 2.0], [0.5, -1.0]], dtype=tl.float64, requires_grad=True)
        s = (x * x).sum()
        loss = s * x.sum()
        loss.backward()
    x_, ds = x.numpy(force=True), x.numpy(force=True).sum()
    once = lens.compare("dx", (x_**2).sum() + ds * x_, of=loss)
    assert "3 contributions meet here, and one of the 2 through s_multiply (multiply) is missing" in str(once)
    none = lens.compare("dx", np.full((2, 2), (x_**2).sum()), of=loss)
    assert "and both through s_multiply (multiply) are missing" in str(none)

    with lens.record() as tape:
        w = tl.tensor([0.3, 0.2], dtype=tl.float64, requires_grad=True)
        h = tl.tensor([1.0, 2.0], dtype=tl.float64)
        for _ in range(40):  # of 2 to the 40 subsets only some can be tried
            h = (h * w).tanh() + 0.5
        h.sum().backward()
    parts = [step.result for step in tape["w"].contributions]
    assert lens.compare("dw", sum(parts[:3] + parts[4:]), of=tape).likely[0][0] == "missing contribution"
    last = lens.compare("dw", parts[0], of=tape)
    assert "40 contributions meet here, and 39 of them are missing" in str(last)
    assert lens.compare("dw", np.array([1.0, -7.0]), of=tape).likely[0][0] == "unknown"


def test_an_answer_that_is_no_number(ninja):
    said = str(lens.compare("dW1", np.full((6, 3), np.nan), of=ninja[0]))
    assert "nan or infinite: a 0/0" in said and "largest difference" not in said
    assert "0 where the right gradient is not" in str(lens.compare("dW1", np.zeros((6, 3)), of=ninja[0]))
    assert "or " not in str(lens.compare("dcounts_sum", -ninja[3]["counts_sum"], of=ninja[0])).split("\n")[-1]


def test_close_and_exact(ninja):
    tape, loss, _, gradients = ninja
    assert lens.compare("dlogits", gradients["logits"], of=tape).verdict == "exact"
    close = lens.compare("dlogits", gradients["norm_logits"])  # the last tape is still the one that is meant
    assert close.verdict == "close" and close.likely[0][0] == "the subtracted maximum"
    assert tape.compare("dh", tl.tensor(np.nextafter(gradients["h"], 9, dtype=gradients["h"].dtype))).verdict == "close"
    assert "help: shape (4, 3)" in str(lens.compare("dhpreact", ..., help=1))


def test_errors(ninja, tmp_path: Path):
    with pytest.raises(KeyError, match=r"no gradient called 'dlogit'; did you mean dlogits"):
        lens.compare("dlogit", 0, of=ninja[0])
    with pytest.raises(KeyError, match=r"ids has no gradient: it does not require one"):
        lens.compare("dids", 0, of=ninja[0])
    with pytest.raises(FileNotFoundError, match=r"lens.exercise: there is no folder .*nowhere for e.py"):
        lens.exercise(ninja[1], tmp_path / "nowhere" / "e.py")
    with pytest.raises(FileNotFoundError, match=r"lens.html: there is no folder .*nowhere for e.html"):
        ninja[0].html(tmp_path / "nowhere" / "e.html")
    for wrong in (lambda: lens.exercise(ninja[1], tmp_path / "e.py", help=9), lambda: lens.compare("dh", 0, help=9)):
        with pytest.raises(ValueError, match=r"help is 0 \(none\) to 4 \(the answer\), and not 9"):
            wrong()
    with pytest.raises(TypeError, match=r"lens.compare: expected the Tensor that backward\(\) started from"):
        lens.compare("dh", 0, of="loss")
    with lens.record() as empty:
        pass
    with pytest.raises(RuntimeError, match=r"lens.compare: no backward\(\) ran"):
        lens.compare("dh", 0, of=empty)
    assert "expected real numbers, not complex128" in str(lens.compare("dh", np.ones((4, 3)) * 1j, of=ninja[0]))
    with pytest.raises(RuntimeError, match=r"was not recorded, so its forward is not known"):
        lens.exercise(tl.ones(1, requires_grad=True).sum(), tmp_path / "e.py")
    with pytest.raises(FileNotFoundError, match=r"e.npz is missing; lens.exercise writes it beside the exercise"):
        lens.open_exercise(str(tmp_path / "e.py"), "e.npz")
    (tmp_path / "e.npz").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"e.npz is no file of answers"):
        lens.open_exercise(str(tmp_path / "e.py"), "e.npz")


def test_what_was_filled_in_is_not_written_over(ninja, tmp_path: Path):
    path = lens.exercise(ninja[1], tmp_path / "e.py")
    assert lens.exercise(ninja[1], path, help=1).read_text().count("# shape") > 20  # untouched, so written anew
    path.write_text(path.read_text().replace("dloss_mean = ...", "dloss_mean = -1"))
    filled = path.read_text()
    with pytest.raises(FileExistsError, match=r"e.py is there already and has been changed.*give another name"):
        lens.exercise(ninja[1], path)
    assert path.read_text() == filled and run(path)[0].split()[1] == "exact"
    (tmp_path / "mine.py").write_text("print(1)")
    with pytest.raises(FileExistsError, match=r"or was not written by lens.exercise"):
        lens.exercise(ninja[1], tmp_path / "mine.py")
    np.savez(tmp_path / "data.npz", x=np.ones(3))
    with pytest.raises(FileExistsError, match=r"data.npz is there already and holds no answers"):
        lens.exercise(ninja[1], tmp_path / "data.py")
    with pytest.raises(ValueError, match=r"is a Python file, and e.npz is for its answers"):
        lens.exercise(ninja[1], tmp_path / "e.npz")


def test_an_exercise_with_fused_ops_modules_and_a_part_that_nobody_uses(tmp_path: Path):
    tl.manual_seed(0)
    model = tl.nn.Sequential(
        tl.nn.Linear(4, 6), tl.nn.LayerNorm(6), tl.nn.GELU(), tl.nn.Dropout(0.5), tl.nn.Linear(6, 9)
    )
    x, y = tl.randn(5, 4), tl.randint(0, 3, (5,))
    with lens.record():
        a, b, c = model(x).split(3, dim=1)
        loss = tl.nn.functional.cross_entropy(a * c, y)
        loss.backward()
    path = lens.exercise(loss, tmp_path / "exercise.py", help=4)
    assert "np.zeros_like(b)  # nobody used it" in path.read_text()
    lines = run(path)
    assert len(lines) > 15 and all(line.split()[1].rstrip(",") in ("exact", "close") for line in lines), lines
