"""Two models side by side, and a classifier on a file of its own."""

import json
from dataclasses import replace
from functools import partial

import pytest

import tensorlite as tl
from gpt.checkpoint import save_model
from gpt.completion import complete
from gpt.config import PRESETS
from gpt.model import GPT
from gpt.sampling import Sampling
from gpt.tokenizer import CharacterTokenizer
from train import classify, evaluate
from train.compare import Answer, Column, Prompt, side_by_side

TOKENIZER = CharacterTokenizer.train("abcdefgh \n#:.BDFIRSWTinoprstuwklmyq")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    found = []
    for seed in (0, 1):
        tl.manual_seed(seed)
        model = GPT(replace(PRESETS["tiny"], vocab_size=TOKENIZER.vocab_size))
        folder = tmp_path_factory.mktemp("runs") / f"run{seed}<b>"
        (folder / "checkpoints" / "step-000001").mkdir(parents=True)
        TOKENIZER.save(folder / "tokenizer.json")
        save_model(model, folder / "checkpoints" / "step-000001" / "model.safetensors")
        found.append((folder, model))
    return found


def test_both_write_what_they_write_alone(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    (first, a), (second, b) = runs
    page = tmp_path / "page.html"
    flags = ["--max-new-tokens", "12", "--temperature", "0.9", "--batch-size", "2", "--html", str(page)]
    evaluate.main(["compare", "--model", str(first), "--against", str(second), *flags, "abc", "de", "fgh abc"])
    printed, html = capsys.readouterr().out, page.read_text()
    rules = Sampling(temperature=0.9)
    for i, prompt in enumerate(["abc", "de", "fgh abc"]):
        assert f"{i + 1}. {prompt}" in printed
        for model in (a, b):
            text = complete(model, TOKENIZER, [prompt], 12, rules, seed=1337)[0].text.strip()
            assert all(word in printed and word in html for word in text.split())
    assert "0 of 3 answers are the same" in printed and "12.0 tokens per answer" in printed
    assert "run0&lt;b&gt;" in html and "<b>" not in html and "http" not in html
    assert max(map(len, printed.split("1. abc")[1].split("12.0")[0].splitlines()[:-1])) <= 60


def test_a_model_against_itself_and_instructions(runs, tmp_path, capsys):
    folder = str(runs[0][0])
    (tmp_path / "i.json").write_text(
        '[{"instruction": "abc", "input": "de", "output": "fg"}, {"instruction": "a", "output": "b"}]'
    )
    (tmp_path / "t.json").write_text('{"prompt": "{instruction}:", "prompt_with_input": "{instruction} {input}:"}')
    flags = ["--data", str(tmp_path / "i.json"), "--template", str(tmp_path / "t.json"), "--limit", "1"]
    both = ["compare", "--model", folder, "--against", folder, "--max-new-tokens", "5"]
    evaluate.main([*both, *flags])
    printed = capsys.readouterr().out
    assert "1. abc\nde\nreference: fg\n" in printed and "2. " not in printed
    assert "(the same)" in printed and "1 of 1 answers are the same" in printed
    (tmp_path / "p.txt").write_text("abc\n\nde\n")
    evaluate.main(
        ["compare", "--model", folder, "--against", folder, "--max-new-tokens", "5", "--data", str(tmp_path / "p.txt")]
    )
    assert "2 of 2 answers are the same" in capsys.readouterr().out


def test_columns():
    left = Column("a", [Answer("one two three four five", 5, -1.0)], 1.0)
    right = Column("a-long-name-of-a-run", [Answer("x\n    y", 2, -0.5)], 1.0)
    assert side_by_side([Prompt("p", "p", "r")], left, right, 35).splitlines() == [
        "1. p",
        "reference: r",
        "─────────────────┬─────────────────",
        "a                │ …g-name-of-a-run",
        "one two three    │ x",
        "four five        │     y",
    ]
    assert left.summary() == "a: 5.0 tokens per answer, log-probability -1.000 per token, 5 tokens/s"


def test_mistakes_are_one_line(runs, tmp_path, fails):
    refused = partial(fails, evaluate.main, "evaluate", "compare")
    both = ["--model", runs[0][0], "--against", runs[1][0]]
    assert "--model and --against name the two models" in refused("--model", "gpt2", "abc")
    assert "give prompts, each in quotes, or --data FILE" in refused(*both)
    assert "not both" in refused(*both, "abc", "--data", tmp_path / "x")
    assert "--top_k expects a number from 1 on" in refused(*both, "abc", "--top-k", "0")
    assert "--max-new-tokens is at least 1, not 0" in refused(*both, "abc", "--max-new-tokens", "0")
    assert "cannot encode 'Z'" in refused(*both, "Z")
    assert "--against nowhere" in refused("--model", runs[0][0], "--against", "nowhere", "abc")


# Classification ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifier")
    lines = [
        f"{'good' if i % 2 else 'bad'}\t{'sunny' if i % 2 else 'rainy'} day {'so ' * (i % 5)}it is\n" for i in range(60)
    ]
    (folder / "weather.tsv").write_text("".join(lines))
    small = (
        "--n-layer 1 --n-head 2 --n-embd 16 --batch-size 8 --epochs 6 --warmup 2 --lr 0.01 --tokenizer words".split()
    )
    classify.main(["--data", str(folder / "weather.tsv"), "--out", str(folder / "run"), *small])
    return folder / "run"


def test_classification_of_another_file(classifier, tmp_path, capsys):
    texts = ["good\tsunny day it is", "bad\trainy day it is", "bad\trainy day so it is", "good\trainy day so so it is"]
    (tmp_path / "new.tsv").write_text("\n".join(texts))
    evaluate.main(
        [
            "classification",
            "--model",
            str(classifier),
            "--data",
            str(tmp_path / "new.tsv"),
            "--out",
            str(tmp_path / "o"),
        ]
    )
    printed = capsys.readouterr().out
    assert "accuracy  75.00% of 4 texts" in printed
    assert "class \\ answer  bad  good\nbad               2     0\ngood              1     1\n" in printed
    report = json.loads((tmp_path / "o" / "report.json").read_text())
    assert report["confusion"] == [[2, 0], [1, 1]] and report["classes"]["good"]["recall"] == 0.5
    wrong = json.loads((tmp_path / "o" / "wrong.jsonl").read_text())
    assert wrong == {"label": "good", "answer": "bad", "text": "rainy day so so it is"}
    assert (tmp_path / "o" / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_bad_input_of_classification(classifier, runs, tmp_path, fails, capsys):
    refused = partial(fails, evaluate.main, "evaluate", "classification")
    file = tmp_path / "new.tsv"
    file.write_text("good\tsunny day\nugly\train\n")
    assert "new.tsv, line 2: the label 'ugly' is none that the model knows: bad, good" in refused(
        "--model", classifier, "--data", file
    )
    assert "holds no classifier; python -m train.classify makes one" in refused("--model", runs[0][0], "--data", file)
    assert "--model is missing" in refused() and "--data is missing" in refused("--model", classifier)
    assert "--batch-size is at least 1" in refused("--model", classifier, "--data", file, "--batch-size", "0")
    file.write_text("good\tsunny day\n")
    evaluate.main(["classification", "--model", str(classifier), "--data", str(file)])
    assert "has no text of the class bad: its recall and F1 say nothing" in capsys.readouterr().err
