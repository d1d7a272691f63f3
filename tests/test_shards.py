"""Token shards: they hold what the text says, however they were built, and what is broken is refused by name."""

import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import tensorlite as tl
from gpt.options import UsageError
from gpt.tokenizer import BPETokenizer, CharacterTokenizer, load_tokenizer
from tensorlite.data import DataLoader
from tensorlite.data.permutation import Permutation
from train import pretrain
from train.corpus import Windows, documents
from train.corpus.__main__ import main
from train.corpus.documents import pieces
from train.corpus.encode import Encoder
from train.corpus.folder import ShardedTokens, is_shards, open_corpus, read_index
from train.corpus.shards import ShardError, header, open_shard
from train.corpus.sources import expand

ROOT = Path(__file__).parents[1]
TEXTS = [f"Document {n}: {n} times {n} is {n * n}.\nSo it ends here, naïvely.\n" for n in range(300)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    BPETokenizer.train(TEXTS, 300).save(path)
    return path


@pytest.fixture
def jsonl(tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return path


@pytest.fixture
def build(jsonl, tokenizer, tmp_path, capsys):
    def run(out, *flags, data=(jsonl,)):
        flags = ("--val-fraction", "0.1", "--shard-tokens", "1000", "--processes", "1", *flags)
        main([*map(str, ("--data", *data, "--out", tmp_path / out, "--tokenizer", tokenizer, *flags))])
        return tmp_path / out

    return run


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def decoded(folder):
    """The documents of each part, as they are read back."""
    corpus = open_corpus([folder], "characters", 1)
    marked = [corpus.tokenizer.decode(part[np.arange(len(part))].tolist()) for part in (corpus.train, corpus.val)]
    return [text.split("<|endoftext|>")[1:] for text in marked]


def test_every_document_is_in_one_part_whole_and_in_order(build):
    folder = build("a")
    train, val = decoded(folder)
    assert sorted(train + val) == sorted(TEXTS) and 10 < len(val) < 60
    assert [text for text in TEXTS if text in set(train)] == train
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    index = read_index(folder)
    assert [shard["tokens"] for shard in index["parts"]["train"]][:-1] == [1000] * (len(index["parts"]["train"]) - 1)
    assert sum(shard["documents"] for part in index["parts"].values() for shard in part) == len(TEXTS)


def test_the_bytes_do_not_depend_on_the_number_of_processes(build, monkeypatch):
    monkeypatch.setattr("train.corpus.build.BATCH", 1000)
    assert content(build("one")) == content(build("two", "--processes", "2"))


def test_a_build_that_is_stopped_anywhere_ends_with_the_same_bytes(build, monkeypatch):
    from train.corpus.writer import ShardWriter

    monkeypatch.setattr("train.corpus.build.BATCH", 700)
    monkeypatch.setattr("train.corpus.build.SAVE_EVERY", 0.002)
    monkeypatch.setattr("os.fsync", lambda file: None)
    whole, write, dice = content(build("whole")), ShardWriter.write, random.Random(0)

    def sometimes(self, *arguments):
        if dice.random() < 0.1:
            raise KeyboardInterrupt
        write(self, *arguments)

    monkeypatch.setattr(ShardWriter, "write", sometimes)
    stops = 0
    while True:
        try:
            folder = build("part")
            break
        except SystemExit:  # as after Ctrl-C
            stops += 1
    assert stops >= 2 and content(folder) == whole


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
def test_a_build_that_is_killed_goes_on(build, tokenizer, tmp_path, jsonl):
    jsonl.write_text(jsonl.read_text() * 30)
    program = "import train.corpus.build as b, train.corpus.__main__ as m, sys; b.SAVE_EVERY = 0; b.BATCH = 900; "
    flags = ["--data", jsonl, "--out", tmp_path / "killed", "--tokenizer", tokenizer, "--val-fraction", "0.1"]
    flags += ["--shard-tokens", "1000", "--processes", "1"]
    process = subprocess.Popen([sys.executable, "-c", program + "m.main(sys.argv[1:])", *map(str, flags)], cwd=ROOT)
    try:
        while not (tmp_path / "killed" / "train_000002.bin").exists():
            assert process.poll() is None
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    killed = build("killed")
    (killed / "run.lock").unlink(missing_ok=True)
    assert content(killed) == content(build("whole"))


def test_what_a_killed_process_left_half_written_is_removed(build, tmp_path):
    (tmp_path / "a").mkdir()
    for name in (".tokenizer.json.77.part", ".progress.json.77.part"):
        (tmp_path / "a" / name).write_text("{")
    assert content(build("a")) == content(build("whole"))


def test_what_is_read(build, tmp_path, tokenizer):
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo<|endoftext|>three<|endoftext|>  \n<|endoftext|>")
    (folder / "deep" / "b.jsonl.gz").write_bytes(gzip.compress(b'{"text": "four"}\n\n{"text": "five"}\n'))
    (folder / "image.png").write_bytes(b"\x89PNG")
    expected = ["one\ntwo", "three", "four", "five"]
    if zstandard := _optional("zstandard"):
        two_frames = b"".join(map(zstandard.ZstdCompressor().compress, (b"si", b"x")))
        (folder / "deep" / "c.md.zst").write_bytes(two_frames)
        expected.append("six")
    if pyarrow := _optional("pyarrow"):
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({"text": ["seven", "eight"], "n": [1, 2]}), folder / "deep" / "d.parquet")
        expected += ["seven", "eight"]
    found = [p for s in expand([str(folder)], "auto") for p in pieces(s, "<|endoftext|>", "text", pytest.fail)]
    assert [piece.text for piece in found] == expected and all(piece.begins for piece in found)
    assert len(expand([str(folder / "*.txt"), str(folder / "**" / "*.gz")], "auto")) == 2
    if fsspec := _optional("fsspec"):
        memory = fsspec.filesystem("memory")
        for path in folder.rglob("*.*"):
            if path.is_file():
                memory.pipe(f"/in/{path.relative_to(folder)}", path.read_bytes())
        found = [p for s in expand(["memory://in"], "auto") for p in pieces(s, "<|endoftext|>", "text", pytest.fail)]
        assert [piece.text for piece in found] == expected


def _optional(name):
    try:
        return __import__(name)
    except ImportError:
        return None


def test_a_long_document_in_pieces_has_the_tokens_of_the_whole(tokenizer, tmp_path, monkeypatch):
    text = "".join(random.Random(1).choices(["word", " ", "\n", "\n\n", "it's", ",", " 42", "é", "   "], k=3000))
    (tmp_path / "a.txt").write_bytes(text.encode())
    whole = load_tokenizer(tokenizer).encode_array(text)
    monkeypatch.setattr(documents, "PIECE", 100)
    monkeypatch.setattr(documents, "_CHUNK", 37)
    (source,) = expand([str(tmp_path / "a.txt")], "auto")
    found = list(pieces(source, "<|endoftext|>", "text", pytest.fail))
    assert "".join(piece.text for piece in found) == text and len(found) > 50
    assert [piece.begins for piece in found] == [True] + [False] * (len(found) - 1)
    encode = Encoder(load_tokenizer(tokenizer))
    assert np.concatenate([encode.tokens(piece.text) for piece in found]).tolist() == whole.tolist()


def test_a_document_cannot_forge_the_end_of_another(tokenizer):
    encode = Encoder(load_tokenizer(tokenizer))
    text = "<|endoftext|><|endoftext|> and <|endoftext"
    tokens = encode.tokens(text)
    assert encode.tokenizer.eot_id not in tokens and encode.tokenizer.decode(tokens.tolist()) == text


def test_a_vocabulary_without_end_of_text(build, tmp_path):
    folder = build("a", "--tokenizer", "characters")
    corpus = open_corpus([folder], "gpt2", 16)
    assert isinstance(corpus.tokenizer, CharacterTokenizer)
    assert corpus.tokenizer.decode(corpus.train[np.arange(5)].tolist()) == "\nDocu"


def test_many_shards_are_one_array(build):
    tokens = open_corpus([build("a")], "gpt2", 16).train
    assert isinstance(tokens, ShardedTokens) and len(tokens.shards) > 3
    joined = np.concatenate([shard.map() for shard in tokens.shards])
    places = np.random.default_rng(0).integers(0, len(tokens), (5, 7))
    assert np.array_equal(tokens[places], joined[places]) and tokens[places].dtype == np.uint16
    x, y = Windows(tokens, 8, 8).__getitems__([124, 0, 125])  # of which the first two meet a shard's end
    assert x.tolist() == [joined[a : a + 8].tolist() for a in (992, 0, 1000)] and y[0, -1].item() == joined[1000]
    with pytest.raises(IndexError, match="no places"):
        tokens[np.array([len(tokens)])]


def test_training_on_shards_resumes_with_the_same_bits(build, tmp_path):
    from test_pretrain import SMALL, same_bits

    flags = [*SMALL, "--data", str(build("a")), "--dropout", "0.1"]
    for out, steps in (("whole", "6"), ("part", "3")):
        pretrain.main([*flags, "--out", str(tmp_path / out), "--steps", steps, "--schedule", "constant"])
    assert not same_bits(tmp_path / "whole", tmp_path / "part")
    pretrain.main(["--resume", str(tmp_path / "part"), "--steps", "6"])
    assert same_bits(tmp_path / "whole", tmp_path / "part")


# Other people's shards ---------------------------------------------------------------------------------


def test_nanogpts_and_llmcs_files_are_read_as_they_are(tmp_path, tokenizer):
    ids = np.arange(2000, dtype="<u2") % 300
    for name in ("train.bin", "val.bin"):
        (tmp_path / name).write_bytes(ids.tobytes())
    assert is_shards([tmp_path]) and is_shards([tmp_path / "val.bin"])
    corpus = open_corpus([tmp_path], str(tokenizer), 16)
    assert corpus.train[np.arange(2000)].tolist() == corpus.val[np.arange(2000)].tolist() == ids.tolist()
    llmc = np.zeros(256, "<i4")
    llmc[:3] = 20240520, 1, 2000
    (tmp_path / "train.bin").write_bytes(llmc.tobytes() + ids.tobytes())
    assert open_corpus([tmp_path], str(tokenizer), 16).train[np.arange(2000)].tolist() == ids.tolist()
    with pytest.raises(UsageError, match=r"holds tokens and no tokenizer.json; say what .*--tokenizer gpt2"):
        open_corpus([tmp_path], "characters", 16)
    (tmp_path / "val.bin").write_bytes((ids + 1).tobytes())
    with pytest.raises(UsageError, match=r"val.bin is of another vocabulary, or corrupted: its token 299 is 300, and"):
        open_corpus([tmp_path], str(tokenizer), 16)


def test_ours_are_llmcs(build):
    for path in build("a").glob("*.bin"):  # as llm.c reads them
        numbers = np.fromfile(path, "<i4", 256)
        assert numbers[:2].tolist() == [20240520, 1] and path.stat().st_size == 1024 + 2 * numbers[2]


# Refused -----------------------------------------------------------------------------------------------


def test_a_broken_shard_is_refused_by_its_name(build):
    folder = build("a")
    path = folder / "train_000001.bin"
    good = path.read_bytes()
    other = (folder / "train_000002.bin").read_bytes()
    for broken, message in {
        b"": "is empty",
        good[:-1]: "truncated: its header says 1,000 tokens, 3,024 bytes, and it has 3,023",
        good[:100]: "truncated: it has 100 bytes, and its header alone",
        good + b"\0": "too long",
        good[:1500] + b"\xff\xff" + good[1502:]: r"is corrupted: the checksum of its tokens is .*build it again",
        b"\0" + good[1:]: "the header is damaged",
        good[:300] + b"\1" + good[301:]: "the header is damaged, its checksum is wrong",
        other: r"is not the shard that index.json lists.*copy it again",
        header(np.dtype("<u2"), 1000, 300, 9, 9, bytes(32)) + good[1024:]: "is not the shard that index.json lists",
    }.items():
        path.write_bytes(broken)
        with pytest.raises(UsageError, match=f"--data: .*train_000001.bin.*{message}"):
            open_corpus([folder], "gpt2", 16)
    path.unlink()
    with pytest.raises(UsageError, match=r"train_000001.bin cannot be read: No such file"):
        open_corpus([folder], "gpt2", 16)
    numbers = np.frombuffer(good[:1020], "<u4").copy()
    numbers[4] = 2
    path.write_bytes(numbers.tobytes() + zlib.crc32(numbers.tobytes()).to_bytes(4, "little") + good[1024:])
    with pytest.raises(ShardError, match="is of version 2, known is 1; it needs a newer tensorlite"):
        open_shard(path)


def test_a_broken_index_or_tokenizer_is_refused(build, tokenizer):
    folder = build("a")
    index = (folder / "index.json").read_text()
    (folder / "index.json").write_text(index.replace('"tokens": 1000', '"tokens": 1001', 1))
    with pytest.raises(UsageError, match=r"index.json is damaged: its checksum is wrong"):
        open_corpus([folder], "gpt2", 16)
    (folder / "index.json").write_text(index[:-9])
    with pytest.raises(UsageError, match=r"index.json cannot be read"):
        open_corpus([folder], "gpt2", 16)
    (folder / "index.json").write_text(index)
    BPETokenizer.train(TEXTS, 301).save(folder / "tokenizer.json")
    with pytest.raises(UsageError, match="is not the tokenizer that the shards were made with"):
        open_corpus([folder], "gpt2", 16)


def test_bad_input_is_one_line_that_says_what_to_do(fails, tmp_path, tokenizer, jsonl, build, monkeypatch):
    out = tmp_path / "out"
    refused = partial(fails, main, "corpus")

    def reading(name, content, *flags):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UsageError) as error:
            main(
                [
                    *map(
                        str,
                        ("--data", tmp_path / name, "--out", out, "--tokenizer", tokenizer, "--processes", 1, *flags),
                    )
                ]
            )
        shutil.rmtree(out)
        return str(error.value)

    assert "--data is missing" in refused()
    assert "--out is missing" in refused("--data", jsonl)
    assert "--data nix: there is no such file" in refused("--data", "nix", "--out", out)
    assert "--val-fraction is at least 0" in refused("--val-fraction", "1")
    assert "--shard-tokens lies between" in refused("--shard-tokens", "0")
    assert "--processes is at least 1" in refused("--processes", "0")
    assert "a.txt is not UTF-8: byte 3 is 0xff" in reading("a.txt", b"abc\xff")
    assert "a.txt is a binary file" in reading("a.txt", b"abc\0")
    assert "a.jsonl, line 2 is not JSON" in reading("a.jsonl", b'{"text": "a"}\n{"te')
    assert "line 1 has no text under 'text', but the keys 'body'" in reading("a.jsonl", b'{"body": "a"}')
    assert "a.txt.gz is truncated" in reading("a.txt.gz", gzip.compress(b"abc" * 99)[:-9])
    assert "a.txt.gz cannot be read: Not a gzipped file" in reading("a.txt.gz", b"abc")
    if zstandard := _optional("zstandard"):
        packed = zstandard.ZstdCompressor().compress(random.Random(0).randbytes(9999))
        assert "a.txt.zst is truncated" in reading("a.txt.zst", packed[:-99])
        assert "a.txt.zst cannot be read: corrupted" in reading("a.txt.zst", b"abc" * 99)
    if _optional("pyarrow"):
        assert "a.parquet cannot be read as Parquet" in reading("a.parquet", b"abc" * 99)
    build("done")
    with pytest.raises(UsageError, match="holds shards already; choose another --out, or --overwrite"):
        build("done")
    build("done", "--overwrite")
    out.mkdir()
    (out / "precious").write_text("!")
    with pytest.raises(UsageError, match="exists and is not empty; choose another --out"):
        build("out")


def test_what_cannot_be_read_is_skipped_and_counted_if_asked(build, jsonl, capsys):
    jsonl.write_text("nonsense\n" + jsonl.read_text() + '{"n": 1}\n')
    folder = build("a", "--errors", "skip")
    assert sorted(text for part in decoded(folder) for text in part) == sorted(TEXTS)
    printed = capsys.readouterr().out
    assert "left out  2, of which the first:" in printed and "line 1 is not JSON" in printed


def test_a_build_goes_on_only_as_it_began(build, jsonl, tmp_path):
    jsonl.write_text(jsonl.read_text() + "nonsense")
    with pytest.raises(UsageError, match="line 301 is not JSON"):
        build("a")
    with pytest.raises(UsageError, match=r"not finished is there, and differs in val_fraction; give its own options"):
        build("a", "--val-fraction", "0.2")
    (tmp_path / "a" / "train_000000.bin").write_bytes(bytes(10))
    with pytest.raises(UsageError, match=r"a is not finished; the python -m train.corpus that began it goes on"):
        open_corpus([tmp_path / "a"], "gpt2", 16)
    jsonl.write_text(jsonl.read_text().replace("nonsense", ""))
    with pytest.raises(UsageError, match="differs in sources"):
        build("a")


# The order ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 2, 3, 10, 1000, 1001])
def test_a_computed_order_has_every_number_once(n):
    order = Permutation(n, np.random.default_rng(n))
    assert sorted(order[:].tolist()) == list(range(n))
    assert order[n // 3 : n // 2].tolist() == order[:].tolist()[n // 3 : n // 2]


def test_a_computed_order_is_random():
    n = 10_007
    orders = [Permutation(n, np.random.default_rng(seed))[:] for seed in range(3)]
    for a, b in [
        (orders[0], orders[1]),
        (orders[1], orders[2]),
        (orders[0], np.arange(n)),
        (orders[0][1:], orders[0][:-1]),
    ]:
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.04
    assert abs(np.mean(orders[0] == orders[1]) - 1 / n) < 1e-3


def test_samples_without_end_are_shuffled_in_constant_memory_and_taken_up_at_once():
    class Numbers(tl.data.Dataset):
        def __len__(self):
            return 10**12

        def __getitem__(self, i):
            return i

    def loader():
        return DataLoader(Numbers(), 4, shuffle=True, generator=tl.Generator().manual_seed(1))

    first = loader()
    batches = iter(first)
    seen = [next(batches).tolist() for _ in range(3000)]
    assert len({i for batch in seen for i in batch}) == 12_000 and max(map(max, seen)) > 9e11
    state = first.state_dict()
    second = loader()
    second.load_state_dict({**state, "batches": 2000})
    assert next(iter(second)).tolist() == seen[2000]
    second.load_state_dict({**state, "batches": 10**11})  # in no time
    assert len(next(iter(second))) == 4
