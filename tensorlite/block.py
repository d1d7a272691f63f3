"""A formula on a block of rows, in NumPy, which may have a twin: a loop over numbers, compiled by Numba.

What a formula in NumPy does in ten passes over its arrays, a loop does in one, and it lets go of the interpreter's
lock while it runs. The twins lie in kernels/compiled/ and run where Numba is installed, on float32 and masks; nothing
depends on them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from . import levels

FORMATS = (np.float32, np.bool_)


class Block:
    """A function that writes into arrays, called as such. Decorates the formula in NumPy; kernels/compiled/ attaches
    the loop, which takes the same arguments."""

    def __init__(self, formula: Callable[..., None]):
        self.formula = formula
        self.loop: Callable[..., None] | None = None
        self.__doc__ = formula.__doc__

    def compiled(self, dtype: Any) -> bool:
        """Whether arrays of this dtype go through the loop. The first time this loads Numba."""
        if dtype not in FORMATS or levels.current != "compiled":
            return False
        if not _loaded:
            _load()
        return self.loop is not None

    def __call__(self, *arrays: Any) -> Any:
        if isinstance(arrays[0], np.ndarray) and self.compiled(arrays[0].dtype):
            return self.loop(*arrays)  # type: ignore[misc]
        return self.formula(*arrays)


_loaded = False


def _load() -> None:
    """Let the loops attach themselves, once. A Numba that does not go with this NumPy refuses to be imported."""
    global _loaded
    try:
        from .kernels import compiled  # noqa: F401
    except ImportError as error:
        warnings.warn(f"tensorlite runs without compiled loops, since Numba cannot be loaded: {error}", stacklevel=4)
    _loaded = True
