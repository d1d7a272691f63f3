"""Learning from rewards: the slope of the loss, what is expected of an answer, and a run that learns to add."""

import json
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

import tensorlite as tl
from gpt.checkpoint import latest_weights, load_model
from gpt.model import GPT
from tensorlite import check
from train import arithmetic
from train.arithmetic import DEFAULT, TOKENIZER, Answers, Problems, Repeated, answer_log_probabilities
from train.policy import advantages, divergence, policy_loss

SMALL = "--n-layer 1 --n-head 1 --n-embd 16 --batch-size 16 --group 4 --warmup 2 --eval-every 3".split()


def test_problems():
    one, two = Problems.of(1), Problems.of(2)
    assert (len(one.questions), len(two.questions)) == (100, 10_000)
    assert TOKENIZER.decode(one.questions[78]) + TOKENIZER.decode(one.answers[78]) == "7+8=5"
    assert TOKENIZER.decode(two.questions[9907]) + TOKENIZER.decode(two.answers[9907]) == "99+07=06"


def by_hand(new, old, advantage, clip, reference, kl):
    """GRPO's objective, an answer and a token at a time, and its slope by new, from the paper's two cases."""
    gain, slope = 0.0, np.zeros_like(new)
    for i, j in np.ndindex(*new.shape):
        ratio, a = math.exp(new[i, j] - old[i, j]), advantage[i]
        held = 1 + clip if a > 0 else 1 - clip  # beyond which nothing is gained
        clipped = ratio > held if a > 0 else ratio < held
        gain += a * (held if clipped else ratio)
        slope[i, j] += 0.0 if clipped else a * ratio
        u = math.exp(reference[i, j] - new[i, j])
        gain -= kl * (u - math.log(u) - 1)
        slope[i, j] -= kl * (1 - u)
    return -gain / new.size, -slope / new.size


@pytest.mark.parametrize("kl", [0.0, 0.04, 1.0])
def test_grpo_is_the_papers_formula(kl):
    rng = np.random.default_rng(0)
    new, old, reference = rng.normal(size=(3, 40, 3)) * 0.3
    advantage = rng.normal(size=40)
    ours = tl.tensor(new, requires_grad=True)
    loss = policy_loss(ours, tl.tensor(old), tl.tensor(advantage), 0.2, tl.tensor(reference), kl)
    loss.backward()
    expected, slope = by_hand(new, old, advantage, 0.2, reference, kl)
    assert loss.item() == pytest.approx(expected, abs=1e-12)
    np.testing.assert_allclose(ours.grad.numpy(), slope, rtol=0, atol=1e-12)
    ratio = np.exp(new - old)
    stopped = np.where(advantage[:, None] > 0, ratio > 1.2, ratio < 0.8)
    assert 10 < stopped.sum() < 110 and (kl or not ours.grad.numpy()[stopped].any())  # both cases occur
    others = [tl.tensor(x) for x in (old, advantage, reference)]
    check.gradients(lambda n: policy_loss(n, others[0], others[1], 0.2, others[2], kl), (tl.tensor(new),))


def test_the_divergence_is_on_average_that_of_the_distributions():
    """Summed over all tokens with the probability of each, it is KL(new || reference)."""
    tl.manual_seed(0)
    new, reference = tl.randn(2, 12, dtype=tl.float64).log_softmax(-1)  # (12,) each
    expected = (new.exp() * (new - reference)).sum().item()
    assert (new.exp() * divergence(new, reference)).sum().item() == pytest.approx(expected, abs=1e-12)
    assert (divergence(new, reference).numpy() >= 0).all() and not divergence(new, new).numpy().any()


def test_answers_are_kept_for_so_many_updates():
    tl.manual_seed(0)
    config = replace(DEFAULT, updates=3, group=4, kl=0.1)
    model = GPT(config.gpt_config(TOKENIZER.vocab_size))
    answers = Answers(model, model, Problems.of(1), config)
    drawn = [answers.to(np.arange(8)) for _ in range(4)]
    assert drawn[0] is drawn[1] is drawn[2] is not drawn[3]
    one = drawn[0]
    assert len(answers.rewards) == 2 and one.answers.shape == (32, 1)
    logits = model(one.questions)[0][:, 0].log_softmax(-1).detach().numpy()  # (32, 12)
    expected = np.take_along_axis(logits, one.answers.numpy(), 1)
    np.testing.assert_allclose(one.old.numpy(), expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(one.reference.numpy(), one.old.numpy())
    batches = list(Repeated(tl.data.BatchSampler(range(6), 2, True), 2))
    assert batches == [[0, 1], [0, 1], [2, 3], [2, 3], [4, 5], [4, 5]]


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
    model = GPT(DEFAULT.gpt_config(TOKENIZER.vocab_size)).to(tl.float64)
    question = tl.from_numpy(Problems.of(1).questions[78:79])  # (1, 4)
    rewards = tl.randn(12, dtype=tl.float64)
    probabilities = model(question)[0][0, 0].softmax(-1)  # (12,)
    (-(probabilities * rewards).sum()).backward()
    expected = {name: p.grad.numpy().copy() for name, p in model.named_parameters()}
    model.zero_grad()
    weighted = 12 * probabilities.detach() * rewards  # the mean of 12 answers is to be their expectation
    new = answer_log_probabilities(model, question.expand(12, 4), tl.arange(12)[:, None])  # (12, 1)
    policy_loss(new, None, weighted).backward()
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


@pytest.mark.parametrize("flags", [[], ["--updates", "3", "--kl", "0.1"]])
def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(tmp_path, flags):
    """Also in the middle of the updates that learn from the same answers."""
    for name, steps in (("whole", 7), ("part", 4)):
        both = [*SMALL, "--schedule", "constant", *flags]
        arithmetic.main([*both, "--steps", str(steps), "--out", str(tmp_path / name)])
    arithmetic.main(["--resume", str(tmp_path / "part"), "--steps", "7"])
    a, b = (load_model(latest_weights(tmp_path / name)).state_dict() for name in ("whole", "part"))
    assert all(np.array_equal(a[name].numpy(), b[name].numpy()) for name in a)


def test_bad_input_is_one_line_that_says_what_to_do(fails, tmp_path):
    refused = partial(fails, arithmetic.main, "arithmetic")
    assert "--digits is at most 3, not 4" in refused("--digits", 4)
    assert "--context-length is too short for 10 characters" in refused("--digits", 2)
    assert "--group is at least 2, not 1" in refused("--group", 1)
    assert "--updates is at least 1, not 0" in refused("--updates", 0)
    assert "--clip-ratio is above 0 and below 1, not 1.0" in refused("--clip-ratio", 1)
    assert "--kl is at least 0, not -1.0" in refused("--kl", -1)
    assert "--updates above 1 does not go with --accumulation" in refused("--updates", 2, "--accumulation", 2)
