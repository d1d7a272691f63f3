"""The rules of sampling: what may be drawn, how often it is, and transformers' own rules beside ours."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt.sampling import Sampling, log_softmax

LOGITS = np.array([2.0, -1.0, 0.5, 1.0, 0.0], np.float32)


def chances(logits, **rules):
    """The probability of each token, 0 for those that are left out."""
    ids, found = Sampling(**rules).candidates(np.asarray(logits, np.float32), rules.pop("seen", ()))
    whole = np.zeros(len(logits))
    whole[ids] = found
    return whole


def softmax(x):
    return np.exp(log_softmax(np.asarray(x)))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("top_k", [None, 3, 100])
def test_tokens_are_drawn_as_often_as_they_are_likely(temperature, top_k):
    weights = np.exp(LOGITS / temperature)
    if top_k == 3:
        weights[[1, 4]] = 0
    rules = Sampling(temperature, top_k)
    draws = [rules.draw(LOGITS, number) for number in np.random.default_rng(0).random(4_000)]
    frequencies = np.bincount(draws, minlength=5) / 4_000
    np.testing.assert_allclose(frequencies, weights / weights.sum(), atol=0.04)  # five standard deviations
    assert (frequencies[weights == 0] == 0).all()


def test_the_ends_of_the_interval_draw_tokens_that_may_be_drawn():
    for rules in (Sampling(), Sampling(top_p=0.5), Sampling(top_k=2)):
        ids, _ = rules.candidates(LOGITS)
        assert rules.draw(LOGITS, 0.0) == ids[0] and rules.draw(LOGITS, 1 - 2**-53) == ids[-1]


def test_top_k_means_k_also_among_equals():
    assert len(Sampling(top_k=2).candidates(np.zeros(5, np.float32))[0]) == 2


def test_no_temperature_takes_the_likeliest_and_little_nearly_does():
    assert chances(LOGITS, temperature=0).tolist() == [1, 0, 0, 0, 0]
    assert chances(LOGITS, temperature=1e-300).tolist() == [1, 0, 0, 0, 0]


def test_top_p_takes_the_fewest_that_reach_it():
    p = softmax(LOGITS)  # the order is 0, 3, 2, 4, 1
    assert np.flatnonzero(chances(LOGITS, top_p=p[0] - 1e-3)).tolist() == [0]
    assert np.flatnonzero(chances(LOGITS, top_p=p[0] + 1e-3)).tolist() == [0, 3]
    assert np.flatnonzero(chances(LOGITS, top_p=1.0)).tolist() == [0, 1, 2, 3, 4]


def test_min_p_is_a_share_of_the_likeliest():
    p = softmax(LOGITS)
    assert np.flatnonzero(chances(LOGITS, min_p=p[3] / p[0] - 1e-3)).tolist() == [0, 3]
    assert np.flatnonzero(chances(LOGITS, min_p=1.0)).tolist() == [0]


def test_the_penalty_makes_what_was_there_less_likely_whatever_its_sign():
    rules = Sampling(repetition_penalty=2.0)
    ids, found = rules.candidates(LOGITS, seen=[0, 1, 1])
    np.testing.assert_allclose(found[np.argsort(ids)], softmax([1.0, -2.0, 0.5, 1.0, 0.0]))
    assert LOGITS[0] == 2  # and the logits are as they were


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_no_numbers(bad):
    with pytest.raises(ValueError, match=f"the largest logit is {bad}, so no token can be chosen"):
        Sampling().candidates(np.array([0.0, bad], np.float32))


@pytest.fixture(scope="module")
def transformers():
    pytest.importorskip("torch", reason="torch is not installed: pip install 'tensorlite[oracle]'")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own, on import
        return pytest.importorskip("transformers", reason="transformers is not installed")


rules = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.floats(0.1, 3),
        "top_k": st.integers(1, 40),
        "top_p": st.floats(0.05, 0.99),
        "min_p": st.floats(0.01, 0.9),
        "repetition_penalty": st.floats(0.5, 2),
    },
)


@given(rules=rules, seed=st.integers(0, 999))
def test_the_rules_and_their_order_are_those_of_transformers(transformers, rules, seed):
    import torch
    from transformers.generation import logits_process as theirs

    rng = np.random.default_rng(seed)
    logits, seen = rng.standard_normal(30).astype(np.float32) * 3, rng.integers(0, 30, 5)
    warpers = {
        "repetition_penalty": theirs.RepetitionPenaltyLogitsProcessor,
        "temperature": theirs.TemperatureLogitsWarper,
        "top_k": theirs.TopKLogitsWarper,
        "top_p": theirs.TopPLogitsWarper,
        "min_p": theirs.MinPLogitsWarper,
    }
    scores = torch.from_numpy(logits)[None]
    for name, warper in warpers.items():
        if name in rules:
            scores = warper(rules[name])(torch.from_numpy(seen)[None], scores)
    expected = torch.softmax(scores.double(), -1)[0].numpy()
    ids, found = Sampling(**rules).candidates(logits, seen.tolist())
    assert set(ids.tolist()) == set(np.flatnonzero(expected).tolist())
    np.testing.assert_allclose(found, expected[ids], rtol=1e-5)
