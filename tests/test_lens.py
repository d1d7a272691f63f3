"""The lens: the record of a program, its text, and the program as NumPy."""

from __future__ import annotations

import contextlib
import gc
import io
import linecache
import re
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from gpt.config import GPTConfig
from gpt.model import GPT
from tensorlite import lens, nn
from tensorlite.check import source
from tensorlite.check.engine import is_float, tensors
from tensorlite.check.samples import SAMPLES
from tensorlite.lens import example, rows
from tensorlite.lens.__main__ import main
from tensorlite.lens.text import text
from tensorlite.nn import functional as F


@pytest.fixture
def ninja() -> tuple[dict[str, Any], lens.Tape, tl.Tensor]:
    """A learner's two layers, with batch normalisation and cross-entropy written out."""
    given = example.data()
    with lens.record() as tape:
        loss = example.forward(**given)
        loss.backward()
    return given, tape, loss


def run(tape: lens.Tape) -> dict[str, Any]:
    space: dict[str, Any] = tape.inputs()
    with np.errstate(all="ignore"):
        exec(tape.as_numpy(), space)
    return space


# The record ------------------------------------------------------------------------------------------------


def test_names_lines_and_gradients_of_what_was_recorded(ninja):
    given, tape, loss = ninja
    h = tape["h"]
    assert h.call.source.startswith("h = hpreact.tanh()") and h.call.file == example.__file__
    assert h.call.expression == "hpreact.tanh()" and h.array.shape == (4, 3)
    assert [s.to.name for s in tape.steps if s.order] == ["counts", "logits", "bndiff", "hprebn"]
    leaf = tape.values[0]
    assert np.array_equal(leaf.gradient, given["C"].grad.numpy())
    assert tape["loss"].seed == 1


def test_gradient_of_an_interior_value_is_what_grad_gives():
    x = tl.randn(3, 4, dtype=tl.float64, requires_grad=True)
    with lens.record() as tape:
        y = x.tanh()
        z = (y * y + y.exp()).sum()
        z.backward(retain_graph=True)
    (expected,) = tl.grad(z, y)
    assert np.array_equal(tape["y"].gradient, expected.numpy())
    assert np.array_equal(tape["x"].gradient, x.grad.numpy())


def test_names_of_parameters_modules_and_lists():
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh())
    weights = [tl.randn(3, 3, requires_grad=True)]
    with lens.record() as tape:
        out = model(tl.ones(4, 2)) @ weights[0]
        out.sum().backward()
    assert {"0.weight", "0.bias", "weights[0]", "out"} <= {v.name for v in tape.values}
    assert tape.calls[0].path == ("model", "0")


class Layer:
    """A layer as learners write it, without nn.Module."""

    def __init__(self):
        self.weight = tl.randn(2, 2, requires_grad=True)

    def __call__(self, x):
        self.out = x @ self.weight
        return self.out


def test_names_of_a_learners_own_layers():
    layers = [Layer(), Layer()]
    parameters = [layer.weight for layer in layers]
    first = parameters[0]
    for p in parameters:  # whose last has two names now, of which p is the worst
        assert p.requires_grad
    with lens.record() as tape:
        x = tl.ones(1, 2)
        for layer in layers:
            x = layer(x)
        x.sum().backward()
    assert [s.to.name for s in tape.steps[1:]] == ["layers[0].out", "layers[1].weight", "first"]
    assert [call.path for call in tape.calls] == [("layers[0]",), ("layers[1]",), ()] and first.grad is not None


def test_values_stay_as_they_were_when_parameters_are_written():
    w = tl.tensor([2.0, 3.0], requires_grad=True)
    optimizer = tl.optim.SGD([w], lr=1.0)
    with lens.record() as tape:
        loss = (w * w).sum()
        loss.backward()
        optimizer.step()
    assert tape["w"].array.tolist() == [2.0, 3.0] and w.tolist() == [-2.0, -3.0]
    assert np.array_equal(run(tape)["dw"], [4.0, 6.0])


def test_a_loop_gives_each_round_a_name_of_its_own():
    x = first = tl.tensor([1.0, 2.0], requires_grad=True)
    with lens.record() as tape:
        for _ in range(3):
            x = x * first
        x.sum().backward()
    assert len({v.ident for v in tape.values}) == len(tape.values)
    assert np.array_equal(run(tape)["dfirst"], first.grad.numpy())


def test_two_backwards_on_one_tape():
    w = tl.tensor([2.0], requires_grad=True)
    with lens.record() as tape:
        for _ in range(2):
            loss = (w * w).sum()
            loss.backward()
    assert len(tape.walks) == 2 and tape["w"].gradient == w.grad.numpy() == 8.0
    assert run(tape)["dw"] == 4.0  # of the last


def test_a_hook_that_replaces_a_gradient_is_noticed():
    x = tl.ones(3, requires_grad=True)
    with lens.record() as tape:
        y = x * 2
        y.register_hook(lambda g: g * 10)
        y.sum().backward()
    assert "a hook changed the gradient that arrived" in str(tape) and x.grad.tolist() == [20.0] * 3


def test_explain_a_graph_that_was_not_recorded_changes_nothing():
    x = tl.randn(3, requires_grad=True)
    loss = (x.exp() * x).sum()
    tape = lens.explain(loss)
    assert x.grad is None and [s.call.op.name for s in tape.steps] == ["sum", "multiply", "multiply", "exp"]
    loss.backward()
    assert np.array_equal(tape["x"].gradient, x.grad.numpy())
    with pytest.raises(RuntimeError, match=r"the forward of .* was not recorded"):
        tape.as_numpy()


def test_explain_what_was_recorded_forward_only():
    x = tl.randn(3, requires_grad=True)
    with lens.record():
        loss = x.exp().sum()
    tape = lens.explain(loss)
    assert "np.exp(x)" in tape.as_numpy() and lens.explain(loss) is tape


def test_a_tape_goes_with_its_graph_and_keeps_no_graph_alive():
    def study() -> list[weakref.ref]:
        x = tl.randn(3, requires_grad=True)
        with lens.record() as tape:
            loss = x.exp().sum()
            loss.backward()
        held = weakref.ref(tape)
        del tape
        assert lens.explain(loss) is held()  # the loss alone holds it
        return [held, weakref.ref(loss.node)]

    found = study()
    gc.collect()
    assert [ref() for ref in found] == [None, None]


@pytest.mark.parametrize("wrong, error, words", [
    (lambda: lens.explain(3), TypeError, "expected the Tensor to go back from, not int"),
    (lambda: lens.explain(tl.ones(2)), RuntimeError, r"nothing to explain"),
    (lambda: empty().as_numpy(), RuntimeError, r"no backward\(\) ran while this tape was recorded"),
    (lambda: empty()["lss"], KeyError, "did you mean loss"),
])  # fmt: skip
def test_errors(wrong, error, words):
    with pytest.raises(error, match=words):
        wrong()


def empty() -> lens.Tape:
    with lens.record() as tape:
        loss = tl.ones(2, requires_grad=True).sum()  # noqa: F841
    return tape


def test_the_engine_does_not_import_the_lens():
    rooms = ("tensorlite.lens", "tensorlite.check")
    code = f"import sys, tensorlite; print([m for m in sys.modules if m.startswith({rooms})])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


# The text --------------------------------------------------------------------------------------------------


LINES = """
1  sum       dx = spread(g, x_shape, dim, keepdim)  () -> (1, 2)      y           kept x_shape, dim, keepdim
2  add       da = g                                 (1, 2) -> (1, 2)  y_multiply
3  add       db = g                                 (1, 2) -> (1, 2)  x
4  multiply  da = g * b                             (1, 2) -> (1, 2)  x           kept b; meets the first contribution
5  multiply  db = g * a                             (1, 2) -> (1,)    b           kept a; summed over axes 0 of (1, 2)
"""


def test_a_line_per_step():
    x, b = tl.tensor([[1.0, 2.0]], requires_grad=True), tl.tensor([0.5], requires_grad=True)
    with lens.record() as tape:
        y = x * b + x
        y.sum().backward()
    assert str(tape) == LINES.strip("\n").replace("over axes 0", "over axes 0, 1")


def test_text_is_cut_where_it_is_asked_to(ninja):
    lines = text(ninja[1], 60).splitlines()
    assert max(map(len, lines)) == 60 and len(lines) == 36
    assert all(step.to.name in line for step, line in zip(ninja[1].steps, text(ninja[1], 90).splitlines()))


def test_each_rule_shown_stands_in_the_source_that_it_cites():
    for op in tl.OPS.values():
        for i, name in enumerate(op.inputs):
            if op.plain.differentiable(i) and op.__module__.startswith("tensorlite."):
                rule = rows.derivative(op, i)
                statement = source.row(op)
                assert rule.body is not None and statement is not None, (op, name)
                assert rule.text.replace(" ", "") in "".join(statement.text.split()), (op, name)
                file, line = rule.where.split(":")
                assert rule.text[:8] in statement.file.read_text().splitlines()[int(line) - 1]


# As NumPy --------------------------------------------------------------------------------------------------


def test_a_learners_program_as_numpy_gives_the_same_digits(ninja):
    given, tape, loss = ninja
    space = run(tape)
    assert space["loss"] == loss.item()
    for value in tape.values:
        if value.tensor is not None and value.tensor.grad is not None:
            assert np.array_equal(space[value.grad_ident], value.tensor.grad.numpy()), value.name


@pytest.mark.parametrize("name", [name for name in SAMPLES if name in tl.OPS])
def test_every_op_as_numpy(name: str):
    """The forward and the rows of every op, on its samples, written as NumPy and run."""
    op = tl.OPS[name]
    for sample in SAMPLES[name][:4]:
        inputs = [np.array(x) if isinstance(x, np.ndarray) else x for x in sample.inputs]
        wrt = [i for i, x in enumerate(inputs) if is_float(x) and op.plain.differentiable(i)]
        wrt = wrt if sample.wrt is None else list(sample.wrt)
        if not wrt:
            continue
        xs = tensors(inputs, wrt)
        with lens.record() as tape:
            y = op(*xs, **sample.attributes)
            ys = [each for each in (y if isinstance(y, tuple) else (y,)) if each.requires_grad]
            weights = [tl.tensor(np.linspace(1, 2, each.numel()).reshape(each.shape), dtype=each.dtype) for each in ys]
            sum((each * w).sum() for each, w in zip(ys, weights)).backward()
        space = run(tape)
        for i in wrt:
            value = next(v for v in tape.values if v.tensor is xs[i])
            mine = space[value.grad_ident]
            assert mine.dtype == xs[i].dtype
            np.testing.assert_allclose(mine, xs[i].grad.numpy(), rtol=1e-10, atol=1e-12, strict=True)


def test_a_gpt_as_numpy():
    tl.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=11, context_length=8, n_layer=2, n_head=2, n_embd=8, dropout=0.2)).double()
    idx, targets = tl.randint(0, 11, (2, 8)), tl.randint(0, 11, (2, 8))
    with lens.record() as tape:
        logits, loss = model(idx, targets)
        loss.backward()
    space = run(tape)
    for name, p in model.named_parameters():
        np.testing.assert_allclose(space[f"d{name.replace('.', '_')}"], p.grad.numpy(), rtol=1e-9, atol=1e-12)


def test_fused_and_composed_give_the_same_program():
    x, target = tl.randn(3, 4, dtype=tl.float64, requires_grad=True), tl.tensor([0, 3, 1])
    found = []
    for level in ("kernel", "reference"):
        with tl.using(level), lens.record() as tape:
            loss = F.cross_entropy(x, target)
            loss.backward()
        found.append(run(tape)["dx"])
    np.testing.assert_allclose(*found, rtol=1e-12)


# The example -----------------------------------------------------------------------------------------------


def test_the_example(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["--exercise", "exercise.py"]) == 0
    printed = capsys.readouterr().out
    assert "dx = g * (1 - y * y)" in printed and "dhpreact = dh * (1 - h * h)" in printed
    assert "missing contribution: 2 contributions meet here, and that through bndiff2 (pow) is missing" in printed
    assert {p.name for p in tmp_path.iterdir()} == {"lens.html", "exercise.py", "exercise.npz"}
    with pytest.raises(SystemExit) as stopped:
        main(["--out", "nowhere/lens.html"])
    assert stopped.value.code == 2 and "there is no folder nowhere" in capsys.readouterr().err


def test_the_guide_runs_as_written():
    """The code of docs/lens.md, from top to bottom; what it says is printed, is."""
    guide = (Path(__file__).parents[1] / "docs" / "lens.md").read_text(encoding="utf-8")
    space: dict[str, Any] = {}
    printed: list[str] = []
    for language, code in re.findall(r"```(\w+)\n(.*?)```", guide, re.S):
        if language == "python":
            linecache.cache["docs/lens.md"] = (len(code), None, code.splitlines(True), "docs/lens.md")
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(code, "docs/lens.md", "exec"), space)
            printed = out.getvalue().splitlines()
        elif language == "text":
            assert [line.rstrip() for line in printed if line] == [line.rstrip() for line in code.splitlines() if line]
