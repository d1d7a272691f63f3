"""Activations, against PyTorch."""

from __future__ import annotations

import numpy as np
from compare import INF, NAN, Case, call, compare, functional, method, table

from tensorlite.check.samples.sample import normal

ROWS = np.array([[1.0, -INF, 2.0], [-INF, -INF, 0.0], [1e4, 0.0, -1e4]])
LINE = np.linspace(-8, 8, 50)

ACTIVATIONS: dict[str, Case] = {
    "softmax of a number": (method("softmax", 0), normal()),
    "softmax of no classes": (method("softmax", -1), normal(3, 0)),
    "softmax of no rows": (method("softmax", -1), normal(0, 3)),
    "gelu, wrong form": (functional("gelu", approximate="fast"), normal(2)),
    "dropout of nothing": (functional("dropout", 0.0), normal(3)),
    "dropout of all": (functional("dropout", 1.0), normal(3)),
    "dropout in evaluation": (functional("dropout", 0.5, training=False), normal(3)),
}

for _name in ("softmax", "log_softmax"):
    ACTIVATIONS |= {
        **{f"{_name} over {dim}": (call(_name, dim), normal(2, 3, 4)) for dim in (0, 1, 2, -1, -3, 3)},
        f"{_name} with -inf": (method(_name, -1), ROWS),
        f"{_name} of -inf only": (method(_name, -1), np.full((1, 2), -INF)),
        f"{_name} with nan": (method(_name, -1), np.array([[1.0, NAN], [1.0, 2.0]])),
        f"{_name} in float32": (method(_name, -1), np.array([[80, -80, 0], [1, 2, 3]], np.float32)),
    }

for _form in ("none", "tanh"):
    ACTIVATIONS |= {
        f"gelu {_form}": (functional("gelu", approximate=_form), LINE.reshape(5, 10)),
        f"gelu {_form} in float32": (functional("gelu", approximate=_form), LINE.astype(np.float32)),
        f"gelu {_form} of a number": (functional("gelu", approximate=_form), np.array(0.7)),
    }


@table(ACTIVATIONS)
def test_activations(case: Case):
    compare(*case)
