"""Fixtures shared by tests: the data sets, which are not in this repository, GPT-2's vocabulary, and small tools."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cuda_on_host import Host
from hypothesis import settings

import tensorlite as tl
from gpt.options import run
from gpt.tokenizer import gpt2
from tensorlite.check.samples import SAMPLES

settings.register_profile("tensorlite", deadline=None)  # a busy machine is no failure
settings.load_profile("tensorlite")

# Programs that tests start leave Numba alone, which takes them a second to get ready. This process keeps its level.
os.environ.setdefault("TENSORLITE_LEVEL", "kernel")

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


@pytest.fixture
def _registry() -> Iterator[None]:
    """Ops declared in a test, and their samples, are forgotten after it."""
    before, sampled = dict(tl.OPS), set(SAMPLES)
    yield
    tl.OPS.clear()
    tl.OPS.update(before)
    for name in set(SAMPLES) - sampled:
        del SAMPLES[name]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Host:
    """The CUDA sources, compiled for this machine as they are asked for."""
    return Host(tmp_path_factory.mktemp("cuda_on_host"))


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """fails(main, prog, *arguments): the one line on standard error with which a script ends, with exit code 2."""

    def fails(main: Callable, prog: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [prog, *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            run(main, prog)
        assert stopped.value.code == 2
        printed = capsys.readouterr()
        assert printed.out == "" and printed.err.count("\n") == 1
        return printed.err.removesuffix("\n")

    return fails
