"""How dtypes mix, against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from compare import compare

DTYPES = ["bool", "uint8", "int32", "int64", "float16", "float32", "float64"]
BOOLEANS = {"bool", "bool 0-d", "True"}
OPERANDS: dict[str, Any] = {
    **{dtype: np.array([1, 2], dtype) for dtype in DTYPES},
    **{f"{dtype} 0-d": np.array(2, dtype) for dtype in DTYPES},
    "True": True,
    "2": 2,
    "2.0": 2.0,
}
MIXING: dict[str, Callable[..., Any]] = {
    "+": lambda m, a, b: a + b,
    "-": lambda m, a, b: a - b,
    "*": lambda m, a, b: a * b,
    "/": lambda m, a, b: a / b,
    "//": lambda m, a, b: a // b,
    "**": lambda m, a, b: a**b,
    "<": lambda m, a, b: a < b,
    "where": lambda m, a, b: m.where(m.tensor([True, False]), a, b),
}


@pytest.mark.parametrize("op", MIXING)
def test_promotion(op: str):
    """Arrays, 0-dimensional arrays and Python numbers of every dtype, each with each."""
    wrong = []
    for a, b in product(OPERANDS, OPERANDS):
        if {a, b} <= {"True", "2", "2.0"} or (op == "**" and {a, b} <= BOOLEANS):
            continue
        try:
            compare(MIXING[op], OPERANDS[a], OPERANDS[b], differentiate=False)
        except AssertionError as error:
            if "PyTorch refuses" not in str(error):  # to subtract and to divide booleans
                wrong.append(f"{a} {op} {b}: {str(error).strip().splitlines()[0]}")
    assert not wrong, "\n".join(wrong)


def test_promotion_of_maximum_and_cat():
    for a, b in product(DTYPES, DTYPES):
        compare(lambda m, a, b: (m.maximum(a, b), m.cat([a, b])), np.array([1, 2], a), np.array([2, 1], b))
