"""matmul and linear by cuBLASLt (cublaslt.py). Factors of two bytes a number are multiplied as they are, and added up
in float32; so are float32 ones, or in TF32 where `backends` says so."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from ... import backends
from ...capture import refuse
from ...device import device_of, xp
from ...dtype import widened
from ...ops.matrix import _linear, _matmul
from ...ops.matrix import rows as as_rows
from .cublaslt import TYPES, WORKSPACE, Operand, Plan, Problem, choices, library, version
from .matrix import column_sum
from .module import supported

REPEATS = 5  # runs of each algorithm that is tried


def operand(x: Any) -> Operand | None:
    """How a matrix (…, rows, columns) lies; None if neither its rows nor its columns do so in order."""
    item, rows, columns = x.itemsize, x.shape[-2], x.shape[-1]
    down, along = x.strides[-2] // item, x.strides[-1] // item
    if (along == 1 or columns == 1) and (down >= columns or rows == 1):
        transposed, leading = False, down if rows > 1 else columns
    elif (down == 1 or rows == 1) and (along >= rows or columns == 1):
        transposed, leading = True, along if columns > 1 else rows
    else:
        return None
    stride = 0
    if x.ndim > 2:
        # A batch of several dimensions is one if they follow each other in memory.
        steps = [s // item for s, n in zip(x.strides[:-2], x.shape[:-2]) if n > 1]
        sizes = [n for n in x.shape[:-2] if n > 1]
        if any(step != below * n for step, below, n in zip(steps, steps[1:], sizes[1:])):
            return None
        stride = steps[-1] if steps else 0
    address = x.data.ptr if hasattr(x.data, "ptr") else 0
    return Operand(transposed, leading, stride, min(address & -address, 256) or 256)


def describe(a: Any, b: Any, y: Any, bias: Any = None, accumulate: bool = False) -> Problem | None:
    """The product of two arrays, or None if it must be computed otherwise."""
    if a.dtype != b.dtype or a.dtype.name not in TYPES or (a.shape[:-2] != b.shape[:-2] and a.ndim > 2 < b.ndim):
        return None
    wide = y.dtype != a.dtype
    if wide and (y.dtype != np.float32 or bias is not None):
        return None
    how = operand(a), operand(b), operand(y)
    if None in how or not y.size or not a.shape[-1]:
        return None
    batch = math.prod(y.shape[:-2])
    tf32 = a.dtype == np.float32 and backends.tf32()
    sizes = y.shape[-2], y.shape[-1], a.shape[-1]
    return Problem(a.dtype.name, *sizes, *how, batch, bias is not None, accumulate, tf32, wide)  # type: ignore[arg-type]


@cache
def plan(problem: Problem) -> Plan:
    return Plan(problem)


@cache
def workspace(where: Any, device: int) -> Any:
    return where.empty(WORKSPACE, np.uint8)


def product(a: Any, b: Any, bias: Any = None, out: Any = None, accumulate: bool = False) -> Any:
    """(…, n, k) (…, k, m) [+ (m,)] -> (…, n, m) in the factors' dtype; NotImplemented where the library cannot.

    out         an array for the product, which is returned; it may be float32 where the factors have two bytes a number
    accumulate  the product is added to what `out` holds
    """
    where = xp(a)
    if where is np or library() is None:
        return _by_arrays(a, b, bias, out, accumulate)
    y = out
    if y is None:
        y = where.empty((*(a.shape if a.ndim >= b.ndim else b.shape)[:-2], a.shape[-2], b.shape[-1]), a.dtype)
    problem = describe(a, b, y, bias, accumulate)
    if problem is None:
        return NotImplemented
    device = device_of(a).index or 0
    solution = plan(problem)
    stream = where.cuda.get_current_stream().ptr
    ends = workspace(where, device).data.ptr, device, stream
    pointers = a.data.ptr, b.data.ptr
    vector = 0 if bias is None else bias.data.ptr
    if solution.algorithm is None:
        solution.algorithm = _fastest(where, solution, pointers, y, vector, ends)
    solution.run(*pointers, y.data.ptr, vector, *ends, solution.algorithm)
    return y


def _by_arrays(a: Any, b: Any, bias: Any, out: Any, accumulate: bool) -> Any:
    """CuPy multiplies two matrices of two bytes a number; of more it can but float32 and float64. NumPy would add up
    in two bytes."""
    if a.dtype != b.dtype or a.dtype.name not in TYPES or a.ndim != 2 or b.ndim != 2:
        return NotImplemented
    y = widened(a) @ widened(b) if xp(a) is np else a @ b
    if bias is not None:
        y += bias
    if out is None:
        return y.astype(a.dtype, copy=False)
    if accumulate:
        out += y.astype(out.dtype, copy=False)
    else:
        out[...] = y.astype(out.dtype, copy=False)
    return out


def _fastest(
    where: Any, solution: Plan, pointers: tuple[int, int], y: Any, bias: int, ends: tuple[int, int, int]
) -> Any:
    """The algorithm known from an earlier run, or the one that takes the shortest now. Waits for the GPU."""
    _, device, _ = ends
    refuse(f"the fastest algorithm for {solution.problem} is not known", "run the block some times before recording it")
    name = where.cuda.runtime.getDeviceProperties(device)["name"].decode()
    key = f"{name} {version()} {tuple(solution.problem)}"
    if (known := choices().get(key)) is not None:
        return known
    scratch = where.empty_like(y)  # y itself may hold what is to be added to
    before, after = where.cuda.Event(), where.cuda.Event()
    times: list[tuple[float, int]] = []
    candidates = solution.candidates(device)
    for i, algorithm in enumerate(candidates):
        try:
            for turn in range(REPEATS + 1):
                if turn == 1:  # the first run may load the kernel
                    before.record()
                solution.run(*pointers, scratch.data.ptr, bias, *ends, algorithm)
        except RuntimeError:
            continue
        after.record()
        after.synchronize()
        times.append((where.cuda.get_elapsed_time(before, after), i))
    if not times:
        raise RuntimeError(f"cuBLASLt has no algorithm for {solution.problem}, of {len(candidates)} it proposed")
    best = candidates[min(times)[1]]
    choices().put(key, best)
    return best


def _multiply(a: Any, b: Any) -> Any:
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-2]:
        return NotImplemented  # the plain level complains
    if b.ndim == 2 < a.ndim and a.flags.c_contiguous:
        y = product(as_rows(a), b)
        return y if y is NotImplemented else y.reshape(*a.shape[:-1], b.shape[-1])
    if a.shape[:-2] != b.shape[:-2]:
        return NotImplemented
    return product(a, b)


def _affine(x: Any, weight: Any, bias: Any) -> Any:
    fits = x.dtype == weight.dtype and x.shape[-1:] == weight.shape[1:] and x.size
    if not fits or (bias is not None and (bias.shape != weight.shape[:1] or bias.dtype != x.dtype)):
        return NotImplemented
    y = product(as_rows(x), weight.T, bias)
    return y if y is NotImplemented else y.reshape(*x.shape[:-1], len(weight))


def _dbias(g: Any) -> Any:
    g = xp(g).ascontiguousarray(as_rows(g))
    return column_sum(g) if supported(g) else g  # the engine adds up what is left


_matmul.kernel("cuda", _multiply, da=_matmul.plain.rows["a"], db=_matmul.plain.rows["b"])
_linear.kernel("cuda", _affine, dx=_linear.plain.rows["x"], dweight=_linear.plain.rows["weight"], dbias=_dbias)
