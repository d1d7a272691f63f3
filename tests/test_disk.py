"""A disk that is full for a while or for good, read-only, or gone: it is said, nothing is lost, the run goes on."""

import errno
import json
import os
import resource
import shutil
import subprocess
import time
from contextlib import contextmanager

import numpy as np
import pytest
from test_survive import STEPS, bits, losses, trained

import tensorlite as tl
from gpt.options import UsageError
from train import checkpoint, lock
from train.corpus.__main__ import main
from train.run import Run, append, read_metrics

pytestmark = pytest.mark.skipif(os.name == "nt", reason="limits and mounts are POSIX's")
FULL = "No space left on device"


@contextmanager
def files_of_at_most(size):
    """Inside, writing beyond so many bytes of a file fails as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


class Disk:
    """A small disk of its own."""

    def __init__(self, path):
        self.path, self.ballast = path, path / "ballast"

    def fill(self):
        with self.ballast.open("wb", buffering=0) as file:
            for size in (4096, 1):
                while True:
                    try:
                        file.write(bytes(size))
                    except OSError:
                        break

    def free(self):
        self.ballast.unlink()

    def mount(self, *flags):
        return subprocess.run(["mount", "-t", "tmpfs", *flags, "tmpfs", self.path], capture_output=True, text=True)


@pytest.fixture
def disk(tmp_path):
    disk = Disk(tmp_path / "disk")
    disk.path.mkdir()
    try:
        done = disk.mount("-o", "size=512k")
    except FileNotFoundError as error:
        pytest.skip(f"no small disk can be mounted: {error}")
    if done.returncode:
        pytest.skip(f"this process may not mount a small disk: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", disk.path], check=True)


# A run -------------------------------------------------------------------------------------------------


def test_a_full_disk_is_said_and_the_last_checkpoint_loads(tmp_path, capsys):
    whole = trained(tmp_path / "whole")
    trained(tmp_path / "a", steps=2)
    lost = r"step 7 could not be saved .*: File too large; the last .*step-000002\. Make"
    with files_of_at_most(1200), pytest.raises(UsageError, match=lost):
        trained(tmp_path / "a", checkpoint_every="1")
    told = capsys.readouterr().err
    assert told.count("could not be saved: File too large; the last checkpoint is") == 6
    assert told.count("metrics.jsonl cannot be written: File too large; training goes on") == 1
    assert [path.name for path in (tmp_path / "a" / "checkpoints").iterdir()] == ["step-000002"]
    assert all(json.loads(line) for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines())
    assert bits(trained(tmp_path / "a")) == bits(whole)


def test_what_the_disk_did_not_take_is_written_later(tmp_path, monkeypatch, capsys):
    def full(path, text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    run = Run.create(tmp_path / "a", "{}")
    run.log(step=1)
    with monkeypatch.context() as patch:
        patch.setattr("train.run.append", full)
        run.log(step=2)
        run.sample(2, "text")
        run.log(step=3)
    run.log(step=4)
    run.sample(4, "more")
    assert [m["step"] for m in read_metrics(run.path / "metrics.jsonl")] == [1, 2, 3, 4]
    assert (run.path / "samples.txt").read_text() == "--- step 2 ---\ntext\n\n--- step 4 ---\nmore\n\n"
    assert capsys.readouterr().err.count("No space left on device; training goes on") == 2


def test_a_line_is_added_whole_or_not_at_all(tmp_path):
    file = tmp_path / "lines"
    append(file, "a" * 99 + "\n")
    with files_of_at_most(150), pytest.raises(OSError, match="too large"):
        append(file, "b" * 99 + "\n")  # of which 50 would have fitted
    assert file.read_text() == "a" * 99 + "\n"


def test_a_folder_that_somebody_deletes_is_made_again(tmp_path, capsys):
    whole, calls = trained(tmp_path / "whole"), iter(range(1000))
    folder = tmp_path / "a"
    trained(
        folder,
        each=lambda: next(calls) == 10 and time.sleep(0.5) is None and shutil.rmtree(folder),
        checkpoint_every="2",
    )
    assert "was gone; it is there again" in capsys.readouterr().err
    assert losses(folder) == losses(tmp_path / "whole") and (folder / "config.json").read_text() == "{}"
    saved, state = checkpoint.load(folder)
    assert state["step"] == STEPS
    stored = tl.load(saved / "model.safetensors")
    assert all(np.array_equal(stored[k].numpy(), v.numpy()) for k, v in whole.model.state_dict().items())


def test_a_disk_that_fills_and_stays_full(tmp_path, disk, capsys):
    whole, calls, folder = trained(tmp_path / "whole"), iter(range(1000)), disk.path / "a"
    with pytest.raises(UsageError, match=rf"step 7 could not be saved .*: {FULL}; the last checkpoint is"):
        trained(folder, each=lambda: next(calls) == 10 and disk.fill(), checkpoint_every="2")
    assert f"could not be saved: {FULL}; the last checkpoint is {folder}/checkpoints/step-" in capsys.readouterr().err
    saved, state = checkpoint.load(folder)
    assert 0 < state["step"] < STEPS and not checkpoint.damage(saved)
    assert all(json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines())
    with pytest.raises(UsageError, match=FULL):  # at the start, or, if a little room is left, at the first checkpoint
        trained(folder)
    disk.free()
    assert bits(trained(folder)) == bits(whole)
    assert losses(folder) == losses(tmp_path / "whole")


def test_a_disk_that_is_full_for_a_while(tmp_path, disk, capsys):
    whole, calls, folder = trained(tmp_path / "whole"), iter(range(1000)), disk.path / "a"
    at = {7: disk.fill, 16: disk.free}
    loop = trained(folder, each=lambda: at.get(next(calls), lambda: None)(), checkpoint_every="1")
    assert f"could not be saved: {FULL}" in capsys.readouterr().err
    assert bits(loop) == bits(whole) and losses(folder) == losses(tmp_path / "whole")
    assert checkpoint.load(folder)[1]["step"] == STEPS


def test_a_disk_that_may_not_be_written(tmp_path, disk):
    trained(disk.path / "a", steps=2)
    assert not disk.mount("-o", "remount,ro").returncode
    with pytest.raises(UsageError, match=r"disk/a cannot be written: Read-only file system"):
        lock.hold(disk.path / "a")
    with pytest.raises(UsageError, match=r"--out .*/b: cannot be written: Read-only file system"):
        Run.create(disk.path / "b", "{}")
    assert checkpoint.load(disk.path / "a")[1]["step"] == 2


def test_a_folder_that_becomes_read_only(tmp_path, capsys):
    (tmp_path / "closed").mkdir(0o500)
    if os.access(tmp_path / "closed", os.W_OK):
        pytest.skip("this process may write into read-only folders, as root may")
    whole, calls, folder = trained(tmp_path / "whole"), iter(range(1000)), tmp_path / "a"

    def protect():
        mode = {4: 0o500, 12: 0o700}.get(next(calls))
        for path in (folder, folder / "checkpoints", folder / "metrics.jsonl") if mode else ():
            path.chmod(mode)

    loop = trained(folder, each=protect, checkpoint_every="1")
    said = capsys.readouterr().err
    assert "could not be saved: Permission denied" in said and "metrics.jsonl cannot be written" in said
    assert bits(loop) == bits(whole) and losses(folder) == losses(tmp_path / "whole")


# Shards ------------------------------------------------------------------------------------------------


def build(folder):
    """Shards of some text, in `folder`, which are all its files, by name."""
    source = folder.parent / "text.jsonl"
    if not source.exists():
        source.write_text("".join(json.dumps({"text": f"{n} times {n} is {n * n}.\n"}) + "\n" for n in range(300)))
    flags = "--tokenizer characters --val-fraction 0.1 --shard-tokens 1000 --processes 1"
    main(["--data", str(source), "--out", str(folder), *flags.split()])
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("size", [10, 200, 1100, 2500])
def test_a_disk_that_fills_while_shards_are_built(tmp_path, size):
    """In the tokenizer, in the progress, in the first shard and at its end."""
    whole = build(tmp_path / "whole")
    with files_of_at_most(size), pytest.raises(UsageError, match=r"cannot be written: File too large"):
        build(tmp_path / "a")
    assert not (tmp_path / "a" / "index.json").exists()
    assert build(tmp_path / "a") == whole


def test_a_small_disk_fills_while_shards_are_built(tmp_path, disk):
    whole = build(tmp_path / "whole")
    shutil.copy(tmp_path / "text.jsonl", disk.path)
    disk.fill()
    os.truncate(disk.ballast, disk.ballast.stat().st_size - 16_384)
    with pytest.raises(UsageError, match=rf"--out .*: cannot be written: {FULL}; when that is mended, the same"):
        build(disk.path / "a")
    disk.free()
    assert {name: data for name, data in build(disk.path / "a").items() if name != "index.json"} == {
        name: data for name, data in whole.items() if name != "index.json"
    }  # an index has the names of the sources
