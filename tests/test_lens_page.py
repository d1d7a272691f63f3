"""The page of the lens: its data, and what a browser makes of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from browser import browse, needs_browser

import tensorlite as tl
from gpt.config import GPTConfig
from gpt.model import GPT
from tensorlite import lens
from tensorlite.lens import example, mathematics, rows
from tensorlite.lens.jacobian import checked, jacobian, structure


@pytest.fixture(scope="module")
def ninja(tmp_path_factory: pytest.TempPathFactory) -> tuple[lens.Tape, Path, dict]:
    with lens.record() as tape:
        loss = example.forward(**example.data())
        loss.backward()
    path = tape.html(tmp_path_factory.mktemp("lens") / "step.html", "A <learner's> two layers")
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(), re.S)
    assert text is not None
    return tape, path, json.loads(text[1])


def number(data: dict, k: int) -> np.ndarray:
    array = data["arrays"][k]
    return np.array(array["full"]).reshape(array["shape"])


def test_each_step_can_be_followed_to_the_last_digit(ninja):
    """From the numbers on the page alone: g · J is the contribution, sums and meetings are right, and they chain."""
    tape, _, data = ninja
    kinds = [card["kind"] for card in data["cards"]]
    assert kinds.count("row") == 36 and kinds.count("meet") == 4 and kinds.count("sum") == 7 and kinds[0] == "start"
    for card in data["cards"]:
        if card["kind"] == "row":
            g = np.concatenate([number(data, k).ravel() for _, k in card["g"]])
            j = number(data, card["jacobian"]["array"])
            fitted = number(data, card["jacobian"]["fitted"])
            np.testing.assert_allclose(g @ j, fitted.ravel(), rtol=0, atol=1e-14)
            assert card["check"].startswith(("complex step: right", "differences: right")), card
        elif card["kind"] == "meet":
            before, second = (number(data, card[key]) for key in ("before", "second"))
            assert np.array_equal(before + second, number(data, card["result"]))
        elif card["kind"] == "sum":
            assert np.allclose(number(data, card["before"]).sum(), number(data, card["result"]).sum(), atol=1e-15)
    last = [card for card in data["cards"] if card["kind"] == "row"][-1]
    assert np.array_equal(number(data, last["result"]), tape["C"].gradient)
    assert last["line"] == ["dC = scatter_add((5, 2), (ids,), demb)  # (5, 2)"]


def test_structures_of_jacobians():
    eye = np.eye(3)
    assert structure(eye) == "identity" and structure(-2 * eye) == "-2 times the identity"
    assert structure(np.diag([1.0, 2, 3])).startswith("diagonal") and structure(eye[[2, 0, 1]]).startswith(
        "permutation"
    )
    assert structure(np.ones((1, 4))).startswith("row sum") and structure(np.ones((4, 1))).startswith("copies")
    assert structure(np.kron(eye, [[1, 2], [3, 4]])) == "block diagonal: 3 times the same block of 2 × 2"
    assert structure(np.kron([[1, 2], [3, 4]], eye)) == "block (after reordering): 3 times the same block of 2 × 2"
    assert structure(np.outer([1, 2, 3], [4, 5])).startswith("outer product")
    assert structure(eye[:2]).startswith("selection") and structure(0 * eye).startswith("zero")
    assert structure(np.array([[1.0, 2], [3, 4]])).startswith("dense")


def test_a_wrong_row_is_seen_by_the_check_of_its_step(monkeypatch: pytest.MonkeyPatch):
    x = tl.tensor([0.3, -0.7], dtype=tl.float64, requires_grad=True)
    with lens.record() as tape:
        x.tanh().sum().backward()
    step = tape.steps[1]
    assert checked(step).startswith("complex step: right")
    np.testing.assert_allclose(jacobian(step), np.diag(1 - np.tanh(x.detach().numpy()) ** 2))
    monkeypatch.setitem(tl.OPS["tanh"].plain.rows, "x", lambda g, y: g * y)
    tl.OPS["tanh"].plain.plans.clear()
    assert "wrong" in checked(step)
    monkeypatch.undo()
    tl.OPS["tanh"].plain.plans.clear()


def test_every_rule_as_mathematics_is_well_formed():
    from xml.etree import ElementTree

    for op in tl.OPS.values():
        for i, name in enumerate(op.inputs):
            if op.plain.differentiable(i) and op.__module__.startswith("tensorlite."):
                ElementTree.fromstring(mathematics.derivative(rows.derivative(op, i), name))
    tanh = mathematics.derivative(rows.derivative(tl.OPS["tanh"], 0), "x")
    assert "".join(re.sub(r"<[^>]*>", "", tanh)) == "∂L∂x=g⊙(1−y⊙y)"


def test_a_page_of_another_graph_says_what_it_knows(tmp_path: Path):
    x = tl.randn(3, requires_grad=True)
    text = lens.explain((x.exp() * x).sum()).html(tmp_path / "p.html").read_text()
    assert "dx = g * y" in text


@needs_browser
@pytest.mark.parametrize("dark", [False, True])
def test_in_a_browser(ninja, dark: bool):
    _, path, data = ninja
    count = len(data["cards"])
    with browse(path, *(["--blink-settings=preferredColorScheme=0"] if dark else [])) as page:
        assert (
            page.js("document.title") == "A <learner's> two layers" == page.js("document.querySelector('h1').innerText")
        )
        assert page.js("byId('count').textContent") == f"1 of {count}"
        page.press("ArrowRight", 6)
        assert page.js("document.querySelector('#card h2').textContent") == data["cards"][6]["title"]
        assert page.js("byId('structure').textContent").startswith("block diagonal")
        assert page.js("document.querySelectorAll('#card td').length") > 20
        page.press("ArrowLeft")
        assert page.js("byId('count').textContent") == f"6 of {count}"
        page.press("End")
        assert page.js("document.querySelector('#picture .now') !== null")
        page.press("d")
        assert page.js("[...document.querySelectorAll('#card td')].some(cell => cell.textContent.length > 12)")
        assert (page.js("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)") == dark
        assert not page.errors and [url[:7] for url in page.requests] == ["file://"]


@needs_browser
def test_boxes_and_a_thousand_nodes_in_a_browser(tmp_path: Path):
    tl.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=11, context_length=4, n_layer=16, n_head=2, n_embd=4))
    idx = tl.randint(0, 11, (1, 4))
    with tl.using("reference"), lens.record() as tape:
        _, loss = model(idx, idx)
        loss.backward()
    with browse(tape.html(tmp_path / "big.html")) as page:
        assert page.js("nodes.length") > 1000
        start = page.js("document.querySelectorAll('.box.closed').length")
        assert start >= 16 and page.js("document.querySelectorAll('#picture g').length") < 100
        page.press("ArrowRight", 40)
        page.press("o")
        assert page.js("document.querySelectorAll('.box:not(.closed)').length") > 1
        page.js("document.querySelector('.box.closed').focus()")
        before = page.js("document.querySelectorAll('.box:not(.closed)').length")
        page.press("Enter")
        assert page.js("document.querySelectorAll('.box:not(.closed)').length") == before + 1
        page.press("a")
        milliseconds = page.js(
            "(() => { const t = performance.now(); drawGraph(); show(400); return performance.now() - t; })()"
        )
        assert page.js("document.querySelectorAll('#picture g').length") > 1000 and milliseconds < 5000
        overlap = """(() => { const all = Object.entries(place).filter(([k]) => k[0] === 'n').map(([_, r]) => r);
            return all.some((a, i) => all.some((b, j) => i < j && a.x < b.x + b.w - 1 && b.x < a.x + a.w - 1 &&
                                                a.y < b.y + b.h - 1 && b.y < a.y + a.h - 1)); })()"""
        assert not page.js(overlap)
        assert not page.errors and all(url.startswith("file://") for url in page.requests)
