"""Freed arrays are kept for the next ones.

A training step makes and frees the same arrays again and again. By default the C library gives every freed array above
128 KB back to the system, and the next one costs a page fault, and a page of zeros, per 4 KB: measured, a sixth of a
small model's step. Told to keep what was freed, it hands the same pages out again. The memory a process has taken then
stays with it until it ends, up to the largest it ever needed; arrays above 32 MB always go back.

`TENSORLITE_MALLOC=system` in the environment leaves the C library as it is. Only glibc (Linux) can be told.
"""

from __future__ import annotations

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's malloc.h: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
_LARGEST = 32 << 20  # bytes, the most that glibc accepts for the second


def keep_freed_memory() -> bool:
    """Tell glibc's malloc to keep freed memory. Returns whether it could be told."""
    if sys.platform != "linux" or os.environ.get("TENSORLITE_MALLOC") == "system":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST)) and bool(mallopt(_TRIM_THRESHOLD, 2**31 - 1))
