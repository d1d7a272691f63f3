"""Beam search: against all sequences there are, and greedy and beam search against transformers."""

import itertools
import warnings
from dataclasses import replace

import numpy as np
import pytest

import tensorlite as tl
from gpt.beam import beam_search
from gpt.config import PRESETS, GPTConfig
from gpt.generate import generate
from gpt.model import GPT
from gpt.sampling import Sampling, log_softmax
from gpt.writing import Row, write

SMALL = GPTConfig(vocab_size=4, context_length=8, n_layer=1, n_head=2, n_embd=8)


@pytest.fixture(scope="module")
def model():
    tl.manual_seed(0)
    model = GPT(SMALL).double().eval()
    with tl.no_grad():
        for parameter in model.parameters():
            parameter.mul_(10)
    return model


def logprob(model, prompt, ids):
    with tl.no_grad():
        logits = model.lm_head(model.hidden(tl.tensor([[*prompt, *ids[:-1]]])))[0].numpy()
    return log_softmax(logits)[np.arange(len(prompt) - 1, len(prompt) + len(ids) - 1), ids].sum()


def every_ending(length, eos):
    """All that can be written in up to `length` tokens."""
    for n in range(1, length + 1):
        for ids in itertools.product(range(4), repeat=n):
            if eos not in ids[:-1] and (ids[-1] == eos or n == length):
                yield list(ids)


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0, -1.0])
@pytest.mark.parametrize("eos", [None, 3])
def test_with_beams_enough_it_finds_the_best_of_all(model, eos, length_penalty):
    prompt, length = [0, 2], 4
    ranked = sorted(
        ((logprob(model, prompt, ids) / len(ids) ** length_penalty, ids) for ids in every_ending(length, eos)),
        reverse=True,
    )
    stopping = "never" if length_penalty >= 0 else False
    found = beam_search(model, prompt, length, 200, eos, length_penalty, early_stopping=stopping)
    assert [beam.ids for beam in found[:20]] == [ids for _, ids in ranked[:20]]
    np.testing.assert_allclose([beam.score for beam in found[:20]], [score for score, _ in ranked[:20]])
    np.testing.assert_allclose(found[0].logprob, logprob(model, prompt, found[0].ids))


def test_one_beam_is_greedy(model):
    (beam,) = beam_search(model, [1, 2], 5, 1)
    assert [1, 2, *beam.ids] == generate(model, tl.tensor([[1, 2]]), 5, temperature=0)[0].tolist()


def test_the_cache_changes_nothing_also_where_the_context_slides(model):
    with_it, without = (beam_search(model, [1, 2], 12, 3, use_cache=use) for use in (True, False))
    assert [beam.ids for beam in with_it] == [beam.ids for beam in without] and len(with_it[0].ids) == 12


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(num_beams=0), "num_beams expects a number from 1 on, got 0"),
        (dict(max_new_tokens=0), "at least one token, got max_new_tokens=0"),
        (dict(eos_id=4), "eos_id expects ids of the vocabulary, from 0 to 3, got 4"),
        (dict(prompt=[]), "at least one token in each"),
    ],
)
def test_arguments_that_make_no_sense(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        beam_search(model, **{"prompt": [1], "max_new_tokens": 2, "num_beams": 2, **arguments})


# transformers


@pytest.fixture(scope="module")
def twins():
    """A function (config) -> our model and transformers', with the same random weights."""
    pytest.importorskip("torch", reason="torch is not installed: pip install 'tensorlite[oracle]'")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own, on import
        transformers = pytest.importorskip("transformers", reason="transformers is not installed")

    def make(config: GPTConfig, std: float):
        import torch

        torch.manual_seed(0)
        shape = {"n_embd": config.n_embd, "n_layer": config.n_layer, "n_head": config.n_head}
        sizes = {"vocab_size": config.vocab_size, "n_positions": config.context_length}
        their_config = transformers.GPT2Config(**sizes, **shape, initializer_range=std)
        theirs = transformers.GPT2LMHeadModel(their_config).eval()
        theirs.generation_config = transformers.GenerationConfig()
        ours = GPT(config).eval()
        conv1d = ("c_attn.weight", "c_proj.weight", "c_fc.weight")  # which keeps its weights as (in, out)
        weights = {name.removeprefix("transformer."): x.detach() for name, x in theirs.state_dict().items()}
        ours.load_state_dict({name: (x.T if name.endswith(conv1d) else x).numpy() for name, x in weights.items()})

        def generate(ids, **options):
            how = transformers.GenerationConfig(pad_token_id=0, **options)
            return theirs.generate(ids, attention_mask=torch.ones_like(ids), generation_config=how)

        return ours, generate

    return make


@pytest.mark.parametrize("num_beams", [2, 5])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("early_stopping", [False, True, "never"])
def test_beams_are_those_of_transformers(twins, num_beams, length_penalty, early_stopping):
    import torch

    config = replace(PRESETS["tiny"], vocab_size=12, context_length=32)
    ours, theirs = twins(config, std=0.5)
    eos = [3, 7]
    for seed in range(3):
        prompt = np.random.default_rng(seed).integers(0, 12, 5)
        expected = theirs(
            torch.from_numpy(prompt)[None], max_new_tokens=15, num_beams=num_beams, num_return_sequences=num_beams,
            length_penalty=length_penalty, early_stopping=early_stopping, eos_token_id=eos, do_sample=False,
            return_dict_in_generate=True, output_scores=True,
        )  # fmt: skip
        found = beam_search(ours, prompt.tolist(), 15, num_beams, eos, length_penalty, early_stopping)
        np.testing.assert_allclose([beam.score for beam in found], expected.sequences_scores.numpy(), rtol=1e-4)
        for beam, row in zip(found, expected.sequences[:, 5:].tolist()):
            assert beam.ids == row[: len(beam.ids)]


@pytest.mark.parametrize(
    "config, std", [(PRESETS["tiny"], 0.5), pytest.param(PRESETS["gpt2"], 0.1, marks=pytest.mark.slow)]
)
def test_greedy_outputs_are_those_of_transformers(twins, config, std):
    import torch

    ours, theirs = twins(config, std)
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, config.vocab_size, n).tolist() for n in (3, 5, 4)]
    rows = [Row(prompt, 0) for prompt in prompts]
    for _ in write(ours, rows, 10, Sampling(temperature=0)):
        pass
    for prompt, row in zip(prompts, rows):
        alone = theirs(torch.tensor([prompt]), max_new_tokens=10, do_sample=False)
        assert alone[0, len(prompt) :].tolist() == row.ids
    if config.vocab_size > 1000:
        expected = theirs(torch.tensor(prompts[:1]), max_new_tokens=8, num_beams=3, do_sample=False)
        assert beam_search(ours, prompts[0], 8, 3)[0].ids == expected[0, 3:].tolist()
