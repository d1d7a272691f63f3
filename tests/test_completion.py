"""Text in, text out: pieces as they come, whole characters only, and never a part of a stop string."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tensorlite as tl
from gpt.completion import Text, complete
from gpt.config import GPTConfig
from gpt.model import GPT
from gpt.sampling import Sampling
from gpt.tokenizer import CharacterTokenizer, GPT2Tokenizer, WordTokenizer

LETTERS = CharacterTokenizer.train("abc")
STOP = ["aa"]


def told(tokenizer, prompt, ids, stop=()):
    """What is known of a text after each of the tokens, up to its end."""
    text = Text(tokenizer, prompt, 0, stop)
    for i in ids:
        if text.row.ended:
            break
        text.row.ids.append(i)
        if i == tokenizer.eot_id or len(text.row.ids) == len(ids):
            text.row.ended = "stop" if i == tokenizer.eot_id else "length"
        text.follow()
        yield text.text


@pytest.mark.parametrize("tokenizer", [CharacterTokenizer, WordTokenizer])
def test_the_pieces_are_the_text(tokenizer):
    tokenizer = tokenizer.train(whole := "Oh, no! Is it \ufffd, then? It is.")
    ids, prompt = tokenizer.encode(whole), "Oh"
    *pieces, last = told(tokenizer, prompt, ids[len(tokenizer.encode(prompt)) :])
    assert prompt + last == tokenizer.decode(ids)
    assert all(last.startswith(piece) for piece in pieces)


def test_half_a_character_waits_for_the_rest(gpt2_vocabulary):
    tokenizer = GPT2Tokenizer()
    ids = tokenizer.encode(" 😀!")
    assert list(told(tokenizer, "a", ids)) == [" ", " 😀", " 😀!"] and len(ids) == 3
    assert list(told(tokenizer, "a", ids[:1]))[-1] == tokenizer.decode(ids[:1])  # unless there is no rest


def test_end_of_text_is_not_in_it():
    tokenizer = WordTokenizer.train("so it ends")
    ids = [*tokenizer.encode("it ends"), tokenizer.eot_id, *tokenizer.encode("so")]
    assert list(told(tokenizer, "so", ids)) == [" it", " it ends", " it ends"]


@given(
    written=st.text("abc", min_size=1, max_size=20), stop=st.lists(st.text("abc", min_size=1, max_size=4), max_size=3)
)
def test_a_stop_string_ends_the_text_whatever_its_tokens(written, stop):
    """What is told is never taken back, and ends before the stop string that is complete first."""
    steps = list(told(LETTERS, "ab", LETTERS.encode(written), stop))
    ends = [(i, min(at for s in stop if (at := written[:i].find(s)) >= 0)) for i in range(1, len(written) + 1)
            if any(s in written[:i] for s in stop)]  # fmt: skip
    tokens, characters = ends[0] if ends else (len(written), len(written))
    assert len(steps) == tokens and steps[-1] == written[:characters]
    assert all(b.startswith(a) for a, b in zip(steps, steps[1:]))  # noqa: RUF007
    held = max((len(s) for s in stop), default=1) - 1
    assert all(len(text) >= i - held for i, text in enumerate(steps[:-1], 1))  # and no more is held back than need be


def test_a_stop_string_may_begin_in_one_token_and_end_in_another(gpt2_vocabulary):
    tokenizer = GPT2Tokenizer()
    ids = tokenizer.encode(" is a test of the tokens")
    stop = "st of th"
    assert not any(stop in tokenizer.decode([i]) for i in ids)
    assert list(told(tokenizer, "This", ids, [stop]))[-1] == " is a te"


@pytest.fixture(scope="module")
def model():
    tl.manual_seed(1)
    model = GPT(GPTConfig(LETTERS.vocab_size, context_length=16, n_layer=1, n_head=2, n_embd=8))
    with tl.no_grad():
        for parameter in model.parameters():
            parameter.mul_(10)
    return model


def test_many_prompts_and_samples_at_once(model):
    prompts = ["a", "bca", "abcabcabcabcab"]
    texts = complete(model, LETTERS, prompts, 12, samples=3, seed=7, stop=STOP, logprobs=True)
    assert [text.prompt for text in texts] == [prompt for prompt in prompts for _ in range(3)]
    assert [text.row.seed for text in texts] == [7, 8, 9] * 3
    for text in texts:
        (alone,) = complete(model, LETTERS, [text.prompt], 12, seed=text.row.seed, stop=STOP)
        assert alone.text == text.text and alone.row.ended == text.row.ended
        assert STOP[0] not in text.text and len(text.row.logprobs) == len(text.row.ids)
    assert {text.row.ended for text in texts} == {"stop", "length"}


def test_log_probabilities_are_the_models_own(model):
    (text,) = complete(model, LETTERS, ["ab"], 6, Sampling(temperature=0.3, top_k=2), seed=0, logprobs=True)
    ids = [*text.row.prompt, *text.row.ids]
    with tl.no_grad():
        logits = model.lm_head(model.hidden(tl.tensor([ids[:-1]])))[0].numpy()  # (T, V)
    expected = (logits - np.log(np.exp(logits).sum(-1, keepdims=True)))[np.arange(len(ids) - 1), ids[1:]]
    np.testing.assert_allclose(text.row.logprobs, expected[len(text.row.prompt) - 1 :], atol=1e-5)


def test_without_a_seed_the_default_generator_decides(model):
    tl.manual_seed(3)
    first, second = (complete(model, LETTERS, ["a"], 12)[0].text for _ in range(2))
    tl.manual_seed(3)
    assert complete(model, LETTERS, ["a"], 12)[0].text == first != second


@pytest.mark.parametrize(
    "prompts, options, message",
    [
        ([""], {}, "the prompt: there is no token in it"),
        (["x"], {}, "cannot encode 'x'"),
        ("a", {}, r"lists of prompts and of stop strings; write \[text\]"),
        (["a"], {"stop": "b"}, "lists of prompts and of stop strings"),
        (["a"], {"stop": [""]}, "an empty stop string stands everywhere"),
        (["a" * 17], {"when_full": "stop"}, "a prompt has 17 tokens and the model's context_length is 16"),
    ],
)
def test_what_cannot_be_completed(model, prompts, options, message):
    with pytest.raises(ValueError, match=message):
        complete(model, LETTERS, prompts, 5, **options)
