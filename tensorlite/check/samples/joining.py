"""Samples of the ops in ops/joining.py."""

from .sample import S, Table, integers, normal

# fmt: off
SAMPLES: Table = {
    "split": [S(normal(5, 2), sizes=(2, 3), dim=0), S(normal(2, 6), sizes=(1, 2, 3), dim=-1),
              S(normal(3), sizes=(3,), dim=0), S(normal(2, 3), sizes=(0, 3), dim=1),
              S(normal(4, 2).T, sizes=(1, 3), dim=1)],
    "cat": [S(normal(2, 3), normal(1, 3), dim=0), S(normal(2, 1), normal(2, 2), normal(2, 3), dim=-1),
            S(normal(3), dim=0), S(normal(0, 2), normal(2, 2), dim=0), S(normal(3, 2).T, normal(2, 3), dim=1),
            S(normal(2), integers(4, 3), normal(1), dim=0)],
    "flip": [S(normal(2, 3, 2), dims=dims) for dims in ((0,), (-1,), (0, 2))] + [S(normal(0, 2), dims=(1,))],
    "roll": [S(normal(2, 3), shifts=(1,), dims=(0,)), S(normal(2, 3), shifts=(-2, 4), dims=(-1, 0)),
             S(normal(2, 3), shifts=(1, 1), dims=(1, 1)), S(normal(3), shifts=(0,), dims=(0,)),
             S(normal(0, 2), shifts=(1,), dims=(0,)), S(normal(3, 2).T, shifts=(1,), dims=(1,))],
    "pad": [S(normal(2, 3), widths=((0, 0), (1, 2)), value=0), S(normal(2, 3), widths=((2, 0), (0, 1)), value=-1.5),
            S(normal(3), widths=((0, 0),), value=0), S(normal(0, 2), widths=((1, 1), (0, 1)), value=3),
            S(normal(3, 2).T, widths=((1, 0), (0, 0)), value=2.0)],
}
