"""Weights in every format: they come back, forms that are not GPT-2's are asked for, nothing else is let in."""

import json
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import tensorflow_writer as tensorflow
from hypothesis import given
from hypothesis import strategies as st

import tensorlite as tl
from gpt.checkpoint import save_model
from gpt.config import PRESETS
from gpt.model import GPT
from gpt.weights import find, load, save_hub, save_llmc
from gpt.weights.crc32c import crc32c
from tensorlite.serialize import peek, write_arrays

TINY = replace(PRESETS["tiny"], vocab_size=50)


def model_of(config=TINY, dtype=tl.float32):
    """A model in which no bias is 0 and no scale is 1, so that each of them matters."""
    tl.manual_seed(0)
    model = GPT(config).to(dtype)
    with tl.no_grad():
        for parameter in model.parameters():
            parameter.add_(tl.randn_like(parameter), alpha=0.1)
    return model


def same(a, b):
    """Whether two models have the same numbers, bit by bit."""
    x, y = a.state_dict(), b.state_dict()
    return list(x) == list(y) and all(np.array_equal(x[name].numpy(), y[name].numpy()) for name in x)


def hub(folder, model):
    save_hub(model, folder)
    return folder


def llmc(folder, model):
    save_llmc(model, folder / "model.bin")
    return folder / "model.bin"


def ours(folder, model):
    save_model(model, folder / "own.safetensors")
    return folder / "own.safetensors"


def trained(folder, model):
    (folder / "checkpoints" / "step-000010").mkdir(parents=True)
    save_model(model, folder / "checkpoints" / "step-000010" / "model.safetensors")
    return folder


FORMATS = {"hub": hub, "tensorflow": tensorflow.write_checkpoint, "llm.c": llmc, "ours": ours, "run": trained}
each_format = pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)


@each_format
def test_every_format_comes_back_bit_by_bit(tmp_path, write):
    model = model_of()
    before = tl.get_rng_state().tolist()
    loaded = GPT.from_pretrained(write(tmp_path, model))
    assert same(loaded, model) and loaded.config == replace(model.config, init_std=loaded.config.init_std)
    assert loaded.lm_head.weight is loaded.wte.weight and loaded.wte.weight.requires_grad
    assert tl.get_rng_state().tolist() == before  # no first values were drawn
    assert all(x.array.flags.c_contiguous and x.array.flags.owndata for x in loaded.parameters())
    double = load(write(tmp_path / "again", model) if write is trained else write(tmp_path, model), dtype=tl.float64)
    assert double.wte.weight.dtype == tl.float64 and double.h[0].mlp.c_fc.weight.tolist()[3] == [
        float(x) for x in model.h[0].mlp.c_fc.weight.tolist()[3]
    ]


@pytest.mark.parametrize("write", [hub, llmc, ours])  # the slow writer of checkpoints is for small models
def test_a_loaded_model_is_in_memory_once(tmp_path, write):
    path = write(tmp_path, model_of(replace(TINY, n_embd=256, n_layer=4)))  # 13 MB
    tracemalloc.start()
    try:
        model = load(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    size = 4 * model.num_parameters()
    assert size < peak < 2.3 * size  # with the uninitialised arrays of the model, which are never touched


def test_the_original_is_read_through_blocks_prefixes_and_whole_keys(tmp_path):
    model = model_of()
    for i, form in enumerate((dict(per_block=1), dict(per_block=3, restart=1), dict(per_block=100, restart=7))):
        assert same(load(tensorflow.write_checkpoint(tmp_path / str(i), model, **form)), model)


def test_the_hubs_file_has_its_names_and_shapes(tmp_path):
    save_hub(model := model_of(), tmp_path)
    arrays = peek(tmp_path / "model.safetensors")
    assert set(arrays) == {name for name, _ in model.named_parameters()}
    assert arrays["h.0.attn.c_attn.weight"].shape == (16, 48) and arrays["h.1.mlp.c_proj.weight"].shape == (64, 16)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == "gpt2" and config["n_head"] == 2 and config["tie_word_embeddings"] is True


def test_llmc_pads_the_vocabulary(tmp_path):
    save_llmc(model := model_of(), tmp_path / "a.bin")
    header = np.fromfile(tmp_path / "a.bin", "<i4", 256)
    assert header[:9].tolist() == [20240326, 3, 16, 50, 2, 2, 16, 128, 0]
    numbers = np.fromfile(tmp_path / "a.bin", "<f4", offset=1024)
    assert numbers.size == model.num_parameters() + 78 * 16
    np.testing.assert_array_equal(numbers[: 50 * 16], model.wte.weight.numpy(force=True).ravel())
    assert not numbers[50 * 16 : 128 * 16].any()
    ln1w = numbers[(128 + 16) * 16 :][: 2 * 16].reshape(2, 16)  # of all layers, one after the other
    np.testing.assert_array_equal(ln1w[1], model.h[1].ln_1.weight.numpy(force=True))


def test_bfloat16_of_llmc(tmp_path):
    save_llmc(model := model_of(), tmp_path / "a.bin", "bfloat16")
    loaded = load(tmp_path / "a.bin")
    assert loaded.wte.weight.dtype == tl.float32 and (tmp_path / "a.bin").stat().st_size % 1024 != 0
    for (name, x), y in zip(model.named_parameters(), loaded.parameters()):
        np.testing.assert_allclose(y.numpy(force=True), x.numpy(force=True), rtol=2**-8, err_msg=name)
    save_llmc(loaded, tmp_path / "b.bin", "bfloat16")
    assert (tmp_path / "a.bin").read_bytes() == (tmp_path / "b.bin").read_bytes()


# Other forms of GPT-2, when asked for ------------------------------------------------------------------

IDX = tl.from_numpy(np.arange(12).reshape(2, 6))


def logits(model):
    with tl.no_grad():
        return model(IDX, IDX)[0].numpy()


VARIANTS = {
    "nanoGPT's padded vocabulary": (dict(vocab_size=64), dict(vocab_size=64)),
    "the book's head": (dict(tied=False), dict(tied=False)),
    "no biases": (dict(bias=False), dict(bias=False)),
    "the book's attention": (dict(qkv_bias=False), dict(qkv_bias=False)),
    "nanoGPT": (dict(vocab_size=64, bias=False), dict(vocab_size=64, bias=False)),
    "the book": (dict(tied=False, qkv_bias=False), dict(tied=False, qkv_bias=False)),
}


@pytest.mark.parametrize("form, asked", VARIANTS.values(), ids=VARIANTS)
def test_another_form_loads_when_asked_for_and_never_silently(tmp_path, form, asked):
    model = model_of(replace(TINY, **form))
    arrays = {name: x.numpy() for name, x in model.state_dict().items()}
    if model.config.tied:
        del arrays["lm_head.weight"]
    arrays = {n: np.ascontiguousarray(x.T) if n.startswith("h") and x.ndim == 2 else x for n, x in arrays.items()}
    write_arrays(arrays, tmp_path / "model.safetensors", {})
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": 50, "n_head": 2}))
    advice = ", ".join(f"{name}={value}" for name, value in asked.items())
    with pytest.raises(ValueError, match=rf"(?s)nothing was loaded\n(only|of).*ask for it: {advice}$"):
        load(tmp_path)
    loaded = load(tmp_path, **asked)
    assert same(loaded, model) and loaded.config.to_dict().items() >= asked.items()


def test_padding_is_left_out_when_asked_for(tmp_path):
    model = model_of(replace(TINY, vocab_size=64))
    save_hub(model, tmp_path)
    loaded = load(tmp_path, vocab_size=50, context_length=8)
    assert loaded.wte.weight.shape == (50, 16) and loaded.wpe.weight.shape == (8, 16)
    np.testing.assert_allclose(logits(loaded), logits(model)[..., :50], rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=r"wte\.weight: \(64, 16\) in the file, \(65, 16\) in the model"):
        load(tmp_path, vocab_size=65)
    save_hub(model_of(replace(TINY, vocab_size=300)), tmp_path)
    with pytest.raises(ValueError, match=r"wte\.weight: \(300, 16\) in the file, \(65, 16\) in the model"):
        load(tmp_path, vocab_size=65)  # that is no padding


def test_a_head_of_its_own_is_a_copy_where_the_file_has_none(tmp_path):
    save_hub(model := model_of(), tmp_path)
    untied = load(tmp_path, tied=False)
    assert untied.lm_head.weight is not untied.wte.weight
    assert not np.shares_memory(untied.lm_head.weight.array, untied.wte.weight.array)
    np.testing.assert_array_equal(logits(untied), logits(model))
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    with pytest.raises(ValueError, match=r"only in the model:\n    lm_head\.weight"):  # it has lost it
        load(tmp_path, tied=False)


def test_a_head_that_is_a_copy_is_no_head_of_its_own(tmp_path):
    model = model_of()
    arrays = {name: x.numpy() for name, x in model.state_dict().items()}
    arrays = {n: np.ascontiguousarray(x.T) if n.startswith("h") and x.ndim == 2 else x for n, x in arrays.items()}
    masks = {"h.0.attn.bias": np.ones((1, 1, 16, 16), bool), "h.1.attn.masked_bias": np.array(-1e4, np.float32)}
    named = {name if name == "lm_head.weight" else f"transformer.{name}": x for name, x in {**arrays, **masks}.items()}
    write_arrays(named, tmp_path / "model.safetensors", {})
    (tmp_path / "config.json").write_text('{"n_head": 2, "vocab_size": 50}')
    assert same(load(tmp_path), model)
    ignored = ["transformer.h.0.attn.bias", "transformer.h.1.attn.masked_bias", "lm_head.weight"]
    assert sorted(find(tmp_path).ignored) == sorted(ignored)


def test_biases_that_a_model_lacks_are_written_as_zeros(tmp_path):
    model = model_of(replace(TINY, bias=False))
    for write in (hub, llmc):
        loaded = load(write(tmp_path, model))
        assert not loaded.h[1].ln_2.bias.numpy(force=True).any()
        np.testing.assert_allclose(logits(loaded), logits(model), rtol=1e-6, atol=1e-7)


def test_what_llmcs_format_cannot_say(tmp_path):
    with pytest.raises(ValueError, match="no place for a head of its own"):
        save_llmc(model_of(replace(TINY, tied=False)), tmp_path / "a.bin")
    with pytest.raises(ValueError, match=r"a norm_eps of 1e-5, and this model's is 1e-06"):
        save_llmc(model_of(replace(TINY, norm_eps=1e-6)), tmp_path / "a.bin")


def test_dropout_and_shards(tmp_path):
    model = model_of()
    save_hub(model, tmp_path)
    assert load(tmp_path).drop.p == 0 and load(tmp_path, dropout=0.1).h[1].drop.p == 0.1
    arrays = {name: x.read() for name, x in peek(tmp_path / "model.safetensors").items()}
    files = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(arrays)}
    for file in set(files.values()):
        write_arrays({name: x for name, x in arrays.items() if files[name] == file}, tmp_path / file, {})
    (tmp_path / "model.safetensors").unlink()
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": files}))
    assert same(load(tmp_path), model)
    index.write_text(json.dumps({"weight_map": {"a": "../a"}}))
    with pytest.raises(ValueError, match=r"names files outside its folder: \.\./a"):
        load(tmp_path)


# Refused -----------------------------------------------------------------------------------------------


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
