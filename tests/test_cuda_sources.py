"""Every CUDA source compiles to machine code, without a GPU, and what it takes of one is known."""

import pytest

from tensorlite.kernels.cuda import __main__ as table
from tensorlite.kernels.cuda import module, nvrtc

compiler = pytest.mark.skipif(
    not nvrtc.available(), reason="NVRTC is not installed: pip install 'tensorlite[cuda-check]'"
)
LONG = {("attention", "float32"), ("attention_mma", "bfloat16")}  # compiled for long heads, which take more registers
# Every family for both architectures and two dtypes; all of them: python -m tensorlite.kernels.cuda
CASES = [
    (family, dtype, architecture, {"HEAD": 128} if (family, dtype) in LONG else {})
    for family in module.FAMILIES
    for dtype, architecture in zip(module.dtypes(family), ("sm_80", "sm_90a"))
]


@compiler
@pytest.mark.parametrize("family, dtype, architecture, constants", CASES)
def test_compiles_without_spilling(family: str, dtype: str, architecture: str, constants: dict[str, int]):
    used = nvrtc.compile(family, dtype, architecture, **constants)
    assert [use.kernel for use in used] == list(module.kernels(family)) != []
    for use in used:
        assert use.spilled == 0, f"{use.kernel} keeps {use.spilled} bytes per thread in memory, not in registers"
        assert 0 < use.registers <= 255 and use.shared <= 48 * 1024


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
