"""attention by cuDNN, for numbers of two bytes: the extra `cudnn`. What it cannot (a mask, dropout) it declines.

A graph is built once per shape; running it takes addresses, and queries, keys and values as they lie: those of a packed
(B, T, 3, H, D) need no copy. https://docs.nvidia.com/deeplearning/cudnn/frontend/latest/operations/Attention.html
"""

from __future__ import annotations

import importlib
from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from ...device import device_of, xp
from ...op import Implementation
from ...ops.attention import _attention

TYPES = {"float16": "HALF", "bfloat16": "BFLOAT16"}
WIDEST = 128  # the largest head size that Hopper's kernels have, forward and backward
Q, K, V, Y, STATISTICS, G, DQ, DK, DV = range(1, 10)  # the names of arrays in a graph


class Shape(NamedTuple):
    """What a graph is built for: shapes and strides of arrays by their names, counted in numbers."""

    dtype: str
    arrays: tuple[tuple[int, tuple[int, ...], tuple[int, ...]], ...]
    is_causal: bool
    scale: float


def shape_of(is_causal: bool, scale: float, **arrays: Any) -> Shape:
    """q=, k=, v= and y=, for the backward also g=, dq=, dk= and dv=: (B, H, T, D)"""
    names = dict(q=Q, k=K, v=V, y=Y, g=G, dq=DQ, dk=DK, dv=DV)
    described = [(names[n], x.shape, tuple([s // x.itemsize for s in x.strides])) for n, x in arrays.items()]
    return Shape(arrays["q"].dtype.name, tuple(described), is_causal, float(scale))


class Graph:
    """cuDNN's description of a forward, or of a backward if the gradient g is among the arrays.

    where  the handle of a GPU; or, without one, the kind of GPU to describe it for
    """

    def __init__(self, shape: Shape, **where: Any):
        cudnn = importlib.import_module("cudnn")
        kind, single = getattr(cudnn.data_type, TYPES[shape.dtype]), cudnn.data_type.FLOAT
        self.graph = cudnn.pygraph(
            io_data_type=kind, intermediate_data_type=single, compute_data_type=single, **where
        )  # fmt: skip
        self.modes = [cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK]
        places = {uid: (list(dim), list(stride)) for uid, dim, stride in shape.arrays}
        batch, heads, length, _ = places[Q][0]
        places[STATISTICS] = ([batch, heads, length, 1], [heads * length, length, 1, 1])

        def given(uid: int) -> Any:
            dim, stride = places[uid]
            data_type = single if uid == STATISTICS else kind
            return self.graph.tensor(dim=dim, stride=stride, data_type=data_type, uid=uid)

        options = {"attn_scale": shape.scale, "use_causal_mask": shape.is_causal}
        q, k, v = given(Q), given(K), given(V)
        if G not in places:
            results = dict(zip((Y, STATISTICS), self.graph.sdpa(q=q, k=k, v=v, generate_stats=True, **options)))
        else:
            known = {"o": given(Y), "dO": given(G), "stats": given(STATISTICS)}
            # In a fixed order, so that equal seeds give equal bits.
            gradients = self.graph.sdpa_backward(
                q=q, k=k, v=v, **known, use_deterministic_algorithm=True, **options
            )  # fmt: skip
            results = dict(zip((DQ, DK, DV), gradients))
        for uid, x in results.items():
            dim, stride = places[uid]
            x.set_output(True).set_uid(uid).set_dim(dim).set_stride(stride)
            x.set_data_type(single if uid == STATISTICS else kind)
        self.graph.validate()

    def build(self) -> Graph:
        """Choose a kernel and compile it. Needs a GPU; raises cudnnGraphNotSupportedError if there is none."""
        self.graph.build_operation_graph()
        self.graph.create_execution_plans(self.modes)
        self.graph.check_support()
        self.graph.build_plans()
        return self


@cache
def _handle(device: int) -> Any:
    return importlib.import_module("cudnn").create_handle()


@cache
def _built(shape: Shape, device: int) -> Graph | None:
    try:
        return Graph(shape, handle=_handle(device)).build()
    except importlib.import_module("cudnn").cudnnGraphNotSupportedError:
        return None


@cache
def _workspace(where: Any, device: int, size: int) -> Any:
    return where.empty(max(size, 1), np.uint8)


def _run(shape: Shape, arrays: dict[int, Any]) -> bool:
    """Run the graph of a shape on arrays by their names; False if cuDNN has no kernel for it."""
    where, device = xp(arrays[Q]), device_of(arrays[Q]).index or 0
    built = _built(shape, device)
    if built is None:
        return False
    cudnn = importlib.import_module("cudnn")
    cudnn.set_stream(handle=_handle(device), stream=where.cuda.get_current_stream().ptr)
    workspace = _workspace(where, device, built.graph.get_workspace_size())
    built.graph.execute({uid: x.data.ptr for uid, x in arrays.items()}, workspace.data.ptr, handle=_handle(device))
    return True


def fits(q: Any, k: Any, v: Any) -> bool:
    """Whether cuDNN takes arrays like these: (B, H, T, D) of two bytes a number, D a multiple of 8."""
    if not q.dtype == k.dtype == v.dtype or q.dtype.name not in TYPES or not q.ndim == k.ndim == v.ndim == 4:
        return False
    if not q.shape[:2] == k.shape[:2] == v.shape[:2]:  # else it broadcasts
        return False
    return all(
        x.size and x.strides[-1] == x.itemsize and x.shape[-1] % 8 == 0 and x.shape[-1] <= WIDEST for x in (q, k, v)
    )


def _like(x: Any, width: int | None = None) -> Any:
    """An array of x's shape (B, H, T, D) whose memory is (B, T, H, D): joining the heads again then copies nothing."""
    b, h, t, d = x.shape
    return xp(x).empty((b, t, h, width or d), x.dtype).transpose(0, 2, 1, 3)


def _forward(q: Any, k: Any, v: Any, mask: Any, *, is_causal: bool, scale: float, dropout_p: float, seed: int) -> Any:
    if mask is not None or dropout_p or not fits(q, k, v):
        return NotImplemented
    y = _like(q, v.shape[-1])
    statistics = xp(q).empty((*q.shape[:-1], 1), np.float32)
    arrays = {Q: q, K: k, V: v, Y: y, STATISTICS: statistics}
    done = _run(shape_of(is_causal, scale, q=q, k=k, v=v, y=y), arrays)
    return (y, statistics) if done else NotImplemented


def _backward(
    g: Any, q: Any, k: Any, v: Any, mask: Any, y: Any, logsumexp: Any,
    is_causal: bool, scale: float, dropout_p: float, seed: int,
) -> Any:  # fmt: skip
    if mask is not None or dropout_p or not fits(q, k, v):
        return NotImplemented
    if g.strides[-1] != g.itemsize:
        g = xp(g).ascontiguousarray(g)
    dq, dk, dv = [_like(x) for x in (q, k, v)]
    shape = shape_of(is_causal, scale, q=q, k=k, v=v, y=y, g=g, dq=dq, dk=dk, dv=dv)
    arrays = {Q: q, K: k, V: v, Y: y, STATISTICS: logsumexp, G: g, DQ: dq, DK: dk, DV: dv}
    return (dq, dk, dv, None) if _run(shape, arrays) else NotImplemented


def _either(own: Implementation) -> tuple[Any, Any]:
    """Forward and backward by cuDNN where it can, else by our own kernel. Both keep the same numbers."""

    def forward(*arrays: Any, **options: Any) -> Any:
        outputs = _forward(*arrays, **options)
        return own.forward(*arrays, **options) if outputs is NotImplemented else outputs

    def backward(
        g: Any, q: Any, k: Any, v: Any, mask: Any, y: Any, logsumexp: Any,
        is_causal: bool, scale: float, dropout_p: float, seed: int,
    ) -> Any:  # fmt: skip
        options = is_causal, scale, dropout_p, seed
        gradients = _backward(g, q, k, v, mask, y, logsumexp, *options)
        return own.joint(g, q, k, v, y, logsumexp, *options) if gradients is NotImplemented else gradients  # type: ignore[misc]

    return forward, backward


if find_spec("cudnn") is not None:
    _forward_by_either, _backward_by_either = _either(_attention.kernels["cuda"])
    _attention.kernel("cuda", _forward_by_either, d=_backward_by_either, residual=("logsumexp",))
