"""GELU, SiLU and SwiGLU, 16 bytes to a thread; softmax and log_softmax, a block to a row."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...device import xp
from ...op import Op
from ...ops.activation import _gelu, _log_softmax, _silu, _softmax, _swiglu
from .module import blocks, launch, supported

THREADS = 256


def _map(name: str, *arrays: Any) -> Any:
    """The kernel of this name, element by element; NotImplemented for arrays it cannot take."""
    if not supported(*arrays):
        return NotImplemented
    return _launch(name, 1, *arrays)[0]


def _launch(name: str, outputs: int, *arrays: Any) -> list[Any]:
    x = arrays[-1]
    results = [xp(x).empty_like(x) for _ in range(outputs)]
    grid = (blocks(x.size, THREADS * 16 // x.itemsize),)
    launch("activation", name, x, grid, (THREADS,), *arrays, *results, np.int64(x.size))
    return results


def _form(approximate: str) -> str:
    return "gelu_tanh" if approximate == "tanh" else "gelu_erf"


_gelu.kernel(
    "cuda",
    lambda x, *, approximate: _map(_form(approximate), x),
    dx=lambda g, x, approximate: _map(f"{_form(approximate)}_backward", xp(g).ascontiguousarray(g), x),
)
_silu.kernel("cuda", lambda x: _map("silu", x), dx=lambda g, x: _map("silu_backward", xp(g).ascontiguousarray(g), x))


def _swiglu_forward(gate: Any, up: Any) -> Any:
    both = hasattr(gate, "shape") and hasattr(up, "shape") and gate.shape == up.shape
    return _map("swiglu", gate, up) if both else NotImplemented


_swiglu.kernel(
    "cuda",
    _swiglu_forward,
    d=lambda g, gate, up: _launch("swiglu_backward", 2, xp(g).ascontiguousarray(g), gate, up),
)


def _rows(name: str, logarithm: bool, dim: int, *arrays: Any) -> Any:
    x = arrays[-1]
    if not supported(*arrays) or dim not in (-1, x.ndim - 1):
        return NotImplemented
    out = xp(x).empty_like(x)
    width = x.shape[-1]
    sizes = (np.int32(width), np.int32(logarithm))
    launch("activation", name, x, (x.size // width,), (THREADS,), *arrays, out, *sizes)
    return out


def _attach(op: Op, logarithm: bool) -> None:
    op.kernel(
        "cuda",
        lambda x, *, dim: _rows("softmax", logarithm, dim, x),
        dx=lambda g, y, dim: _rows("softmax_backward", logarithm, dim, xp(g).ascontiguousarray(g), y),
    )


_attach(_softmax, logarithm=False)
_attach(_log_softmax, logarithm=True)
