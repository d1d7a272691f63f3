"""Weights in every format: they come back, and forms that are not GPT-2's are asked for."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow_writer as tensorflow
from tiny_gpt import TINY, model_of

import gpt
import tensorlite as tl
from gpt.checkpoint import save_model
from gpt.model import GPT
from gpt.weights import find, load, save_hub, save_llmc
from tensorlite.serialize import peek, write_arrays


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


MEMORY = """
import re, sys
from pathlib import Path
from gpt.model import GPT

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

before = peak()
model = GPT.from_pretrained(sys.argv[1])
print((peak() - before) / (4 * model.num_parameters()))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not say how much memory was used")
@pytest.mark.parametrize("write", [hub, llmc, ours])  # the slow writer of checkpoints is for small models
def test_a_loaded_model_is_in_memory_once(tmp_path, write):
    path = write(tmp_path, model_of(replace(TINY, n_embd=512, n_layer=4)))  # 50 MB, the largest array 4 MB
    root = Path(gpt.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", MEMORY, path], cwd=root, capture_output=True, text=True, check=True)
    assert 0.5 < float(done.stdout) < 1.25


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
