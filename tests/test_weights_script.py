"""python -m gpt.weights, and the download, with a hub that is a folder."""

import sys
from dataclasses import replace
from functools import partial
from hashlib import sha256
from types import ModuleType

import pytest
from tiny_gpt import TINY

import tensorlite as tl
from gpt.checkpoint import save_model
from gpt.model import GPT
from gpt.options import UsageError
from gpt.weights import __main__ as script
from gpt.weights import load, save_hub


@pytest.fixture
def refused(fails):
    """refused(*argv): the line that a wrong command line prints."""
    return partial(fails, script.main, "weights")


def wrote(capsys, *argv):
    script.main([*map(str, argv)])
    return capsys.readouterr().out


def test_inspect_says_what_weights_are(tmp_path, capsys):
    save_hub(GPT(TINY), tmp_path)
    out = wrote(capsys, "inspect", "--source", tmp_path)
    assert "h.0.attn.c_attn.weight  float32   (16, 48)          (in, out)\n" in out
    assert "form        safetensors with the hub's names (model.safetensors)\n" in out
    assert "numbers     7,648 in 28 arrays, 30,592 bytes\n" in out and "n_head 2" in out
    assert out.endswith("all names and shapes are those of this model\n")
    (tmp_path / "config.json").write_text('{"n_head": 2}')
    out = wrote(capsys, "inspect", "--source", tmp_path)
    assert "as it is it does not load: weights and configuration do not fit" in out
    assert out.endswith("    wte.weight: (50, 16) in the file, (50257, 16) in the model\n")


def test_convert_from_form_to_form(tmp_path, capsys):
    tl.manual_seed(0)
    save_model(model := GPT(TINY), tmp_path / "a.safetensors")
    source = tmp_path / "a.safetensors"
    for form, out in (("hub", "b"), ("llmc", "c/c.bin"), ("tensorlite", "d.safetensors"), ("llmc-bf16", "e.bin")):
        said = wrote(capsys, "convert", "--source", source, "--out", tmp_path / out, "--form", form)
        assert said == f"wrote {tmp_path / out}: 7,648 parameters, {form}\n"
        source = tmp_path / out
        if form != "llmc-bf16":
            assert load(source).wte.weight.tolist() == model.wte.weight.tolist()
    assert (tmp_path / "e.bin").stat().st_size < (tmp_path / "c" / "c.bin").stat().st_size


def test_convert_what_must_be_asked_for(tmp_path, capsys, refused):
    book = replace(TINY, tied=False, qkv_bias=False)
    save_model(GPT(book), tmp_path / "a.safetensors")
    said = wrote(capsys, "convert", "--source", tmp_path / "a.safetensors", "--out", tmp_path / "hub")
    assert said.endswith("it had not all biases; those that it lacked are zeros there\n")
    convert = partial(refused, "convert", "--source", tmp_path / "a.safetensors")
    assert "--out are needed: what to read, and where to write" in convert()
    assert f"--out {tmp_path / 'hub'} exists already; name another place" in convert("--out", tmp_path / "hub")
    assert "no place for a head of its own" in convert("--out", tmp_path / "b", "--form", "llmc")
    with pytest.raises(UsageError, match="ask for it: tied=False"):
        script.main(["convert", "--source", str(tmp_path / "hub"), "--out", str(tmp_path / "own")])
    wrote(
        capsys, "convert", "--no-tied", "--source", tmp_path / "hub", "--out", tmp_path / "own", "--form", "tensorlite"
    )
    assert load(tmp_path / "own").config == replace(book, qkv_bias=True)


def test_commands(capsys, refused):
    out = wrote(capsys, "--help")
    assert "usage: weights COMMAND [--FLAG VALUE ...]" in out
    assert "  download  Get a model from the Hugging Face hub into its cache, and print its folder.\n" in out
    assert refused() == "weights: a command is missing; the commands are download, convert, inspect"
    assert refused("inspekt").endswith("the commands are download, convert, inspect; did you mean inspect?")
    assert "unknown option --sauce; did you mean --source?" in refused("inspect", "--sauce", "a")
    assert "--source is needed: what to look at" in refused("inspect")
    assert "there is no file or folder gpt3" in refused("inspect", "--source", "gpt3")


# The hub -----------------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub that has GPT-2 and a cache that has nothing; what is asked of it is in `hub.asked`."""
    origin, cache = tmp_path / "hub", tmp_path / "cache"
    save_hub(GPT(TINY), origin)
    (cache / "blobs").mkdir(parents=True)
    fake = ModuleType("huggingface_hub")
    fake.asked, fake.online, fake.cache = [], True, cache

    def try_to_load_from_cache(repository, file):
        return str(cache / file) if (cache / file).exists() else None

    def hf_hub_download(repository, file):
        fake.asked.append((repository, file))
        if not fake.online:
            raise ConnectionError("Name or service not known")
        content = (origin / file).read_bytes()
        blob = cache / "blobs" / (sha256(content).hexdigest() if file.endswith("safetensors") else "0" * 40)
        blob.write_bytes(content)
        (cache / file).symlink_to(blob)
        return str(cache / file)

    fake.try_to_load_from_cache, fake.hf_hub_download = try_to_load_from_cache, hf_hub_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    return fake


def test_a_name_is_downloaded_once_and_then_comes_from_the_cache(hub, capsys):
    model = GPT.from_pretrained("gpt2")
    assert model.config.vocab_size == 50
    assert hub.asked == [("openai-community/gpt2", "config.json"), ("openai-community/gpt2", "model.safetensors")]
    hub.online = False
    assert GPT.from_pretrained("gpt2").wte.weight.tolist() == model.wte.weight.tolist() and len(hub.asked) == 2
    assert wrote(capsys, "download") == f"{hub.cache} (it was there already)\n"


def test_without_a_network_it_says_which_files_to_put_where(hub, refused):
    hub.online = False
    with pytest.raises(
        FileNotFoundError, match=r"could not be downloaded \(ConnectionError\); without a network, put "
    ):
        GPT.from_pretrained("gpt2")
    line = refused("download", "--name", "gpt2-xl")
    assert "https://huggingface.co/openai-community/gpt2-xl/resolve/main/model.safetensors into a folder" in line


def test_without_huggingface_hub(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"pip install 'tensorlite\[hub\]'; or put https://"):
        GPT.from_pretrained("gpt2")


def test_what_arrived_damaged_is_refused(hub, monkeypatch):
    whole = hub.hf_hub_download

    def damaged(repository, file):
        path = whole(repository, file)
        if file.endswith("safetensors"):
            with open(path, "r+b") as blob:
                blob.seek(-1, 2)
                blob.write(b"!")
        return path

    monkeypatch.setattr(hub, "hf_hub_download", damaged)
    with pytest.raises(ValueError, match=r"model\.safetensors arrived damaged: its SHA-256 is [0-9a-f]{64}; delete "):
        GPT.from_pretrained("gpt2")
