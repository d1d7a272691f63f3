"""Perplexity: each token is predicted once, with as much context as the stride leaves; and the command line."""

import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_gpt import decided

import tensorlite as tl
from gpt.checkpoint import save_model
from gpt.config import PRESETS
from gpt.sampling import log_softmax
from gpt.tokenizer import CharacterTokenizer
from train import evaluate
from train.perplexity import perplexity

TINY = replace(PRESETS["tiny"], context_length=8, vocab_size=9, dropout=0.5)


@pytest.fixture(scope="module")
def model():
    return decided(TINY)


def token_by_token(model, ids, stride):
    """The loss of every token by itself, in the first window that has it."""
    width = min(TINY.context_length, len(ids) - 1)
    model.eval()
    losses = []
    for target in range(1, len(ids)):
        end = width
        while end < target:  # a window predicts the tokens up to number `end`
            end = min(end + stride, len(ids) - 1)
        with tl.no_grad():
            logits = model.lm_head(model.hidden(tl.tensor([ids[end - width : target]])))[0, -1].numpy()
        losses.append(-log_softmax(logits)[ids[target]])
    model.train()
    return np.mean(losses)


@given(length=st.integers(2, 40), stride=st.integers(1, 8), batch_size=st.integers(1, 5), seed=st.integers(0, 99))
@settings(max_examples=25)
def test_each_token_is_predicted_once_with_the_context_that_the_stride_leaves(model, length, stride, batch_size, seed):
    ids = np.random.default_rng(seed).integers(0, 9, length).tolist()
    found = perplexity(model, ids, stride, batch_size)
    assert found.tokens == length - 1
    np.testing.assert_allclose(found.loss, token_by_token(model, ids, stride), rtol=1e-10)
    assert found.perplexity == np.exp(found.loss)


def test_without_a_stride_windows_do_not_overlap(model):
    ids = np.arange(30) % 9
    assert perplexity(model, ids) == perplexity(model, ids, 8)


@pytest.mark.parametrize(
    "ids, options, message",
    [
        ([1], {}, "perplexity needs two tokens, one to be predicted from the other; the text has 1"),
        ([1, 2], {"stride": 0}, "stride expects a number from 1 to the model's context_length of 8, got 0"),
        ([1, 2], {"stride": 9}, "stride expects a number from 1 to the model's context_length of 8, got 9"),
        ([1, 2], {"batch_size": 0}, "batch_size expects a number from 1 on, got 0"),
    ],
)
def test_what_has_no_perplexity(model, ids, options, message):
    with pytest.raises(ValueError, match=message):
        perplexity(model, ids, **options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, model):
    folder = tmp_path_factory.mktemp("runs") / "first"
    (folder / "checkpoints" / "step-000001").mkdir(parents=True)
    CharacterTokenizer.train("abcdefghi").save(folder / "tokenizer.json")
    save_model(model, folder / "checkpoints" / "step-000001" / "model.safetensors")
    return folder


def test_the_command(capsys, trained, tmp_path, model):
    (tmp_path / "text.txt").write_text("abcdefghi" * 5)
    evaluate.main(["perplexity", "--model", str(trained), "--data", str(tmp_path / "text.txt"), "--stride", "4"])
    printed = capsys.readouterr().out
    found = perplexity(model, list(range(9)) * 5, 4)
    assert float(re.search(r"perplexity +([\d.]+)", printed)[1]) == pytest.approx(found.perplexity, abs=1e-3)
    assert float(re.search(r"loss +([\d.]+) per token", printed)[1]) == pytest.approx(found.loss, abs=1e-4)
    bits = float(re.search(r"([\d.]+) bits per byte", printed)[1])
    assert bits == pytest.approx(found.loss * 44 / np.log(2) / 45, abs=1e-4)


def test_mistakes_are_one_line(trained, tmp_path, fails):
    refused = partial(fails, evaluate.main, "evaluate")
    assert refused().startswith("evaluate: a command is missing; the commands are perplexity, classification, ")
    assert "unknown command 'perplexety'; the commands are perplexity, " in refused("perplexety")
    assert "--data is missing" in refused("perplexity", "--model", trained)
    assert "there is no such file" in refused("perplexity", "--model", trained, "--data", tmp_path / "none.txt")
    (tmp_path / "text.txt").write_text("abcx")
    assert "--model is missing" in refused("perplexity", "--data", tmp_path / "text.txt")
    assert "cannot encode 'x'" in refused("perplexity", "--model", trained, "--data", tmp_path / "text.txt")
    (tmp_path / "text.txt").write_text("abc")
    said = refused("perplexity", "--model", trained, "--data", tmp_path / "text.txt", "--stride", "9")
    assert "text.txt: stride expects a number from 1 to the model's context_length of 8, got 9" in said


def test_help_lists_the_commands(capsys):
    evaluate.main(["--help"])
    assert "perplexity" in capsys.readouterr().out
