"""What the lens says of memory and time."""

import json
from pathlib import Path

import tensorlite as tl
from tensorlite import lens


def test_what_is_kept_by_whom_and_until_when():
    x, w = tl.randn(16, 16, requires_grad=True), tl.randn(16, 16, requires_grad=True)
    with lens.record() as tape:
        y = x.exp()  # keeps y
        z = y * w  # keeps y again, and w, which lives anyway
        u = z.sin()  # keeps z
        u.sum().backward()
    memory = tape.memory()
    assert [(k.by.op.name, k.name, k.of, k.nbytes, k.until) for k in memory.kept] == [
        ("exp", "y", "y", 1024, 3),
        ("sin", "x", "u", 1024, 1),
    ]
    assert memory.peak == 2048 and [memory.after(k) for k in range(4)] == [2048, 1024, 1024, 0]
    assert "2.0 KiB  at the end of the forward, which is the peak" in str(memory)
    assert "until the turn of" in str(memory) and "4: exp" in str(memory)


def test_as_much_as_the_profiler_counts():
    model = tl.nn.Sequential(tl.nn.Linear(8, 16), tl.nn.GELU(), tl.nn.LayerNorm(16), tl.nn.Linear(16, 4))
    x, y = tl.randn(32, 8), tl.randint(0, 4, (32,))
    with tl.profile(show=False) as p, lens.record() as tape:
        tl.nn.functional.cross_entropy(model(x), y).backward()
    kept = sum(row.kept for row in p.rows.values())
    assert 0 < tape.memory().peak <= kept


def test_timeline(tmp_path: Path):
    x = tl.randn(64, 64, requires_grad=True)
    with lens.record() as tape:
        (x @ x).tanh().sum().backward()
    line = tape.timeline()
    assert [(op, part) for op, _, part, *_ in line.events] == [
        ("matmul", "forward"), ("tanh", "forward"), ("sum", "forward"),
        ("sum", "backward"), ("tanh", "backward"), ("matmul", "backward"),
    ]  # fmt: skip
    starts = [start for *_, start, _ in line.events]
    assert starts == sorted(starts) and all(seconds > 0 for *_, seconds in line.events)
    assert str(line).count("backward") == 4
    line.write_trace(tmp_path / "t.json")
    assert len(json.loads((tmp_path / "t.json").read_text())["traceEvents"]) == 6
