"""Files behind URLs, `s3://bucket/folder` say, through fsspec: read as they come, or copied once into a cache."""

from __future__ import annotations

import os
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

from tqdm import tqdm

from gpt.options import UsageError


def is_url(name: str) -> bool:
    return "://" in name


def filesystem(url: str) -> tuple[Any, str]:
    """fsspec's file system for a URL, and the path in it. Raises UsageError if there is none."""
    try:
        import fsspec
    except ImportError:
        raise UsageError(f"{url}: URLs need fsspec: pip install 'tensorlite[remote]'") from None
    try:
        found: tuple[Any, str] = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError, OSError) as error:
        raise UsageError(f"{url}: {error}") from None
    return found


def cache_folder() -> Path:
    """Where copies of shards go: $TENSORLITE_CACHE, else ~/.cache/tensorlite."""
    return Path(os.environ.get("TENSORLITE_CACHE") or Path.home() / ".cache" / "tensorlite")


def fetched(url: str) -> Path:
    """A copy of the file or folder of shards at `url`. Files that the cache has with the same size are not copied
    again; index and tokenizer always are. Raises UsageError if they cannot be read or written."""
    system, root = filesystem(url)
    target = cache_folder() / sha256(url.encode()).hexdigest()[:16]
    try:
        single = system.isfile(root)
        wanted = [root] if single else sorted(f for f in system.ls(root, detail=False) if f.endswith((".bin", ".json")))
        target.mkdir(parents=True, exist_ok=True)
        for remote in tqdm(wanted, f"fetching {url}", unit=" files", disable=None, leave=False):
            local = target / Path(remote).name
            if local.suffix == ".bin" and local.exists() and local.stat().st_size == system.size(remote):
                continue
            partial = local.with_name(f".{local.name}.{os.getpid()}.part")
            try:
                with system.open(remote, "rb") as source, partial.open("wb") as file:
                    shutil.copyfileobj(source, file, 2**20)
                os.replace(partial, local)
            finally:
                partial.unlink(missing_ok=True)
        if not single:  # what is no longer there must not be read either
            for stale in {p.name for p in target.iterdir()} - {Path(f).name for f in wanted}:
                (target / stale).unlink()
    except OSError as error:
        raise UsageError(f"{url} cannot be copied to {target}: {error}") from None
    return target / Path(root).name if single else target
