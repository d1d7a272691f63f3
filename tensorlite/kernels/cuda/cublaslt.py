"""Matrix products by cuBLASLt, called directly: bias added on the way out, sums into what is there, any two of four
layouts without a copy. CuPy's own `matmul` has none of it.

A product is described once per shape (`Plan`). Of the algorithms which the library proposes for it, the fastest is
found by running them; the choice is kept in a file, so that the next run on this machine computes the same bits.

https://docs.nvidia.com/cuda/cublas/#using-the-cublaslt-api; the numbers below are those of cublasLt.h.
"""

from __future__ import annotations

import ctypes
import json
import os
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from ...serialize import replacing

WORKSPACE = 32 << 20  # bytes; what NVIDIA advises for Hopper
CANDIDATES = 8  # algorithms that are tried
TYPES = {"float32": 0, "float16": 2, "bfloat16": 14}  # cudaDataType
_COMPUTE_32F, _COMPUTE_TF32, _R_32F = 68, 77, 0
_TRANSA, _TRANSB, _EPILOGUE, _BIAS_POINTER, _BIAS_TYPE = 3, 4, 7, 8, 26  # cublasLtMatmulDescAttributes_t
_BATCH_COUNT, _BATCH_STRIDE = 5, 6  # cublasLtMatrixLayoutAttribute_t
_PREF_WORKSPACE, _PREF_ALIGNMENT = 1, (5, 6, 7, 8)  # cublasLtMatmulPreferenceAttributes_t, of A, B, C, D
_EPILOGUE_BIAS = 4
_STATUS = {1: "not initialised", 3: "out of memory", 7: "invalid value", 8: "GPU too old", 11: "memory", 13: "failed",
           14: "internal error", 15: "not supported"}  # fmt: skip


class Operand(NamedTuple):
    """A matrix as it lies in memory, or a batch of them: `transposed`, if its columns lie in order and not its rows."""

    transposed: bool
    leading: int  # numbers from one row (column) to the next
    stride: int  # numbers from one matrix of the batch to the next; 0: all share one
    alignment: int  # bytes


class Problem(NamedTuple):
    """y (n, m) = a (n, k) b (k, m) [+ bias (m,)] [+ y], `batch` times. `wide`: y is float32, of halves."""

    dtype: str
    n: int
    m: int
    k: int
    a: Operand
    b: Operand
    y: Operand
    batch: int = 1
    bias: bool = False
    accumulate: bool = False
    tf32: bool = False
    wide: bool = False


class Heuristic(ctypes.Structure):
    _fields_ = [("algorithm", ctypes.c_uint64 * 8), ("workspace", ctypes.c_size_t), ("state", ctypes.c_int),
                ("waves", ctypes.c_float), ("reserved", ctypes.c_int * 4)]  # fmt: skip


@cache
def library() -> Any:
    """The shared library, or None if it is not on this machine."""
    try:
        from cuda.pathfinder import load_nvidia_dynamic_lib  # comes with CuPy

        return ctypes.CDLL(load_nvidia_dynamic_lib("cublasLt").abs_path)
    except (ImportError, RuntimeError):
        pass
    spec = find_spec("nvidia")
    for folder in spec.submodule_search_locations or () if spec else ():
        for path in sorted(Path(folder).glob("*/lib/libcublasLt.so.*")):
            return ctypes.CDLL(str(path))
    return None


def _call(name: str, *arguments: Any) -> None:
    """Raises RuntimeError if the library refuses."""
    status = getattr(library(), f"cublasLt{name}")(*arguments)
    if status:
        raise RuntimeError(f"cublasLt{name}: {_STATUS.get(status, 'error')} (status {status})")


@cache
def handle(device: int) -> ctypes.c_void_p:
    """The library's context on a GPU, which must be the current one."""
    made = ctypes.c_void_p()
    _call("Create", ctypes.byref(made))
    return made


class Plan:
    """The library's description of a Problem, and with `choose` the algorithm that solves it."""

    def __init__(self, problem: Problem):
        self.problem = problem
        self.algorithm: Any = None
        self.one, self.beta = ctypes.c_float(1), ctypes.c_float(problem.accumulate)
        kind = TYPES[problem.dtype]
        # The library counts columns first. So it is told of y transposed, (m, n) = bᵀ aᵀ, whose memory is that of y.
        self.description = ctypes.c_void_p()
        compute = _COMPUTE_TF32 if problem.tf32 else _COMPUTE_32F
        _call("MatmulDescCreate", ctypes.byref(self.description), compute, _R_32F)
        self._set(_TRANSA, ctypes.c_int(problem.b.transposed))
        self._set(_TRANSB, ctypes.c_int(problem.a.transposed))
        if problem.bias:
            self._set(_EPILOGUE, ctypes.c_int(_EPILOGUE_BIAS))
            self._set(_BIAS_TYPE, ctypes.c_int(kind))
        n, m, k = problem.n, problem.m, problem.k
        self.layouts = [
            self._layout(kind, *((k, m) if problem.b.transposed else (m, k)), problem.b),
            self._layout(kind, *((n, k) if problem.a.transposed else (k, n)), problem.a),
            self._layout(_R_32F if problem.wide else kind, m, n, problem.y),
        ]

    def _set(self, attribute: int, value: Any) -> None:
        size = ctypes.c_size_t(ctypes.sizeof(value))
        _call("MatmulDescSetAttribute", self.description, attribute, ctypes.byref(value), size)

    def _layout(self, kind: int, rows: int, columns: int, operand: Operand) -> ctypes.c_void_p:
        layout = ctypes.c_void_p()
        sizes = ctypes.c_uint64(rows), ctypes.c_uint64(columns), ctypes.c_int64(operand.leading)
        _call("MatrixLayoutCreate", ctypes.byref(layout), kind, *sizes)
        if self.problem.batch > 1:
            batch = ctypes.c_int32(self.problem.batch), ctypes.c_int64(operand.stride)
            for attribute, value in zip((_BATCH_COUNT, _BATCH_STRIDE), batch):
                size = ctypes.c_size_t(ctypes.sizeof(value))
                _call("MatrixLayoutSetAttribute", layout, attribute, ctypes.byref(value), size)
        return layout

    def candidates(self, device: int) -> list[Any]:
        """The algorithms that the library proposes for this GPU, the most promising first."""
        b, a, y = self.layouts
        preference = ctypes.c_void_p()
        _call("MatmulPreferenceCreate", ctypes.byref(preference))
        try:
            wanted: list[tuple[int, Any]] = [(_PREF_WORKSPACE, ctypes.c_size_t(WORKSPACE))]
            operands = (self.problem.b, self.problem.a, self.problem.y, self.problem.y)
            wanted += [(name, ctypes.c_uint32(x.alignment)) for name, x in zip(_PREF_ALIGNMENT, operands)]
            for attribute, value in wanted:
                size = ctypes.c_size_t(ctypes.sizeof(value))
                _call("MatmulPreferenceSetAttribute", preference, attribute, ctypes.byref(value), size)
            found, count = (Heuristic * CANDIDATES)(), ctypes.c_int()
            described = self.description, b, a, y, y, preference
            _call("MatmulAlgoGetHeuristic", handle(device), *described, CANDIDATES, found, ctypes.byref(count))
        finally:
            _call("MatmulPreferenceDestroy", preference)
        return [x.algorithm for x in found[: count.value] if x.state == 0]

    def run(self, a: int, b: int, y: int, bias: int, workspace: int, device: int, stream: int, algorithm: Any) -> None:
        """Start the product; the arrays are addresses on the GPU."""
        if bias:
            self._set(_BIAS_POINTER, ctypes.c_void_p(bias))
        lb, la, ly = self.layouts
        pa, pb, py = [ctypes.c_void_p(p) for p in (a, b, y)]
        ends = algorithm, ctypes.c_void_p(workspace), ctypes.c_size_t(WORKSPACE), ctypes.c_void_p(stream)
        _call("Matmul", handle(device), self.description, ctypes.byref(self.one), pb, lb, pa, la,
              ctypes.byref(self.beta), py, ly, py, ly, *ends)  # fmt: skip


class Choices:
    """Which algorithm was the fastest, by GPU, library and problem, kept in a file.

    TENSORLITE_CACHE names the folder, by default ~/.cache/tensorlite. What cannot be written is forgotten at the end.
    """

    def __init__(self) -> None:
        folder = os.environ.get("TENSORLITE_CACHE") or Path.home() / ".cache" / "tensorlite"
        self.path = Path(folder) / "cublaslt.json"
        try:
            self.known: dict[str, list[int]] = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self.known = {}

    def get(self, key: str) -> Any:
        words = self.known.get(key)
        return (ctypes.c_uint64 * 8)(*words) if isinstance(words, list) and len(words) == 8 else None

    def put(self, key: str, algorithm: Any) -> None:
        self.known[key] = list(algorithm)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.path) as beside:
                beside.write_text(json.dumps(self.known, indent=0), encoding="utf-8")
        except OSError:
            pass


@cache
def choices() -> Choices:
    return Choices()


@cache
def version() -> int:
    library().cublasLtGetVersion.restype = ctypes.c_size_t
    return library().cublasLtGetVersion()
