"""Putting together, taking apart, repeating and padding, against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
from compare import INF, Case, compare, functional, method, table

import tensorlite as tl
from tensorlite.check.samples.sample import integers, normal

JOINING: dict[str, Case] = {
    "cat": (lambda m, x, y: (m.cat([x, y]), m.cat((x, y), dim=0), m.cat([x], 1)), normal(2, 3), normal(1, 3)),
    "cat of one twice": (lambda m, x: m.cat([x, x], -1), normal(2, 3)),
    "cat of dtypes": (lambda m, x, y: m.cat([x, y]), normal(3), integers(4, 2)),
    "cat, wrong shapes": (lambda m, x, y: m.cat([x, y]), normal(2, 3), normal(2, 2)),
    "cat, wrong dimension": (lambda m, x: m.cat([x, x], 2), normal(2, 3)),
    "cat of nothing": (lambda m: m.cat([]),),
    "cat of numbers": (lambda m, x: m.cat([x, x]), normal()),
    "stack": (lambda m, x, y: (m.stack([x, y]), m.stack((x, y), 1), m.stack([x], dim=-1)), normal(2, 3), normal(2, 3)),
    "stack of numbers": (lambda m, x: (m.stack([x, x]), m.stack([x], -1)), normal()),
    "stack, wrong shapes": (lambda m, x, y: m.stack([x, y]), normal(2), normal(3)),
    "stack, wrong dimension": (lambda m, x: m.stack([x, x], 3), normal(2)),
    "split": (lambda m, x: (*x.split(2), *m.split(x, 3, 1), *x.split([1, 4]), *x.split((2, 1), dim=-1)), normal(5, 3)),
    "split, wrong sizes": (method("split", [1, 1]), normal(5, 3)),
    "split of nothing": (method("split", 2), normal(0, 3)),
    "chunk": (lambda m, x: (*x.chunk(2), *m.chunk(x, 3, dim=-1), *x.chunk(9)), normal(5, 4)),
    "chunk of nothing": (method("chunk", 2), normal(0, 3)),
    "unbind": (lambda m, x: (*x.unbind(), *m.unbind(x, -1)), normal(2, 3)),
    "flip": (lambda m, x: (x.flip(0), x.flip(0, 1), x.flip((-1,)), m.flip(x, [0])), normal(2, 3)),
    "cat under other names": (lambda m, x: (m.concat([x, x], 1), m.concatenate((x, x), dim=0)), normal(2, 3)),
    "cat with nothing": (lambda m, x: (m.cat([m.tensor([]).double(), x], 1), m.cat([x, m.zeros(0)])), normal(2, 3)),
    "cat of nothing with integers": (lambda m, x: m.cat([m.zeros(0), x]), integers(4, 2, 3)),
    "cat of nothing only": (lambda m: m.cat([m.zeros(0), m.zeros(0)]),),
    "cat of no list": (lambda m, x: m.cat(x), normal(2, 3)),
    "cat, a number of dimensions more": (lambda m, x, y: m.cat([x, y]), normal(2, 3), normal(3)),
    "stack of no list": (lambda m, x: m.stack(x), normal(2, 3)),
    "stack of nothing": (lambda m: m.stack([]),),
    "vstack": (lambda m, x, y, z: m.vstack([x, y, z]), normal(3), normal(2, 3), normal(1, 3)),
    "vstack of numbers and more": (lambda m, x, y: (m.vstack((x, x)), m.vstack([y, y])), normal(), normal(1, 2, 3)),
    "vstack, wrong shapes": (lambda m, x, y: m.vstack([x, y]), normal(3), normal(2, 2)),
    "hstack": (lambda m, x, y: m.hstack([x, y]), normal(2, 1), normal(2, 3)),
    "hstack of vectors and numbers": (lambda m, x, y: (m.hstack((x, y)), m.hstack((y, y))), normal(3), normal()),
    "hstack, wrong shapes": (lambda m, x, y: m.hstack([x, y]), normal(2, 3), normal(3)),
    "split of a number": (method("split", 1), normal()),
    "split, size 0": (method("split", 0), normal(3)),
    "split of nothing, size 0": (method("split", 0), normal(0)),
    "split, negative size": (method("split", -1), normal(3)),
    "split, negative sizes": (method("split", [-1, 4]), normal(3)),
    "split, wrong dimension": (method("split", 1, 2), normal(3)),
    "split beyond the end": (method("split", 9), normal(3)),
    "chunk of a number": (method("chunk", 1), normal()),
    "chunk, no pieces": (method("chunk", 0), normal(3)),
    "chunk, wrong dimension": (method("chunk", 2, -2), normal(3)),
    "unbind of a number": (method("unbind"), normal()),
    "unbind of nothing": (lambda m, x: (m.tensor(len(x.unbind())), *x.unbind(1)), normal(0, 3)),
    "unbind, wrong dimension": (method("unbind", 2), normal(2, 3)),
    "repeat": (lambda m, x: (x.repeat(2, 1), x.repeat((3, 2)), x.repeat(2, 1, 2), x.repeat(1, 1)), normal(2, 3)),
    "repeat of none": (lambda m, x: (x.repeat(0, 2), x.repeat(1, 0)), normal(2, 3)),
    "repeat of a number": (lambda m, x: (x.repeat(2), x.repeat(()), x.repeat(2, 3)), normal()),
    "repeat, too few": (method("repeat", 2), normal(2, 3)),
    "repeat, negative": (method("repeat", 2, -1), normal(2, 3)),
    "tile": (lambda m, x: (x.tile(2), m.tile(x, (2, 1, 1)), x.tile((2, 2)), x.tile(dims=(2,))), normal(2, 3)),
    "repeat_interleave": (
        lambda m, x: (
            x.repeat_interleave(2), x.repeat_interleave(3, dim=1), m.repeat_interleave(x, 2, -2),
            x.repeat_interleave(0, 0),
        ),
        normal(2, 3),
    ),
    "repeat_interleave by counts": (
        lambda m, x, n: (x.repeat_interleave(n, dim=1), m.repeat_interleave(x, n[:1], 0), m.repeat_interleave(x[0], n)),
        normal(2, 3), np.array([2, 0, 1]),
    ),
    "repeat_interleave of a number": (method("repeat_interleave", 2), normal()),
    "repeat_interleave of nothing": (method("repeat_interleave", 2, 0), normal(0, 3)),
    "repeat_interleave, wrong counts": (lambda m, x: x.repeat_interleave(m.tensor([1, 2]), 1), normal(2, 3)),
    "repeat_interleave, negative": (method("repeat_interleave", -1, 0), normal(2, 3)),
    "repeat_interleave, negative count": (lambda m, x: x.repeat_interleave(m.tensor([1, -1]), 0), normal(2, 3)),
    "repeat_interleave, float": (method("repeat_interleave", 2.0, 0), normal(2, 3)),
    "repeat_interleave, wrong dimension": (method("repeat_interleave", 2, 2), normal(2, 3)),
    "flip by keyword": (lambda m, x: (x.flip(dims=(1,)), m.flip(x, dims=[0, -1]), x.flip(())), normal(2, 3)),
    "flip of a number": (method("flip", 0), normal()),
    "flip, twice the same": (method("flip", 0, -2), normal(2, 3)),
    "flip, wrong dimension": (method("flip", 2), normal(2, 3)),
    "flip along nothing": (method("flip"), normal(2, 3)),
    "roll": (
        lambda m, x: (
            x.roll(1), x.roll(1, 0), x.roll((1, -2), (0, 1)), m.roll(x, shifts=-5, dims=-1), m.roll(x, (1, 1), (1, 1)),
        ),
        normal(2, 3),
    ),
    "roll of a vector, a number, nothing": (lambda m, x, y, z: (x.roll(2), y.roll(1), z.roll(1, 0)), normal(3),
        normal(), normal(0, 2)),
    "roll, unlike numbers": (method("roll", (1, 2), (0,)), normal(2, 3)),
    "roll, no dims": (method("roll", (1, 2)), normal(2, 3)),
    "roll, wrong dimension": (method("roll", 1, 2), normal(2, 3)),
    "meshgrid": (lambda m, x, y: (*m.meshgrid(x, y, indexing="ij"), *m.meshgrid([x, y], indexing="xy")), normal(2),
        normal(3)),
    "meshgrid of three": (lambda m, x, y, z: m.meshgrid(x, y, z, indexing="xy"), normal(2), normal(3), normal()),
    "meshgrid of a matrix": (lambda m, x: m.meshgrid(x, x, indexing="ij"), normal(2, 3)),
    "meshgrid, unknown": (lambda m, x: m.meshgrid(x, x, indexing="ji"), normal(2)),
}  # fmt: skip


@table(JOINING)
def test_joining(case: Case):
    compare(*case)


WIDTHS = [
    (1, 2),
    (0, 0),
    (1, 0, 2, 1),
    (-1, 1),
    (-1, -2),
    (2, -3, -1, -1),
    (1, 1, 1, 1, 1, 1),
    (-2, -2),
    (),
    (0, 3, 0, 0),
]


@pytest.mark.parametrize("widths", WIDTHS, ids=str)
def test_pad(widths: tuple[int, ...]):
    compare(functional("pad", widths), normal(2, 3, 4))
    compare(functional("pad", widths, value=-1.5), normal(2, 3, 4))
    compare(functional("pad", list(widths), "constant", 2), integers(9, 2, 3, 4))


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_pad_by_what_is_there(mode: str):
    for shape, widths in (((2, 3, 4), (1, 2)), ((2, 3, 4), (3, 0)), ((2, 2, 3, 4), (1, 1, 2, 1)), ((2, 3, 4), (0, 0))):
        compare(functional("pad", widths, mode), normal(*shape))
    compare(functional("pad", (5, 0), mode), normal(2, 3, 4))
    compare(functional("pad", (1, 0), mode, 1.0), normal(2, 3, 4))


PADS: dict[str, Case] = {
    "infinity": (functional("pad", (1, 1), value=INF), normal(2)),
    "a boolean mask": (functional("pad", (1, 1), value=True), normal(2) > 0),
    "a number": (functional("pad", ()), normal()),
    "nothing": (functional("pad", (1, 1)), normal(2, 0)),
    "odd": (functional("pad", (1, 1, 1)), normal(2, 3)),
    "too many": (functional("pad", (1, 1, 1, 1)), normal(2)),
    "more off than there is": (functional("pad", (-2, -2)), normal(3)),
    "unknown mode": (functional("pad", (1, 1), "mirror"), normal(2, 3, 4)),
}


@table(PADS)
def test_pads(case: Case):
    compare(*case)


def test_what_is_joined_names_what_is_wrong():
    with pytest.raises(TypeError, match="cat: expected a list or tuple of Tensors, not Tensor"):
        tl.cat(tl.ones(2, 2))
    with pytest.raises(RuntimeError, match=r"\[pad\] \(1, 1, 1\) must be pairs of widths.*\(2, 3\)"):
        tl.nn.functional.pad(tl.ones(2, 3), (1, 1, 1))
