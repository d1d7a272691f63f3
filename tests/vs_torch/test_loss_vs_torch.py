"""Losses, against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from compare import INF, Case, compare, table

from tensorlite.check.samples.sample import integers, normal, positive

ROWS = np.array([[1.0, -INF, 2.0], [-INF, -INF, 0.0], [1e4, 0.0, -1e4]])


def cross_entropy(**options: Any) -> Callable[..., Any]:
    """Of logits, targets and, if given, weights, which have no gradient."""
    return lambda m, x, t, w=None: m.nn.functional.cross_entropy(x, t, None if w is None else w.detach(), **options)


LOSSES: dict[str, Case] = {
    "-inf": (cross_entropy(), ROWS, np.array([0, 2, 0])),
    "impossible class": (cross_entropy(), ROWS, np.array([1, 2, 0])),
    "large logits": (cross_entropy(), np.array([[1e4, 0.0], [-1e4, 1e4]], np.float32), np.array([1, 1])),
    "target too large": (cross_entropy(), normal(1, 3), np.array([3])),
    "wrong batch": (cross_entropy(), normal(2, 3), np.array([1])),
    "wrong weights": (cross_entropy(), normal(2, 3), np.array([1, 0]), positive(4)),
}
for _how in ("mean", "sum", "none"):
    for _what, _options, _target in (
        ("plain", {}, [1, 4, 0, 1]),
        ("ignored", {}, [1, -100, 0, -100]),
        ("all ignored", {}, [-100] * 4),
        ("ignoring 1", {"ignore_index": 1}, [1, 4, 0, 1]),
    ):
        _loss = cross_entropy(reduction=_how, **_options)
        LOSSES[f"{_what}, {_how}"] = (_loss, normal(4, 5), np.array(_target))
        LOSSES[f"{_what}, weights, {_how}"] = (_loss, normal(4, 5), np.array(_target), positive(5))
    _loss = cross_entropy(reduction=_how, ignore_index=2)
    LOSSES |= {
        f"(C,), {_how}": (_loss, normal(5), np.array(3)),
        f"(N, C, d), {_how}": (_loss, normal(2, 5, 3), integers(5, 2, 3)),
        f"(N, C, d, e), weights, {_how}": (_loss, normal(2, 5, 3, 2), integers(5, 2, 3, 2), positive(5)),
        f"nothing, {_how}": (_loss, normal(0, 5), integers(5, 0)),
    }


@table(LOSSES)
def test_cross_entropy(case: Case):
    compare(*case)
