"""Every CUDA source compiles to machine code, without a GPU, and what it takes of one is known."""

import pytest

from tensorlite.kernels.cuda import __main__ as table
from tensorlite.kernels.cuda import module, nvrtc

compiler = pytest.mark.skipif(
    not nvrtc.available(), reason="NVRTC is not installed: pip install 'tensorlite[cuda-check]'"
)
# Every dtype and every architecture once; all pairs: python -m tensorlite.kernels.cuda
PAIRS = [("float32", "sm_80"), ("float16", "sm_80"), ("bfloat16", "sm_90a")]


@compiler
@pytest.mark.parametrize(
    "family, dtype, architecture",
    [(family, *pair) for family in module.FAMILIES for pair in PAIRS if pair[0] in module.dtypes(family)],
)
def test_compiles_without_spilling(family: str, dtype: str, architecture: str):
    used = nvrtc.compile(family, dtype, architecture)
    assert [use.kernel for use in used] == list(module.kernels(family)) != []
    for use in used:
        assert use.spilled == 0, f"{use.kernel} keeps {use.spilled} bytes per thread in memory, not in registers"
        assert 0 < use.registers <= 255 and use.shared <= 48 * 1024


@compiler
@pytest.mark.parametrize("family, dtype, architecture", [("attention", *PAIRS[0]), ("attention_mma", *PAIRS[2])])
def test_long_heads_do_not_spill_either(family: str, dtype: str, architecture: str):
    assert not any(use.spilled for use in nvrtc.compile(family, dtype, architecture, HEAD=128))


@compiler
def test_an_error_names_file_and_line(monkeypatch):
    monkeypatch.setattr(nvrtc, "source", lambda family: '#line 7 "rows.cuh"\nint x = missing;')
    with pytest.raises(
        nvrtc.CompileError, match=r"loss.cu does not compile for float16 on sm_80:\n.*rows.cuh\(7\).*missing"
    ):
        nvrtc.compile("loss", "float16", "sm_80")


def test_sources_are_whole():
    """What a source includes of ours stands in it: a cache that goes by the text then sees every change."""
    for family in module.FAMILIES:
        assert '#include "' not in module.source(family) and '#line 1 "common.cuh"' in module.source(family)


def test_the_table(monkeypatch, capsys):
    monkeypatch.setattr(
        table, "compile_all", lambda: [nvrtc.Usage("loss", "cross_entropy", "float16", "sm_80", 30, 4, 256)]
    )
    table.main()
    assert capsys.readouterr().out.splitlines()[1].split() == [
        "loss.cross_entropy",
        "float16",
        "sm_80",
        "30",
        "4",
        "256",
    ]


def test_without_the_compiler(monkeypatch):
    nvrtc._library.cache_clear()
    monkeypatch.setattr(nvrtc, "find_spec", lambda name: None)
    assert not nvrtc.available()
    with pytest.raises(
        ImportError, match=r"NVRTC and CUDA's headers are not installed: pip install 'tensorlite\[cuda-check\]'"
    ):
        nvrtc.compile("loss", "float16", "sm_80")
    nvrtc._library.cache_clear()
