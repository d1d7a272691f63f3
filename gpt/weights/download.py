"""GPT-2 from the Hugging Face hub, through huggingface_hub: its cache, its progress bars, its offline mode."""

import re
from pathlib import Path

from gpt.download import digest
from gpt.weights.hub import CONFIG, WEIGHTS

REPOSITORIES = {name: f"openai-community/{name}" for name in ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")}
FILES = (CONFIG, WEIGHTS)


def cached(name: str) -> Path | None:
    """The folder of a model's files if all of them are in the hub's cache. Nothing is downloaded."""
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    paths = [try_to_load_from_cache(REPOSITORIES.get(name, name), file) for file in FILES]
    return Path(paths[-1]).parent if all(isinstance(path, str) for path in paths) else None


def download(name: str) -> Path:
    """The folder with config.json and model.safetensors of a model, "gpt2" say, or "owner/name" for any other of the
    hub's repositories. They are downloaded if they are not in the hub's cache (HF_HOME).

    ImportError without huggingface_hub, FileNotFoundError without a network, or with HF_HUB_OFFLINE=1: both say where
    files can be put by hand. ValueError if a file arrived damaged.
    """
    if folder := cached(name):
        return folder
    repository = REPOSITORIES.get(name, name)
    address = f"https://huggingface.co/{repository}/resolve/main/"
    by_hand = (
        f"put {' and '.join(address + file for file in FILES)} into a folder, and give its path instead of the name"
    )
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise ImportError(
            f"{repository} comes through huggingface_hub: pip install 'tensorlite[hub]'; or {by_hand}"
        ) from error
    try:
        paths = [Path(hf_hub_download(repository, file)) for file in FILES]
    except Exception as error:  # of its own, of its HTTP library, of the system: they have nothing in common
        raise FileNotFoundError(
            f"{repository} is not in the hub's cache and could not be downloaded ({type(error).__name__}); without a "
            f"network, {by_hand}"
        ) from error
    for path in paths:
        check_sum(path)
    return paths[-1].parent


def check_sum(path: Path) -> None:
    """ValueError if a file in the hub's cache is not what its name there says: for large files, the SHA-256."""
    blob = path.resolve()
    if re.fullmatch("[0-9a-f]{64}", blob.name) and (found := digest(path)) != blob.name:
        raise ValueError(f"{path} arrived damaged: its SHA-256 is {found}; delete {blob}, and try again")
