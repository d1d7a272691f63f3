"""Byte-pair encoding: held against the algorithm done literally, against tiktoken, and against the hub's library."""

import io
import json
import re
import sys
import time
from collections import Counter
from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpt.tokenizer import END_OF_TEXT, BPETokenizer, GPT2Tokenizer, __main__, bpe, find_tokenizer, gpt2, load_tokenizer
from gpt.tokenizer.alphabet import ALPHABET, BYTES, PLACES, read, write
from gpt.tokenizer.byte_pairs import learn, merge_word
from train.corpus import python_docs

# Python's Unicode may be older than that of regex and of tiktoken: all three agree on what it knows.
known = st.characters(exclude_categories=("Cs", "Cn"))
texts = st.text(known) | st.lists(
    st.sampled_from(["  ", "\n", "a", "the", " it's", "'ll", "😀", "👩‍👩‍👧", "é", "日本", "12", "\t!"])
).map("".join)
texts = texts.filter(lambda text: END_OF_TEXT not in text)


@pytest.fixture(scope="module")
def trained() -> BPETokenizer:
    return BPETokenizer.train(python_docs()[:100_000] + "Ünï 日本語 日本 😀😀" * 5, 700, (END_OF_TEXT, "<|pad|>"))


@pytest.fixture(scope="module")
def exported(trained):
    pytest.importorskip("tiktoken")
    return trained.to_tiktoken()


@pytest.fixture(scope="module")
def as_gpt2(gpt2_vocabulary) -> GPT2Tokenizer:
    return GPT2Tokenizer()


@pytest.fixture(scope="module")
def tiktoken_gpt2(gpt2_vocabulary):
    return pytest.importorskip("tiktoken").get_encoding("gpt2")


# The algorithm, held against itself done literally


def merge_everywhere(word, pair, new):
    out = []
    for token in word:
        if out and (out[-1], token) == pair:
            out[-1] = new
        else:
            out.append(token)
    return out


def learn_literally(words):
    words = {tuple(word): n for word, n in words.items()}
    for new in range(256, 10_000):
        count = Counter()
        for word, n in words.items():
            for pair in pairwise(word):
                count[pair] += n
        if not count:
            return
        pair = min(count, key=lambda pair: (-count[pair], pair))
        yield pair, count[pair]
        merged = Counter()
        for word, n in words.items():
            merged[tuple(merge_everywhere(word, pair, new))] += n
        words = merged


few_bytes = st.lists(st.sampled_from(b"abc"), min_size=1, max_size=12).map(bytes)


@given(st.dictionaries(few_bytes, st.integers(1, 5), max_size=8))
@example({b"aaaaaaa": 1, b"abababa": 3})
@example({})
def test_learning_counts_as_if_it_counted_anew(words):
    assert list(learn(words)) == list(learn_literally(words))


@given(st.dictionaries(few_bytes, st.integers(1, 5), min_size=1, max_size=8), st.lists(few_bytes), st.integers(0, 12))
def test_merging_by_heap_is_merging_one_by_one(words, new_words, merges):
    pairs = [pair for pair, _ in islice(learn(words), merges)]
    table = {pair: (rank, 256 + rank) for rank, pair in enumerate(pairs)}
    for word in [*words, *new_words]:
        literally = list(word)
        for rank, pair in enumerate(pairs):
            literally = merge_everywhere(literally, pair, 256 + rank)
        assert merge_word(word, table) == literally


def test_one_word_of_a_megabyte(trained):
    start = time.process_time()
    text = "abcdefgh" * 2**17
    ids = trained.encode_here(text)
    assert trained.decode(ids) == text
    assert time.process_time() - start < 60  # it takes 3 s; a pass over the word per merge would take weeks
    assert len(list(islice(learn({text[: 2**16].encode(): 1}), 100))) == 20  # until all of it is one token


def test_learning_is_that_of_the_hubs_library(tmp_path):
    theirs = pytest.importorskip("tokenizers").ByteLevelBPETokenizer()
    text = python_docs()[:150_000]
    theirs.train_from_iterator([text], vocab_size=1200, min_frequency=3, show_progress=False)
    theirs.save_model(str(tmp_path))
    merges = (tmp_path / "merges.txt").read_text(encoding="utf-8").splitlines()[1:]
    ours = BPETokenizer.train(text, 1200, (), min_frequency=3)
    assert ours.merges == tuple(merges) and len(merges) == 1200 - 256
    assert ours == BPETokenizer.from_files(tmp_path / "vocab.json", tmp_path / "merges.txt")


# Encoding, held against tiktoken


@given(texts)
@example(" " * 50 + "x" * 300 + "\n" * 40)
def test_a_trained_vocabulary_encodes_as_in_tiktoken(trained, exported, text):
    ids = trained.encode_here(text).tolist()
    assert ids == exported.encode(text) == trained.encode(text)
    assert trained.decode(ids) == text


@given(texts)
@example("a" * 999 + " " * 999 + "b")
@example("don't 'LL I'll x² ½ \u2003\u00a0 y\u0301 👩‍👩‍👧🇩🇪")
def test_gpt2s_merges_encode_as_in_tiktoken(as_gpt2, tiktoken_gpt2, text):
    assert as_gpt2.bpe.encode_here(text).tolist() == tiktoken_gpt2.encode(text)


@given(st.text().filter(lambda text: END_OF_TEXT not in text))
def test_gpt2s_ids_are_those_of_tiktoken_for_any_text(as_gpt2, tiktoken_gpt2, text):
    assert as_gpt2.encode(text) == tiktoken_gpt2.encode(text)


def test_shakespeare_is_encoded_as_in_tiktoken(as_gpt2, tiktoken_gpt2, data_dir):
    text = (data_dir / "tinyshakespeare.txt").read_text(encoding="utf-8")
    assert np.array_equal(as_gpt2.bpe.encode_here(text), tiktoken_gpt2.encode_to_numpy(text))


def test_where_tiktoken_gives_up_our_own_code_goes_on(trained):
    text = " " * 1_000_000 + "a"
    with pytest.raises(ValueError, match="stack"):
        trained.to_tiktoken().encode(text)
    assert trained.decode(trained.encode(text)) == text


def test_without_tiktoken_the_ids_are_the_same(trained, monkeypatch):
    text = python_docs()[:20_000]
    expected = trained.encode(text)
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    alone = BPETokenizer(trained.vocabulary, trained.merges)
    assert alone._rust is None and trained._rust is not None and alone.encode(text) == expected


@given(st.text(known))
def test_any_text_comes_back_whatever_the_pattern(text):
    tokenizer = BPETokenizer.train("one two, two three " * 9, 270, (), pattern=r"[a-z]+|\d{1,3}")
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode(text) == tokenizer.to_tiktoken().encode(text)


def test_a_pattern_keeps_merges_inside_its_words():
    by_word = BPETokenizer.train("ab ab ab ab", 260, (), pattern=r"\S+|\s+")
    assert by_word.merges == ("a b",) and list(by_word.words("ab, c")) == ["ab,", " ", "c"]
    assert BPETokenizer.train("ab ab ab ab", 260, (), pattern="(?s:.)").merges == ()


def test_remembered_words_are_bounded(monkeypatch):
    monkeypatch.setattr(bpe, "REMEMBERED", 3)
    monkeypatch.setattr(bpe, "LONGEST", 4)
    tokenizer = BPETokenizer.train("ab ab", 257, ())
    tokenizer.encode_here("ab abcdefgh a b c d e f ab")
    assert 0 < len(tokenizer._memory) <= 3 and all(len(word) <= 4 for word in tokenizer._memory)


def test_half_a_surrogate_pair_is_refused(trained):
    for encode in (trained.encode, trained.encode_here):
        with pytest.raises(ValueError, match=r"cannot encode '\\ud83d' \(U\+D83D\) at position 4; .*errors='replace'"):
            encode("abc \ud83d")
    with pytest.raises(ValueError, match=r"cannot encode '\\ud83d'"):
        BPETokenizer.train("abc \ud83d", 300)


# Special tokens


def test_special_tokens_only_where_allowed(trained):
    text = f"a<|pad|>b{END_OF_TEXT}"
    assert trained.special_tokens == {END_OF_TEXT: 698, "<|pad|>": 699} and trained.eot_id == 698
    with pytest.raises(ValueError, match=r"special token <\|pad\|> at position 1; .*allowed_special="):
        trained.encode(text)
    with pytest.raises(ValueError, match=r"special token <\|endoftext\|> at position 9"):
        trained.encode(text, {"<|pad|>"})
    ids = trained.encode(text, {"<|pad|>", END_OF_TEXT})
    assert ids == [trained.encode("a")[0], 699, trained.encode("b")[0], 698]
    assert ids == trained.encode_here(text).tolist() and trained.decode(ids) == text
    assert trained.token_bytes(699) == b"<|pad|>"


def test_nothing_is_learned_from_special_tokens():
    tokenizer = BPETokenizer.train("<|pad|>" * 50 + "xy" * 3, 300, ["<|pad|>"])
    assert tokenizer.merges == ("x y", "xy xy") and tokenizer.eot_id is None


def test_the_longest_of_special_tokens_that_begin_alike():
    tokenizer = BPETokenizer.train("", 300, ["<a>", "<a>b"])
    assert tokenizer.encode("<a>b<a>", ["<a>", "<a>b"]) == [257, 256]
    with pytest.raises(ValueError, match=r"any of two special tokens that begin alike, here \('<a>', '<a>b'\)"):
        tokenizer.to_tiktoken()


# Training


def test_the_example_of_wikipedia():
    tokenizer = BPETokenizer.train("aaabdaaabac", 259, ())
    assert tokenizer.merges == ("a a", "a b", "aa ab") and len(tokenizer.encode("aaabdaaabac")) == 5


def test_a_pair_must_be_frequent_enough():
    text = "ab ab ab cd cd"
    assert BPETokenizer.train(text, 300, (), min_frequency=3).merges == ("a b",)
    assert BPETokenizer.train(text, 300, (), min_frequency=2).merges == ("a b", "c d", "Ġ ab", "Ġ cd")
    assert BPETokenizer.train(text, 257, ()).vocab_size == 257


def test_text_may_come_in_parts():
    parts = python_docs()[:5000].splitlines(keepends=True)
    assert BPETokenizer.train(iter(parts), 300).merges == BPETokenizer.train(parts, 300).merges != ()


def test_a_vocabulary_has_room_for_bytes_and_special_tokens():
    assert BPETokenizer.train("abab", 257).vocab_size == 257
    with pytest.raises(ValueError, match=r"at least 257, for the 256 bytes and 1 special tokens, got 256"):
        BPETokenizer.train("abab", 256)


# Files


def test_the_alphabet_of_bytes():
    assert len(set(ALPHABET)) == 256 and read(ALPHABET) == BYTES == bytes(sorted(BYTES, key=lambda b: ord(write([b]))))
    assert ALPHABET.isprintable() and " " not in ALPHABET and b"!~".translate(PLACES) == bytes([0, 93])


def test_two_files_hold_a_vocabulary(trained, tmp_path):
    trained.save_files(tmp_path / "vocab.json", tmp_path / "merges.txt")
    assert (
        find_tokenizer(tmp_path) == trained == BPETokenizer.from_files(tmp_path / "vocab.json", tmp_path / "merges.txt")
    )
    theirs = pytest.importorskip("tokenizers").ByteLevelBPETokenizer.from_file(
        str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt")
    )
    text = python_docs()[-3000:] + " 日本語 😀"
    assert theirs.encode(text).ids == trained.encode(text)


def test_gpt2s_files_by_path(gpt2_vocabulary, data_dir, tmp_path):
    for name, address in gpt2.FILES.items():
        (tmp_path / address.rsplit("/")[-1]).write_bytes((data_dir / "tiktoken" / name).read_bytes())
    tokenizer = find_tokenizer(tmp_path)
    assert tokenizer == GPT2Tokenizer().bpe and tokenizer.special_tokens == {END_OF_TEXT: 50256}
    tokenizer.save_files(tmp_path / "again.json", tmp_path / "again.bpe")
    assert (tmp_path / "again.bpe").read_bytes() == (tmp_path / "vocab.bpe").read_bytes()
    again, first = (json.loads((tmp_path / name).read_bytes()) for name in ("again.json", "encoder.json"))
    assert again == first and find_tokenizer("gpt2") == GPT2Tokenizer()


def test_ids_may_be_in_any_order(trained):
    order = list(np.random.default_rng(0).permutation(trained.vocabulary))
    shuffled = BPETokenizer(tuple(map(str, order)), trained.merges)
    text = python_docs()[:2000]
    assert [shuffled.token_bytes(i) for i in shuffled.encode(text)] == [
        trained.token_bytes(i) for i in trained.encode(text)
    ]
    assert shuffled.eot_id == order.index(END_OF_TEXT)
    with pytest.raises(ValueError, match="the ids are not in the order of the merges"):
        shuffled.to_tiktoken()


def test_merges_that_tiktoken_would_read_otherwise():
    odd = BPETokenizer((*ALPHABET, "bc", "ab", "abc"), ("b c", "a b", "ab c"))
    assert odd.encode("abc") == [64, 256]
    with pytest.raises(ValueError, match="'abc' is encoded as others by these merges, by tiktoken as itself"):
        odd.to_tiktoken()


VOCABULARY = (*ALPHABET, "ab")


@pytest.mark.parametrize(
    "fields, reason",
    [
        ((VOCABULARY[1:], ()), "lacks 1 of the 256 bytes, the first of them '!'"),
        (((*VOCABULARY, "ab"), ()), "holds 'ab' twice"),
        (((*VOCABULARY, 7), ()), "7 in its vocabulary is not text"),
        (((*VOCABULARY, ""), ()), "'' in its vocabulary is not text"),
        (((*VOCABULARY, "\ud800"), ()), "neither bytes in GPT-2's alphabet nor a special token"),
        ((VOCABULARY, ("a b", "a b")), "merge 2, 'a b', is there twice"),
        ((VOCABULARY, ("a c",)), "merge 1, 'a c', is not two tokens of the vocabulary"),
        ((VOCABULARY, ("ab",)), "merge 1, 'ab', is not two tokens"),
        ((VOCABULARY, ("a b c",)), "merge 1, 'a b c', is not two tokens"),
        ((VOCABULARY, (), "(a"), r"pattern '\(a' is not a regular expression: missing \)"),
        ((VOCABULARY, (), "a*"), r"pattern 'a\*' matches the empty text"),
        ((VOCABULARY, (), ""), "'' in its pattern is not text"),
    ],
)
def test_fields_that_contradict_each_other(fields, reason, tmp_path):
    with pytest.raises(ValueError, match=reason):
        BPETokenizer(*fields)
    content = dict(zip(("vocabulary", "merges", "pattern"), (*fields, bpe.GPT2_PATTERN)))
    (tmp_path / "broken.json").write_text(json.dumps({"kind": "bpe", "version": 1, **content}))
    with pytest.raises(ValueError, match=rf"broken\.json is not a tokenizer file that can be read here: .*{reason}"):
        load_tokenizer(tmp_path / "broken.json")


@pytest.mark.parametrize(
    "vocabulary, merges, reason",
    [
        (b"[]", b"", "not a JSON object of tokens and their ids"),
        (b'{"a": 1}', b"", "not a JSON object of tokens and their ids"),
        (b'{"a": []}', b"", "not a JSON object of tokens and their ids"),
        (b'{"a": "0"}', b"", "not a JSON object of tokens and their ids"),
        (b"{", b"", "Expecting property name"),
        (b"{}", b"\xff", "can't decode"),
        (b"{}", b"", "lacks 256 of the 256 bytes"),
    ],
)
def test_broken_files_are_refused(tmp_path, vocabulary, merges, reason):
    (tmp_path / "vocab.json").write_bytes(vocabulary)
    (tmp_path / "merges.txt").write_bytes(merges)
    with pytest.raises(ValueError, match=rf"vocab\.json and .*merges\.txt make no byte-pair vocabulary: .*{reason}"):
        find_tokenizer(tmp_path)


# The command line


@pytest.fixture
def call(capsys):
    def call(*arguments):
        __main__.main([str(a) for a in arguments])
        return capsys.readouterr().out

    return call


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "docs.txt"
    path.write_text(python_docs()[:50_000], encoding="utf-8")
    return path


def test_train_encode_decode_show(call, file, tmp_path, monkeypatch):
    printed = call("train", "--data", file, "--vocab-size", 400, "--out", tmp_path / "t.json")
    assert re.match(r"learned 143 merges from 50,0\d\d bytes in \d+\.\d s\nlongest .*\|", printed)
    assert f"wrote   {tmp_path}/t.json: 400 tokens" in printed
    which = ("--tokenizer", tmp_path / "t.json")
    text = 'The "assert" statement\n\tis 日 \x1b[31m'
    ids = load_tokenizer(tmp_path / "t.json").encode(text)
    assert call("encode", *which, "--text", text).split() == [str(i) for i in ids]
    assert call("decode", *which, "--ids", *ids) == text
    monkeypatch.setattr("sys.stdin", io.StringIO(" ".join(map(str, ids))))
    assert call("decode", *which) == text
    shown = call("show", *which, "--text", text)
    assert shown.startswith('The| "|a|ss|er|t|"|') and "|↵\n|" in shown and "\\t" in shown and "|\\xe6|" in shown
    assert "\\x1b" in shown and "\x1b" not in shown and shown.endswith(" bytes per token\n")
    coloured = call("show", *which, "--text", text, "--color", "always", "--ids")
    assert re.sub(r"\x1b\[[\d;]*m|\(\d+\)", "", coloured) == shown.replace("|", "")
    assert coloured.startswith(f"\x1b[30;48;5;223mThe({ids[0]})\x1b[0m\x1b[30;48;5;151m")
    assert call("encode", *which, "--text", END_OF_TEXT, "--allowed-special", END_OF_TEXT) == "399\n"
    assert call("encode", *which, "--file", file).count(" ") > 10_000


def test_standard_input_is_read_and_little_text_makes_few_tokens(call, tmp_path, monkeypatch):
    (tmp_path / "short.txt").write_text("abababab")
    printed = call("train", "--data", tmp_path / "short.txt", "--out", tmp_path / "t.json")
    assert "no further pair occurs 2 times" in printed and "259 tokens" in printed
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"abab")))
    assert call("encode", "--tokenizer", tmp_path / "t.json") == "257\n"
    assert "python -m gpt.tokenizer show" in call() == call("--help")


def test_mistakes_are_one_line(fails, file, tmp_path):
    def refused(*arguments):
        return fails(__main__.main, "tokenizer", *arguments)

    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    BPETokenizer.train("abab", 300).save(tmp_path / "t.json")
    which = ("--tokenizer", tmp_path / "t.json")
    assert refused("trian") == "tokenizer: 'trian' is no command; the commands are train, encode, decode, show"
    assert "--data is missing" in refused("train")
    assert "t.json exists; choose another name, or --overwrite it" in refused(
        "train", "--data", file, "--out", which[1]
    )
    assert "at least 257" in refused("train", "--data", file, "--vocab-size", 9, "--out", tmp_path / "new.json")
    assert "--data nothing.txt: No such file" in refused(
        "train", "--data", "nothing.txt", "--out", tmp_path / "new.json"
    )
    assert "latin.txt: not UTF-8 text (byte 3 is 0xe9)" in refused("show", *which, "--file", tmp_path / "latin.txt")
    assert "there is no tokenizer nothing: it is gpt2, a file" in refused(
        "encode", "--tokenizer", "nothing", "--text", "a"
    )
    assert "there is no tokenizer in the folder" in refused("encode", "--tokenizer", tmp_path, "--text", "a")
    assert "--text and --file: give one of the two" in refused("show", *which, "--text", "a", "--file", file)
    assert "special token <|endoftext|>" in refused("encode", *which, "--text", END_OF_TEXT)
    assert "id 300 is outside the vocabulary" in refused("decode", *which, "--ids", 300)


def test_standard_input_without_ids(fails, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("1 two"))
    assert "expects ids, whole numbers with spaces between" in fails(__main__.main, "tokenizer", "decode")
