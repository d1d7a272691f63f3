"""cupy.random, as far as Generator goes: float32 and float64 only, integers from a range, and no state to be saved."""

from __future__ import annotations

from typing import Any

import numpy as np

from .api import check_call
from .array import ndarray, owned


class Philox4x3210:
    """A source of bits. The real one is another generator of the same name."""

    def __init__(self, seed: Any = None):
        self.numbers = np.random.Generator(np.random.Philox(seed))


class Generator:
    """cupy.random.Generator"""

    def __init__(self, bit_generator: Philox4x3210):
        self._numbers = bit_generator.numbers

    def _draw(self, name: str, *args: Any, **kwargs: Any) -> ndarray:
        check_call("Generator", name, args, kwargs)
        if np.dtype(kwargs.get("dtype", float)) not in (np.float32, np.float64) and name != "integers":
            raise TypeError(f"{name}: only float32 and float64 are supported, not {kwargs['dtype']}")
        return owned(getattr(self._numbers, name)(*args, **kwargs))

    def random(self, *args: Any, **kwargs: Any) -> ndarray:
        return self._draw("random", *args, **kwargs)

    def standard_normal(self, *args: Any, **kwargs: Any) -> ndarray:
        return self._draw("standard_normal", *args, **kwargs)

    def integers(self, *args: Any, **kwargs: Any) -> ndarray:
        return self._draw("integers", *args, **kwargs)


OFFERED: dict[str, Any] = {
    "Generator": Generator,
    "Philox4x3210": Philox4x3210,
    "default_rng": lambda seed=None: Generator(Philox4x3210(seed)),
}
