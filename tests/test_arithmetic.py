"""Learning from rewards: the slope of the loss, what is expected of an answer, and a run that learns to add."""

import json
from functools import partial

import numpy as np
import pytest

import tensorlite as tl
from gpt.checkpoint import latest_weights, load_model
from gpt.model import GPT
from train import arithmetic
from train.arithmetic import DEFAULT, TOKENIZER, Problems, advantages, policy_loss

SMALL = "--n-layer 1 --n-head 1 --n-embd 16 --batch-size 16 --group 4 --warmup 2 --eval-every 3".split()


def test_problems():
    one, two = Problems.of(1), Problems.of(2)
    assert (len(one.questions), len(two.questions)) == (100, 10_000)
    assert TOKENIZER.decode(one.questions[78]) + TOKENIZER.decode(one.answers[78]) == "7+8=5"
    assert TOKENIZER.decode(two.questions[9907]) + TOKENIZER.decode(two.answers[9907]) == "99+07=06"


def test_what_was_better_than_expected():
    rewards = np.array([[1.0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]])
    group = advantages(rewards, "group")
    np.testing.assert_allclose(group[0], np.array([3, -1, -1, -1]) / np.sqrt(3), rtol=1e-3)
    assert not group[1:].any()
    np.testing.assert_allclose(advantages(rewards, "mean"), rewards - 5 / 12)
    np.testing.assert_array_equal(advantages(rewards, "none"), rewards)


def test_the_slope_is_that_of_the_expected_reward():
    """Of all twelve answers to a question at once, each weighted by its probability: sum p r, differentiated."""
    tl.manual_seed(0)
    model = GPT(DEFAULT.model(TOKENIZER.vocab_size)).to(tl.float64)
    question = tl.from_numpy(Problems.of(1).questions[78:79])  # (1, 4)
    rewards = tl.randn(12, dtype=tl.float64)
    probabilities = model(question)[0][0, 0].softmax(-1)  # (12,)
    (-(probabilities * rewards).sum()).backward()
    expected = {name: p.grad.numpy().copy() for name, p in model.named_parameters()}
    model.zero_grad()
    weighted = 12 * probabilities.detach() * rewards  # the mean of 12 answers is to be their expectation
    policy_loss(model, question.expand(12, 4), tl.arange(12)[:, None], weighted).backward()
    for name, parameter in model.named_parameters():
        np.testing.assert_allclose(parameter.grad.numpy(), expected[name], rtol=1e-9, atol=1e-14)


@pytest.mark.slow
def test_a_run_learns_from_rewards(tmp_path, capsys):
    arithmetic.main(["--steps", "110", "--eval-every", "55", "--out", str(tmp_path / "a")])
    printed = capsys.readouterr().out
    lines = [json.loads(line) for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    rewards = [line["train_accuracy"] for line in lines if line.get("train_accuracy") is not None]
    assert rewards[0] < 0.2 < 0.3 < rewards[-1]
    assert (tmp_path / "a" / "reward.png").read_bytes().startswith(b"\x89PNG")
    assert "by chance 8.33%" in printed


def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(tmp_path):
    for name, steps in (("whole", 7), ("part", 4)):
        arithmetic.main([*SMALL, "--schedule", "constant", "--steps", str(steps), "--out", str(tmp_path / name)])
    arithmetic.main(["--resume", str(tmp_path / "part"), "--steps", "7"])
    a, b = (load_model(latest_weights(tmp_path / name)).state_dict() for name in ("whole", "part"))
    assert all(np.array_equal(a[name].numpy(), b[name].numpy()) for name in a)


def test_bad_input_is_one_line_that_says_what_to_do(fails, tmp_path):
    refused = partial(fails, arithmetic.main, "arithmetic")
    assert "--digits is at most 3, not 4" in refused("--digits", 4)
    assert "--context-length is too short for 10 characters" in refused("--digits", 2)
    assert "--group is at least 2, not 1" in refused("--group", 1)
