"""Classification as a user runs it: reading, the book's split, training in every way, asking, and what goes wrong."""

import io
import json
from functools import partial

import numpy as np
import pytest

import tensorlite as tl
from gpt.checkpoint import latest_weights, load_model
from gpt.classifier import load_classifier
from gpt.lora import adapters
from gpt.options import UsageError
from train import classify, instruct, pretrain
from train.batching import LengthBuckets, by_length, pad
from train.confusion import Confusion
from train.labelled import Parts, balanced, classes_of, read_labelled, split

SMALL = "--n-layer 1 --n-head 2 --n-embd 16 --batch-size 8 --epochs 8 --warmup 2 --lr 0.01 --eval-every 8".split()
SMALL += ["--tokenizer", "words"]
GOOD, BAD = "fine happy sunny warm".split(), "poor sad rainy cold".split()


@pytest.fixture
def data(tmp_path):
    """Sentences whose words give them away, 120 good and 80 bad."""
    rng = np.random.default_rng(0)
    lines = []
    for i in range(200):
        label, words = ("good", GOOD) if i % 5 < 3 else ("bad", BAD)
        filler = ["so", "very", "a", "day", "it", "is"]
        chosen = [*rng.choice(filler, rng.integers(2, 12)), rng.choice(words)]
        rng.shuffle(chosen)
        lines.append(f"{label}\t{' '.join(chosen)}\n")
    path = tmp_path / "weather.tsv"
    path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.fixture
def train(data, tmp_path, capsys):
    def run(out, *flags):
        classify.main([*SMALL, "--data", str(data), "--out", str(tmp_path / out), *flags])
        return tmp_path / out, capsys.readouterr().out

    return run


def weights(run):
    return {name: x.numpy().tobytes() for name, x in tl.load(latest_weights(run)).items() if name != "classifier"}


# Data --------------------------------------------------------------------------------------------------


def test_the_books_spam_split(data_dir):
    """Held against pandas' own draw, where pandas is; the counts and first rows are the book's."""
    examples = read_labelled(data_dir / "SMSSpamCollection.tsv")
    assert len(examples) == 5572
    assert [sum(e.label == label for e in examples) for label in ("ham", "spam")] == [4825, 747]
    parts = split(balanced(examples), 0.7, 0.1)
    assert [len(part) for part in (parts.train, parts.val, parts.test)] == [1045, 149, 300]
    ham = [e for e in examples if e.label == "ham"]
    first = np.random.RandomState(123).choice(4825, 747, replace=False)
    both = [ham[i] for i in first] + [e for e in examples if e.label == "spam"]
    order = np.random.RandomState(123).choice(1494, 1494, replace=False)
    assert [*parts.train, *parts.val, *parts.test] == [both[i] for i in order]
    assert classes_of(parts) == ("ham", "spam")
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.read_csv(data_dir / "SMSSpamCollection.tsv", sep="\t", header=None, names=["Label", "Text"])
    drawn = frame[frame["Label"] == "ham"].sample(747, random_state=123)
    shuffled = pandas.concat([drawn, frame[frame["Label"] == "spam"]]).sample(frac=1, random_state=123)
    assert [e.text for e in parts.train] == shuffled["Text"].tolist()[:1045]


def test_the_three_formats_say_the_same(tmp_path):
    (tmp_path / "a.tsv").write_text('good\t"a tab\there, and a\nline break"\nbad\tcold\n')
    (tmp_path / "a.csv").write_text('id,Text,Label\n1,"a tab\there, and a\nline break",good\n2,cold,bad\n')
    lines = [{"label": "good", "text": "a tab\there, and a\nline break"}, {"text": "cold", "label": "bad", "id": 3}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n\n" for line in lines))
    read = [read_labelled(tmp_path / f"a.{ending}") for ending in ("tsv", "csv", "jsonl")]
    assert [[(e.label, e.text) for e in examples] for examples in read] == [
        [("good", "a tab\there, and a\nline break"), ("bad", "cold")]
    ] * 3
    assert [examples[1].where.rpartition(" ")[2] for examples in read] == ["3", "4", "3"]


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.tsv", "good\tfine\nbad cold\n", r"a.tsv, line 2: expected label<TAB>text, which is 2 fields, found 1"),
        ("a.tsv", "good\tfine\nbad\tcold\twet\n", "line 2: expected label<TAB>text, which is 2 fields, found 3"),
        ("a.tsv", "good\tfine\nbad\t \n", "line 2: the text is empty"),
        ("a.tsv", "good\tfine\n\tcold\n", "line 2: the label is empty"),
        ("a.csv", "good,fine\nbad,cold\n", "line 1: expected a header with the columns label and text, found good"),
        ("a.csv", "label,text\ngood,fine\nbad,cold,wet\n", "line 3: the header has 2 columns and this row 3"),
        ("a.csv", "label,text\n", "there is no example in it"),
        ("a.jsonl", '{"label": "good", "text": "fine"}\n{"label": "bad"\n', "line 2: not JSON"),
        ("a.jsonl", '{"label": "good"}\n', "line 1: expected an object with the keys label and text"),
        ("a.jsonl", '{"label": "good", "text": 5}\n', "line 1: expected a text and a label"),
        ("a.parquet", "x", "ends in .tsv, .txt, .csv, .jsonl, .json"),
    ],
)
def test_a_file_in_the_wrong_format_is_refused_with_its_line(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(UsageError, match=message):
        read_labelled(tmp_path / name)


def test_batches_of_like_length():
    lengths = [9, 1, 8, 2, 7, 3, 6, 4, 5, 5]
    sampler = LengthBuckets(lengths, 3, tl.Generator().manual_seed(1), pool=2)
    epochs = [list(sampler) for _ in range(3)]
    for batches in epochs:
        assert sorted(i for batch in batches for i in batch) == list(range(10))
        assert len(batches) == len(sampler) == 4
    assert epochs[0] != epochs[1]
    assert [[lengths[i] for i in batch] for batch in by_length(lengths, 4)] == [[1, 2, 3, 4], [5, 5, 6, 7], [8, 9]]
    assert pad([[1, 2, 3], [4]], 0).tolist() == [[1, 2, 3], [4, 0, 0]]


def test_the_table_of_confusion():
    found = Confusion.of(["a", "b", "c"], np.array([0, 0, 0, 1, 1, 0]), np.array([0, 0, 1, 1, 0, 0]))
    assert found.counts.tolist() == [[3, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert found.accuracy == pytest.approx(4 / 6)
    np.testing.assert_allclose(found.precision, [3 / 4, 1 / 2, 0])
    np.testing.assert_allclose(found.recall, [3 / 4, 1 / 2, 0])
    np.testing.assert_allclose(found.f1, [3 / 4, 1 / 2, 0])
    assert found.to_dict()["classes"]["b"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "texts": 2}


# Runs --------------------------------------------------------------------------------------------------


def test_a_run_learns_and_leaves_its_folder(train):
    run, printed = train("a")
    assert {p.name for p in run.iterdir()} == {
        "config.json", "tokenizer.json", "metrics.jsonl", "loss.png", "accuracy.png", "confusion.png", "report.json",
        "checkpoints",
    }  # fmt: skip
    report = json.loads((run / "report.json").read_text())
    assert report["test"]["accuracy"] > 0.9
    assert np.sum(report["test"]["confusion"]) == 32
    assert [line.split("  ")[0] for line in printed.splitlines()[-3:]] == [
        "training accuracy", "validation accuracy", "test accuracy",
    ]  # fmt: skip
    assert "bad     " in printed and "precision  recall      F1  texts" in printed
    model = load_classifier(latest_weights(run))
    assert model.classes == ("bad", "good")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["val_loss"] == pytest.approx(np.log(2), abs=0.3)
    assert {"train_accuracy", "val_accuracy", "val_loss"} <= lines[-1].keys()


@pytest.mark.parametrize("how", ["all", "lora", "last"])
def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(train, how):
    flags = ["--train", how, "--dropout", "0.1", "--schedule", "constant", "--lora-rank", "2", "--lora-dropout", "0.1"]
    whole, _ = train("whole", *flags, "--steps", "9")
    part, _ = train("part", *flags, "--steps", "5")
    classify.main(["--resume", str(part), "--steps", "9"])
    assert weights(whole) == weights(part)


@pytest.mark.parametrize(
    "flags, moves",
    [
        (["--train", "head"], ["head."]),
        (["--train", "last"], ["gpt.h.1.", "gpt.ln_f.", "head."]),
        (["--train", "last", "--last-blocks", "2"], ["gpt.h.0.", "gpt.h.1.", "gpt.ln_f.", "head."]),
        (
            ["--train", "lora", "--lora-layers", "*.c_attn"],
            ["gpt.h.0.attn.c_attn.weight", "gpt.h.1.attn.c_attn.weight"],
        ),
    ],
)
def test_only_what_is_named_learns(train, flags, moves):
    """Two runs from the same first weights, of which one does as good as nothing."""
    both = ["--n-layer", "2", "--steps", "4", *flags]
    still, _ = train("still", *both, "--lr", "1e-30", "--min-lr", "0")
    moved, _ = train("moved", *both)
    before, after = weights(still), weights(moved)
    changed = {name for name in before if before[name] != after[name]}
    assert changed and all(any(name.startswith(start) for start in moves) for name in changed)
    assert all(any(name.startswith(start) for name in changed) for start in moves)


def test_lora_saves_its_adapters_alone_and_ends_as_a_plain_model(train):
    run, _ = train("a", "--train", "lora", "--lora-rank", "2")
    checkpoint = latest_weights(run).parent
    assert {p.name for p in checkpoint.iterdir()} == {
        "adapter.safetensors", "training.safetensors", "manifest.json", "model.safetensors",
    }  # fmt: skip
    names = tl.load(checkpoint / "adapter.safetensors").keys() - {"lora_config"}
    assert names and all("lora_" in name for name in names)
    assert not adapters(load_classifier(checkpoint / "model.safetensors"))


def test_from_a_pretrained_run(data, train, tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("it is a very sunny day so it is warm\n" * 60)
    shape = (
        "--n-layer 1 --n-head 2 --n-embd 16 --context-length 16 --warmup 1 --eval-batches 1 --sample-every 0".split()
    )
    pretrain.main([*shape, "--data", str(text), "--tokenizer", "words", "--steps", "2", "--out", str(tmp_path / "gpt")])
    capsys.readouterr()
    run, printed = train("a", "--start", str(tmp_path / "gpt"), "--train", "head", "--lr", "1e-30", "--min-lr", "0")
    model, gpt = load_classifier(latest_weights(run)), load_model(latest_weights(tmp_path / "gpt"))
    np.testing.assert_array_equal(model.gpt.wte.weight.detach().numpy(), gpt.wte.weight.detach().numpy())
    assert (run / "tokenizer.json").read_text() == (tmp_path / "gpt" / "tokenizer.json").read_text()
    run, printed = train("b", "--start", str(latest_weights(tmp_path / "gpt").parents[2]), "--max-length", "3")
    assert "up to 3 of a text are read" in printed


def test_a_class_that_a_part_has_no_text_of_is_named(tmp_path, capsys):
    (tmp_path / "a.tsv").write_text("red\trose\n" * 20 + "blue\tsky\n" * 2)
    red, blue = (read_labelled(tmp_path / "a.tsv")[at] for at in (slice(20), slice(20, 22)))
    assert classes_of(Parts(red + blue, red + blue, red)) == ("blue", "red")
    assert capsys.readouterr().err == "the test part has no text of blue: figures of it say nothing\n"


def test_tokens_that_are_learned_or_brought_along(train, data, tmp_path, fails):
    run, printed = train("a", "--steps", "2", "--tokenizer", "bpe", "--vocab-size", "270")
    assert "bpe, 270 different" in printed
    again, printed = train("b", "--steps", "2", "--tokenizer", str(run / "tokenizer.json"))
    assert "bpe, 270 different" in printed
    assert (again / "tokenizer.json").read_text() == (run / "tokenizer.json").read_text()
    assert weights(again) == weights(run)
    refused = partial(fails, classify.main, "classify", "--data", data, "--out", tmp_path / "c", "--tokenizer")
    assert "--tokenizer llama: " in refused("llama")
    assert "--tokenizer bpe: " in refused("bpe", "--vocab-size", "20")
    assert not (tmp_path / "c").exists()


def test_files_of_their_own_and_three_classes(tmp_path, capsys):
    words = {"red": "rose", "green": "leaf", "blue": "sky"}
    for name, times in (("train", 20), ("val", 3), ("test", 4)):
        rows = "".join(f"{label},the {word} {i}\n" for i in range(times) for label, word in words.items())
        (tmp_path / f"{name}.csv").write_text("label,text\n" + rows)
    files = {f"--{name}": str(tmp_path / f"{file}.csv") for name, file in (
        ("data", "train"), ("val-data", "val"), ("test-data", "test"))}  # fmt: skip
    flags = [word for pair in files.items() for word in pair]
    classify.main([*SMALL, *flags, "--pooling", "mean", "--lr", "0.03", "--out", str(tmp_path / "run")])
    assert "60 to train on, 9 to validate, 12 to test" in capsys.readouterr().out
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert list(report["test"]["classes"]) == ["blue", "green", "red"]
    assert report["test"]["accuracy"] == 1


def test_asking(train, tmp_path, capsys, monkeypatch):
    run, _ = train("a")
    classify.main(["predict", "--run", str(run), "a sunny day", "it is rainy", "--", "-- cold"])
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [(label, text) for label, _, text in lines] == [
        ("good", "a sunny day"), ("bad", "it is rainy"), ("bad", "-- cold"),
    ]  # fmt: skip
    assert all(0.5 <= float(probability) <= 1 for _, probability, _ in lines)
    (tmp_path / "ask.txt").write_text("a sunny day\n\nit is rainy\n")
    classify.main(["predict", "--run", str(run), "--file", str(tmp_path / "ask.txt")])
    assert capsys.readouterr().out.splitlines() == ["\t".join(line) for line in lines[:2]]
    monkeypatch.setattr("sys.stdin", io.StringIO("a sunny day\n" + "so " * 15 + "\n"))
    classify.main(["predict", "--run", str(run)])
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0] == "\t".join(lines[0])
    assert printed.err == "1 of 1 given texts are longer than 12 tokens: cut there\n"


# What goes wrong ---------------------------------------------------------------------------------------


def test_bad_input_is_one_line_that_says_what_to_do(tmp_path, data, train, fails, capsys, monkeypatch):
    refused = partial(fails, classify.main, "classify")

    def lines(*examples, name="bad.tsv"):
        (tmp_path / name).write_text("".join(f"{label}\t{text}\n" for label, text in examples))
        return tmp_path / name

    ok = ["--data", data, "--out", tmp_path / "out"]
    assert "--data is missing: name a file" in refused()
    assert "no such file" in refused("--data", tmp_path / "none.tsv")
    one = lines(*[("good", f"fine {i}") for i in range(20)])
    assert "all training examples have the label 'good'" in refused("--data", one)
    swapped = lines(*[(f"a text {i}", "good") for i in range(60)])
    assert "is the label where the text should be?" in refused("--data", swapped)
    assert "the validation part has no example" in refused("--data", lines(("a", "b"), ("b", "c"), ("a", "d")))
    unseen = lines(("good", "fine"), ("odd", "cold"), name="unseen.tsv")
    assert "unseen.tsv, line 2: the label 'odd' is never seen in training, which has bad, good" in refused(
        *ok, "--val-data", data, "--test-data", unseen
    )
    assert "--val-data and --test-data come together" in refused(*ok, "--val-data", data)
    assert "leave something for the test" in refused(*ok, "--train-fraction", "0.9")
    assert "there is no file or folder gpt5" in refused(*ok, "--start", "gpt5")
    assert "--lora-rank expects a whole number from 1 on, got 0" in refused(*ok, "--lora-rank", "0")
    assert "no layer is named 'W_q'" in refused(*ok, "--train", "lora", "--lora-layers", "W_q")
    assert "--last-blocks is from 1 to the model's 4 blocks, not 5" in refused(
        *ok, "--train", "last", "--last-blocks", "5", "--n-layer", "4"
    )
    assert not (tmp_path / "out").exists()

    run, _ = train("run", "--steps", "2")
    asked = partial(fails, classify.main, "classify", "predict")
    assert "--run is missing" in asked("text")
    assert "there is no folder" in asked("--run", tmp_path / "none", "text")
    assert "give texts or --file, not both" in asked("--run", run, "text", "--file", data)
    assert "cannot be read as UTF-8 text" in asked("--run", run, "--file", tmp_path / "none.txt")
    assert "text 1: the text '' has no token" in asked("--run", run, "")
    data.write_text("".join(f"{label}\tword {i}\n" for i in range(60) for label in ("x", "y")))
    assert "has the classes x, y, and the model bad, good; the file is another" in refused("--resume", run)
    text = tmp_path / "text.txt"
    text.write_text("fine " * 300)
    shape = (
        "--n-layer 1 --n-head 2 --n-embd 16 --context-length 16 --warmup 1 --eval-batches 1 --sample-every 0".split()
    )
    pretrain.main([*shape, "--data", str(text), "--steps", "1", "--out", str(tmp_path / "gpt")])
    capsys.readouterr()
    assert "holds no classifier" in asked("--run", tmp_path / "gpt", "text")
    assert "holds a classifier, which writes no text" in refused(*ok, "--start", run)
    assert "is it a run of train.classify? " in refused("--resume", tmp_path / "gpt")
    assert "is it a run of train.instruct? " in fails(instruct.main, "instruct", "--resume", run)
