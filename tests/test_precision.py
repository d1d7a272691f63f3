"""--precision: a run in fewer bits, as a user starts, stops and resumes it."""

import json
import sys

import numpy as np
import pytest

import tensorlite as tl
from gpt.checkpoint import latest_weights, load_model
from train import checkpoint, loop, pretrain

SMALL = "--n-layer 1 --n-head 2 --n-embd 16 --context-length 16 --batch-size 4 --warmup 2 --accumulation 2".split()
SMALL += "--eval-batches 2 --sample-tokens 8 --eval-every 4 --sample-every 4 --log-every 1".split()
SMALL += ["--no-measure-peak"]

pytest.importorskip("ml_dtypes")


@pytest.fixture
def train(tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("".join(f"{n} times {n} is {n * n}.\n" for n in range(150)), encoding="utf-8")

    def run(out, *flags):
        given = [] if "--resume" in flags else [*SMALL, "--data", str(text), "--out", str(tmp_path / out)]
        pretrain.main([*given, *flags])
        return tmp_path / out, capsys.readouterr()

    return run


def losses(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [m["train_loss"] for m in lines if m["train_loss"] is not None]


def weights(run):
    return {name: p.numpy() for name, p in load_model(latest_weights(run)).state_dict().items()}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_stopped_and_resumed_it_has_the_same_bits(train, precision, tmp_path):
    whole, printed = train("whole", "--steps", "6", "--precision", precision)
    assert f"--precision {precision}: a CPU computes in float32, and rounds to" in printed.err
    half, _ = train("half", "--steps", "3", "--precision", precision, "--schedule", "constant")
    straight, _ = train("straight", "--steps", "6", "--precision", precision, "--schedule", "constant")
    resumed, _ = train("half", "--resume", str(half), "--steps", "6")
    a, b = weights(straight), weights(resumed)
    assert all(np.array_equal(a[name], b[name]) for name in a) and losses(straight) == losses(resumed)
    assert all(x.dtype == np.float32 for x in a.values())
    assert json.loads((whole / "config.json").read_text())["precision"] == precision
    _, state = checkpoint.load(whole)
    assert ("scaler" in state) == (precision == "fp16")
    single, _ = train("single", "--steps", "6", "--schedule", "constant")
    np.testing.assert_allclose(losses(straight), losses(single), rtol=0.01)
    assert losses(straight) != losses(single)


@pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value")
def test_a_scale_that_is_too_large_costs_steps_and_no_more(train, monkeypatch):
    before = tl.amp.GradScaler.__init__
    start = lambda self, *args, **options: before(self, *args, **options, init_scale=2.0**40)
    monkeypatch.setattr(tl.amp.GradScaler, "__init__", start)
    run, _ = train("a", "--steps", "4", "--precision", "fp16")
    _, state = checkpoint.load(run)
    assert state["scaler"]["scale"] == 2.0**36 and state["optimizer"]["state"] == {}
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [m["grad_norm"] for m in lines[1:]] == [None] * 4 and lines[-1]["train_loss"] == pytest.approx(2.9, abs=0.3)


def test_without_ml_dtypes(train, monkeypatch, fails, tmp_path):
    monkeypatch.setattr(sys.modules["tensorlite.amp.casting"], "bfloat16", None)
    error = fails(pretrain.main, "train.pretrain", "--precision", "bf16", "--out", str(tmp_path / "a"))
    assert error.endswith("--precision bf16: autocast: bfloat16 needs ml_dtypes: pip install 'tensorlite[bf16]'")
    assert not (tmp_path / "a").exists()


def test_tf32_is_a_switch(train, monkeypatch):
    monkeypatch.setenv("CUPY_TF32", "0")
    seen = []
    update = loop.Loop._update
    monkeypatch.setattr(
        loop.Loop, "_update", lambda self, loss: seen.append(tl.get_float32_matmul_precision()) or update(self, loss)
    )
    train("a", "--steps", "1", "--precision", "tf32")
    assert seen == ["high"]
    train("b", "--steps", "1")
    assert seen == ["high", "highest"]
