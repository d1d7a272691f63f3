"""Shapes, against PyTorch."""

from __future__ import annotations

from compare import Case, compare, method, table

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
    "tril": (lambda m, x: (x.tril(), m.tril(x, 1), m.triu(x, diagonal=-1), x.triu(1)), normal(2, 3, 4)),
    "triu of ones": (lambda m: m.triu(m.ones(3, 3), diagonal=1).bool(),),
    "clone and contiguous": (lambda m, x: (x.clone(), x.T.contiguous(), x.contiguous()), normal(2, 3)),
    "to": (lambda m, x: (x.to(m.float32), x.double(), x.float() * 2, x.half(), x.to("cpu")), normal(2, 3)),
    "to integers": (lambda m, x: (x.long(), x.int(), x.bool(), x.to(m.uint8)), positive(2, 3) * 3),
    "to of integers": (lambda m, x: (x.float(), x.bool(), x.to(m.int32), x.double()), integers(3, 2)),
    "type_as": (method("type_as"), normal(2, 3), integers(3, 2)),
}


@table(SHAPES)
def test_shapes(case: Case):
    compare(*case)
