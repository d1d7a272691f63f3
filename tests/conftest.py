"""Fixtures shared by all tests: the data sets, which are not in this repository, and GPT-2's vocabulary."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from gpt.tokenizer import gpt2

settings.register_profile("tensorlite", deadline=None)  # a busy machine is no failure
settings.load_profile("tensorlite")

DATA = Path(os.environ.get("TENSORLITE_DATA") or Path(__file__).parents[2] / "shared" / "data")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of the data sets, only to be read: $TENSORLITE_DATA, else shared/data beside the repository."""
    if not DATA.is_dir():
        pytest.skip(f"the data sets are not in {DATA}; set TENSORLITE_DATA to their folder")
    return DATA


@pytest.fixture(scope="session")
def gpt2_vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let GPT2Tokenizer work without a network: from a copy of the vocabulary in DATA, else from tiktoken's cache."""
    with pytest.MonkeyPatch.context() as patch:
        if _holds_vocabulary(DATA / "tiktoken"):
            copy = tmp_path_factory.mktemp("tiktoken")  # because tiktoken deletes a file that it finds broken
            for name in gpt2.FILES:
                shutil.copyfile(DATA / "tiktoken" / name, copy / name)
            patch.setenv("TIKTOKEN_CACHE_DIR", str(copy))
        elif not _holds_vocabulary(gpt2.cache_folder()):
            pytest.skip(f"GPT-2's vocabulary is neither in {DATA / 'tiktoken'} nor in {gpt2.cache_folder()}")
        yield


def _holds_vocabulary(folder: Path) -> bool:
    return all((folder / name).is_file() for name in gpt2.FILES)
