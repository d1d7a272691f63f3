"""The profiler counts the calls, the work and the memory of each op, and writes a trace that a browser can read."""

import json
import time
from pathlib import Path

import numpy as np
import pytest

import tensorlite as tl
from tensorlite.nn.functional import layer_norm, linear, scaled_dot_product_attention
from tensorlite.profiler import profile


def test_counts_calls_products_and_bytes():
    x, w = tl.randn(8, 4, 16), tl.randn(32, 16, requires_grad=True)
    with tl.profile(show=False) as p:
        loss = linear(x, w).tanh().sum()
        loss.backward()
    assert {name: row.calls for name, row in p.rows.items()} == {"linear": 1, "tanh": 1, "sum": 1}
    assert p.rows["linear"].flops == 2 * (2 * 32 * 16 * 32)  # forward, and the weight's gradient; x wants none
    assert p.rows["tanh"].bytes == 4 * (8 * 4 * 32) * 4 + 4  # x and y; y and dx; g, which is one number spread out
    assert all(row.forward > 0 and row.backward > 0 for row in p.rows.values())
    assert sum(row.seconds for row in p.rows.values()) < p.seconds


@pytest.mark.parametrize("a, b, flops", [
    ((3, 4), (4, 5), 2 * 3 * 4 * 5), ((2, 3, 4), (4, 5), 2 * 6 * 4 * 5), ((2, 1, 3, 4), (6, 4, 5), 2 * 12 * 3 * 4 * 5),
])  # fmt: skip
def test_flops_of_a_product(a: tuple[int, ...], b: tuple[int, ...], flops: int):
    a, b = tl.randn(*a, requires_grad=True), tl.randn(*b, requires_grad=True)
    with tl.profile(show=False) as p:
        (a @ b).sum().backward()
    assert p.rows["matmul"].flops == 3 * flops


def test_flops_of_attention():
    q = tl.randn(2, 3, 8, 4, requires_grad=True)
    for is_causal, part in ((False, 1), (True, 0.5)):
        with tl.profile(show=False) as p:
            scaled_dot_product_attention(q, q, q, is_causal=is_causal).sum().backward()
        assert p.rows["attention"].flops == 3.5 * part * (2 * 2 * 3 * 8 * 8 * 8)


def test_memory_kept_counts_each_array_once_and_no_parameter():
    x, w = tl.randn(16, 16, requires_grad=True), tl.randn(16, 16, requires_grad=True)
    with tl.profile(show=False) as p:
        y = x.exp()  # keeps y
        z = y * w  # keeps y again, and w, which lives anyway
        z.sin().sum().backward()  # keeps z
    assert {name: row.kept for name, row in p.rows.items()} == {"exp": 1024, "multiply": 0, "sin": 1024, "sum": 0}


def test_time_inside_another_op_is_its_own():
    """With create_graph the rows run as ops themselves, inside the backward of another."""
    x = tl.randn(64, 64, requires_grad=True)
    with tl.profile(show=False) as p:
        tl.grad(x.tanh().sum(), x, create_graph=True)
    assert p.rows["multiply"].calls >= 2
    assert sum(row.seconds for row in p.rows.values()) < p.seconds


def test_a_sleep_lies_outside_of_ops():
    with tl.profile(show=False) as p:
        tl.randn(4).exp()
        time.sleep(0.05)
    assert p.seconds >= 0.05 > p.rows["exp"].seconds


def test_prints_a_table(capsys: pytest.CaptureFixture[str]):
    x = tl.randn(64, 32, requires_grad=True)
    with tl.profile():
        layer_norm(x, (32,)).transpose(0, 1).matmul(x).sum().backward()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["op", "calls", "forward", "backward", "speed", "of", "peak", "kept"]
    named = {line[:22].strip(): line for line in lines}
    assert "GFLOP/s" in named["matmul"] and "GB/s" in named["layer_norm"]
    assert "/s" not in named["transpose"]  # a view moves nothing
    assert "outside of ops" in named and lines[-1].startswith("peaks, measured: products ")


def test_an_error_inside_is_not_followed_by_a_table(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(ValueError, match="mine"), tl.profile():
        raise ValueError("mine")
    assert capsys.readouterr().out == ""
    assert not tl.mode.hooks


def test_an_op_that_fails_does_not_shift_the_others(tmp_path: Path):
    with tl.profile(show=False) as p:
        with pytest.raises(RuntimeError):
            tl.randn(2, 3) @ tl.randn(2, 3)
        tl.randn(3).exp()
    assert p.rows["exp"].calls == 1 and set(p.rows) == {"exp"}
    assert p.rows["exp"].forward > 0


def test_trace(tmp_path: Path):
    x = tl.randn(4, requires_grad=True)
    with tl.profile(show=False) as p:
        x.exp().sum().backward()
    p.write_trace(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert [(e["name"], e["cat"]) for e in events] == [
        ("exp", "forward"), ("sum", "forward"), ("sum", "backward"), ("exp", "backward"),
    ]  # fmt: skip
    assert all(e["ph"] == "X" and e["dur"] >= 0 for e in events)
    assert np.all(np.diff([e["ts"] for e in events]) >= 0)


def test_ceilings_are_measured_once():
    first = tl.machine.ceilings()
    assert first.flops > 1e8 and first.bytes > 1e7
    assert tl.machine.ceilings() is first


def test_is_a_hook():
    assert isinstance(profile(), tl.Hook)
