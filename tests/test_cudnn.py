"""Attention by cuDNN: what can be checked without a GPU. With its front end installed it accepts the graphs of GPT-2's
attention, forward and backward."""

import importlib
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest

from tensorlite.kernels.cuda import cudnn

ml_dtypes = pytest.importorskip("ml_dtypes")
with_cudnn = pytest.mark.skipif(find_spec("cudnn") is None, reason="nvidia-cudnn-frontend is not installed")
HOPPER = {"sm_version": 90, "sm_count": 132}


def packed(batch, length, heads, width, dtype):
    """q, k and v as GPT-2's one product leaves them, and arrays for the results. Nothing is touched."""
    qkv = np.empty((batch, length, 3, heads, width), dtype)
    q, k, v = [qkv[:, :, i].transpose(0, 2, 1, 3) for i in range(3)]  # (B, H, T, D)
    return q, k, v, cudnn._like(q)


def shapes(batch, dtype, is_causal=True):
    q, k, v, y = packed(batch, 1024, 12, 64, dtype)
    forward = cudnn.shape_of(is_causal, 0.125, q=q, k=k, v=v, y=y)
    return forward, cudnn.shape_of(is_causal, 0.125, q=q, k=k, v=v, y=y, g=y, dq=y, dk=y, dv=y)


@with_cudnn
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("batch", [16, 32, 64])
def test_the_graphs_of_gpt2(batch, dtype):
    for shape in shapes(batch, np.dtype(dtype)):
        cudnn.Graph(shape, **HOPPER)  # raises unless cuDNN accepts it


@with_cudnn
def test_a_graph_that_does_not_fit_is_refused():
    q, k, v, y = packed(2, 128, 12, 60, np.float16)
    error = importlib.import_module("cudnn").cudnnGraphNotSupportedError
    with pytest.raises(error, match="hidden_dim should be multiple of 8"):
        cudnn.Graph(cudnn.shape_of(True, 0.125, q=q, k=k, v=v, y=y), **HOPPER)


def test_queries_keys_and_values_are_taken_as_they_lie():
    forward, backward = shapes(16, np.dtype("float16"))
    rows = 3 * 12 * 64
    assert forward.arrays[0] == (cudnn.Q, (16, 12, 1024, 64), (1024 * rows, 64, rows, 1))
    assert forward.arrays[3] == (cudnn.Y, (16, 12, 1024, 64), (1024 * 768, 64, 768, 1))
    assert [name for name, *_ in backward.arrays] == [1, 2, 3, 4, 6, 7, 8, 9]
    _, _, _, y = packed(2, 8, 3, 16, np.float16)
    joined = y.transpose(0, 2, 1, 3).reshape(2, 8, 48)
    assert np.shares_memory(joined, y)


def test_what_it_declines():
    q, k, v, _ = packed(2, 8, 3, 16, np.float16)
    options = {"is_causal": True, "scale": 1.0, "dropout_p": 0.0, "seed": 0}
    assert cudnn.fits(q, k, v)
    assert not cudnn.fits(*packed(2, 8, 3, 12, np.float16)[:3]) and not cudnn.fits(
        *packed(2, 8, 3, 136, np.float16)[:3]
    )
    assert not cudnn.fits(*packed(2, 8, 3, 16, np.float32)[:3]) and not cudnn.fits(q[0], k[0], v[0])
    assert (
        not cudnn.fits(q, k[:1], v[:1])
        and not cudnn.fits(q.swapaxes(-1, -2), k, v)
        and not cudnn.fits(q[:0], k[:0], v[:0])
    )
    assert cudnn._forward(q, k, v, np.ones((8, 8), bool), **options) is NotImplemented
    assert cudnn._forward(q, k, v, None, **{**options, "dropout_p": 0.1}) is NotImplemented


@pytest.mark.parametrize("by_cudnn", [True, False])
def test_what_cudnn_declines_goes_to_our_own_kernel(by_cudnn, monkeypatch):
    seen = []
    monkeypatch.setattr(cudnn, "_run", lambda shape, arrays: seen.append(sorted(arrays)) or by_cudnn)
    own = SimpleNamespace(forward=lambda *_, **__: ("y", "logsumexp"), joint=lambda *_: "gradients")
    forward, backward = cudnn._either(own)
    q, k, v, y = packed(2, 8, 3, 16, np.float16)
    options = {"is_causal": True, "scale": 1.0, "dropout_p": 0.0, "seed": 0}
    result = forward(q, k, v, None, **options)
    if by_cudnn:
        assert result[0].shape == y.shape and result[1].shape == (2, 3, 8, 1) and result[1].dtype == np.float32
    else:
        assert result == ("y", "logsumexp")
    gradients = backward(y, q, k, v, None, y, np.zeros((2, 3, 8, 1), np.float32), *options.values())
    assert gradients[3] is None if by_cudnn else gradients == "gradients"
    assert seen == [[1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6, 7, 8, 9]]
    assert forward(q, k, v, None, **{**options, "dropout_p": 0.5}) == ("y", "logsumexp") and len(seen) == 2
