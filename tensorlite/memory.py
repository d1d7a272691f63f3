"""Freed arrays are kept for the next ones.

A training step makes and frees the same arrays again and again. By default the C library gives every freed array above
128 KB back to the system, and the next one costs page faults and pages of zeros: measured, a sixth of a small model's
step and an eighth of a large one's. Told to take all memory from its heap and to keep what was freed, it hands the same
pages out again, and a step in steady state takes no fresh memory. What a process has taken stays with it until it ends,
up to the most it ever needed.

`TENSORLITE_MALLOC=system` in the environment leaves the C library as it is. Only glibc (Linux) can be told.
"""

from __future__ import annotations

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # glibc's malloc.h: M_TRIM_THRESHOLD, M_MMAP_MAX


def keep_freed_memory() -> bool:
    """Tell glibc's malloc to keep freed memory. Returns whether it could be told."""
    if sys.platform != "linux" or os.environ.get("TENSORLITE_MALLOC") == "system":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, -1))
