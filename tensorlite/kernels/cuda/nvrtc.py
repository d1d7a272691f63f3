"""NVIDIA's run-time compiler, called without a GPU: does every source compile, and how many registers does it take?

The library and CUDA's headers are looked for in the packages nvidia-cuda-nvrtc and nvidia-cuda-runtime (the extra
`cuda-check`), which need no driver. Training does not come here: there CuPy compiles.
"""

from __future__ import annotations

import ctypes
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from .module import FAMILIES, dtypes, kernels, options, source

ARCHITECTURES = ("sm_80", "sm_90a")


class Usage(NamedTuple):
    """What a kernel takes of a multiprocessor, by the assembler's own account."""

    family: str
    kernel: str
    dtype: str
    architecture: str
    registers: int  # of 32 bits, per thread
    spilled: int  # bytes per thread that did not fit into registers
    shared: int  # bytes per block, beside those that a launch asks for


class CompileError(RuntimeError):
    """A source did not compile. The text has the compiler's messages, with file and line."""


@cache
def _library() -> tuple[Any, Path]:
    """NVRTC and the folder of CUDA's headers. Raises ImportError where either is missing."""
    spec = find_spec("nvidia")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        for shared in sorted(Path(root).glob("*/lib/libnvrtc.so.*")):
            include = shared.parent.parent / "include"
            if (include / "cuda_fp16.h").is_file():
                for builtins in shared.parent.glob("libnvrtc-builtins.so.*"):
                    ctypes.CDLL(str(builtins))  # NVRTC asks for it by name, and finds what is loaded already
                return ctypes.CDLL(str(shared)), include
    raise ImportError("NVRTC and CUDA's headers are not installed: pip install 'tensorlite[cuda-check]'")


def available() -> bool:
    """Whether sources can be compiled here."""
    try:
        _library()
    except (ImportError, OSError):
        return False
    return True


def compile(family: str, dtype: str, architecture: str, **constants: int) -> list[Usage]:
    """Compile a family for arrays of a dtype, down to machine code, with constants as `module.launch` takes them.

    Raises CompileError with what the compiler said.
    """
    library, include = _library()
    text, name = source(family).encode(), f"{family}.cu".encode()
    settings = [
        *options(dtype, tuple(constants.items())),
        f"--gpu-architecture={architecture}",
        f"-I{include}",
        "--ptxas-options=-v",
    ]
    program = ctypes.c_void_p()
    _check(library.nvrtcCreateProgram(ctypes.byref(program), text, name, 0, None, None))
    try:
        given = (ctypes.c_char_p * len(settings))(*[setting.encode() for setting in settings])
        failed = library.nvrtcCompileProgram(program, len(settings), given)
        size = ctypes.c_size_t()
        _check(library.nvrtcGetProgramLogSize(program, ctypes.byref(size)))
        log = ctypes.create_string_buffer(size.value)
        _check(library.nvrtcGetProgramLog(program, log))
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))
    said = log.value.decode(errors="replace")
    if failed:
        raise CompileError(f"{family}.cu does not compile for {dtype} on {architecture}:\n{said}")
    return [Usage(family, kernel, dtype, architecture, *_figures(said, kernel)) for kernel in kernels(family)]


def _check(status: int) -> None:
    if status:
        raise CompileError(f"NVRTC answers with error {status}")


def _figures(log: str, kernel: str) -> tuple[int, int, int]:
    """Registers, spilled bytes and shared bytes of a kernel, from the assembler's report."""
    _, found, rest = log.partition(f"Compiling entry function '{kernel}'")
    rest = rest.partition("Compiling entry function")[0]
    registers = re.search(r"Used (\d+) registers", rest)
    if not found or registers is None:
        raise CompileError(f"the assembler says nothing of {kernel}:\n{log}")
    spilled = sum(map(int, re.findall(r"(\d+) bytes spill", rest)))
    shared = re.search(r"(\d+) bytes smem", rest)
    return int(registers[1]), spilled, int(shared[1]) if shared else 0


def compile_all(architectures: tuple[str, ...] = ARCHITECTURES) -> list[Usage]:
    """Every kernel, for every dtype and architecture."""
    cases = [(family, dtype, arch) for family in FAMILIES for dtype in dtypes(family) for arch in architectures]
    return [usage for case in cases for usage in compile(*case)]
