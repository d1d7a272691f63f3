"""python -m gpt.weights download|convert|inspect"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from os import fspath
from pathlib import Path
from typing import Any, Literal

from gpt.checkpoint import check_fit, save_model
from gpt.model import GPT
from gpt.options import UsageError, command, option, parse, run
from gpt.weights.download import cached
from gpt.weights.download import download as fetch
from gpt.weights.hub import save_hub
from gpt.weights.llmc import save_llmc
from gpt.weights.load import find, load, settle


@dataclass(frozen=True)
class Download:
    name: str = option("gpt2", "gpt2, gpt2-medium, gpt2-large, gpt2-xl, or owner/name of another GPT-2 on the hub")


@dataclass(frozen=True)
class Convert:
    source: Path | None = option(None, "what to read: gpt2, a file, a folder or a run, as gpt.weights.load takes it")
    out: Path | None = option(None, "where to write: a folder for the hub's form, a file for the others")
    form: Literal["hub", "llmc", "llmc-bf16", "tensorlite"] = option("hub", "what to write")
    vocab_size: int | None = option(None, "rows of the vocabulary, where they are more or fewer than GPT-2's")
    n_head: int | None = option(None, "attention heads, where the source does not say")
    tied: bool = option(True, "--no-tied: the source has a head of its own, or shall get one")
    bias: bool = option(True, "--no-bias: the source has no biases")
    qkv_bias: bool = option(True, "--no-qkv-bias: its queries, keys and values have none")

    def changes(self) -> dict[str, Any]:
        """What is asked for that is not GPT-2's usual form."""
        sizes = {name: size for name in ("vocab_size", "n_head") if (size := getattr(self, name)) is not None}
        return sizes | {name: False for name in ("tied", "bias", "qkv_bias") if not getattr(self, name)}


@dataclass(frozen=True)
class Inspect:
    source: Path | None = option(None, "what to look at: gpt2, a file, a folder or a run")


_WRITERS: dict[str, Callable[[GPT, Path], None]] = {
    "hub": save_hub,
    "llmc": save_llmc,
    "llmc-bf16": lambda model, path: save_llmc(model, path, "bfloat16"),
    "tensorlite": save_model,
}


def download(argv: Sequence[str]) -> None:
    """Get a model from the Hugging Face hub into its cache, and print its folder."""
    presets = {"gpt2": Download()}
    config = parse(Download, argv, presets, "gpt2", "weights download", "Get a model from the Hugging Face hub.")
    known = cached(config.name)
    folder = known or _tried(fetch, config.name)
    print(f"{folder}{' (it was there already)' if known else ''}")


def convert(argv: Sequence[str]) -> None:
    """Read weights in any form, and write them in another: the hub's, llm.c's or tensorlite's."""
    presets = {"hub": Convert()}
    config = parse(Convert, argv, presets, "hub", "weights convert", "Write weights in another form.")
    if config.source is None or config.out is None:
        raise UsageError("--source and --out are needed: what to read, and where to write")
    if config.out.exists() and (config.out.is_file() or any(config.out.iterdir())):
        raise UsageError(f"--out {config.out} exists already; name another place")
    model = _tried(load, fspath(config.source), **config.changes())
    config.out.parent.mkdir(parents=True, exist_ok=True)
    _tried(_WRITERS[config.form], model, config.out)
    print(f"wrote {config.out}: {model.num_parameters():,} parameters, {config.form}")
    if not model.config.qkv_bias and config.form != "tensorlite":
        print("it had not all biases; those that it lacked are zeros there")


def inspect(argv: Sequence[str]) -> None:
    """Say what weights are: their form, configuration, names, shapes and dtypes. No number is read."""
    config = parse(Inspect, argv, {"": Inspect()}, "", "weights inspect", "Say what weights are.")
    if config.source is None:
        raise UsageError("--source is needed: what to look at")
    found = _tried(find, fspath(config.source))
    width = max(map(len, found.arrays), default=0)
    for name, x in found.arrays.items():
        dtype = "bfloat16" if x.bfloat16 else x.dtype.name
        print(f"{name:<{width}}  {dtype:<8}  {x.stored_shape!s:<16}{'  (in, out)' if x.transposed else ''}")
    count = sum(prod(x.shape) for x in found.arrays.values())
    print(f"form        {found.format}")
    print(
        f"numbers     {count:,} in {len(found.arrays)} arrays, {sum(x.nbytes for x in found.arrays.values()):,} bytes"
    )
    if found.ignored:
        print(f"passed over {', '.join(found.ignored)}")
    try:
        settled = settle(found, {})
        print("model       " + ", ".join(f"{name} {value}" for name, value in settled.to_dict().items()))
        check_fit(settled, found.arrays)
        print("all names and shapes are those of this model")
    except ValueError as error:
        print(f"as it is it does not load: {error}")


def _tried(function: Callable[..., Any], *args: Any, **changes: Any) -> Any:
    """function(*args, **changes), whose errors are the user's to read."""
    try:
        return function(*args, **changes)
    except (OSError, ValueError, ImportError) as error:
        raise UsageError(str(error)) from error


def main(argv: Sequence[str]) -> None:
    commands = {"download": download, "convert": convert, "inspect": inspect}
    command(argv, commands, "weights", "GPT-2's weights, in the formats in which they are found.")


if __name__ == "__main__":
    run(main, "weights")
