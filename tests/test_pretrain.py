"""The main job, as a user runs it: a run from the first step to the picture, interruption, resumption, bad input."""

import ast
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import tensorlite as tl
from gpt import generate
from gpt.checkpoint import latest_weights, load_model
from gpt.options import UsageError, from_json, to_json
from gpt.tokenizer import BPETokenizer, CharacterTokenizer, GPT2Tokenizer, load_tokenizer
from train import arithmetic, checkpoint, corpus, presets, pretrain, seen

ROOT = Path(__file__).parents[1]
SMALL = "--n-layer 1 --n-head 2 --n-embd 16 --context-length 16 --batch-size 4 --warmup 2".split()
SMALL += "--eval-batches 2 --sample-tokens 8 --eval-every 4 --sample-every 4 --log-every 1".split()


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("".join(f"{n} times {n} is {n * n}.\n" for n in range(150)), encoding="utf-8")
    return path


@pytest.fixture
def train(text, tmp_path, capsys):
    def run(out, *flags):
        pretrain.main([*SMALL, "--data", str(text), "--out", str(tmp_path / out), *flags])
        return tmp_path / out, capsys.readouterr().out

    return run


def metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def same_bits(a, b):
    x, y = (load_model(latest_weights(run)).state_dict() for run in (a, b))
    return x.keys() == y.keys() and all(np.array_equal(x[k].numpy(), y[k].numpy()) for k in x)


def test_a_run_leaves_its_folder(train):
    run, printed = train("a", "--steps", "8")
    assert {p.name for p in run.iterdir()} == {
        "config.json", "tokenizer.json", "metrics.jsonl", "loss.png", "samples.txt", "checkpoints",
    }  # fmt: skip
    assert (run / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in (run / "checkpoints").iterdir()] == ["step-000008"]
    lines = metrics(run)
    assert [m["step"] for m in lines] == list(range(9))
    assert lines[4].keys() == {
        "step", "train_loss", "val_loss", "lr", "grad_norm", "tokens_per_second", "share_of_peak",
        "epoch", "batches", "tokens", "seconds",
    }  # fmt: skip
    assert abs(lines[0]["val_loss"] - np.log(load_model(latest_weights(run)).config.vocab_size)) < 0.1
    assert lines[-1]["val_loss"] < lines[0]["val_loss"]
    samples = (run / "samples.txt").read_text()
    assert [s.split(" ---")[0] for s in samples.split("--- step ")[1:]] == ["0", "4", "8"]
    config = from_json(pretrain.Config, (run / "config.json").read_text())
    assert (config.n_embd, config.steps, config.lr) == (16, 8, presets.PYTHON_DOCS.lr)
    for promise in ("gpt.generate --model", "train.pretrain --resume", "--data FILE", "perplexity"):
        assert promise in printed


def test_the_printed_commands_work(train, capsys):
    run, _ = train("a", "--steps", "3")
    words = "--prompt 7 --max-new-tokens 20 --top-k 5 --seed 1".split()
    generate.main(["--model", str(run), *words])
    first = capsys.readouterr().out
    assert first.startswith("7")
    generate.main(["--model", str(run), *words])
    assert capsys.readouterr().out == first
    generate.main(["--model", str(latest_weights(run)), *words])  # or one of its checkpoints by name
    assert capsys.readouterr().out == first


def test_same_seed_same_bits(train):
    a, _ = train("a", "--steps", "5", "--dropout", "0.1")
    b, _ = train("b", "--steps", "5", "--dropout", "0.1")
    c, _ = train("c", "--steps", "5", "--dropout", "0.1", "--seed", "2")
    assert same_bits(a, b)
    assert not same_bits(a, c)


@pytest.mark.parametrize("stop", [3, 8])
def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(train, stop):
    flags = "--dropout 0.1 --accumulation 2 --schedule constant".split()
    whole, _ = train("whole", "--steps", "11", *flags)
    part, _ = train("part", "--steps", str(stop), *flags)
    pretrain.main(["--resume", str(part), "--steps", "11"])
    assert same_bits(whole, part)
    drop = {"tokens_per_second", "share_of_peak", "seconds"}
    for a, b in zip(metrics(whole)[stop + 1 :], metrics(part)[stop + 1 :], strict=True):
        assert {k: v for k, v in a.items() if k not in drop} == {k: v for k, v in b.items() if k not in drop}
    assert json.loads((part / "config.json").read_text())["steps"] == 11


def test_resuming_refuses_what_would_make_it_another_run(train):
    run, _ = train("a", "--steps", "3")
    what = r"--lr 0.1 \(it was 0.002\), --n-embd 32 \(it was 16\): .* start a new run.* may differ: --steps, --epochs"
    with pytest.raises(UsageError, match=what):
        pretrain.main(["--resume", str(run), "--lr", "0.1", "--n-embd", "32"])
    with pytest.raises(UsageError, match="leave out --preset"):
        pretrain.main(["--resume", str(run), "--preset", "python-docs"])
    with pytest.raises(UsageError, match="has trained 3 steps, nothing is left to do; try --steps 6"):
        pretrain.main(["--resume", str(run), "--steps", "2"])
    assert json.loads((run / "config.json").read_text())["steps"] == 3


def test_the_text_that_a_step_was_trained_on_is_found_again(train, text, monkeypatch, capsys):
    batches, loss = [], pretrain.GPT.loss

    def spied(model, x, y):
        if model.training:
            batches.append(x.tolist())
        return loss(model, x, y)

    monkeypatch.setattr(pretrain.GPT, "loss", spied)
    run, _ = train("a", "--steps", "9", "--accumulation", "2", "--stride", "200")  # an epoch ends within a step
    tokenizer = load_tokenizer(run / "tokenizer.json")
    ends = [m["step"] for m in metrics(run) if m["epoch"] == 1]
    assert 1 < ends[0] < 9
    for step in (1, ends[0] - 1, ends[0], 9):
        seen.main([str(run), "--step", str(step), "--windows", "9"])
        first, *lines = capsys.readouterr().out.splitlines()
        assert first.startswith(f"step {step}, train_loss ")
        shown = [ast.literal_eval(line.split(": ", 1)[1]) for line in lines if line.startswith("  tokens ")]
        trained = [tokenizer.decode(ids) for batch in batches[2 * step - 2 : 2 * step] for ids in batch]
        assert [words[:-1] for words in shown] == trained  # and the last target after them
    with pytest.raises(UsageError, match=r"which run\? name its folder"):
        seen.main([])
    with pytest.raises(UsageError, match=r"--step is from 1 to 9, as far as .* has logged"):
        seen.main([str(run), "--step", "10"])
    text.write_text(text.read_text().replace("7 times 7 is 49", "7 times 7 is 50"), encoding="utf-8")
    with pytest.raises(UsageError, match=r"its data are others now \(checksum \w{8}, it was \w{8}"):
        seen.main([str(run)])
    (run / "config.json").write_text(to_json(arithmetic.DEFAULT))
    with pytest.raises(
        UsageError, match=r"is a run of train.arithmetic; of train.pretrain alone the text can be shown"
    ):
        seen.main([str(run)])


def test_a_run_goes_on_only_with_its_own_text(train, text):
    run, _ = train("a", "--steps", "3")
    text.write_text(text.read_text().replace("7 times 7 is 49", "7 times 7 is 50"), encoding="utf-8")
    with pytest.raises(UsageError, match=r"the data to train on are others than before \(checksum \w{8}, it was \w{8}"):
        pretrain.main(["--resume", str(run), "--steps", "5"])


def test_a_run_of_an_older_version_that_knew_fewer_options_goes_on(train):
    run, _ = train("a", "--steps", "3")
    config = json.loads((run / "config.json").read_text())
    del config["track"]
    (run / "config.json").write_text(json.dumps(config))
    pretrain.main(["--resume", str(run), "--steps", "4"])
    assert metrics(run)[-1]["step"] == 4 and json.loads((run / "config.json").read_text())["track"] is None
    del config["lr"]  # but what it learns must be known
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match=r"config.json: the key 'lr' is missing"):
        pretrain.main(["--resume", str(run), "--steps", "5"])


def test_resuming_a_run_that_was_cut_off_or_damaged(train):
    run, _ = train("a", "--steps", "3")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "tra')  # the machine went off
    pretrain.main(["--resume", str(run), "--steps", "4"])
    assert [m["step"] for m in metrics(run)] == [0, 1, 2, 3, 4]
    tokenizer = load_tokenizer(run / "tokenizer.json")
    CharacterTokenizer((*tokenizer.characters, "~")).save(run / "tokenizer.json")
    with pytest.raises(UsageError, match=r"tokenizer.json has .* tokens and the model .*, so one of the two"):
        pretrain.main(["--resume", str(run), "--steps", "5"])
    (run / "tokenizer.json").unlink()
    with pytest.raises(UsageError, match=r"No such file .*tokenizer\.json"):
        pretrain.main(["--resume", str(run), "--steps", "5"])


def test_the_last_step_is_saved_before_it_is_evaluated(train, monkeypatch, tmp_path):
    def full(run, step, text):
        if step:
            raise OSError("no space left on device")

    monkeypatch.setattr("train.run.Run.sample", full)
    with pytest.raises(OSError, match="no space"):
        train("a", "--steps", "4")
    assert latest_weights(tmp_path / "a").parent.name == "step-000004"


def test_the_checkpoint_of_the_largest_step_is_kept(train):
    run, _ = train("a", "--steps", "2")
    _, state = checkpoint.load(run)
    for step in (999_999, 1_000_000, 1_000_000):
        checkpoint.save(run, checkpoint.name(step), lambda folder: (folder / "model.safetensors").touch(), state)
    assert [p.name for p in (run / "checkpoints").iterdir()] == ["step-1000000"]


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
def test_ctrl_c_keeps_what_was_trained(text, tmp_path):
    run = tmp_path / "a"
    command = [
        sys.executable,
        "-m",
        "train.pretrain",
        *SMALL,
        "--data",
        str(text),
        "--out",
        str(run),
        "--steps",
        "100000",
    ]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        while not ((run / "metrics.jsonl").exists() and len((run / "metrics.jsonl").read_text().splitlines()) > 3):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "finishing this step, then saving" in errors
    assert "stopped after step" in printed
    assert f"--resume {run}" in printed
    step = metrics(run)[-1]["step"]
    pretrain.main(["--resume", str(run), "--steps", str(step + 2)])
    assert metrics(run)[-1]["step"] == step + 2


def test_a_loss_that_is_no_number_stops_the_run(train):
    with (
        pytest.raises(UsageError, match=r"the (loss|norm .*) became (nan|inf) at step .*; lower --lr.*nothing was"),
        np.errstate(all="ignore"),
    ):
        train("a", "--steps", "50", "--lr", "1e30", "--min-lr", "1e30", "--clip", "none")


def test_bad_input_is_one_line_that_says_what_to_do(tmp_path, text, fails):
    refused = partial(fails, pretrain.main, "pretrain")

    def data(content):
        path = tmp_path / "bad.txt"
        path.write_bytes(content)
        return ["--data", path, "--out", tmp_path / "out"]

    ok = ["--data", text, "--out", tmp_path / "out"]
    assert f"no such file; looked in {tmp_path}" in refused("--data", tmp_path / "missing.txt")
    assert "--data tinyshakespeare downloads it" in refused("--data", tmp_path / "tinyshakespeare.txt")
    assert "this is a folder" in refused("--data", tmp_path)
    assert "the file is empty" in refused(*data(b" \n"))
    assert "not a UTF-8 text file (byte 0 is 0xff)" in refused(*data(b"\xff\xfe\x00"))
    assert "a binary file" in refused(*data(b"abc\0def"))
    assert "too short for a context of 128" in refused(*data(b"a short text. " * 20))
    assert "lower --context-length" in refused(*ok, "--context-length", "4000")
    assert "128 has room for 2 or 4 heads" in refused(*ok, "--n-embd", "128", "--n-head", "3")
    assert "unknown preset 'gpt3'" in refused("--preset", "gpt3")
    assert "unknown option --n-layers; did you mean --n-layer" in refused("--n-layers", "3")
    assert "--batch-size is at least 1" in refused(*ok, "--batch-size", "0")
    assert "--lr is above 0, not 0.0" in refused(*ok, "--lr", "0")
    assert "--warmup is at least 0" in refused(*ok, "--warmup", "-1")
    assert "--beta2 is at least 0 and below 1" in refused(*ok, "--beta2", "1")
    assert "special token <|endoftext|>" in fails(
        pretrain.main, "pretrain", *data(b"one <|endoftext|> two "), "--tokenizer", "words"
    )
    assert "--tokenizer letters: there is no tokenizer letters: it is gpt2, a file" in refused(
        *ok, "--tokenizer", "letters"
    )
    assert "--tokenizer bpe: vocab_size expects at least 257" in refused(*ok, "--tokenizer", "bpe", "--vocab-size", "9")
    assert "give --steps or --epochs" in refused(*ok, "--steps", "none")
    assert "--val-fraction lies between 0 and 1" in refused(*ok, "--val-fraction", "1")
    assert "not the folder of a run" in refused("--resume", tmp_path / "nothing")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("!")
    assert "is not empty; choose another --out" in refused(*ok)
    assert (tmp_path / "out" / "precious").read_text() == "!"
    if not tl.cuda.is_available():
        assert "device 'cuda'" in fails(
            pretrain.main, "pretrain", "--data", text, "--out", tmp_path / "gpu", "--device", "cuda"
        )
        assert not (tmp_path / "gpu").exists()


def test_without_out_a_taken_name_gets_a_number(tmp_path):
    assert pretrain.unused(tmp_path / "a") == tmp_path / "a"
    (tmp_path / "a").mkdir()
    (tmp_path / "a-2").mkdir()
    assert pretrain.unused(tmp_path / "a") == tmp_path / "a-3"


def test_byte_pairs_are_learned_from_the_text_or_brought_along(train, text, tmp_path, capsys):
    run, printed = train("a", "--steps", "2", "--tokenizer", "bpe", "--vocab-size", "300")
    tokenizer = load_tokenizer(run / "tokenizer.json")
    assert tokenizer == BPETokenizer.train(text.read_text(), 300) and "of 300 different pieces of words" in printed
    assert load_model(latest_weights(run)).config.vocab_size == 300
    again, _ = train("b", "--steps", "2", "--tokenizer", str(run / "tokenizer.json"))
    assert load_tokenizer(again / "tokenizer.json") == tokenizer and same_bits(run, again)
    pretrain.main(["--resume", str(again), "--steps", "3"])
    assert metrics(again)[-1]["step"] == 3


# The corpus --------------------------------------------------------------------------------------------


def test_windows_slide_by_the_stride():
    windows = corpus.Windows(np.arange(11, dtype=np.uint16), context_length=4, stride=3)
    pairs = [(x.tolist(), y.tolist()) for x, y in (windows[i] for i in range(len(windows)))]
    assert pairs == [
        ([0, 1, 2, 3], [1, 2, 3, 4]),
        ([3, 4, 5, 6], [4, 5, 6, 7]),
        ([6, 7, 8, 9], [7, 8, 9, 10]),
    ]
    x, y = windows.__getitems__([2, 0])
    assert x.tolist() == [pairs[2][0], pairs[0][0]]
    assert x.dtype == y.dtype == tl.int64
    with pytest.raises(IndexError):
        windows[3]


def test_the_default_corpus_is_there_and_is_english():
    text = corpus.python_docs()
    assert len(text) > 400_000
    assert 'The "assert" statement' in text


def test_the_verdict_has_the_books_batches(data_dir, gpt2_vocabulary):
    config = pretrain.PRESETS["the-verdict"]
    text = corpus.read_text(data_dir / "the-verdict.txt")
    parts = corpus.split(text, GPT2Tokenizer(), config.val_fraction, config.context_length, "the-verdict")
    assert len(parts.train) + len(parts.val) == pytest.approx(5145, abs=1)
    assert len(corpus.Windows(parts.train, 256, 256)) // config.batch_size == 9
    assert len(corpus.Windows(parts.val, 256, 256)) // config.batch_size == 1
