"""Tokenizers: what is encoded can be read again, what cannot be encoded is refused in words, files last."""

import json
import sys
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt.tokenizer import (
    END_OF_TEXT,
    BPETokenizer,
    CharacterTokenizer,
    GPT2Tokenizer,
    Tokenizer,
    WordTokenizer,
    gpt2,
    load_tokenizer,
)

TEXT = "Every effort moves you, and every step counts.\n"
TRAINED = [CharacterTokenizer.train(TEXT), WordTokenizer.train(TEXT), BPETokenizer.train(TEXT, 262)]
any_text = st.text(st.characters(), min_size=1)  # of all of Unicode, halves of surrogate pairs too


@pytest.fixture(scope="module")
def as_gpt2(gpt2_vocabulary) -> GPT2Tokenizer:
    return GPT2Tokenizer()


@pytest.fixture(params=["characters", "words", "bpe", "gpt2"])
def tokenizer(request) -> Tokenizer:
    if request.param == "gpt2":
        return request.getfixturevalue("as_gpt2")
    return next(t for t in TRAINED if t.kind == request.param)


def saved(tmp_path, content):
    """The path of a tokenizer file with this content."""
    path = tmp_path / "broken.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


# The interface, which all of them keep


def test_encode_is_a_list_and_encode_array_the_same_as_an_array(tokenizer):
    ids, array = tokenizer.encode(TEXT), tokenizer.encode_array(TEXT)
    assert isinstance(ids, list) and all(type(i) is int for i in ids)
    assert array.dtype == np.uint16 and array.tolist() == ids and array.flags.writeable
    assert 0 <= min(ids) <= max(ids) < tokenizer.vocab_size


def test_decode_takes_any_iterable_of_integers(tokenizer):
    ids = tokenizer.encode(TEXT)
    for same in (ids, tuple(ids), iter(ids), np.array(ids), np.array(ids, np.uint16), [np.int32(i) for i in ids]):
        assert tokenizer.decode(same).rstrip() == TEXT.rstrip()


def test_no_text_is_no_ids(tokenizer):
    assert tokenizer.encode("") == [] and tokenizer.decode([]) == ""
    assert tokenizer.encode_array("").shape == (0,) and tokenizer.encode_array("").dtype == np.uint16


@pytest.mark.parametrize("wrong", [-1, 50257, 2**70])
def test_an_id_outside_the_vocabulary_is_named(tokenizer, wrong):
    with pytest.raises(ValueError, match=rf"id {wrong} is outside the vocabulary of {tokenizer.vocab_size} tokens"):
        tokenizer.decode([0, wrong])


@pytest.mark.parametrize("wrong", [7, [0.5], np.zeros((2, 2), int)])
def test_decode_refuses_what_is_not_a_row_of_integers(tokenizer, wrong):
    with pytest.raises(TypeError, match="decode expects a flat sequence of integers, got"):
        tokenizer.decode(wrong)


def test_save_and_load(tokenizer, tmp_path):
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    again = load_tokenizer(path)
    assert again == tokenizer == type(tokenizer).load(path)
    assert again.encode(TEXT) == tokenizer.encode(TEXT)
    assert json.loads(path.read_text())["kind"] == tokenizer.kind


def test_repr_is_short(tokenizer):
    assert repr(tokenizer) == f"{type(tokenizer).__name__}(vocab_size={tokenizer.vocab_size})"


def test_a_tokenizer_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        TRAINED[0].characters = ()


@pytest.mark.parametrize("tokenizer", ["words", "bpe", "gpt2"], indirect=True)
def test_a_special_token_must_be_allowed(tokenizer):
    text = f"you{END_OF_TEXT}Every"
    with pytest.raises(ValueError, match=r"special token <\|endoftext\|> at position 3.*allowed_special="):
        tokenizer.encode(text)
    ids = tokenizer.encode(text, allowed_special={END_OF_TEXT})
    assert ids == [*tokenizer.encode("you"), tokenizer.eot_id, *tokenizer.encode("Every")]
    assert ids == tokenizer.encode_array(text, {END_OF_TEXT}).tolist()


def test_allowed_special_is_not_a_string(tokenizer):
    with pytest.raises(TypeError, match="expects a set of strings, got the string 'all'"):
        tokenizer.encode(TEXT, allowed_special="all")


# Files


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"\x80\x04\x95", "can't decode"),
        (b"{", "Expecting property name"),
        ([], "not a JSON object with the keys 'kind' and 'version'"),
        ({"kind": "characters"}, "not a JSON object with the keys 'kind' and 'version'"),
        ({"kind": "bytes", "version": 1}, "its kind is 'bytes', known are bpe, characters, gpt2, words"),
        ({"kind": ["words"], "version": 1}, "its kind is .'words'., known are"),
        ({"kind": "words", "version": 2, "words": []}, "its version is 2, known is 1"),
        ({"kind": "words", "version": 1}, r"holds the keys \['words'\], this one \[\]"),
        ({"kind": "gpt2", "version": 1, "words": []}, r"holds the keys \[\], this one \['words'\]"),
        ({"kind": "words", "version": 1, "words": ["a", "a"]}, "a word twice"),
        ({"kind": "words", "version": 1, "words": ["a b"]}, "'a b' in its vocabulary is not a word"),
        ({"kind": "words", "version": 1, "words": [END_OF_TEXT]}, "is not a word"),
        ({"kind": "words", "version": 1, "words": [1]}, "1 in its vocabulary is not a word"),
        ({"kind": "words", "version": 1, "words": 1}, "not iterable"),
        ({"kind": "characters", "version": 1, "characters": ["a", "a"]}, "a character twice"),
        ({"kind": "characters", "version": 1, "characters": ["ab"]}, "of one character each"),
        ({"kind": "characters", "version": 1, "characters": []}, "one or more"),
    ],
)
def test_a_broken_file_is_refused_by_name_and_reason(tmp_path, content, reason):
    with pytest.raises(ValueError, match=rf"broken\.json is not a tokenizer file that can be read here: .*{reason}"):
        load_tokenizer(saved(tmp_path, content))


def test_a_class_reads_only_its_own_kind(tmp_path):
    TRAINED[1].save(path := tmp_path / "words.json")
    with pytest.raises(ValueError, match="holds a tokenizer of kind 'words', CharacterTokenizer reads 'characters'"):
        CharacterTokenizer.load(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.json"):
        load_tokenizer(tmp_path / "missing.json")


# Characters


@given(any_text)
def test_characters_come_back_exactly(text):
    tokenizer = CharacterTokenizer.train(text)
    ids = tokenizer.encode(text)
    assert len(ids) == len(text) and tokenizer.decode(ids) == text
    assert tokenizer.vocab_size == len(set(text)) and tokenizer.eot_id is None


@given(any_text)
def test_any_characters_survive_the_file(tmp_path_factory, text):
    tokenizer = CharacterTokenizer.train(text)
    tokenizer.save(path := tmp_path_factory.mktemp("characters") / "tokenizer.json")
    assert load_tokenizer(path) == tokenizer


def test_character_ids_follow_the_code_points():
    assert CharacterTokenizer.train("banana 𝄞é").encode("ab n𝄞é") == [1, 2, 0, 3, 5, 4]


@pytest.mark.parametrize("unknown, name", [("€", r"'€' \(U\+20AC\)"), ("\U0010ffff", r"'\\U0010ffff' \(U\+10FFFF\)")])
def test_an_unknown_character_is_named(unknown, name):
    with pytest.raises(ValueError, match=rf"cannot encode {name} at position 2; train the tokenizer on text that has"):
        CharacterTokenizer.train("abc").encode(f"ab{unknown}d")


def test_characters_know_no_special_token():
    tokenizer = CharacterTokenizer.train(END_OF_TEXT)
    assert tokenizer.decode(tokenizer.encode(END_OF_TEXT)) == END_OF_TEXT
    assert len(tokenizer.encode(END_OF_TEXT, allowed_special={END_OF_TEXT})) == len(END_OF_TEXT)


def test_characters_of_no_text_are_no_vocabulary():
    with pytest.raises(ValueError, match="one or more"):
        CharacterTokenizer.train("")


def test_a_large_vocabulary_has_wide_ids():
    text = "".join(map(chr, range(0xE000, 0xE000 + 2**16 + 1)))
    assert CharacterTokenizer.train(text[:-1]).encode_array(text[:-1]).dtype == np.uint16
    assert CharacterTokenizer.train(text).encode_array(text).dtype == np.uint32
    assert CharacterTokenizer.train(text).encode(text) == list(range(2**16 + 1))


def test_characters_of_shakespeare(data_dir):
    text = (data_dir / "tinyshakespeare.txt").read_text(encoding="utf-8")
    tokenizer = CharacterTokenizer.train(text)
    assert tokenizer.vocab_size == 65 and len(text) == 1_115_394
    assert tokenizer.decode(tokenizer.encode_array(text)) == text


# Words


@given(st.data())
def test_words_that_are_known_come_back_exactly(data):
    tokenizer = WordTokenizer.train(data.draw(st.text()))
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1)))
    assert tokenizer.encode(tokenizer.decode(ids), allowed_special={END_OF_TEXT}) == ids


def test_words_are_cut_at_white_space_and_punctuation():
    tokenizer = WordTokenizer.train("Hello, world. Is this-- a test?")
    assert tokenizer.words == (",", "--", ".", "?", "Hello", "Is", "a", "test", "this", "world")
    assert (tokenizer.eot_id, tokenizer.unk_id, tokenizer.vocab_size) == (10, 11, 12)
    assert tokenizer.decode(tokenizer.encode("Is  this\na test ?")) == "Is this a test?"


def test_special_tokens_in_the_training_text_are_no_words():
    assert WordTokenizer.train(f"a{END_OF_TEXT}b <|unk|>").words == ("a", "b")


def test_the_example_of_the_book(data_dir):
    tokenizer = WordTokenizer.train((data_dir / "the-verdict.txt").read_text(encoding="utf-8"))
    text = f"Hello, do you like tea? {END_OF_TEXT} In the sunlit terraces of the palace."
    ids = tokenizer.encode(text, allowed_special={END_OF_TEXT})
    assert tokenizer.vocab_size == 1132
    assert ids == [1131, 5, 355, 1126, 628, 975, 10, 1130, 55, 988, 956, 984, 722, 988, 1131, 7]
    assert tokenizer.decode(ids) == f"<|unk|>, do you like tea? {END_OF_TEXT} In the sunlit terraces of the <|unk|>."


# GPT-2


@given(st.text().filter(lambda text: END_OF_TEXT not in text))
def test_byte_pairs_come_back_exactly(as_gpt2, text):
    assert as_gpt2.decode(as_gpt2.encode(text)) == text


@pytest.mark.parametrize(
    "text, ids",
    [("Hello,", [15496, 11]), ("Implementations", [3546, 26908, 602]), ("The dog", [464, 3290]), ("\n\n", [628])],
)
def test_the_ids_are_those_of_gpt2(as_gpt2, text, ids):
    assert as_gpt2.encode(text) == ids
    assert (as_gpt2.vocab_size, as_gpt2.eot_id) == (50257, 50256)


def test_tokens_of_the_books(as_gpt2, data_dir):
    assert len(as_gpt2.encode_array((data_dir / "the-verdict.txt").read_text(encoding="utf-8"))) == 5145
    text = (data_dir / "tinyshakespeare.txt").read_text(encoding="utf-8")
    cut = len(text) * 9 // 10
    assert [len(as_gpt2.encode_array(part)) for part in (text[:cut], text[cut:])] == [301_966, 36_059]


def test_a_piece_of_a_character_decodes_to_the_replacement_character(as_gpt2):
    assert as_gpt2.decode(as_gpt2.encode("𝄞")[:1]) == "\ufffd"


def test_half_a_surrogate_pair_is_refused(as_gpt2):
    with pytest.raises(ValueError, match=r"cannot encode '\\ud834' \(U\+D834\) at position 1; .*errors='replace'"):
        as_gpt2.encode("a\ud834")


def test_a_missing_vocabulary_is_explained(monkeypatch, tmp_path):
    def offline(*_):
        raise ConnectionError("no network")

    monkeypatch.setattr("tiktoken.load.read_file_cached", offline)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    with pytest.raises(FileNotFoundError) as caught:
        GPT2Tokenizer()
    for part in (str(tmp_path), "(ConnectionError)", "TIKTOKEN_CACHE_DIR", *gpt2.FILES, *gpt2.FILES.values()):
        assert part in str(caught.value)


def test_the_vocabulary_has_the_names_that_tiktoken_gives_it(data_dir):
    assert {path.name for path in (data_dir / "tiktoken").iterdir()} == set(gpt2.FILES)


def test_missing_tiktoken_is_explained(monkeypatch):
    monkeypatch.setitem(sys.modules, "tiktoken.load", None)
    with pytest.raises(ImportError, match="pip install tiktoken"):
        GPT2Tokenizer()
    assert CharacterTokenizer.train("ab").encode("ba") == [1, 0]
