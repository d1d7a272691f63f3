"""Checksums of files and of arrays: CRC-32, which finds what a disk or a wire does to bytes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from zlib import crc32

import numpy as np

_PIECE = 1 << 20  # bytes read at a time


def of_file(path: Path) -> str:
    """As eight hexadecimal digits. Raises OSError if the file cannot be read."""
    value = 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            value = crc32(piece, value)
    return f"{value:08x}"


def of_arrays(arrays: Iterable[np.ndarray]) -> str:
    """Of the numbers of all arrays, one after the other, as eight hexadecimal digits.

    >>> of_arrays([np.array([1, 2], np.uint16)]) == of_arrays([np.array([1, 2], np.uint16)])
    True
    """
    value = 0
    for array in arrays:
        value = crc32(np.ascontiguousarray(array).data, crc32(str(array.dtype).encode(), value))
    return f"{value:08x}"
