"""Shapes, against PyTorch."""

from __future__ import annotations

import pytest
from compare import Case, compare, method, table

import tensorlite as tl
import tensorlite.nn.functional as F
from tensorlite.check.samples.sample import integers, normal, positive

SHAPES: dict[str, Case] = {
    "reshape": (lambda m, x: (x.reshape(3, -1), x.reshape((6,)), x.view(-1), m.reshape(x, (2, 1, 3))), normal(2, 3)),
    "reshape of nothing": (lambda m, x: (x.reshape(0), x.reshape(3, 0, 5)), normal(0, 3)),
    "reshape to a number": (lambda m, x: (x.reshape(()), x.view(1, 1)), normal(1)),
    "view_as": (lambda m, x, y: x.view_as(y), normal(2, 3), normal(3, 2)),
    "flatten": (lambda m, x: (x.flatten(), x.flatten(1), x.flatten(0, 1), m.flatten(x, -2, -1)), normal(2, 3, 4)),
    "flatten of a number": (method("flatten"), normal()),
    "flatten, wrong dimension": (method("flatten", 3), normal(2, 3)),
    "squeeze": (lambda m, x: (x.squeeze(), x.squeeze(0), x.squeeze(-1), x.squeeze(1)), normal(1, 3, 1)),
    "squeeze of two dimensions": (method("squeeze", (0, 2)), normal(1, 3, 1)),
    "squeeze of a number": (lambda m, x: (x.squeeze(), x.squeeze(0), x.squeeze(-1)), normal()),
    "squeeze, wrong dimension": (method("squeeze", 2), normal(1, 3)),
    "unsqueeze": (lambda m, x: (x.unsqueeze(0), x.unsqueeze(-1), x.unsqueeze(2), x.unsqueeze(-3)), normal(2, 3)),
    "unsqueeze of a number": (lambda m, x: (x.unsqueeze(0), x.unsqueeze(-1)), normal()),
    "unsqueeze, wrong dimension": (method("unsqueeze", 4), normal(2, 3)),
    "permute": (lambda m, x: (x.permute(2, 0, 1), x.permute((0, -1, 1)), m.permute(x, (-1, -2, -3))), normal(2, 3, 4)),
    "permute, square, negative": (lambda m, x: (x.permute(0, -1, 1), x.permute(-1, 0, -2)), normal(3, 3, 3)),
    "permute, twice the same": (method("permute", 0, 0), normal(2, 3)),
    "transpose": (lambda m, x: (x.transpose(0, 1), x.transpose(-1, 0), m.transpose(x, 1, 2), x.mT), normal(2, 3, 4)),
    "t": (lambda m, x: (x.t(), x.T, m.t(x)), normal(2, 3)),
    "t of a vector": (method("t"), normal(3)),
    "expand": (lambda m, x: (x.expand(2, 3), x.expand(4, -1, 3), x.expand((2, -1))), normal(1, 3)),
    "expand to nothing": (method("expand", 0, 3), normal(1, 3)),
    "expand, -1 in front": (method("expand", -1, 3), normal(3)),
    "expand, too few": (method("expand", 3), normal(1, 3)),
    "expand_as": (method("expand_as"), normal(3), normal(2, 3)),
    "reshape by keyword": (lambda m, x: m.reshape(x, shape=(3, 2)), normal(2, 3)),
    "reshape by floats": (method("reshape", 2.0, 3), normal(2, 3)),
    "reshape, wrong size": (method("reshape", 5, -1), normal(2, 3)),
    "reshape, -1 twice": (method("reshape", -1, -1), normal(2, 3)),
    "reshape, -1 of nothing": (method("reshape", 0, -1), normal(0, 3)),
    "view that would copy": (lambda m, x: x.T.view(6), normal(2, 3)),
    "view of an expanded": (lambda m, x: x.expand(3, 2).view(6), normal(2)),
    "reshape_as and ravel": (lambda m, x, y: (x.reshape_as(y), x.ravel(), m.ravel(x.T)), normal(2, 3), normal(3, 2)),
    "flatten backwards": (method("flatten", 2, 1), normal(2, 3, 4)),
    "flatten of nothing": (lambda m, x: (x.flatten(), x.flatten(1)), normal(2, 0, 3)),
    "unflatten": (
        lambda m, x: (x.unflatten(1, (2, 3)), m.unflatten(x, -1, (-1, 2, 1)), x.unflatten(dim=0, sizes=(2, 1))),
        normal(2, 6),
    ),
    "unflatten of nothing": (lambda m, x: x.unflatten(0, (0, 2)), normal(0, 3)),
    "unflatten, wrong sizes": (method("unflatten", 1, (4, -1)), normal(2, 6)),
    "unflatten, -1 of nothing": (method("unflatten", 0, (0, -1)), normal(0)),
    "unflatten, no sizes": (method("unflatten", 1, ()), normal(2, 6)),
    "squeeze, twice the same": (method("squeeze", (0, -2)), normal(1, 3)),
    "squeeze of no dimension": (method("squeeze", ()), normal(1, 3)),
    "permute by keyword": (lambda m, x: (x.permute(dims=(1, 0)), m.permute(x, dims=[1, 0])), normal(2, 3)),
    "permute, too few": (method("permute", 0), normal(2, 3)),
    "permute, wrong dimension": (method("permute", 0, 2), normal(2, 3)),
    "permute of a number": (method("permute", ()), normal()),
    "transpose of a number": (lambda m, x: (x.transpose(0, -1), x.transpose(0, 0)), normal()),
    "transpose, wrong dimension": (method("transpose", 0, 2), normal(2, 3)),
    "transpose of a number, wrong dimension": (method("transpose", 0, 1), normal()),
    "swapaxes": (
        lambda m, x: (x.swapaxes(0, 2), m.swapaxes(x, -1, 1), x.swapdims(0, 1), m.swapdims(x, 0, 1)),
        normal(2, 3, 4),
    ),
    "movedim": (
        lambda m, x: (x.movedim(0, 2), m.movedim(x, -1, 0), x.movedim((0, 1), (2, 0)), m.moveaxis(x, (2, 0), (0, 1))),
        normal(2, 3, 4),
    ),
    "moveaxis of a number": (lambda m, x: x.moveaxis(0, -1), normal()),
    "movedim, twice the same": (method("movedim", (0, 0), (2, 0)), normal(2, 3, 4)),
    "movedim, unlike numbers": (method("movedim", (0, 1), (2,)), normal(2, 3, 4)),
    "movedim, wrong dimension": (method("movedim", 0, 3), normal(2, 3, 4)),
    "t of three dimensions": (method("t"), normal(2, 3, 4)),
    "mT of a vector": (lambda m, x: x.mT, normal(2)),
    "expand, wrong size": (method("expand", 2, 4), normal(2, 3)),
    "broadcast_to": (lambda m, x: (x.broadcast_to((2, 4, 3)), m.broadcast_to(x, (4, 3))), normal(1, 3)),
    "broadcast_tensors": (lambda m, x, y: m.broadcast_tensors(x, y), normal(2, 1), normal(3)),
    "broadcast_tensors, wrong shapes": (lambda m, x, y: m.broadcast_tensors(x, y), normal(2), normal(3)),
    "clone and contiguous": (lambda m, x: (x.clone(), x.T.contiguous(), x.contiguous()), normal(2, 3)),
    "to": (lambda m, x: (x.to(m.float32), x.double(), x.float() * 2, x.half(), x.to("cpu")), normal(2, 3)),
    "to integers": (lambda m, x: (x.long(), x.int(), x.bool(), x.to(m.uint8)), positive(2, 3) * 3),
    "to of integers": (lambda m, x: (x.float(), x.bool(), x.to(m.int32), x.double()), integers(3, 2)),
    "to, all its forms": (
        lambda m, x, i: (
            x.to("cpu", m.float32),
            x.to(m.float32, True, True),
            x.to(i),
            x.to(device="cpu", dtype=m.float64, copy=True),
            x.to("cpu", m.float64, True),
            x.to("cpu", non_blocking=True),
            x.to(i.double()),
            x.to(int),
            x.to(float),
        ),
        positive(2, 3),
        integers(3, 2),
    ),
    "to bytes and shorts": (
        lambda m, x: (x.byte(), x.short(), x.cpu(), x.bool().float(), x.half().double()),
        positive(3),
    ),
    "type_as": (method("type_as"), normal(2, 3), integers(3, 2)),
}


@table(SHAPES)
def test_shapes(case: Case):
    compare(*case)


def test_a_view_of_another_dtype_is_refused():
    with pytest.raises(TypeError, match=r"expected a shape, not int32; use \.to\(dtype\)"):
        tl.ones(2).view(tl.int32)


def test_what_shares_memory():
    """As in PyTorch: who writes into one sees it in the other."""
    views = {
        "view": lambda x: x.view(6), "flatten": lambda x: x.flatten(), "squeeze": lambda x: x.squeeze(0),
        "T": lambda x: x.T,
        "movedim": lambda x: x.movedim(0, 1), "split": lambda x: x.split(1)[0], "narrow": lambda x: x.narrow(1, 0, 2),
        "select": lambda x: x.select(1, 0), "diagonal": lambda x: x.diagonal(),
        "number": lambda x: x[0], "Tensor as number": lambda x: x[tl.tensor(0)], "unbind": lambda x: x.unbind(0)[0],
        "to": lambda x: x.to("cpu"), "detach": lambda x: x.detach(), "contiguous": lambda x: x.contiguous(),
    }  # fmt: skip
    copies = {
        "flip": lambda x: x.flip(0), "roll": lambda x: x.roll(0), "repeat": lambda x: x.repeat(1, 1),
        "diag": lambda x: x.diag(), "repeat of ones": lambda x: x[:, :1].repeat(1, 2),
        "repeat_interleave of ones": lambda x: x[:, :1].repeat_interleave(2, 1),
        "pad": lambda x: F.pad(x, (0, 0)),
        "tile": lambda x: x.tile(1), "clone": lambda x: x.clone(), "cat": lambda x: tl.cat([x]),
        "tril": lambda x: x.tril(5),
        "indices": lambda x: x[[0, 1]], "to": lambda x: x.to(tl.float32, copy=True), "mask": lambda x: x[x < 9],
        "index_select": lambda x: x.index_select(0, tl.tensor([0, 1])), "T contiguous": lambda x: x.T.contiguous(),
    }  # fmt: skip
    for name, f in [*views.items(), *copies.items()]:
        x = tl.zeros(2, 3)
        f(x).fill_(1)
        assert x.any().item() == (f in views.values()), name


def test_an_expanded_tensor_is_not_written():
    x = tl.zeros(3)
    for write in (lambda y: y.add_(1), lambda y: y.__setitem__(0, 1.0), lambda y: y.zero_()):
        with pytest.raises(RuntimeError, match=r"cannot be written.*\.clone\(\)"):
            write(x.expand(2, 3))
