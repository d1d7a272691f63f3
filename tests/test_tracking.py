"""A run's numbers in TensorBoard's event file, read back, and in a stand-in for wandb with its documented interface."""

import json
import struct
import sys
from types import ModuleType, SimpleNamespace

import pytest

from gpt.options import UsageError
from train import pretrain
from train.run import Run, read_metrics
from train.tracking import TensorBoard, tracked

CONFIG = '{"n_embd": 16, "lr": 0.1}'


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run"


def train(folder, kind, steps):
    """What the loop does with a run and its tracker: begin it, or go on with it, and log a line for each of `steps`."""
    run = Run.open(folder, steps[0] - 1) if folder.exists() else Run.create(folder, CONFIG)
    with tracked(run, kind):
        for step in steps:
            val = 3 / (step + 1) if step % 4 == 0 else None
            run.log(step=step, train_loss=4 / (step + 1), val_loss=val, tokens=64 * step, seconds=0.01 * step)


def numbers(run):
    """What metrics.jsonl says, as (step, name, value)."""
    lines = read_metrics(run / "metrics.jsonl")
    return sorted((m["step"], k, v) for m in lines for k, v in m.items() if k != "step" and v is not None)


def events(run):
    """The events in the one event file of a run: lengths, checksums and protocol buffers."""
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed: pip install 'tensorlite[tensorboard]'")
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import masked_crc32c

    (path,) = run.glob("events.out.tfevents.*")
    data, found = path.read_bytes(), []
    while data:
        (size,) = struct.unpack("<Q", data[:8])
        body, data = data[12 : 12 + size], data[16 + size :]
        assert len(body) == size and masked_crc32c(body)
        found.append(Event.FromString(body))
    return found


def scalars(run):
    found = ((e.step, v) for e in events(run) for v in e.summary.value if not v.HasField("tensor"))
    return sorted((step, v.tag, pytest.approx(v.simple_value, rel=1e-6)) for step, v in found)


# TensorBoard ------------------------------------------------------------------------------------------


def test_tensorboard_has_what_metrics_jsonl_has_also_after_going_on(folder):
    train(folder, "tensorboard", range(7))
    assert scalars(folder) == numbers(folder) and len({step for step, *_ in numbers(folder)}) == 7
    begun = [e for e in events(folder) if e.HasField("session_log")]
    assert [e.step for e in begun] == [0] and begun[0].session_log.status == begun[0].session_log.START
    config = next(v for e in events(folder) for v in e.summary.value if v.tag == "config/text_summary")
    assert b"| n_embd | 16 |" in config.tensor.string_val[0]
    train(folder, "tensorboard", range(5, 10))
    assert scalars(folder) == numbers(folder) and numbers(folder)[-1][0] == 9
    times = [e.wall_time for e in events(folder) if e.summary.value and e.summary.value[0].tag == "train_loss"]
    assert len(times) == 10 and times == sorted(times)


def test_tracking_that_begins_on_the_way_has_the_whole_run(folder):
    train(folder, None, range(5))
    train(folder, "tensorboard", range(5, 7))
    assert scalars(folder) == numbers(folder)
    train(folder, None, range(7, 9))
    assert {step for step, *_ in scalars(folder)} == set(range(7))


def test_a_disk_that_is_full_does_not_stop_training(folder, monkeypatch, capsys):
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed: pip install 'tensorlite[tensorboard]'")

    def full(self, line):
        if line["step"] >= 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(TensorBoard, "log", full)
    train(folder, "tensorboard", range(6))
    assert [m["step"] for m in read_metrics(folder / "metrics.jsonl")] == list(range(6))
    said = capsys.readouterr().err
    assert (
        said.count("--track tensorboard is given up: OSError: [Errno 28] No space left on device; training goes") == 1
    )


# Weights & Biases -------------------------------------------------------------------------------------


class Cloud:
    """What the service would know: for each run its configuration and its history."""

    def __init__(self):
        self.runs, self.calls, self.offline = {}, [], False

    def init(self, *, project, name, id, resume, dir, config, settings):
        assert resume == "allow" and dir.is_dir() and settings.finish_timeout > 0
        self.calls.append("init")
        id = id or f"id{len(self.runs)}"
        known = self.runs.setdefault(id, SimpleNamespace(project=project, name=name, config=None, history=[]))
        known.config = config
        step = 0 if self.offline or not known.history else known.history[-1][0] + 1

        def log(numbers, step):
            self.calls.append("log")
            known.history.append((step, numbers))

        return SimpleNamespace(id=id, step=step, log=log, finish=lambda: self.calls.append("finish"))

    def history(self, id):
        return sorted((step, k, v) for step, numbers in self.runs[id].history for k, v in numbers.items())


@pytest.fixture
def cloud(monkeypatch):
    cloud, module = Cloud(), ModuleType("wandb")
    module.init, module.Settings = cloud.init, SimpleNamespace
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return cloud


@pytest.mark.parametrize("offline", [False, True])
def test_wandb_goes_on_with_the_same_run_and_has_nothing_twice(folder, cloud, offline):
    cloud.offline = offline
    train(folder, "wandb", range(6))  # and is killed, with a checkpoint of step 4
    known = cloud.runs["id0"]
    assert (known.project, known.name, known.config) == ("tensorlite", "run", {"n_embd": 16, "lr": 0.1})
    assert cloud.history("id0") == numbers(folder) and cloud.calls[-1] == "finish"
    train(folder, "wandb", range(5, 8))
    assert list(cloud.runs) == ["id0"]
    assert [step for step, _ in known.history] == list(range(8))
    assert cloud.history("id0") == numbers(folder)


def test_another_project_and_a_damaged_wandb_json(folder, cloud, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    train(folder, "wandb", range(5))
    (folder / "wandb.json").write_text("[")
    train(folder, "wandb", range(5, 7))  # it cannot know its id, so it begins another, with all of it
    assert cloud.runs["id1"].project == "mine"
    assert cloud.history("id1") == numbers(folder)


@pytest.mark.parametrize("where", ["init", "log", "finish"])
def test_a_service_that_fails_does_not_stop_training(folder, cloud, monkeypatch, capsys, where):
    def broken(*args, **kwargs):
        raise ConnectionError("the network is down")

    init = (
        broken if where == "init" else lambda **known: SimpleNamespace(**{**vars(cloud.init(**known)), where: broken})
    )
    monkeypatch.setattr(sys.modules["wandb"], "init", init)
    train(folder, "wandb", range(5))
    assert [m["step"] for m in read_metrics(folder / "metrics.jsonl")] == list(range(5))
    words = "--track wandb is given up: ConnectionError: the network is down; training goes on, and metrics.jsonl has"
    assert capsys.readouterr().err.count(words) == 1


# The scripts ------------------------------------------------------------------------------------------


def test_a_training_script_tracks_its_run(tmp_path, folder, cloud):
    text = tmp_path / "text.txt"
    text.write_text("".join(f"{n} times {n} is {n * n}.\n" for n in range(50)), encoding="utf-8")
    small = "--n-layer 1 --n-head 1 --n-embd 8 --context-length 8 --batch-size 2 --sample-every 0 --log-every 1".split()
    flags = ["--data", str(text), "--out", str(folder), *small, "--no-measure-peak", "--steps", "3"]
    pretrain.main([*flags, "--track", "wandb"])
    assert cloud.history("id0") == numbers(folder)
    assert cloud.runs["id0"].config == json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize("kind, library", [("tensorboard", "tensorboardX"), ("wandb", "wandb")])
def test_a_library_that_is_missing_is_named_before_anything_is_written(folder, monkeypatch, kind, library):
    monkeypatch.setitem(sys.modules, library, None)  # as if it were not installed
    with pytest.raises(UsageError, match=rf"--track {kind} needs {library}: pip install 'tensorlite\[{kind}\]'"):
        pretrain.main(["--out", str(folder), "--track", kind])
    assert not folder.exists()


def test_without_a_tracker_nobody_listens(folder):
    run = Run.create(folder, CONFIG)
    with tracked(run, None):
        assert run.listeners == []
