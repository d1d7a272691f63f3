"""Normalisation, against PyTorch."""

from __future__ import annotations

from itertools import product

import numpy as np
from compare import Case, compare, functional, table

from tensorlite.check.samples.sample import normal, positive

NORMALISATION: dict[str, Case] = {
    "layer_norm, constant rows": (functional("layer_norm", (4,)), np.ones((2, 4))),
    "layer_norm in float32": (functional("layer_norm", (64,)), normal(3, 64).astype(np.float32) * 10 + 5),
    "layer_norm, wrong shape": (functional("layer_norm", (3,)), normal(2, 4)),
    "layer_norm of no rows": (functional("layer_norm", (4,)), normal(0, 4)),
}

for _n, _w, _b in product([(4,), (3, 4)], [True, False], [True, False]):
    NORMALISATION[f"layer_norm over {_n}, weight {_w}, bias {_b}"] = (
        lambda m, x, w, b, n=_n: m.nn.functional.layer_norm(x, n, w, b, eps=1e-3),
        normal(2, 3, 4), positive(*_n) if _w else None, normal(*_n) if _b else None,
    )  # fmt: skip


@table(NORMALISATION)
def test_normalisation(case: Case):
    compare(*case)
