"""Normalisation, against PyTorch."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from compare import INF, NAN, Case, compare, functional, table

from tensorlite.check.samples.sample import normal, positive

NORMALISATION: dict[str, Case] = {
    "normalize, number": (functional("normalize", dim=0), normal()),
    "normalize, dim that is not there": (functional("normalize"), normal(3)),
    "normalize, zeros": (lambda m, x: m.nn.functional.normalize(x.detach()), np.zeros((2, 3))),
    "normalize, shorter than eps": (functional("normalize", eps=10.0), normal(2, 3)),
    "cosine_similarity": (functional("cosine_similarity"), normal(3, 4), normal(3, 4)),
    "cosine_similarity, broadcast": (functional("cosine_similarity", dim=-1), normal(3, 1, 4), normal(2, 4)),
    "cosine_similarity over 0": (functional("cosine_similarity", 0, 1e-3), normal(3, 4), normal(3, 4)),
    "cosine_similarity, zeros": (
        lambda m, x, y: m.nn.functional.cosine_similarity(x.detach(), y.detach()), np.zeros((2, 3)), normal(2, 3),
    ),
    "cosine_similarity, shapes": (functional("cosine_similarity"), normal(3, 4), normal(3, 5)),
}  # fmt: skip
for _p, _dim in product([2.0, 1.0, 3.0, INF], [0, 1, -1]):
    NORMALISATION[f"normalize, p={_p}, dim={_dim}"] = (functional("normalize", _p, _dim), normal(3, 4, 2))

for _name in ("layer_norm", "rms_norm"):
    _f = functional(_name, (4,))
    NORMALISATION |= {
        f"{_name}, constant rows": (_f, np.ones((2, 4))),
        f"{_name} in float32": (functional(_name, (64,)), normal(3, 64).astype(np.float32) * 10 + 5),
        f"{_name} in float16": (functional(_name, (64,)), normal(3, 64).astype(np.float16) * 100 + 50),
        f"{_name} in float16, squares above 65504": (_f, np.array([[3e4, -3e4, 2e4, 1e4]], np.float16)),
        f"{_name} in float16 with weights": (_f, *[x.astype(np.float16) for x in (normal(3, 4), positive(4))]),
        f"{_name}, tiny numbers": (_f, normal(2, 4).astype(np.float32) * 1e-5),
        f"{_name}, wrong shape": (functional(_name, (3,)), normal(2, 4)),
        f"{_name}, too many dimensions": (functional(_name, (3, 2, 4)), normal(2, 4)),
        f"{_name}, shape of the weight": (_f, normal(2, 4), positive(1)),
        f"{_name}, dtype of the weight": (_f, normal(2, 4).astype(np.float32), positive(4)),
        f"{_name} of no rows": (_f, normal(0, 4)),
        f"{_name} of one": (functional(_name, (1,)), normal(3, 1)),
        f"{_name} of a number": (functional(_name, ()), normal()),
        f"{_name} of integers": (_f, np.ones((2, 4), int)),
        f"{_name} of infinity": (lambda m, x, f=_f: f(m, x.detach()), np.array([[1.0, INF, 0, 0], [NAN, 0, 0, 0]])),
    }

for _n, _w, _b in product([(4,), (3, 4)], [True, False], [True, False]):
    NORMALISATION[f"layer_norm over {_n}, weight {_w}, bias {_b}"] = (
        lambda m, x, w, b, n=_n: m.nn.functional.layer_norm(x, n, w, b, eps=1e-3),
        normal(2, 3, 4), positive(*_n) if _w else None, normal(*_n) if _b else None,
    )  # fmt: skip
    NORMALISATION[f"rms_norm over {_n}, weight {_w}, eps {_b}"] = (
        lambda m, x, w, n=_n, eps=1e-3 if _b else None: m.nn.functional.rms_norm(x, n, w, eps),
        normal(2, 3, 4), positive(*_n) if _w else None,
    )  # fmt: skip


def batch_norm(**options: Any) -> Any:
    """The result, and the running mean and variance after it."""

    def all_three(m: Any, x: Any, w: Any = None, b: Any = None) -> Any:
        mean, var = m.arange(3).to(x.dtype), m.ones(3).to(x.dtype)
        return m.nn.functional.batch_norm(x, mean, var, w, b, **options), mean, var

    return all_three


TRAIN = {"training": True, "momentum": 0.3}
for _shape in ((5, 3), (4, 3, 2), (2, 3, 2, 2), (1, 3, 4)):
    NORMALISATION |= {
        f"batch_norm {_shape}": (batch_norm(), normal(*_shape)),
        f"batch_norm {_shape}, weight and bias": (batch_norm(eps=0.1), normal(*_shape), positive(3), normal(3)),
        f"batch_norm {_shape}, training": (batch_norm(**TRAIN), normal(*_shape)),
        f"batch_norm {_shape}, training, weight and bias": (
            batch_norm(**TRAIN),
            normal(*_shape),
            positive(3),
            normal(3),
        ),
    }
NORMALISATION |= {
    "batch_norm without running numbers": (functional("batch_norm", None, None, training=True), normal(4, 3)),
    "batch_norm without running numbers, evaluating": (functional("batch_norm", None, None), normal(4, 3)),
    "batch_norm in float32": (batch_norm(**TRAIN), normal(40, 3).astype(np.float32)),
    "batch_norm on one number": (batch_norm(**TRAIN), normal(1, 3)),
    "batch_norm, other channels": (batch_norm(**TRAIN), normal(4, 2)),
    "batch_norm, shape of the weight": (batch_norm(), normal(4, 3), positive(2)),
}


@table(NORMALISATION)
def test_normalisation(case: Case):
    compare(*case)
