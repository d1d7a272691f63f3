"""Samples of the ops in ops/embedding.py."""

import numpy as np

from .sample import S, Table, integers, normal

# fmt: off
SAMPLES: Table = {
    "embedding": [
        S(normal(5, 2), integers(5, 2, 4)), S(normal(5, 2), integers(5)), S(normal(5, 2), integers(5, 0)),
        S(normal(1, 2), integers(1, 3)), S(normal(2, 5).T, integers(5, 3).astype(np.uint16)),
    ],
    "embedding_grad": [
        S(normal(2, 4, 2), integers(5, 2, 4), count=5), S(normal(2), integers(5), count=5),
        S(normal(0, 2), integers(5, 0), count=5), S(normal(2, 3).T, integers(5, 3), count=5),
    ],
}

LARGE: Table = {
    "embedding": [S(normal(300, 65), integers(300, 4, 99))],
}
