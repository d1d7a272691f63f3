"""A run survives: being stopped anywhere, kill -9, a damaged checkpoint, a second process, and nan."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tensorlite as tl
from benchmarks.kill import kills
from gpt.checkpoint import checkpoints
from gpt.config import PRESETS
from gpt.model import GPT
from gpt.options import UsageError
from tensorlite import nn
from tensorlite.nn import functional as F
from train import checkpoint, lock
from train.corpus import Windows
from train.corpus.folder import ShardedTokens
from train.corpus.shards import open_shard
from train.interval import Interval
from train.loop import Loop, Task
from train.outliers import Outliers
from train.recipe import Recipe
from train.run import Run, read_metrics

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and limits are POSIX's")
STEPS, MICRO = 7, 3


class Net(nn.Module):
    def __init__(self, first=lambda x: x):
        super().__init__()
        self.rise, self.drop, self.fall = nn.Linear(8, 16), nn.Dropout(0.2), nn.Linear(16, 1)
        self.first = first

    def forward(self, x):
        return self.fall(self.drop(F.gelu(self.rise(self.first(x)))))


def trained(
    folder,
    stop=None,
    number=signal.SIGINT,
    first=lambda x: x,
    each=lambda: None,
    write=None,
    seen=None,
    shards=None,
    **changes,
):
    """The loop, after it has trained in `folder`, from the beginning or on; a signal came in micro-batch `stop`.

    It trains a Net on 42 samples, or a GPT on the windows of `shards`."""
    defaults = {"steps": STEPS, "accumulation": MICRO, "batch_size": 4, "warmup": 2, "log_every": 1, "eval_every": 3}
    recipe = Recipe(**{**defaults, "checkpoint_every": None, **changes})
    x = tl.randn(42, 8, generator=tl.Generator().manual_seed(0))
    data = tl.data.TensorDataset(x, x[:, :1].sin()) if shards is None else Windows(shards, 8, 1)
    collate = None if shards is None else tuple
    loader = tl.data.DataLoader(data, 4, shuffle=True, generator=tl.Generator().manual_seed(1), collate_fn=collate)
    tl.manual_seed(3)
    model = Net(first) if shards is None else GPT(replace(PRESETS["tiny"], n_layer=1, n_embd=8, dropout=0.2))
    state, calls = None, 0
    if folder.exists():
        saved, state = checkpoint.load(folder)
        model.load_state_dict(tl.load(saved / "model.safetensors"))
        run = Run.open(folder, state["step"])
    else:
        run = Run.create(folder, "{}")

    def loss(batch):
        nonlocal calls
        each()
        if calls == stop:
            os.kill(os.getpid(), number)
        calls += 1
        if seen is not None:
            seen.append(batch)
        return F.mse_loss(model(batch[0]), batch[1]) if shards is None else model.loss(*batch)

    write = write or (lambda model, folder: tl.save(model.state_dict(), folder / "model.safetensors"))
    task = Task(
        model, loader, loss, lambda b: len(b[0]), lambda step, last: {"val_loss": abs(step - 4) + 1}, write, "a"
    )
    loop = Loop(task, recipe, run, state)
    loop.train()
    return loop


def bits(loop):
    return [p.tolist() for p in loop.model.parameters()]


def losses(folder):
    """The lines of metrics.jsonl, without what the clock says."""
    clock = {"tokens_per_second", "share_of_peak", "seconds"}
    return [{k: m[k] for k in m.keys() - clock} for m in read_metrics(folder / "metrics.jsonl")]


def names(folder):
    return [path.name for path in checkpoints(folder)]


# Stopping ---------------------------------------------------------------------------------------------


def test_stopped_anywhere_and_resumed_it_has_the_same_bits(tmp_path, capsys):
    """A GPT with dropout on three shards, 30 times stopped by SIGINT or SIGTERM in a random micro-batch, with
    accumulation, shuffling, windows across shards and epochs that end within steps."""
    tokens = np.random.default_rng(0).integers(0, 65, 50, dtype=np.uint16)
    for i, part in enumerate(np.split(tokens, [15, 33])):
        (tmp_path / f"{i}.bin").write_bytes(part.tobytes())
    shards = ShardedTokens([open_shard(tmp_path / f"{i}.bin") for i in range(3)])
    whole, rng = trained(tmp_path / "whole", shards=shards), random.Random(0)
    stops, within = rng.sample(range(STEPS * MICRO), 15), 0
    for i, stop in enumerate([*stops, *rng.choices(range(STEPS * MICRO), k=15)]):
        folder = tmp_path / f"{i}"
        part = trained(folder, stop, rng.choice([signal.SIGINT, signal.SIGTERM]), shards=shards)
        assert (part.step, part.gathered.micro) == divmod(stop + 1, MICRO)
        assert names(folder) == [checkpoint.name(*divmod(stop + 1, MICRO))]
        within += bool(part.gathered.micro)
        if part.step < STEPS:
            part = trained(folder, shards=shards)
        assert bits(part) == bits(whole)
        assert losses(folder) == losses(tmp_path / "whole")
    assert 10 <= within < 30 and len(losses(tmp_path / "whole")) == STEPS + 1
    assert "finishing this step, then saving; press Ctrl-C again" in capsys.readouterr().err


def test_a_line_says_where_in_the_data_it_is_as_the_checkpoint_does(tmp_path):
    """From its numbers, and the seed, a fresh loader finds what a step was trained on."""
    seen = []
    loop = trained(tmp_path / "a", checkpoint_every="1", keep=STEPS, seen=seen)
    lines = [m for m in read_metrics(tmp_path / "a" / "metrics.jsonl") if m["step"]]
    assert [m["tokens"] for m in lines] == np.cumsum([len(b[0]) for b in seen])[MICRO - 1 :: MICRO].tolist()
    assert lines[-1]["epoch"] == 1  # 42 samples are 11 batches, of which the last is shorter
    for folder, line in zip(checkpoints(tmp_path / "a"), lines, strict=True):
        state = tl.load(folder / "training.safetensors")
        place = (state["loader"]["epoch"], state["loader"]["batches"], state["tokens"])
        assert place == (line["epoch"], line["batches"], line["tokens"])
    fresh = tl.data.DataLoader(loop.task.loader.dataset, 4, shuffle=True, generator=tl.Generator().manual_seed(1))
    epochs = [list(fresh), list(fresh)]
    for line in lines:
        last = epochs[line["epoch"] - (not line["batches"])][line["batches"] - 1]
        assert np.array_equal(seen[line["step"] * MICRO - 1][0].numpy(), last[0].numpy())


def test_a_second_signal_stops_at_once_and_harms_nothing(tmp_path, capsys):
    trained(tmp_path / "a", steps=2)

    enough = threading.Event()

    def slow(model, folder):
        (folder / "model.safetensors").write_bytes(b"half")
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
        enough.wait(60)

    start = time.perf_counter()
    with pytest.raises(SystemExit) as stopped:
        trained(tmp_path / "a", stop=4, write=slow)
    assert stopped.value.code == 128 + signal.SIGTERM and time.perf_counter() - start < 60
    assert "stopped at once; the last checkpoint is whole" in capsys.readouterr().err
    assert checkpoint.load(tmp_path / "a")[1]["step"] == 2
    assert (tmp_path / "a" / "checkpoints" / ".step-000003+002.part").exists()  # the next save removes it
    enough.set()


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path):
    counts = kills(25, tmp_path / "run", seed=0)
    assert counts["kills"] == counts["loadable"] == 25 and counts["torn"] == 0 and counts["same bits"]
    assert counts["oldest"] <= 1


# Checkpoints ------------------------------------------------------------------------------------------


def test_the_newest_and_the_best_stay(tmp_path):
    trained(tmp_path / "a", checkpoint_every="1", keep=2, eval_every=1)
    assert names(tmp_path / "a") == ["step-000004", "step-000006", "step-000007"]
    trained(tmp_path / "b", checkpoint_every="5", eval_every=3)  # saved because it is the best so far
    assert names(tmp_path / "b") == ["step-000003", "step-000007"]
    trained(tmp_path / "c", checkpoint_every="1", eval_every=1, keep_best=False)
    assert names(tmp_path / "c") == ["step-000007"]


def test_every_so_many_minutes():
    assert Interval.parse("2h", "--x").due(1, 7200) and not Interval.parse("2h", "--x").due(100, 7199)
    for wrong in ("0", "ten", "10 m", "-5", "0s"):
        with pytest.raises(UsageError, match="--checkpoint-every is a number of steps, 100 say, or a time, 30s, 10m"):
            Recipe(checkpoint_every=wrong)


@pytest.mark.parametrize("harm", ["flip", "cut", "delete", "manifest"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(tmp_path, capsys, harm):
    whole = trained(tmp_path / "whole")
    trained(tmp_path / "a", stop=14, checkpoint_every="1", keep=2, keep_best=False)
    file = tmp_path / "a" / "checkpoints" / "step-000005" / "model.safetensors"
    content = bytearray(file.read_bytes())
    if harm == "flip":
        content[-1] ^= 1
        file.write_bytes(content)
    elif harm == "cut":
        file.write_bytes(content[:-8])
    elif harm == "delete":
        file.unlink()
    else:
        (file.parent / "manifest.json").write_text("{")
    loop = trained(tmp_path / "a", keep_best=False)
    wrong = {
        "flip": "the checksum of model.safetensors is not that of what was written",
        "cut": f"model.safetensors has {len(content) - 8:,} bytes, and {len(content):,} were written",
        "delete": "model.safetensors: No such file",
        "manifest": "manifest.json cannot be read",
    }
    assert f"step-000005 is damaged, an older one is tried: {wrong[harm]}" in capsys.readouterr().err
    assert bits(loop) == bits(whole)
    for folder in checkpoints(tmp_path / "a"):
        (folder / "training.safetensors").unlink()
    with pytest.raises(UsageError, match="all of its checkpoints are damaged"):
        checkpoint.load(tmp_path / "a")


def test_without_a_checkpoint_there_is_nothing_to_go_on_from(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UsageError, match=r"it has no checkpoint yet, .* delete it and start anew"):
        checkpoint.load(tmp_path)


def test_another_version_is_said(tmp_path, capsys):
    trained(tmp_path / "a", steps=3)
    file = tmp_path / "a" / "checkpoints" / "step-000003" / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"versions": {"numpy": "1.0"}}))
    trained(tmp_path / "a")
    assert f"numpy 1.0 → {np.__version__}; the last bits may differ" in capsys.readouterr().err


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path):
    """What is written is the state at the time of saving, however far training has come meanwhile."""
    during: list[bool] = []
    writing, went_on = threading.Event(), threading.Event()

    def slow(model, folder):
        before = model.rise.weight.tolist()
        writing.set()
        assert went_on.wait(30)
        assert model.rise.weight.tolist() == before
        tl.save(model.state_dict(), folder / "model.safetensors")

    def each():
        if len(during) > 3 * MICRO:  # of the steps after the first checkpoint
            during.append(writing.wait(30) and not went_on.is_set())
            went_on.set()
        else:
            during.append(False)

    trained(tmp_path / "a", write=slow, each=each, checkpoint_every="3")
    assert sum(during) == 1
    assert len(during) == STEPS * MICRO


def test_what_was_logged_after_the_checkpoint_is_forgotten(tmp_path):
    run = Run.create(tmp_path / "a", "{}")
    for step in (0, 2, 4):
        run.log(step=step)
        run.sample(step, f"--- step {step}\nthe text of {step}")
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "tr')
    again = Run.open(run.path, 2)
    assert [m["step"] for m in read_metrics(run.path / "metrics.jsonl")] == [m["step"] for m in again.metrics] == [0, 2]
    assert (run.path / "samples.txt").read_text().endswith("the text of 2\n\n")


# The lock ---------------------------------------------------------------------------------------------


@pytest.fixture
def other(tmp_path):
    """Another process that holds tmp_path."""
    code = (
        f"from train.lock import hold; from pathlib import Path; x = hold(Path({str(tmp_path)!r})); print(1); input()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", f"{code.replace('print(1)', 'print(1, flush=True)')}"],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "1\n"
    yield process
    process.kill()
    process.communicate()


def test_two_processes_do_not_share_a_folder(tmp_path, other, capsys):
    with pytest.raises(UsageError, match=rf"is in use by process {other.pid} on .*; wait for it, or stop it"):
        lock.hold(tmp_path)
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    assert (tmp_path / lock.NAME).exists()
    held = lock.hold(tmp_path)
    assert lock.hold(tmp_path) is held
    assert f"process {other.pid} on {socket.gethostname()} had it and is gone; taking over" in capsys.readouterr().err
    held.release()
    assert not (tmp_path / lock.NAME).exists()


def test_another_machine_counts_as_gone_when_it_gives_no_sign_of_life(tmp_path, capsys):
    file = tmp_path / lock.NAME
    file.write_text(json.dumps({"pid": 7, "host": "far"}))
    with pytest.raises(UsageError, match=r"was in use by process 7 on far \d+ s ago; after 120 s .* counts as gone"):
        lock.hold(tmp_path)
    os.utime(file, (time.time() - 121,) * 2)
    lock.hold(tmp_path).release()
    assert "process 7 on far had it and is gone" in capsys.readouterr().err


# Numbers ----------------------------------------------------------------------------------------------


def test_nan_names_the_op_and_the_module_and_keeps_the_checkpoint(tmp_path):
    calls = iter(range(1000))
    with pytest.raises(UsageError) as error, np.errstate(all="ignore"):
        trained(
            tmp_path / "a",
            first=lambda x: (x * 0).log() * 0 if next(calls) >= 10 else x,
            checkpoint_every="1",
        )
    said = str(error.value)
    assert "the loss became nan at step 4: [log] in Net made it of finite numbers, at " in said
    assert "test_survive.py" in said and "lower --lr, or lengthen --warmup (the last checkpoint is" in said
    assert checkpoint.load(tmp_path / "a")[1]["step"] == 3


class Root(nn.Module):
    def forward(self, x):
        return (x * 0).sqrt().mean()  # whose slope at 0 is infinite


@np.errstate(all="ignore")
def test_a_gradient_that_is_infinite_is_traced_to_its_backward(tmp_path):
    root = Root()
    model = nn.Sequential(nn.Linear(8, 2), root)
    recipe = Recipe(steps=3, warmup=0, batch_size=4)
    loader = tl.data.DataLoader(tl.data.TensorDataset(tl.ones(8, 8)), 4)
    write = lambda model, folder: None
    task = Task(model, loader, lambda batch: model(batch[0]), len, lambda step, last: {}, write)
    with pytest.raises(
        UsageError, match=r"norm of the gradient became nan at step 1: the backward of \[sqrt\] in 1 made"
    ):
        Loop(task, recipe, Run.create(tmp_path / "a", "{}")).train()
    with tl.no_grad():
        model[0].weight.fill_(float("inf"))
    with pytest.raises(UsageError, match=r"the weight 0\.weight had it before the step.*nothing was saved yet"):
        Loop(task, recipe, Run.create(tmp_path / "b", "{}")).train()


def test_outliers_are_skipped_and_counted(tmp_path, capsys):
    calls = iter(range(1000))
    options = {"steps": 60, "accumulation": 1, "skip_outliers": 6.0, "eval_every": 60}
    spoil = lambda x: x * 1000 if next(calls) == 45 else x
    loop = trained(tmp_path / "a", first=spoil, **options)
    assert loop.outliers.skipped == 1 and "step 46 is skipped: loss" in capsys.readouterr().err
    assert [m["skipped"] for m in read_metrics(tmp_path / "a" / "metrics.jsonl")] == [0] * 46 + [1] * 15
    calls = iter(range(1000))
    trained(tmp_path / "b", stop=43, first=spoil, **options)
    again = trained(tmp_path / "b", first=spoil, **options)
    assert bits(again) == bits(loop) and again.outliers.skipped == 1


def test_nothing_is_an_outlier_before_enough_is_known():
    outliers = Outliers(3.0)
    assert all(outliers.look(loss=value) is None for value in (1.0, 1e9, *[1.0, 1.1] * 16))
    assert Outliers(None).look(loss=1e30) is None
    with pytest.raises(UsageError, match=r"--skip-outliers is above 0, not -1"):
        Recipe(skip_outliers=-1.0)
