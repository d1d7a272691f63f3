"""Samples of the op through which a module's backward hooks see gradients."""

from .sample import S, Table, normal


def _seen(g: tuple) -> tuple:
    return g


SAMPLES: Table = {
    "watch": [
        S(normal(2, 3), seen=_seen),
        S(normal(2, 3), normal(), normal(0, 2), normal(3, 2).T, seen=_seen),
    ],
}
