"""The key-value cache: it changes the work, not the numbers, however the tokens are divided and the rows are padded."""

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorlite as tl
from gpt.cache import Cache
from gpt.config import PRESETS
from gpt.generate import generate
from gpt.model import GPT
from gpt.sequences import Sequences
from gpt.writing import Row, write

TINY = PRESETS["tiny"]
V, LONGEST = TINY.vocab_size, TINY.context_length


def model_of(dtype=tl.float32, **changes):
    tl.manual_seed(0)
    model = GPT(replace(TINY, **changes)).to(dtype).eval()
    with tl.no_grad():
        for parameter in model.parameters():
            parameter.add_(tl.randn_like(parameter), alpha=0.1)
    return model


@pytest.fixture(scope="module")
def model():
    return model_of()


def ids(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, V, shape)


def logits(model, x, cache=None):
    with tl.no_grad():
        return model.lm_head(model.hidden(tl.from_numpy(x), cache)).numpy()  # (B, T, V)


splits = st.lists(st.integers(1, LONGEST), min_size=1).map(lambda x: [n for n in np.cumsum(x) if n <= LONGEST])


@given(splits=splits, batch=st.integers(1, 3), padded=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=40)
def test_the_logits_are_those_without_it_for_any_split(model, splits, batch, padded, seed):
    x = ids(batch, splits[-1] if splits else 1, seed=seed)
    padding = np.random.default_rng(seed).integers(0, x.shape[1], batch) if padded else None
    cache = Cache(model, batch, LONGEST, padding)
    bounds = [0, *splits] if splits else [0, 1]
    parts = [logits(model, x[:, a:b], cache) for a, b in pairwise(bounds)]
    found = np.concatenate(parts, axis=1)  # (B, T, V)
    for row in range(batch):
        first = 0 if padding is None else padding[row]
        alone = logits(model, x[row : row + 1, first:])[0]
        np.testing.assert_allclose(found[row, first:], alone, rtol=0, atol=1e-5 * abs(alone).max())


def test_it_is_the_same_in_float64():
    model = model_of(tl.float64, bias=False, tied=False)
    x, cache = ids(2, 9), Cache(model := model, 2, 12)
    found = np.concatenate([logits(model, x[:, a:b], cache) for a, b in ((0, 5), (5, 6), (6, 9))], axis=1)
    np.testing.assert_allclose(found, logits(model, x), rtol=0, atol=1e-12)
    assert cache.layers[0].keys.dtype == tl.float64 and cache.length == 9


prompts = st.lists(st.lists(st.integers(0, V - 1), min_size=1, max_size=20), min_size=1, max_size=4)


def written(model, prompts, seeds, **options):
    rows = [Row(prompt, seed) for prompt, seed in zip(prompts, seeds)]
    for _ in write(model, rows, 12, logprobs=True, **options):
        pass
    return rows


@given(prompts=prompts, use_cache=st.booleans(), when_full=st.sampled_from(["slide", "stop"]))
@settings(max_examples=12)
def test_a_row_in_a_batch_is_the_row_alone(model, prompts, use_cache, when_full):
    """Left padding gives the unpadded result: tokens, log-probabilities and the reason for the end; also where rows end
    at different times, and where the context is full."""
    prompts = prompts if when_full == "slide" else [prompt[:LONGEST] for prompt in prompts]
    seeds = range(len(prompts))
    options = {"use_cache": use_cache, "when_full": when_full, "stop_ids": range(8)}
    together = written(model, prompts, seeds, **options)
    for row, prompt, seed in zip(together, prompts, seeds):
        (alone,) = written(model, [prompt], [seed], when_full=when_full, stop_ids=range(8))
        assert (row.ids, row.ended) == (alone.ids, alone.ended)
        np.testing.assert_allclose(row.logprobs, alone.logprobs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("padded", [False, True])
def test_rows_can_be_chosen_and_repeated(model, padded):
    lengths = [4, 2, 3] if padded else [4, 4, 4]
    rows = [ids(n, seed=n).tolist() for n in lengths]
    sequences = Sequences(model, rows, room=8)
    sequences.logits()
    sequences.append([1, 2, 3])
    for chosen in ([2, 1, 1], [0, 2], [1]):
        sequences.select(chosen)
        found = sequences.logits()
        np.testing.assert_allclose(sequences.logits(), found, rtol=0, atol=1e-5 * abs(found).max())  # asked again
        for i in range(len(chosen)):
            alone = logits(model, sequences.row(i)[None])[0, -1]
            np.testing.assert_allclose(found[i], alone, rtol=0, atol=1e-5 * abs(alone).max())
        sequences.append([5] * len(chosen))


def test_its_memory_is_taken_once(model):
    cache = Cache(model, 1, LONGEST)
    before = [layer.keys.numpy().ctypes.data for layer in cache.layers]
    for i in range(LONGEST):
        logits(model, ids(1, 1, seed=i), cache)
    assert [layer.keys.numpy().ctypes.data for layer in cache.layers] == before


def test_a_step_reads_one_token(model):
    """With the cache a step's work does not grow with what was read."""
    read = []
    hook = model.register_forward_pre_hook(lambda module, args: read.append(args[0].shape))
    generate(model, tl.from_numpy(ids(2, 5)), 4, temperature=0)
    hook.remove()
    assert read == [(2, 5), (2, 1), (2, 1), (2, 1)]


@pytest.mark.parametrize("use_cache", [True, False])
def test_samples_of_one_prompt_read_it_once(model, use_cache):
    read = []
    prompts = [[1, 2, 3], [0, 2], [1, 2, 3], [2], [0, 2]]
    alone = [written(model, [prompt], [seed])[0].ids for seed, prompt in enumerate(prompts)]
    hook = model.register_forward_pre_hook(lambda module, args: read.append(args[0].shape))
    rows = written(model, prompts, range(5), use_cache=use_cache)
    hook.remove()
    assert [row.ids for row in rows] == alone
    assert read[0] == (3, 3) and read[1] == ((5, 1) if use_cache else (5, 4))


@pytest.mark.parametrize(
    "room, batch, padding, message",
    [
        (17, 1, None, "room must be from 1 to the model's context_length of 16, not 17"),
        (0, 1, None, "room must be from 1"),
        (4, 2, [1], "padding expects a number for each of the 2 rows, got 1"),
    ],
)
def test_caches_that_cannot_be(model, room, batch, padding, message):
    with pytest.raises(ValueError, match=message):
        Cache(model, batch, room, padding)


def test_what_does_not_fit_into_it(model):
    cache = Cache(model, 1, 4)
    logits(model, ids(1, 3), cache)
    for shape in ((1, 2), (2, 1)):
        message = f"the cache has 1 rows with room for 4 tokens, of which 3 are used; {shape} token ids do not fit in"
        with pytest.raises(ValueError, match=re.escape(message)):
            logits(model, ids(*shape), cache)
    assert cache.length == 3


def test_it_records_no_gradients(model):
    with pytest.raises(RuntimeError, match="a cache records no gradients: read with it under no_grad"):
        model.hidden(tl.from_numpy(ids(1, 2)), Cache(model, 1, 4))


def test_asking_for_much_takes_no_memory_beforehand(model):
    rows = [Row([1, 2], 0)]
    for _ in write(model, rows, 10**15):
        if len(rows[0].ids) == 40:
            rows[0].ended = "stop"
    assert len(rows[0].ids) == 40


def test_there_is_something_to_go_on_from(model):
    for prompts in ([], [[1], []]):
        with pytest.raises(ValueError, match="at least one prompt, and at least one token in each"):
            Sequences(model, prompts, room=1)
