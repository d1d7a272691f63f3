"""Checks of numbers on a GPU that do not wait for it: what is wrong is raised when numbers next come to the CPU.

An id beyond the vocabulary is an error. On the CPU it is raised where it stands; on a GPU looking at it would make the
program wait for all the device still has to do. CuPy itself takes such an id modulo the length, and goes on. So the
smallest and the largest id that an op met are kept on the device, and read along with whatever is read next: `.item()`,
`.cpu()`, printing, `cuda.synchronize()`. No number that came of it is seen before.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

_pending: dict[Any, dict[tuple[str, int, int], list[Any]]] = {}  # device -> (words, first, length) -> [low, high]


def within(ids: Any, first: int, length: int, outside: str, library: Any) -> None:
    """Note that the integers `ids`, of a GPU, must lie from `first` to below `length`; `outside` are the words of the
    IndexError, with {} for the id and for the length."""
    if not ids.size:
        return
    if isinstance(ids, np.ndarray):
        _check(int(ids.min()), int(ids.max()), first, length, outside)
        return
    seen = _pending.setdefault(ids.device.id, {}).setdefault((outside, first, length), [])
    with ids.device:
        low, high = ids.min(), ids.max()
        if seen:
            low, high = library.minimum(low, seen[0]), library.maximum(high, seen[1])
    seen[:] = low, high


def set_aside(device: Any, back: dict | None = None) -> dict:
    """What has been noted on a device, which from now on is what `back` holds: a graph is recorded in between."""
    noted = _pending.pop(device.index, {})
    if back:
        _pending[device.index] = back
    return noted


def again(device: Any, noted: dict, library: Any) -> None:
    """Note once more what a graph has noted, whose arrays the next replay writes."""
    for key, (low, high) in noted.items():
        seen = _pending.setdefault(device.index, {}).setdefault(key, [])
        seen[:] = (library.minimum(low, seen[0]), library.maximum(high, seen[1])) if seen else (low.copy(), high.copy())


def settle(device: Any) -> None:
    """Raise IndexError for the first id that was out of range on a device; does nothing on the CPU."""
    if not (noted := _pending.pop(device.index, None)):
        return
    cupy = sys.modules["cupy"]
    with cupy.cuda.Device(device.index):
        bounds = cupy.stack([x for pair in noted.values() for x in pair]).get().reshape(-1, 2)  # (checks, low and high)
    for (outside, first, length), (low, high) in zip(noted, bounds.tolist(), strict=True):
        _check(low, high, first, length, f"{outside} (found on {device} by an earlier operation)")


def _check(low: int, high: int, first: int, length: int, outside: str) -> None:
    if low < first or high >= length:
        raise IndexError(outside.format(low if low < first else high, length))
