"""Multiple choice: each ending's loss is the one it has by itself, and a stopped evaluation goes on."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from tiny_gpt import decided

import tensorlite as tl
from gpt.checkpoint import save_model
from gpt.config import PRESETS
from gpt.options import UsageError
from gpt.tokenizer import CharacterTokenizer
from tensorlite.nn import functional as F
from train import evaluate, multiple_choice
from train.multiple_choice import Question, losses, read_questions, right

TINY = replace(PRESETS["tiny"], context_length=16, vocab_size=9, dropout=0.5)
TOKENIZER = CharacterTokenizer.train("abcdefg. ")


@pytest.fixture(scope="module")
def model():
    return decided(TINY)


def alone(model, context, ending):
    """The sum of the losses of an ending's tokens, read in one piece."""
    ids = tl.tensor([[*context, *ending]])
    model.eval()
    with tl.no_grad():
        logits = model.lm_head(model.hidden(ids[:, :-1]))[0, len(context) - 1 :]
    model.train()
    return F.cross_entropy(logits, tl.tensor(list(ending)), reduction="sum").item()


def test_a_shared_context_changes_nothing(model):
    """Contexts and endings of all lengths in one batch, even one that is too wide as a whole."""
    rng = np.random.default_rng(0)
    for size in (1, 2, 7):
        questions = []
        for _ in range(size):
            n = int(rng.integers(1, 13))
            endings = [rng.integers(0, 9, rng.integers(1, 18 - n)) for _ in range(rng.integers(2, 5))]
            questions.append(Question(rng.integers(0, 9, n), endings, 0))
        for question, found in zip(questions, losses(model, questions)):
            expected = [alone(model, question.context, ending) for ending in question.endings]
            np.testing.assert_allclose(found, expected, rtol=1e-9)
    single = [Question(np.array([3]), [np.array([1, 2]), np.array([4])], 0)] * 2  # nothing before the last token
    expected = [alone(model, [3], [1, 2]), alone(model, [3], [4])]
    np.testing.assert_allclose(losses(model, single), [expected, expected], rtol=1e-9)


def test_mean_and_sum_differ_on_short_endings():
    question = Question(np.array([0]), [np.zeros(4), np.zeros(1)], 0)
    assert right(question, [4.0, 2.0]) == (True, False)
    assert right(question._replace(label=1), [4.0, 2.0]) == (False, True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, model):
    folder = tmp_path_factory.mktemp("runs") / "first"
    (folder / "checkpoints" / "step-000001").mkdir(parents=True)
    TOKENIZER.save(folder / "tokenizer.json")
    save_model(model, folder / "checkpoints" / "step-000001" / "model.safetensors")
    return folder


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(1)
    lines = []
    for i in range(12):
        endings = ["".join(rng.choice(list("abcdefg"), rng.integers(1, 5))) for _ in range(4)]
        lines.append(
            json.dumps({"ind": i, "ctx": "".join(rng.choice(list("abcdefg"), 5)), "label": 2, "endings": endings})
        )
    (tmp_path / "choices.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path / "choices.jsonl"


def test_the_command_and_its_figures(trained, data, tmp_path, capsys, model):
    out = tmp_path / "out"
    evaluate.main(["multiple-choice", "--model", str(trained), "--data", str(data), "--out", str(out)])
    printed = capsys.readouterr().out
    norm = plain = 0
    for entry in map(json.loads, data.read_text().splitlines()):
        context, endings = TOKENIZER.encode(entry["ctx"]), [TOKENIZER.encode(" " + e) for e in entry["endings"]]
        sums = np.array([alone(model, context, ending) for ending in endings])
        norm += np.argmin(sums / [len(e) for e in endings]) == 2
        plain += np.argmin(sums) == 2
    summary = json.loads((out / "summary.json").read_text())
    assert summary == {"questions": 12, "acc_norm": norm / 12, "acc": plain / 12, "chance": 0.25}
    assert f"acc_norm  {norm / 12:.4f} ± " in printed and f"acc       {plain / 12:.4f} ± " in printed


def test_it_goes_on_where_it_was_stopped(trained, data, tmp_path, capsys, monkeypatch, model):
    flags = ["multiple-choice", "--model", str(trained), "--data", str(data), "--batch-size", "3"]
    evaluate.main([*flags, "--out", str(tmp_path / "whole")])
    calls = []

    def interrupted(model, questions):
        calls.append(len(questions))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return losses(model, questions)

    flags += ["--out", str(tmp_path / "out")]
    monkeypatch.setattr(multiple_choice, "losses", interrupted)
    with pytest.raises(SystemExit, match="130"):
        evaluate.main(flags)
    assert "the same command goes on from there" in capsys.readouterr().out
    evaluate.main(flags)
    assert "goes on   6 of 12 are answered already" in capsys.readouterr().out
    assert calls == [3] * 5  # none twice
    assert (tmp_path / "out" / "summary.json").read_text() == (tmp_path / "whole" / "summary.json").read_text()
    evaluate.main([*flags, "--limit", "4"])
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["questions"] == 4


def test_results_of_other_weights_do_not_mix(data, tmp_path, capsys, model):
    for scale in (1.0, 2.0):
        folder = tmp_path / "run"
        (folder / "checkpoints" / "step-000001").mkdir(parents=True, exist_ok=True)
        TOKENIZER.save(folder / "tokenizer.json")
        with tl.no_grad():
            model.ln_f.weight.mul_(scale)
        save_model(model, folder / "checkpoints" / "step-000001" / "model.safetensors")
        flags = ["multiple-choice", "--model", str(folder), "--data", str(data), "--out", str(tmp_path / "out")]
        if scale == 1.0:
            evaluate.main(flags)
        else:
            with tl.no_grad():
                model.ln_f.weight.div_(scale)
            with pytest.raises(UsageError, match="which differs in weights; choose another --out"):
                evaluate.main(flags)


def question(**changes):
    return json.dumps({"ctx": "abc", "endings": ["a", "b"], "label": 1, **changes})


def test_contexts_that_are_too_long_lose_their_beginning(tmp_path, capsys):
    (tmp_path / "q.jsonl").write_text(question(ctx="abcdefg", endings=["abc", "a"]) + "\n" + question(label="0"))
    long, short = read_questions(tmp_path / "q.jsonl", TOKENIZER, 8)
    assert TOKENIZER.decode(long.context) == "cdefg" and long.width == 8  # with " ab" of the ending
    assert TOKENIZER.decode(short.context) == "abc" and short.label == 0
    assert "1 of 2 contexts are cut at their beginning to fit 8 tokens" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line, message",
    [
        ("{", "line 2: not JSON"),
        ('{"text": "a"}', "line 2: expected ctx, a text, and endings, a list of texts; found text"),
        (question(endings=["a", 3]), "line 2: expected ctx"),
        (question(endings=["a"]), "line 2: a choice is among two endings or more, not 1"),
        (question(label=2), "line 2: expected a label from 0 to 1, the right ending's number; found 2"),
        (question(label=""), "line 2: expected a label from 0 to 1, the right ending's number; found ''"),
        (question(label=None), "line 2: expected a label from 0 to 1, the right ending's number; found None"),
        (question(ctx=""), "line 2: the context has no token"),
        (question(ctx="xyz"), "line 2: .*cannot encode 'x'"),
        (question(endings=["a" * 20, "b"]), "line 2: an ending alone is longer than the model's context of 16 tokens"),
    ],
)
def test_what_is_no_question(tmp_path, line, message):
    (tmp_path / "q.jsonl").write_text(question() + "\n" + line + "\n")
    with pytest.raises(UsageError, match=message):
        read_questions(tmp_path / "q.jsonl", TOKENIZER, 16)


def test_mistakes_are_one_line(trained, data, tmp_path, fails):
    refused = partial(fails, evaluate.main, "evaluate", "multiple-choice")
    assert "--model is missing" in refused("--data", data)
    assert "--limit is at least 1, not 0" in refused("--model", trained, "--data", data, "--limit", "0")
    assert "there is no such file" in refused("--model", trained, "--data", tmp_path / "none.jsonl")
