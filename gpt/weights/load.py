"""Finding out what weights are, which model they make, and making it."""

from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from gpt.checkpoint import MisfitError, assemble, check_fit, latest_weights, open_model
from gpt.config import PRESETS, GPTConfig
from gpt.model import GPT
from gpt.weights import download
from gpt.weights.hub import SHARDS, WEIGHTS, open_hub
from gpt.weights.llmc import is_llmc, open_llmc
from gpt.weights.source import Source
from gpt.weights.tensorflow import open_tensorflow

PADDING = 128  # rows; a vocabulary is padded to a multiple of 64 or 128


def load(source: str | PathLike[str], *, dtype: Any = None, **changes: Any) -> GPT:
    """A model with trained weights, on the CPU.

    source   "gpt2", "gpt2-medium", "gpt2-large" or "gpt2-xl": from the hub's cache, or downloaded into it; or the path
             of a safetensors file or its folder, of OpenAI's checkpoint folder, of llm.c's .bin, or of a run
    dtype    of the model; by default that of the file, where bfloat16 counts as float32
    changes  fields of GPTConfig that shall differ from what the file says

    What is not GPT-2's usual form is loaded only if `changes` ask for it:

    dropout=0.1           it is 0 otherwise
    context_length=256    fewer positions than the file has: the first ones
    vocab_size=50304      as many rows as the file has, where it says less; or fewer than it has: the last, padding of
                          less than 128 rows, are left out
    tied=False            a head of its own, as in the book: the file's, or, if it has none, a copy of `wte`
    bias=False, qkv_bias=False   a file without these

    FileNotFoundError if there is nothing. ValueError if a file is broken, if it does not say all of the configuration,
    or, a MisfitError, if the two do not fit: it lists every name that is missing, unexpected or of another shape.
    Memory is taken only after that.
    """
    found = find(source)
    config = settle(found, changes)
    try:
        _crop(found, config, changes)
        check_fit(config, found.arrays)
        found.verify()
        return assemble(config, found.arrays, dtype)
    except MisfitError as error:
        raise ValueError(f"{source}: {error}{_advice(config, found)}") from error
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def find(source: str | PathLike[str]) -> Source:
    """The weights that `load` would load, not yet read."""
    path = Path(source)
    if not path.exists():
        if str(source) in download.REPOSITORIES:
            return open_hub(download.download(str(source)))
        raise FileNotFoundError(
            f"there is no file or folder {path}, and no model has this name; those that have one are "
            f"{', '.join(download.REPOSITORIES)}"
        )
    if path.is_dir():
        return _in_folder(path)
    with path.open("rb") as file:
        start = file.read(9)
    if is_llmc(start):
        return open_llmc(path)
    if path.suffix == ".index":
        return open_tensorflow(path)
    if (ours := open_model(path)) is not None:
        config, arrays = ours
        return Source("a model that tensorlite saved", arrays, config.to_dict(), config)
    return open_hub(path)


def _in_folder(folder: Path) -> Source:
    if (folder / "checkpoints").is_dir():
        return find(latest_weights(folder))
    if (folder / WEIGHTS).is_file():
        return find(folder / WEIGHTS)
    if (folder / SHARDS).is_file():
        return open_hub(folder)
    indices = sorted(folder.glob("*.index"))
    if len(indices) == 1:
        return open_tensorflow(indices[0])
    raise FileNotFoundError(
        f"{folder} holds no weights that can be read here: neither {WEIGHTS} nor {SHARDS} (the hub's), nor one *.index "
        f"(TensorFlow's; there are {len(indices)}), nor checkpoints/ (a run's)"
    )


def settle(found: Source, changes: dict[str, Any]) -> GPTConfig:
    """The configuration of the weights with the `changes` asked for. ValueError where something is not known."""
    if found.config is not None:
        return replace(found.config, **changes)
    said = {name: value for name, value in found.said.items() if name != "tied"}
    wte, wpe = (found.arrays.get(name) for name in ("wte.weight", "wpe.weight"))
    if wte and wpe and len(wte.shape) == len(wpe.shape) == 2:
        blocks = {name.split(".")[1] for name in found.arrays if name.startswith("h.")}
        said = {"context_length": wpe.shape[0], "n_layer": len(blocks), "n_embd": wte.shape[1], **said}
    said |= changes
    if "n_head" not in said:
        gpt2 = [PRESETS[name] for name in download.REPOSITORIES]
        sizes = {(preset.n_layer, preset.n_embd): preset.n_head for preset in gpt2}
        if (size := (said.get("n_layer"), said.get("n_embd"))) not in sizes:
            raise ValueError(
                f"the file does not say how many heads its attention has, and {size[0]} blocks of width {size[1]} are "
                "no size of GPT-2's; say it with n_head="
            )
        said["n_head"] = sizes[size]
    return GPTConfig(**said)


def _crop(found: Source, config: GPTConfig, changes: dict[str, Any]) -> None:
    """Leave out rows, and make a head of `wte`, where `changes` ask for it."""
    arrays = found.arrays
    if "context_length" in changes:
        _keep_rows(arrays, "wpe.weight", config.context_length, 1 << 62)
    if "vocab_size" in changes:
        for name in ("wte.weight", "lm_head.weight"):
            _keep_rows(arrays, name, config.vocab_size, PADDING)
    wanted = changes.get("tied") is False and found.said.get("tied", True)
    if wanted and "lm_head.weight" not in arrays and "wte.weight" in arrays:
        arrays["lm_head.weight"] = arrays["wte.weight"]


def _keep_rows(arrays: dict[str, Any], name: str, rows: int, fewer: int) -> None:
    x = arrays.get(name)
    if x and len(x.shape) == 2 and 0 < x.shape[0] - rows < fewer:
        arrays[name] = x.part((rows, x.shape[1]))


def _advice(config: GPTConfig, found: Source) -> str:
    """How to ask for the model that the file seems to hold, where another form of GPT-2 fits it; else nothing."""
    arrays = found.arrays
    changes: dict[str, Any] = {}
    if (wte := arrays.get("wte.weight")) and len(wte.shape) == 2 and wte.shape[0] != config.vocab_size:
        changes["vocab_size"] = wte.shape[0]
    if "lm_head.weight" in arrays:
        changes["tied"] = False
    if "ln_f.bias" not in arrays:
        changes["bias"] = False
    elif "h.0.attn.c_attn.bias" not in arrays:
        changes["qkv_bias"] = False
    try:
        check_fit(replace(config, **changes), arrays)
    except ValueError:
        return ""
    asked = ", ".join(f"{name}={value}" for name, value in changes.items())
    return f"\nThe file fits another form of GPT-2. If that is what you want, ask for it: {asked}"
