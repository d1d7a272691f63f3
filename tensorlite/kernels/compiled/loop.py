"""How loops are compiled, and the exponential that they call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from ...block import Block

f32 = np.float32

# A sum may be taken in another order, so that eight numbers are added at a time: the same one at every call. Nothing is
# assumed of infinities and nan.
SUMS = {"reassoc", "contract", "nsz", "arcp"}
FUSED = {"contract"}  # a product and a sum may be one operation, which rounds once


def loop_of(block: Block, sums: bool = False, compile: bool = True) -> Callable[[Callable], Callable]:
    """Decorates a loop that does what a block does.

    sums     it adds up numbers of a row. Without, operations stay in their order, so that what the loop is asked for
             beside the result, a slope say, does not change the result's last bit
    compile  False: the function is no loop but calls one
    """

    def attach(function: Callable) -> Callable:
        compiled = function
        if compile:
            compiled = njit(nogil=True, cache=True, error_model="numpy", fastmath=SUMS if sums else FUSED)(function)
        block.loop = compiled
        return compiled

    return attach


# e^x = 2^n e^r with |r| <= ln(2)/2. ln(2) is subtracted in two parts, the first of which has few digits, so that n
# times it is exact. The polynomial is that of Moshier's Cephes library (expf).
_LOG2_E, _LN2_HIGH, _LN2_LOW = f32(1.44269504088896341), f32(0.693359375), f32(-2.12194440e-4)
_HALF, _ONE = f32(0.5), f32(1)
_P0, _P1, _P2 = f32(1.9875691500e-4), f32(1.3981999507e-3), f32(8.3334519073e-3)
_P3, _P4, _P5 = f32(4.1665795894e-2), f32(1.6666665459e-1), f32(5.0000001201e-1)
_LEAST, _MOST, _ZERO, _INF = f32(-87.3), f32(88.3), f32(0), f32(np.inf)
_LOWEST = np.finfo(f32).min.view(np.int32)  # the bits of the least number


@njit(nogil=True, cache=True, error_model="numpy", fastmath=FUSED)
def exp(x: Any) -> Any:
    """e^x of a float32 to one unit in the last place, without a branch, so that a loop takes eight at a time. 0 below
    -87.3, where float32's ordinary numbers end, infinite above 88.3."""
    near = min(max(x, _LEAST), _MOST)
    n = np.floor(near * _LOG2_E + _HALF)
    r = near - n * _LN2_HIGH
    r = r - n * _LN2_LOW
    p = ((((_P0 * r + _P1) * r + _P2) * r + _P3) * r + _P4) * r + _P5
    power = np.int32((np.int32(n) + 127) << 23).view(f32)  # 2^n, whose bits are n + 127 before 23 zeros
    y = (p * r * r + r + _ONE) * power
    y = _ZERO if x < _LEAST else y
    return _INF if x > _MOST else y


@njit(nogil=True, cache=True)
def largest(row: Any) -> Any:
    """The largest of a row of float32, at least the least finite number, so that it can be subtracted; nan if one is.

    Compares the bits as integers, eight at a time: those of negative numbers are in reverse order, until all but the
    sign are turned over."""
    bits, top = row.view(np.int32), _ordered(np.int32(_LOWEST))
    for c in range(len(bits)):
        top = max(top, _ordered(bits[c]))
    return np.int32(_ordered(top)).view(f32)


@njit(nogil=True, cache=True)
def _ordered(bits: Any) -> Any:
    return np.int32(bits ^ (np.int32(bits >> 31) & np.int32(0x7FFFFFFF)))
