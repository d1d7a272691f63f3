"""Samples of the ops in ops/matrix.py."""

from .sample import S, Table, normal

# fmt: off
SAMPLES: Table = {
    "matmul": [S(normal(*a), normal(*b)) for a, b in (
        ((2, 3), (3, 4)), ((1, 1), (1, 1)), ((2, 2, 3), (2, 3, 2)), ((2, 1, 2, 3), (3, 3, 2)), ((2, 3), (2, 3, 2)),
        ((2, 2, 3), (3, 2)), ((1, 2, 3), (2, 3, 1)), ((2, 0), (0, 3)), ((0, 3), (3, 2)), ((2, 0, 3), (3, 1)),
        ((0, 2, 3), (3, 2)),
    )] + [S(normal(3, 2).T, normal(4, 3).T), S(normal(2, 3, 2).swapaxes(1, 2), normal(2, 4, 3).swapaxes(1, 2))],
    "linear": [
        S(normal(*x), normal(4, 3), bias)
        for x in ((2, 3), (2, 2, 3), (3,), (0, 3), (1, 3)) for bias in (normal(4), None)
    ] + [S(normal(3, 2).T, normal(3, 1).T, normal(2)[::2]), S(normal(3, 2, 2).T, normal(3, 4).T, None)],
    "tril": [S(normal(*shape), diagonal=k) for shape in ((3, 3), (2, 2, 4), (3, 2)) for k in (0, 1, -1)],
    "triu": [S(normal(*shape), diagonal=k) for shape in ((3, 3), (2, 2, 4), (3, 2)) for k in (0, 1, -1)],
    "diagonal": [S(normal(*shape), offset=k) for shape in ((3, 3), (2, 2, 4), (3, 2)) for k in (0, 1, -1, 5)]
    + [S(normal(0, 3), offset=0), S(normal(1, 1), offset=0), S(normal(4, 3).T, offset=1)],
}

LARGE: Table = {
    "linear": [S(normal(3, 67, 96), normal(130, 96), normal(130)), S(normal(96, 70).T, normal(65, 96), None)],
}
