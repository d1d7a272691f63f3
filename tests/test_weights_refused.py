"""Weights that are broken, forged, or not what they are said to be: refused with the reason, before memory is taken."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import tensorflow_writer as tensorflow
from hypothesis import given
from hypothesis import strategies as st
from tiny_gpt import TINY, model_of

from gpt.weights import load, save_hub, save_llmc
from gpt.weights.crc32c import crc32c
from tensorlite.serialize import peek, write_arrays


def test_what_is_not_there(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"no file or folder .*gpt3.* those that have one are gpt2, gpt2-medium"
    ):
        load(tmp_path / "gpt3")
    with pytest.raises(FileNotFoundError, match=r"holds no weights that can be read here: neither model\.safetensors"):
        load(tmp_path)


def test_everything_that_does_not_fit_is_listed(tmp_path):
    save_hub(model_of(), tmp_path)
    arrays = {name: x.read() for name, x in peek(tmp_path / "model.safetensors").items()}
    arrays["h.0.mlp.c_fc.weight"] = arrays["h.0.mlp.c_fc.weight"].T.copy()
    arrays["h.0.mlp.c_fc.w"] = arrays.pop("ln_f.bias")
    arrays["extra"] = np.zeros(1, np.float32)
    del arrays["h.1.ln_2.weight"]
    write_arrays(arrays, tmp_path / "model.safetensors", {})
    with pytest.raises(ValueError, match="nothing was loaded") as error:
        load(tmp_path)
    assert str(error.value).split("nothing was loaded\n")[1].splitlines() == [
        "only in the model:",
        "    h.1.ln_2.weight",
        "    ln_f.bias",
        "only in the file:",
        "    extra",
        "    h.0.mlp.c_fc.w",
        "of another shape:",
        "    h.0.mlp.c_fc.weight: (64, 16) in the file, (16, 64) in the model",
    ]


def test_numbers_that_are_no_floats(tmp_path):
    save_hub(model_of(), tmp_path)
    arrays = {name: x.read() for name, x in peek(tmp_path / "model.safetensors").items()}
    arrays["ln_f.bias"] = arrays["ln_f.bias"].astype(np.int32)
    write_arrays(arrays, tmp_path / "model.safetensors", {})
    with pytest.raises(ValueError, match=r"floating-point numbers, and these are not:\n    ln_f\.bias: int32"):
        load(tmp_path)


DESCRIPTIONS = {
    "not JSON": ("{", "config.json cannot be read"),
    "a list": ("[]", "it is not a JSON object"),
    "another model": ('{"model_type": "llama"}', "model_type is 'llama', and GPT-2's is gpt2"),
    "another activation": ('{"activation_function": "relu"}', "activation_function is 'relu', and GPT-2's is gelu_new"),
    "a scale by layer": ('{"scale_attn_by_inverse_layer_idx": true}', "scale_attn_by_inverse_layer_idx is True"),
    "a narrow MLP": ('{"n_inner": 32, "n_embd": 16}', "n_inner is 32 and n_embd 16; in GPT-2 it is 4 x n_embd"),
    "no heads": (
        "{}",
        "does not say how many heads .* 2 blocks of width 16 are no size of GPT-2's; say it with n_head=",
    ),
    "too many blocks": ('{"n_head": 2, "vocab_size": 50, "n_layer": 1000000000}', "1,000,000,000 blocks, and the file"),
    "too wide": ('{"n_head": 2, "vocab_size": 50, "n_embd": 1000000000000}', r"\(50, 1000000000000\) in the model"),
    "no number": ('{"n_head": "2", "vocab_size": 50}', "n_head expects a whole number from 1 on, got '2'"),
}


@pytest.mark.parametrize("text, reason", DESCRIPTIONS.values(), ids=DESCRIPTIONS)
def test_descriptions_that_are_refused(tmp_path, text, reason):
    save_hub(model_of(), tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=reason):
        load(tmp_path)


def header(**changes):
    sizes = dict(magic=20240326, version=3, context=16, V=50, L=2, H=2, C=16, padded=128)
    return np.array(list({**sizes, **changes}.values()) + [0] * 248, "<i4").tobytes()


LLMC = {
    "cut off in the header": (header()[:1000], "is cut off: it has 1,000 bytes, and its header alone 1,024"),
    "another version": (header(version=1), "begins with 20240326, 1; llm.c's models begin with 20240326 and 3"),
    "no layers": (header(L=0), "a header that describes no model: n_layer expects a whole number from 1 on, got 0"),
    "heads that do not fit": (header(H=3), "describes no model: n_embd 16 cannot be divided among n_head 3"),
    "a padding that is none": (header(padded=49), "padded vocabulary of 49 is smaller than the vocabulary"),
    "no weights": (header(), r"has 0 numbers of 4 bytes in 1,024 bytes, and its header describes a model of 8,896"),
    "a huge one": (header(L=2**31 - 1, C=2**30, H=1), "describes a model of [0-9,]{28,}; it is cut off, or damaged"),
}


@pytest.mark.parametrize("content, reason", LLMC.values(), ids=LLMC)
def test_llmcs_files_that_are_refused(tmp_path, content, reason):
    (tmp_path / "a.bin").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=reason):
            load(tmp_path / "a.bin")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def edited(name, **changes):
    """An `edit` of a checkpoint's table that describes the variable `name` otherwise."""

    def edit(table):
        x = np.zeros((50, 16), np.float32) if name == "wte" else np.zeros((16, 16), np.float32)
        return {**table, f"model/{name}".encode(): tensorflow.entry(x, **{"offset": 0, **changes})}

    return edit


def without(*names):
    return lambda table: {key: value for key, value in table.items() if key.decode() not in names}


CHECKPOINTS = {
    "a variable is missing": (dict(edit=without("model/h1/ln_2/g")), r"only in the model:\n    h\.1\.ln_2\.weight"),
    "one too many": (
        dict(edit=lambda t: {**t, b"global_step": tensorflow.entry(np.zeros(0, np.float32), 0)}),
        r"only in the file:\n    global_step",
    ),
    "another dtype": (dict(edit=edited("wpe", dtype=9)), "model/wpe: its dtype is number 9 of TensorFlow's"),
    "beyond the end": (dict(edit=edited("wpe", offset=1 << 40)), "model/wpe: an array .* does not lie in a file of"),
    "a huge shape": (dict(edit=edited("wpe", shape=(1 << 40, 1 << 20))), "model/wpe: an array .* does not lie in"),
    "a size that is not the shape's": (dict(edit=edited("wpe", size=12)), "has 1,024 bytes, and it is said to have 12"),
    "overlapping": (dict(edit=edited("wpe", offset=64)), "model/.* and model/.* overlap"),
    "in slices": (dict(edit=edited("wpe", slices=True)), "model/wpe: it is stored in slices"),
    "in a file that is none": (dict(edit=edited("wpe", shard=3)), "model/wpe: it lies in data file 3 of 1"),
    "a wrong checksum": (
        dict(edit=edited("wpe", offset=3200, data=b"1" * 1024)),
        "data-00000-of-00001: the checksum of model/wpe is wrong: the file is damaged",
    ),
    "no header": (dict(edit=without("")), "its header says that there are 0 data files"),
    "big-endian": (
        dict(edit=lambda t: {**t, b"": tensorflow.message((1, 1), (2, 1))}), "its numbers are big-endian"),
    "compressed": (dict(compression=1), r"a block is compressed \(Snappy\), which no checkpoint of GPT-2's is"),
}  # fmt: skip


@pytest.mark.parametrize("form, reason", CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_checkpoints_that_are_refused(tmp_path, form, reason):
    folder = tensorflow.write_checkpoint(tmp_path, model_of(), **form)
    with pytest.raises(ValueError, match=reason):
        load(folder)


def test_a_checkpoint_without_its_data(tmp_path):
    folder = tensorflow.write_checkpoint(tmp_path, model_of())
    (folder / "model.ckpt.data-00000-of-00001").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.ckpt\.data-00000-of-00001, which is not there"):
        load(folder)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder for each foreign format with a model smaller still, and what is to be harmed in it."""
    model = model_of(replace(TINY, n_layer=1, n_embd=2, n_head=1, vocab_size=5, context_length=3))
    folders = {name: tmp_path_factory.mktemp(name) for name in ("hub", "tensorflow", "llmc")}
    save_hub(model, folders["hub"])
    tensorflow.write_checkpoint(folders["tensorflow"], model)
    save_llmc(model, folders["llmc"] / "a.bin")
    harmed = {"hub": "model.safetensors", "tensorflow": "model.ckpt.index", "llmc": "a.bin"}
    return {
        name: (folders[name], folders[name] / file, (folders[name] / file).read_bytes())
        for name, file in harmed.items()
    }


@pytest.mark.parametrize("kind", ["hub", "tensorflow", "llmc"])
@given(data=st.data())
def test_a_harmed_file_loads_or_is_refused_with_a_reason(written, kind, data):
    folder, file, content = written[kind]
    harmed = bytearray(content[: data.draw(st.sampled_from([len(content)] * 3) | st.integers(0, len(content)))])
    for _ in range(data.draw(st.integers(0, 3))):
        if harmed:
            harmed[data.draw(st.integers(0, min(len(harmed), 700) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(harmed)
    tracemalloc.start()
    reason = str(folder)
    try:
        load(file if kind == "llmc" else folder)
    except (ValueError, FileNotFoundError) as error:
        reason = str(error)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(folder) in reason and peak < 8 << 20


# Checksums ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data, crc",
    [
        (b"", 0),
        (bytes(32), 0x8A9136AA),  # these four are RFC 3720's
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"123456789", 0xE3069283),
    ],
)
def test_the_published_checksums(data, crc):
    assert crc32c(data) == crc


@pytest.mark.parametrize("size", [1, 511, 512, 513, 1025, 5000])
def test_a_checksum_in_pieces_is_that_of_the_whole(size):
    data = np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes()
    assert crc32c(data) == tensorflow.crc32c(data)


def test_a_checksum_over_blocks():
    x = np.zeros((4 << 20) + 9, np.uint8)  # two blocks and a rest
    x[-9:] = np.frombuffer(b"123456789", np.uint8)
    zeros = crc32c(x[:-9])
    # The definition, from where the zeros end: the register is what they left.
    register = zeros ^ 0xFFFFFFFF
    for byte in b"123456789":
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    assert crc32c(x) == register ^ 0xFFFFFFFF
    x[3 << 20] ^= 1
    assert crc32c(x) != register ^ 0xFFFFFFFF
