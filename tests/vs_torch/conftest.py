"""Each comparison starts from the same numbers, and in silence."""

from collections.abc import Iterator

import numpy as np
import pytest

from tensorlite.check.samples.sample import rng

START = rng.bit_generator.state


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """NumPy warns of infinities and nan, PyTorch does not; here they are wanted."""
    rng.bit_generator.state = START
    with np.errstate(all="ignore"):
        yield
