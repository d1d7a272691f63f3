"""What the tests of the engine begin and end with."""

from __future__ import annotations

from typing import Any

import numpy as np

import tensorlite as tl


def leaf(*values: Any, dtype: Any = np.float64) -> tl.Tensor:
    return tl.tensor(list(values), dtype=dtype, requires_grad=True)


def same(x: Any, expected: Any) -> None:
    np.testing.assert_allclose(x.detach().numpy() if isinstance(x, tl.Tensor) else x, expected, rtol=1e-12)
