"""Hyper-parameter search: what is tried, that it survives Ctrl-C and runs that fail, and that nothing is done twice."""

import json
import os
import signal
import threading
import time

import pytest

from gpt.checkpoint import checkpoints
from gpt.options import UsageError
from train import lock, pretrain, sweep
from train.presets import Config
from train.run import read_metrics
from train.space import Choices, Range, drawn, flags, grid, read_space, title

FIXED = "--n-layer 1 --n-head 1 --n-embd 8 --context-length 8 --batch-size 2 --warmup 2 --sample-every 0".split()
FIXED += "--eval-batches 1 --eval-every 5 --log-every 1 --no-measure-peak --checkpoint-every 1".split()


def space(*words):
    return read_space(words, Config)


# What is tried ----------------------------------------------------------------------------------------


def test_a_grid_has_each_combination_once_and_equal_values_are_one():
    found = grid(space("lr=1e-3,0.001,3e-4", "n-layer=2,4", "tied=yes,no"))
    assert len(found) == 8 and found[0] == {"lr": "0.001", "n_layer": "2", "tied": "yes"}
    assert flags(found[-1], Config) == ["--lr=0.0003", "--n-layer=4", "--no-tied"]
    assert title(found[0]) == "lr=0.001 n_layer=2 tied=yes"
    assert grid(space("clip=none,1", "data=a.txt,../b.txt")) == [
        {"clip": clip, "data": data} for clip in ("none", "1") for data in ("a.txt", "../b.txt")
    ]


def test_ranges_are_drawn_within_their_ends_and_log_uniform():
    dimensions = space(
        "lr=log:1e-4..1e-2", "n_layer=2..4", "dropout=0..0.5", "n-embd=log:8..64", "schedule=cosine,linear"
    )
    found = drawn(dimensions, 400, seed=1)
    rates, layers, drops = ([float(t[name]) for t in found] for name in ("lr", "n_layer", "dropout"))
    assert min(rates) >= 1e-4 and max(rates) <= 1e-2 and 150 < sum(rate < 1e-3 for rate in rates) < 250
    assert {int(x) for x in layers} == {2, 3, 4} and all(layers.count(x) > 90 for x in (2, 3, 4))
    assert min(drops) >= 0 and max(drops) <= 0.5 and 150 < sum(drop < 0.25 for drop in drops) < 250
    widths = [int(t["n_embd"]) for t in found]
    assert min(widths) >= 8 and max(widths) <= 64 and 150 < sum(width < 23 for width in widths) < 250
    assert {t["schedule"] for t in found} == {"cosine", "linear"}


def test_the_seed_decides_and_more_trials_begin_with_fewer():
    dimensions = space("lr=log:1e-4..1e-2", "n_layer=1..9")
    assert drawn(dimensions, 5, 1) == drawn(dimensions, 9, 1)[:5] != drawn(dimensions, 5, 2)
    few = space("n_layer=1,2,3", "tied=yes,no")
    assert sorted(map(title, drawn(few, 6, 0))) == sorted(map(title, grid(few)))


def test_what_words_say():
    assert space("lr=1e-4..1e-2", "n-layer=3..9") == (
        Range("lr", 1e-4, 1e-2, float, False),
        Range("n_layer", 3, 9, int, False),
    )
    assert space("--lr=log:.5..1.5", "steps=5") == (
        Range("lr", 0.5, 1.5, float, True),
        Choices("steps", ("5",)),
    )


@pytest.mark.parametrize(
    "words, message",
    [
        ("lr", "'lr' is not a search: say lr=1e-4,1e-3, or lr=log:1e-4..1e-2 with --trials"),
        ("n-layr=2,4", "n-layr=2,4: there is no option --n-layr to search; did you mean n_layer?"),
        ("out=a,b", "out=a,b: each run has its own --out, which the sweep chooses"),
        ("lr=1 lr=2", "lr=2: lr is searched twice"),
        ("lr=1,,2", "lr=1,,2: a value is missing beside a comma"),
        ("tied=maybe", "tied=maybe: tied is yes or no"),
        ("schedule=1..2", "schedule=1..2: schedule is no number; name its values: schedule=A,B"),
        ("lr=2..1", "lr=2..1: a range goes from a number to a larger one"),
        ("lr=log:0..1", "lr=log:0..1: what is log-uniform begins above 0"),
        ("lr=log:1,2", "lr=log:1,2: log: goes before a range, log:1e-4..1e-2 say"),
        ("n_layer=1.5..4", "n_layer=1.5..4: n_layer is a whole number, and so are the ends of its range"),
    ],
)
def test_errors_of_the_search(words, message):
    with pytest.raises(UsageError) as error:
        space(*words.split())
    assert str(error.value) == message


# Running ----------------------------------------------------------------------------------------------


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("".join(f"{n} times {n} is {n * n}.\n" for n in range(50)), encoding="utf-8")
    return path


@pytest.fixture
def search(tmp_path, text, capsys):
    def search(*words, fixed=("--steps", "6")):
        before = words if "--resume" in words or "--show" in words else (*words, "--out", str(tmp_path / "sweep"))
        after = [] if "--resume" in words or "--show" in words else ["--", *FIXED, "--data", str(text), *fixed]
        sweep.main([*map(str, before), *after])
        return tmp_path / "sweep", capsys.readouterr()

    return search


def steps(folder):
    return [m["step"] for m in read_metrics(folder / "metrics.jsonl")]


def test_a_failure_is_recorded_the_others_follow_and_nothing_is_done_twice(search, text):
    folder, printed = search("val_fraction=0.1,0.999")
    good, bad = folder / "val_fraction=0.1", folder / "val_fraction=0.999"
    assert steps(good) == list(range(7)) and not bad.exists()
    assert "val_fraction=0.1: val_loss 2." in printed.out and "val_fraction=0.999: failed: pretrain: " in printed.out
    table = printed.out[printed.out.index("val_fraction  best val loss") :].splitlines()
    assert table[0].split() == "val_fraction best val loss at step state tokens time".split()
    assert [line.split()[0] for line in table[1:3]] == ["0.1", "0.999"]
    assert table[1].split()[3:5] == ["finished", "96"] and table[2].split()[3] == "failed"
    assert table[3].startswith("failed: val_fraction=0.999: pretrain: ")
    assert (folder / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "logs" / "val_fraction=0.1.txt").read_text().startswith("text ")

    (folder / "sweep.png").unlink()
    before = {path: path.stat().st_mtime_ns for path in (*good.rglob("*"), *(folder / "logs").iterdir())}
    again = search("--resume", folder)[1].out  # neither of the two is repeated
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert again[again.index("val_fraction  best") :] == "\n".join(table) + "\n"
    assert (folder / "sweep.png").exists()

    with pytest.raises(UsageError, match=r"--by val_los: no run has logged that; there are step, train_loss, val_loss"):
        search("--show", folder, "--by", "val_los")
    with pytest.raises(UsageError, match=r"is a sweep that differs in what stands after --; choose another --out, or"):
        search("val_fraction=0.1", fixed=("--steps", "7"))
    with pytest.raises(UsageError, match=r"is a sweep that differs in what is searched"):
        search("lr=0.1")


def test_ctrl_c_saves_the_run_and_the_sweep_goes_on_where_it_was(search, tmp_path, monkeypatch):
    monkeypatch.setattr("train.trials.search_picture", lambda *what: None)  # which takes a second, and is tested above
    run = tmp_path / "sweep" / "lr=0.01"
    slow = ("--steps", "400", "--checkpoint-every", "50", "--eval-every", "200")

    def interrupt():
        while not list(run.glob("checkpoints/step-*")):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    folder, printed = search("lr=0.01,0.02", fixed=slow)
    assert f"stopped; go on: python -m train.sweep --resume {folder}" in printed.out
    assert "the run that trains is saved, then the sweep stops" in printed.err
    stopped = checkpoints(run)[-1].name
    assert "step-000050" <= stopped < "step-000400" and not (folder / "lr=0.02").exists()
    assert "  stopped  " in printed.out and "  waiting  " in printed.out
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    config = json.loads((folder / "sweep.json").read_text())
    config["search"][0] = "lr=0.01"  # the second need not be trained here
    (folder / "sweep.json").write_text(json.dumps(config))
    assert "lr=0.01: val_loss" in search("--resume", folder)[1].out
    assert steps(run) == list(range(401))
    log = (folder / "logs" / "lr=0.01.txt").read_text()
    assert f"going on with {run} after step {int(stopped.removeprefix('step-')):,}" in log


def test_a_run_that_had_trained_nothing_begins_anew_and_one_that_failed_is_tried_again(search, tmp_path, monkeypatch):
    folder, trained = tmp_path / "sweep", []
    monkeypatch.setattr("train.trials.Trials._train", lambda self, trial, bar: trained.append(title(trial)))
    search("lr=0.1,0.2")
    assert trained == ["lr=0.1", "lr=0.2"]
    trained.clear()
    with (folder / "failed.jsonl").open("w") as file:
        file.write('{"run": "lr=0.1", "why": "no luck"}\n{"run": "lr=0.2", "why": "none"}\n')
        file.write('{"run": "lr=0.2", "why": null}\n{"run": "lr=')
    assert "failed: lr=0.1: no luck" in search("--resume", folder)[1].out
    assert trained == ["lr=0.2"]
    trained.clear()
    search("lr=0.1,0.2", "--retry")
    assert trained == ["lr=0.1", "lr=0.2"]


def test_where_every_run_fails_the_sweep_fails(search, tmp_path, monkeypatch):
    monkeypatch.setattr("train.trials.Trials._train", lambda self, trial, bar: None)
    search("lr=0.1")
    (tmp_path / "sweep" / "failed.jsonl").write_text('{"run": "lr=0.1", "why": "no luck"}\n')
    with pytest.raises(UsageError, match=r"no run went well; what each printed is in .*sweep/logs"):
        search("--resume", tmp_path / "sweep")

    def full(self, trial, bar):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("train.trials.Trials._train", full)
    with pytest.raises(UsageError, match=r"sweep: cannot be written: No space left on device"):
        search("--resume", tmp_path / "sweep", "--retry")


def test_more_values_and_more_trials_belong_to_the_same_sweep(search, tmp_path, monkeypatch):
    trained = []
    monkeypatch.setattr("train.trials.Trials._train", lambda self, trial, bar: trained.append(title(trial)))
    search("lr=log:1e-4..1e-2", "--trials", "2")
    first = list(trained)
    trained.clear()
    search("--resume", tmp_path / "sweep", "--trials", "4")
    assert trained[:2] == first and len(trained) == 4
    assert json.loads((tmp_path / "sweep" / "sweep.json").read_text())["trials"] == 4


def test_a_run_that_somebody_else_trains_is_left_alone(search, tmp_path):
    run = tmp_path / "sweep" / "lr=0.1"
    pretrain_config = pretrain.configuration([*FIXED, "--steps", "6"])
    run.mkdir(parents=True)
    (tmp_path / "sweep" / "sweep.json").write_text(
        sweep.to_json(sweep.Config(search=("lr=0.1", *FIXED), out=tmp_path / "sweep"))
    )
    (run / "config.json").write_text(sweep.to_json(pretrain_config))
    held = lock.hold(run)
    with pytest.raises(UsageError, match=rf"{run} is in use by process {os.getpid()} on .*; wait for it, or stop it"):
        search("--resume", tmp_path / "sweep")
    held.release()


# Errors -----------------------------------------------------------------------------------------------


def test_errors(fails, tmp_path):
    def said(*words):
        return fails(sweep.main, "sweep", *words)

    assert "what shall be searched? say lr=1e-4,1e-3 n-layer=2,4, and after --" in said()
    assert "lr has a range: give --trials, how many points to draw" in said("lr=1..2")
    assert "there are only 2 combinations; leave out --trials" in said("lr=1,2", "--trials", 3)
    assert "no more than 2 different combinations were found" in said("n-layer=1..2", "--trials", 3)
    assert "--trials is at least 1, not 0" in said("lr=1,2", "--trials", 0)
    words = "is for the training script: put it after --, as in lr=1e-4,1e-3 -- "
    assert said("lr=1,2", "--steps", 3) == f"sweep: --steps {words}--steps …"
    assert said("lr=1,2", "--preset", "gpt2-124m") == f"sweep: --preset {words}--preset …"
    # The script's own errors come before anything is trained.
    assert "n_head" in said("n-layer=1,2", "--out", tmp_path / "x", "--", "--n-head", "7")
    assert said("lr=a,b", "--out", tmp_path / "x") == "pretrain: --lr expects a finite number, got 'a'"
    assert not (tmp_path / "x").exists()
    assert "this is not the folder of a sweep (sweep.json: No such file" in said("--show", tmp_path)
    assert "this is not the folder of a sweep" in said("--resume", tmp_path)
    assert "--resume takes what is searched from the sweep" in said("lr=1", "--resume", tmp_path)
    (tmp_path / "sweep.json").write_text("{}")
    assert "sweep.json: the key 'search' is missing" in said("--resume", tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").write_text("")
    assert f"--out {other}: exists and is not a sweep; choose another" in said("lr=1", "--out", other)
