"""Runs held against each other: what the table says and the picture draws; runs that are torn, missing or alive."""

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from gpt.options import to_json
from gpt.tokenizer import CharacterTokenizer
from train import arithmetic, classify, lock, report
from train.curves import DISTINCT, LOSS, Panel, _geometric, colors, plot, search_picture, side_by_side
from train.presets import PYTHON_DOCS
from train.record import differing, find_records, labels, read_record
from train.tables import beside, shown


@pytest.fixture
def make(tmp_path):
    """make(name, config, losses): the folder of a run that logged every 10 steps and validated every 20."""

    def make(name, config=PYTHON_DOCS, losses=(4.0, 3.0, 2.0, 2.5, 2.25), text="abc", **changes):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(to_json(replace(config, steps=40)))
        CharacterTokenizer.train(text).save(folder / "tokenizer.json")
        with (folder / "metrics.jsonl").open("w") as file:
            for i, loss in enumerate(losses):
                line = {"step": 10 * i, "train_loss": loss + 1 if i else None, "val_loss": None if i % 2 else loss}
                line |= {"lr": 1e-3, "grad_norm": 0.5, "tokens_per_second": 100.0 + i, "epoch": 0, "batches": 10 * i}
                file.write(json.dumps({**line, "tokens": 1000 * i, "seconds": 60.0 * i, **changes}) + "\n")
        return folder

    return make


@pytest.fixture
def told(tmp_path, capsys, monkeypatch):
    """told(*words, drawn=False): what the script prints; drawing takes a second."""

    def told(*words, drawn=False):
        if not drawn:
            monkeypatch.setattr(report, "side_by_side", lambda *what: None)
        report.main([*map(str, words), "--out", str(tmp_path / "report.png")])
        return capsys.readouterr().out

    return told


def test_the_table_the_settings_and_the_picture(make, told, tmp_path):
    make("a")
    make("b", replace(PYTHON_DOCS, lr=0.001, n_layer=2, data=("tinyshakespeare",)), (4.0, 3.0, 1.5))
    lines = told(tmp_path / "runs/a", tmp_path / "runs/b", drawn=True).splitlines()
    assert lines[0].split() == (
        "run script state steps best val loss at step training loss tokens time tokens/s".split()
    )
    assert lines[1].split() == [
        "a",
        "pretrain",
        "finished",
        "40",
        "2.0000",
        "20",
        "3.2500",
        "4,000",
        *"4 min 0 s 102".split(),
    ]
    assert lines[2].split() == "b pretrain stopped 20 of 40 1.5000 20 2.5000 2,000 2 min 0 s 101".split()
    settings = dict(line.split(maxsplit=1) for line in lines[lines.index("settings that differ") + 2 :] if line)
    assert {k: settings[k].split() for k in ("lr", "n_layer", "data")} == {
        "lr": ["0.002", "0.001"], "n_layer": ["4", "2"], "data": ["none", "tinyshakespeare"],
    }  # fmt: skip
    assert "different data: their losses do not measure the same" in lines[-3]
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")


def test_curves_go_over_steps_tokens_or_time(make):
    record = read_record(make("a"))
    for x, places, unit in (("step", 10, 1), ("tokens", 1000, 1), ("time", 60, 60)):
        axes = Figure().add_subplot()
        plot(axes, LOSS, [record], ["red"], x)
        train, val = (line.get_xydata().tolist() for line in axes.lines)
        assert train == [[places * i / unit, loss] for i, loss in enumerate((4.0, 3.0, 3.5, 3.25), 1)]
        assert val == [[places * i / unit, loss] for i, loss in ((0, 4.0), (2, 2.0), (4, 2.25))]
        assert axes.get_xlabel() == {"time": "minutes of training"}.get(x, x)
    assert axes.get_ylim()[1] < 4.3  # the first loss, of a model that knows nothing, would leave no room


def test_a_single_run_and_folders_that_hold_runs(make, told, tmp_path):
    make("a")
    assert "settings that differ" not in told(tmp_path / "runs/a")
    make("b")
    (tmp_path / "runs/logs").mkdir()
    both = told(tmp_path / "runs", tmp_path / "runs/a")
    assert [line.split()[0] for line in both.splitlines()[1:3]] == ["a", "b"]
    assert labels(find_records([tmp_path / "runs"])) == ["a", "b"]
    many = [make(f"sweep/{i}") for i in range(DISTINCT + 2)]
    assert f"\n{DISTINCT + 1} " in told(*many)
    side_by_side(find_records(many), [path.name for path in many], tmp_path / "many.png", "time")
    assert len(set(colors(40))) == 40


# Runs that are unlike each other, damaged, or alive ---------------------------------------------------


def test_a_torn_line_is_left_out(make, told):
    folder = make("a")
    with (folder / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 50, "train_lo\xff\0\0')
    assert "  40  " in told(folder)
    (folder / "metrics.jsonl").write_text('{"step": 10, "train_loss": NaN, "val_loss": "x", "lr": 1, "seconds": 2}')
    record = read_record(folder)
    assert record.points("train_loss") == [] and record.best("val_loss") is None and record.points("lr") == [(10, 1)]


def test_runs_of_several_scripts(make, told):
    a, b = make("a"), make("b", arithmetic.DEFAULT, val_accuracy=0.75, val_loss=None)
    c = make("c", classify.SCRATCH)
    old = make("old")
    config = json.loads((old / "config.json").read_text())
    del config["track"], config["keep_best"]
    (old / "config.json").write_text(json.dumps(config))
    (other := make("other")).joinpath("config.json").write_text('{"what": "is this"}')
    records = find_records([a, b, c, old, other])
    assert [r.kind for r in records] == ["pretrain", "arithmetic", "classify", "pretrain", "unknown"]
    assert "lr" in differing(records[:2]) and "digits" not in differing(records[:2])
    assert differing([records[0], records[3]])["keep_best"] == [True, "–"]
    text = told(a, b)
    assert "several scripts, whose losses measure different things" in text
    assert "0.7500" in text and "best val accuracy" in text
    assert "have different tokenizers" in told(a, make("d", text="abcd"))


def test_a_run_that_is_trained_now(make, told):
    folder = make("a", losses=(4.0, 3.0))
    held = lock.hold(folder)
    assert read_record(folder).state == "running" and " running  10 of 40 " in told(folder)
    held.release()
    assert read_record(folder).state == "stopped"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for content, age, state in (
        ({"pid": gone.pid, "host": socket.gethostname()}, 0, "stopped"),
        ({"pid": gone.pid, "host": "elsewhere"}, 0, "running"),
        ({"pid": gone.pid, "host": "elsewhere"}, lock.DEAD + 1, "stopped"),
    ):
        (folder / lock.NAME).write_text(json.dumps(content))
        os.utime(folder / lock.NAME, (then := time.time() - age, then))
        assert read_record(folder).state == state


def test_epochs_end_where_the_data_do(make):
    config = replace(PYTHON_DOCS, epochs=2)
    folder = make("a", config, epoch=1)
    text = json.loads((folder / "config.json").read_text()) | {"steps": None}
    (folder / "config.json").write_text(json.dumps(text))
    assert read_record(folder).state == "stopped"
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 50, "epoch": 2, "batches": 0}\n')
    assert read_record(folder).state == "finished"


def test_a_run_that_has_logged_nothing_is_in_the_table(make, told):
    a, b = make("a"), make("b", losses=())
    assert told(a, b).splitlines()[2].split()[:6] == ["b", "pretrain", "stopped", "0", "of", "40"]
    with pytest.raises(report.UsageError, match=r"none of these runs has logged a line of metrics.jsonl yet"):
        told(b)


# Errors -----------------------------------------------------------------------------------------------


def test_errors(make, fails, tmp_path):
    assert fails(report.main, "report") == (
        "report: which runs? name their folders: python -m train.report runs/A runs/B"
    )
    missing = tmp_path / "none"
    assert fails(report.main, "report", missing) == (
        f"report: {missing} is no folder (config.json: No such file or directory)"
    )
    assert "is not the folder of a run (config.json" in fails(report.main, "report", tmp_path)
    folder = make("folder")
    near = folder.with_name("foldr")
    assert fails(report.main, "report", near).startswith(f"report: {near} is no folder, did you mean {folder}? (")
    (folder / "config.json").write_text("{")
    assert f"{folder}/config.json is not JSON" in fails(report.main, "report", folder)
    (folder / "config.json").write_text("[]")
    assert "config.json expects a JSON object, got []" in fails(report.main, "report", folder)
    assert "--x expects one of step, tokens, time, got 'year'" in fails(report.main, "report", folder, "--x", "year")


def test_errors_of_the_picture(make, tmp_path):
    old = make("old", tokens=None)
    with pytest.raises(report.UsageError, match=r"--x tokens: .*old/metrics.jsonl does not say how many tokens"):
        report.main([str(old), "--x", "tokens", "--out", str(tmp_path / "p.png")])
    (tmp_path / "file").write_text("")
    with pytest.raises(report.UsageError, match=r"--out .*file/p.png: cannot be written"):
        report.main([str(old), "--out", str(tmp_path / "file" / "p.png")])


# Parts ------------------------------------------------------------------------------------------------


def test_a_table_that_is_too_wide_stands_in_parts():
    text = beside(["", "a", "bb", "ccc"], [["x", "1", "22", "333"], ["yy", "4", "5", "6"]], width=9)
    assert text.split("\n\n") == ["    a  bb\nx   1  22\nyy  4   5", "    ccc\nx   333\nyy    6"]


def test_settings_are_short():
    assert shown("/a/very/long/path/to/the/text/of/shakespeare.txt") == "…/to/the/text/of/shakespeare.txt"
    assert len(shown("x" * 99)) == 32 and shown("") == "''" and shown([]) == "none"


def test_an_option_has_a_logarithmic_axis_where_its_values_are_powers():
    assert _geometric([1e-3, 3e-3, 1e-2]) and _geometric([1, 10, 100])
    assert not _geometric([0.01, 0.1, 0.2, 0.3]) and not _geometric([0, 1, 10]) and not _geometric([2, 3, 4])


def test_a_search_is_drawn_over_its_options(make, tmp_path):
    found = [
        ({"lr": f"{lr:g}", "kind": kind}, read_record(make(f"{lr}{kind}")), loss)
        for lr, kind, loss in ((0.001, "b", 1.0), (0.1, "a", 2.0), (0.1, "b", 3.0), (0.001, "a", 4.0))
    ]
    search_picture(found, list("abcd"), "val_loss", tmp_path / "search.png")
    assert (tmp_path / "search.png").read_bytes().startswith(b"\x89PNG")
    axes = Figure().add_subplot()
    plot(axes, Panel("val loss", None, "val_loss"), [one[1] for one in found], colors(4))
    assert len(axes.lines) == 4 and np.allclose(axes.lines[0].get_ydata(), [4, 2, 2.25])
