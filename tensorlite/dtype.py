"""The number formats, under PyTorch's names, and how they mix.

float32 is the default. A result keeps the format of its inputs; where they differ, PyTorch's rule
decides (https://docs.pytorch.org/docs/stable/tensor_attributes.html, "type promotion"): the highest
*category* wins (bool < integer < floating < complex), and within it only operands with dimensions count,
then 0-dimensional ones, then Python numbers. So `float32 * int64` is float32, where NumPy says float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, reduce
from typing import Any

import numpy as np

try:
    import ml_dtypes  # before CuPy, which looks for it once
except ImportError:
    ml_dtypes = None

dtype, iinfo = np.dtype, np.iinfo
float16 = half = np.dtype("float16")
bfloat16 = np.dtype(ml_dtypes.bfloat16) if ml_dtypes else None
float32 = np.dtype("float32")
float64 = double = np.dtype("float64")
complex128 = np.dtype("complex128")
int8 = np.dtype("int8")
int16 = short = np.dtype("int16")
int32 = np.dtype("int32")
int64 = long = np.dtype("int64")
uint8 = np.dtype("uint8")
uint16 = np.dtype("uint16")
uint32 = np.dtype("uint32")
bool_ = np.dtype("bool")

DEFAULT = float32
_default = DEFAULT
HALVES = (float16,) if bfloat16 is None else (float16, bfloat16)  # kept in two bytes, computed with as float32
_CATEGORY = {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3}
_WEAK = {bool, int, float}  # numbers that take the dtype of the floating array they meet
_PYTHON = {bool: bool_, int: int64, complex: complex128}  # floats are of the default dtype


def finfo(type: Any = None) -> Any:
    """The limits of a floating-point dtype, by default of the default one: `eps`, `max`, `min`, `tiny`, `bits`."""
    d = np.dtype(_default if type is None else type)
    return ml_dtypes.finfo(d) if d in HALVES[1:] else np.finfo(d)


def kind(dtype: np.dtype) -> str:
    """One of "biufc", as NumPy's `dtype.kind`, which does not know that bfloat16 is a float; else another letter."""
    return "f" if dtype.kind == "V" and dtype in HALVES else dtype.kind


def get_default_dtype() -> np.dtype:
    """The dtype of what is made of Python floats, or of nothing at all: float32, unless set otherwise."""
    return _default


def set_default_dtype(d: Any) -> None:
    """Make another floating-point dtype the default. Raises TypeError for other dtypes."""
    global _default
    if kind(np.dtype(d)) != "f":
        raise TypeError(f"set_default_dtype: {np.dtype(d)} is not a floating-point dtype; use float32 or float64")
    _default = np.dtype(d)
    _common.cache_clear()


def is_floating(dtype: np.dtype) -> bool:
    """Whether Tensors of this dtype can carry a gradient: floats can, and complex numbers (used for the
    complex step alone), integers cannot."""
    return kind(dtype) in "fc"


def fits(source: np.dtype, target: np.dtype) -> bool:
    """Whether a result of one dtype may be written into an array of another: floats not into integers, say."""
    return _CATEGORY[kind(source)] <= _CATEGORY[kind(target)]


def common(operands: list[Any], floating: bool = False) -> np.dtype:
    """The dtype in which an op on `operands` (arrays and Python numbers) computes.

    `floating`: the op is a function of real numbers (exp, divide), so integers become the default dtype.
    """
    ranked: tuple[list[np.dtype], ...] = ([], [], [])  # arrays with dimensions; 0-dimensional; Python numbers
    for x in operands:
        if hasattr(x, "dtype"):
            ranked[0 if x.ndim else 1].append(x.dtype)
        else:
            ranked[2].append(_PYTHON.get(type(x), _default))
    return _common(tuple(map(tuple, ranked)), floating)


@cache
def _common(groups: tuple[tuple[np.dtype, ...], ...], floating: bool) -> np.dtype:
    result: np.dtype | None = None
    for group in filter(None, groups):
        category = max(_CATEGORY[kind(dtype)] for dtype in group)
        if result is None or category > _CATEGORY[kind(result)]:
            result = reduce(_wider, (dtype for dtype in group if _CATEGORY[kind(dtype)] == category))
    if result is None or (floating and not is_floating(result)):
        return _default
    return result


def _wider(a: np.dtype, b: np.dtype) -> np.dtype:
    """Of two dtypes of one category. Neither of the halves holds all numbers of the other, so they meet in float32."""
    return float32 if a != b and a in HALVES and b in HALVES else np.promote_types(a, b)


def half_among(operands: Sequence[Any]) -> np.dtype | None:
    """The dtype of two bytes which all floats among the arrays have; None if they have another, or several."""
    floats = {x.dtype for x in operands if hasattr(x, "dtype") and is_floating(x.dtype)}
    return floats.pop() if len(floats) == 1 and floats <= set(HALVES) else None


def widened(x: Any) -> Any:
    """An array of two bytes a number as float32, so each of a tuple; anything else as it is."""
    if type(x) is tuple:
        return tuple([widened(each) for each in x])
    return x.astype(float32) if getattr(x, "itemsize", 0) == 2 and x.dtype in HALVES else x


def result_type(tensor1: Any, tensor2: Any) -> np.dtype:
    """The dtype in which two Tensors or numbers mix."""
    return common([tensor1, tensor2])


def promote_types(type1: Any, type2: Any) -> np.dtype:
    """The dtype in which Tensors of two dtypes mix, if both have dimensions."""
    return _common(((np.dtype(type1), np.dtype(type2)), (), ()), False)


def scalar(value: Any, dtype: Any, op: str) -> Any:
    """A number in a dtype; floats lose their fraction in integers. Raises RuntimeError if the dtype cannot hold it."""
    dtype = np.dtype(dtype)
    try:
        with np.errstate(over="ignore"):
            number = dtype.type(value)
    except (OverflowError, ValueError):  # of integers; inf and nan
        number = None
    if number is None or (kind(dtype) == "f" and np.isinf(number) and not np.isinf(value)):
        raise RuntimeError(f"{op}: {value} is beyond what {dtype} can hold")
    return number


def promote(operands: list[Any], floating: bool = False) -> list[Any]:
    """`operands` in the one dtype in which they mix. Python numbers stay as they are: they never change
    an array's dtype within its category (NumPy's rule too)."""
    first = operands[0]
    kind = type(first)
    if hasattr(first, "dtype") and first.dtype.kind == "f" and not isinstance(first, np.generic):
        dtype = first.dtype
        for x in operands:
            if x.dtype is not dtype if type(x) is kind else type(x) not in _WEAK:
                break
        else:
            return operands  # the usual case: nothing to do
    arrays = any(hasattr(x, "dtype") and not isinstance(x, np.generic) for x in operands)
    operands = [_operand(x, arrays) for x in operands]
    dtype = common(operands, floating)
    numbers = not any(hasattr(x, "dtype") for x in operands)
    return [x.astype(dtype, copy=False) if hasattr(x, "dtype") else dtype.type(x) if numbers else x for x in operands]


def _operand(x: Any, beside_arrays: bool) -> Any:
    """A NumPy scalar beside an array is a number like Python's; alone it is what rows make of 0-dimensional arrays.
    A matrix, whose * is another, is an array. Raises TypeError for what is no number."""
    if isinstance(x, np.generic):
        return x.item() if beside_arrays else np.asarray(x)
    if not hasattr(x, "dtype") and not isinstance(x, (float, int, complex)):
        raise TypeError(f"expected Tensors and numbers, not {type(x).__name__} {str(x)[:60]!r}")
    return np.asarray(x) if isinstance(x, np.ndarray) else x
