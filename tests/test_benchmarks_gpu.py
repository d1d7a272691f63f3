"""python -m benchmarks.gpu, without a GPU: what it says then, and what it does with parts that fail, hang or stop."""

import json
import textwrap

import pytest

import tensorlite as tl
from benchmarks.gpu import __main__ as command
from benchmarks.gpu import parts
from benchmarks.gpu.parts import Part, Row, run_all

STAND_IN = """
    import os, sys, time
    from benchmarks.gpu.parts import Row, MissingError

    def good(factor):
        yield Row("speed", 1234567 * factor, "tokens/s")
        yield Row("a | b", "words", wanted="these words", ok=True)

    def wrong():
        yield Row("loss", 2.5, wanted="at most 1", ok=False)

    def breaks():
        yield Row("before it broke", 1.0)
        raise RuntimeError("the GPU is on fire")

    def dies():
        yield Row("before it died", 1.0)
        os._exit(11)

    def hangs():
        yield Row("before it hung", 1.0)
        time.sleep(600)

    def lacks():
        raise MissingError("PyTorch is not installed")
        yield

    def counts():
        path = os.path.join(os.environ["BENCHMARKS_GPU_OUT"], "count")
        n = int(open(path).read()) + 1 if os.path.exists(path) else 1
        open(path, "w").write(str(n))
        yield Row("run", n)
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    (tmp_path / "stand_in.py").write_text(textwrap.dedent(STAND_IN))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{__file__.rsplit('/', 2)[0]}")
    return tmp_path / "out"


def test_one_that_fails_loses_only_itself(stand_in, capsys):
    names = {"good": {"factor": 2}, "wrong": {}, "breaks": {}, "dies": {}, "lacks": {}}
    chosen = [Part(name, f"stand_in:{name}", arguments, 60) for name, arguments in names.items()]
    chosen.insert(3, Part("hangs", "stand_in:hangs", limit=3))
    outcomes = run_all(chosen, stand_in, {"GPU": "none"})
    assert {name: x.status for name, x in outcomes.items()} == {
        "good": "done", "wrong": "done", "breaks": "failed", "hangs": "out of time", "dies": "failed",
        "lacks": "skipped",
    }  # fmt: skip
    assert [name for name, x in outcomes.items() if x.ok] == ["good", "lacks"]
    assert [len(x.rows) for name, x in outcomes.items() if name != "hangs"] == [2, 1, 1, 1, 0]
    assert outcomes["breaks"].error == "RuntimeError: the GPU is on fire"
    assert outcomes["dies"].error == "ended with 11 and no word" and outcomes["hangs"].error == "stopped after 3 s"
    assert outcomes["lacks"].error == "PyTorch is not installed"
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 6 and printed[1].startswith("wrong … done, ") and printed[1].endswith("s, 1 not as wanted")
    text = (stand_in / "gpu.md").read_text()
    assert "| speed | 2,469,134 tokens/s |  |  |" in text and r"| a \| b | words | these words | yes |" in text
    assert "| loss | 2.5 | at most 1 | **no** |" in text and "failed: RuntimeError: the GPU is on fire" in text
    assert json.loads((stand_in / "gpu.json").read_text())["parts"]["good"]["rows"][0]["value"] == 2469134
    assert parts.load(stand_in) == outcomes


def test_what_is_done_is_not_done_again(stand_in):
    chosen = [Part("counts", "stand_in:counts"), Part("always", "stand_in:counts", always=True)]
    run_all(chosen, stand_in, {})
    outcomes = run_all(chosen, stand_in, {})
    assert [outcomes[name].rows[0].value for name in ("counts", "always")] == [1, 3]
    assert run_all(chosen[:1], stand_in, {}, again=True)["counts"].rows[0].value == 4


def test_a_row_that_was_not_written_whole(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"what": "a", "value": 1.0}\n{"what": "b", "va')
    assert list(parts.read(path)) == [Row("a", 1.0)]
    (tmp_path / "gpu.json").write_text('{"parts": {')
    assert parts.load(tmp_path) == {}


@pytest.mark.skipif(tl.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_what_is_missing(tmp_path, capsys):
    assert command.main(["--all", "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("benchmarks.gpu: device 'cuda'") and not (tmp_path / "out").exists()


def test_a_part_that_does_not_exist(capsys):
    with pytest.raises(SystemExit):
        command.main(["--part", "speeed"])
    assert "there is no part speeed" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.main([])
    assert "give --all, or --part NAME" in capsys.readouterr().err


def test_every_part_is_there():
    for part in command.PARTS:
        module, _, name = part.function.partition(":")
        function = getattr(__import__(module, fromlist=[name]), name)
        wanted = function.__code__.co_varnames[: function.__code__.co_argcount]
        assert set(part.arguments) <= set(wanted), part
        assert len(wanted) - len(function.__defaults__ or ()) <= len(part.arguments), part


def test_the_comparison_with_torch(tmp_path, monkeypatch):
    from benchmarks.gpu.speed import against_torch

    def trained(speed, memory):
        return parts.Outcome("done", 1.0, [Row("tokens/s", speed), Row("memory in use", memory)])

    outcomes = {
        "train-bf16-32-tensorlite": trained(450.0, 10.0),
        "train-bf16-32-torch": trained(400.0, 12.0),
        "train-bf16-32-torch.compile": trained(600.0, 8.0),
        "train-bf16-16-tensorlite": trained(100.0, 10.0),
    }
    parts.write(tmp_path, {}, outcomes)
    monkeypatch.setenv("BENCHMARKS_GPU_OUT", str(tmp_path))
    assert [(row.what.split(": ")[1], row.value, row.ok) for row in against_torch()] == [
        ("tokens/s over torch's", 1.125, None),
        ("memory over torch's", pytest.approx(10 / 12), True),
        ("tokens/s over torch.compile's", 0.75, False),
        ("memory over torch.compile's", 1.25, False),
    ]
