"""Head and loss as one op in two bytes a number: the stand-in for CuPy holds the arrays, and the CUDA sources, compiled
for this machine, compute on them. Held against float32 on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from cuda_kernel_cases import CLOSE
from cuda_on_host import COMPILER, Host
from cupy_standin import gpu, installed

import tensorlite as tl
import tensorlite.nn.functional as F
from tensorlite import late
from tensorlite.kernels.cuda import loss as kernel
from tensorlite.kernels.cuda import module

pytest.importorskip("ml_dtypes")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler (g++)")

N, C, V = 22, 16, 301
RNG = np.random.default_rng(1)
# numbers that bfloat16 has, and float16 too
X, WEIGHT = [tl.tensor(RNG.integers(-128, 128, s) / np.float32(64)) for s in ((N, C), (V, C))]
TARGET = RNG.integers(0, V, N)
TARGET[:5] = -100


@pytest.fixture(autouse=True)
def cuda(built: Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setattr(module, "function", built.function)
    monkeypatch.setattr(kernel, "THREADS", 32)  # of which each is a fiber
    built.launched.clear()
    with installed(kernels=True):
        yield built
    late._pending.clear()


def results(device: str, dtype: str = "float32", cast: str | None = None, scale: float = 1.0, **options: Any) -> list:
    """The loss, and the gradients of x and weight: these kept in `dtype` on the device, `cast` by autocast."""
    x, weight = [t.to(device).to(getattr(tl, dtype)).detach().requires_grad_() for t in (X, WEIGHT)]
    with tl.autocast("cuda", dtype=cast or "bfloat16", enabled=cast is not None):
        loss = F.linear_cross_entropy(x, weight, tl.from_numpy(TARGET).to(device), **options)
    before = len(gpu.here.synchronisations)
    (loss * scale).backward()
    assert len(gpu.here.synchronisations) == before
    assert x.grad.dtype == weight.grad.dtype == tl.float32 if cast else x.dtype
    return [loss.detach(), x.grad / scale, weight.grad / scale]


def near(found: list, expected: list, dtype: str) -> None:
    for mine, right in zip(found, expected, strict=True):
        away = (mine.cpu().float() - right).abs().max().item()
        assert away <= 2 * CLOSE[dtype] * right.abs().max().item(), away


@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_under_autocast(cuda: Host, monkeypatch: pytest.MonkeyPatch, dtype: str, reduction: str, parts: int):
    """Also where the logits are in memory by parts; the loss is float32, which the ops of the list are."""
    monkeypatch.setattr(kernel, "LOGITS", N * V * 2 // parts)
    found = results("cuda", cast=dtype, reduction=reduction)
    assert found[0].dtype == tl.float32
    near(found, results("cpu", reduction=reduction), dtype)
    assert cuda.launched == {("cross_entropy_in_place", dtype)}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_of_parameters_in_two_bytes(cuda: Host, dtype: str):
    found = results("cuda", dtype)
    assert found[0].dtype == found[1].dtype == getattr(tl, dtype)
    near(found, results("cpu"), dtype)


@pytest.mark.parametrize("reason", ["smoothed", "plain level"])
def test_what_the_kernel_does_not_do(cuda: Host, reason: str):
    options = {"label_smoothing": 0.1} if reason == "smoothed" else {}
    with tl.using("plain" if reason == "plain level" else "kernel"):
        found = results("cuda", cast="bfloat16", **options)
    assert not {name for name, _ in cuda.launched} & {"cross_entropy_in_place"} and found[0].dtype == tl.float32
    near(found, results("cpu", **options), "bfloat16")


def test_float16_keeps_the_gradient_of_many_positions(cuda: Host):
    """A share of 1/N of a probability is nothing in float16: it comes in when the loss has been scaled."""
    n, v = 2048, 64
    x, weight = tl.ones(n, 8, device="cuda").requires_grad_(), tl.zeros(v, 8, device="cuda").requires_grad_()
    target = tl.zeros(n, dtype=tl.int64, device="cuda")
    with tl.autocast("cuda", dtype="float16"):
        loss = F.linear_cross_entropy(x, weight, target)
    (loss * 2048.0).backward()
    np.testing.assert_allclose(weight.grad.cpu().numpy()[1:], 2048 / v, rtol=1e-3)


def test_the_mean_of_nothing():
    x, weight = [t.to("cuda").detach().requires_grad_() for t in (X, WEIGHT)]
    with tl.autocast("cuda", dtype="bfloat16"):
        loss = F.linear_cross_entropy(x, weight, tl.full((N,), -100, dtype=tl.int64, device="cuda"))
    assert np.isnan(loss.item())


@pytest.mark.parametrize("grad", [True, False])
def test_memory(cuda: Host, monkeypatch: pytest.MonkeyPatch, grad: bool):
    """Logits of a part of the positions only, and one part at a time."""
    n, c, v = 256, 8, 1024
    monkeypatch.setattr(kernel, "LOGITS", n * v * 2 // 8)
    x, weight = [tl.zeros(*s, device="cuda").bfloat16().requires_grad_(grad) for s in ((n, c), (v, c))]
    target = tl.zeros(n, dtype=tl.int64, device="cuda")
    before = gpu.here.reserved[0]
    F.linear_cross_entropy(x, weight, target)
    taken = gpu.here.reserved[0] - before
    logits, gradients = n * v * 2 // 8, v * c * 4 + n * c * 2
    # The stand-in, as CuPy without cuBLASLt, makes a product before it writes it where it is wanted.
    assert taken <= 2 * logits + (2 * gradients if grad else 0) + 16 * 1024 < n * v * 2


def test_a_model_trains_as_on_the_cpu(cuda: Host):
    """All of it on kernels, in bfloat16."""
    from gpt.config import GPTConfig
    from gpt.model import GPT

    def losses(device: str) -> list[float]:
        tl.manual_seed(0)
        model = GPT(GPTConfig(vocab_size=37, context_length=12, n_layer=1, n_head=2, n_embd=16)).to(device)
        optimizer = tl.optim.AdamW(model.parameters(), lr=1e-2)
        ids = tl.from_numpy(np.random.default_rng(0).integers(0, 37, (2, 13))).to(device)
        seen = []
        for _ in range(2):
            with tl.autocast("cuda", dtype="bfloat16"):
                loss = model.loss(ids[:, :-1], ids[:, 1:])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            seen.append(loss.detach())
        return [x.item() for x in seen]

    found, expected = losses("cuda"), losses("cpu")
    np.testing.assert_allclose(found, expected, rtol=0.01)
    assert found[1] < found[0] and ("cross_entropy_in_place", "bfloat16") in cuda.launched
