"""From the readable to the fast: at which level fused ops run. Ops without a version at that level run the one below.

reference  composed of simple ops                     plain     one formula on whole arrays
kernel     on blocks that fit in the cache            compiled  the same in loops, by Numba
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

# As far as this machine has them.
LEVELS = (
    "reference",
    "plain",
    "kernel",
    *(["compiled"] if find_spec("numba") and find_spec(f"{__package__}.kernels") else []),
)


def _known(name: str) -> str:
    if name == "compiled" and name not in LEVELS:
        raise RuntimeError("the level 'compiled' needs Numba: pip install 'tensorlite[compiled]'")
    if name not in LEVELS:
        raise ValueError(f"there is no level {name!r}; the levels are {', '.join(LEVELS)}")
    return name


current = _known(os.environ.get("TENSORLITE_LEVEL", LEVELS[-1]))


def level() -> str:
    """The level at which ops run: the highest there is, unless `using` or TENSORLITE_LEVEL says otherwise."""
    return current


@contextmanager
def using(name: str) -> Iterator[None]:
    """Force a level for teaching, debugging and tests: "reference", "plain", "kernel" or "compiled".

    Raises ValueError for a level that does not exist, RuntimeError for one that needs what is not installed.
    """
    global current
    before, current = current, _known(name)
    try:
        yield
    finally:
        current = before
