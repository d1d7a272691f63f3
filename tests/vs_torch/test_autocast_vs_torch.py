"""autocast against PyTorch's: of every function the dtype of what it gives; on a CPU also the numbers.

PyTorch's lists for CUDA are asked without a GPU: fake tensors go the way of real ones, but compute nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest
from compare import torch

import tensorlite as tl
from tensorlite.amp.casting import WIDE

pytest.importorskip("ml_dtypes")

# What is done to X (4, 8), W (8, 8), V (4, 8), B (8,) and IDS (4,) of the library m
CASES: dict[str, Callable[..., Any]] = {
    "linear": lambda m, x, w, v, b, ids: m.nn.functional.linear(x, w, b),
    "matmul": lambda m, x, w, v, b, ids: x @ w,
    "bmm": lambda m, x, w, v, b, ids: m.bmm(x.unsqueeze(0), w.unsqueeze(0)),
    "addmm": lambda m, x, w, v, b, ids: m.addmm(x, x, w),
    "baddbmm": lambda m, x, w, v, b, ids: m.baddbmm(x.unsqueeze(0), x.unsqueeze(0), w.unsqueeze(0)),
    "einsum": lambda m, x, w, v, b, ids: m.einsum("ij,kj->ik", x, w),
    "outer": lambda m, x, w, v, b, ids: m.outer(b, b),
    "attention": lambda m, x, w, v, b, ids: m.nn.functional.scaled_dot_product_attention(
        x.unsqueeze(0).unsqueeze(0), w.unsqueeze(0).unsqueeze(0), w.unsqueeze(0).unsqueeze(0)
    ),
    "layer_norm": lambda m, x, w, v, b, ids: m.nn.functional.layer_norm(x, (8,)),
    "layer_norm, affine": lambda m, x, w, v, b, ids: m.nn.functional.layer_norm(x, (8,), b.float(), b.float()),
    "rms_norm": lambda m, x, w, v, b, ids: m.nn.functional.rms_norm(x, (8,)),
    "softmax": lambda m, x, w, v, b, ids: m.softmax(x, -1),
    "log_softmax": lambda m, x, w, v, b, ids: m.log_softmax(x, -1),
    "cross_entropy": lambda m, x, w, v, b, ids: m.nn.functional.cross_entropy(x, ids),
    "cross_entropy, smooth": lambda m, x, w, v, b, ids: m.nn.functional.cross_entropy(x, ids, label_smoothing=0.1),
    "nll_loss": lambda m, x, w, v, b, ids: m.nn.functional.nll_loss(x, ids),
    "mse_loss": lambda m, x, w, v, b, ids: m.nn.functional.mse_loss(x, v),
    "l1_loss": lambda m, x, w, v, b, ids: m.nn.functional.l1_loss(x, v),
    "smooth_l1_loss": lambda m, x, w, v, b, ids: m.nn.functional.smooth_l1_loss(x, v),
    "huber_loss": lambda m, x, w, v, b, ids: m.nn.functional.huber_loss(x, v),
    "kl_div": lambda m, x, w, v, b, ids: m.nn.functional.kl_div(x, v.abs()),
    "bce with logits": lambda m, x, w, v, b, ids: m.nn.functional.binary_cross_entropy_with_logits(x, v.sigmoid()),
    "cosine_similarity": lambda m, x, w, v, b, ids: m.nn.functional.cosine_similarity(x, v),
    "sum along": lambda m, x, w, v, b, ids: x.sum(-1),
    "sum of integers": lambda m, x, w, v, b, ids: ids.sum(),
    "cumsum": lambda m, x, w, v, b, ids: m.cumsum(x, 0),
    "logsumexp": lambda m, x, w, v, b, ids: m.logsumexp(x, -1),
    "pow": lambda m, x, w, v, b, ids: x.abs() ** 1.5,
    "add": lambda m, x, w, v, b, ids: x + v,
    "multiply by a number": lambda m, x, w, v, b, ids: x * 2.5,
    "divide": lambda m, x, w, v, b, ids: x / (v.abs() + 1),
    "where": lambda m, x, w, v, b, ids: m.where(x > 0, x, v),
    "maximum": lambda m, x, w, v, b, ids: m.maximum(x, v),
    "compare": lambda m, x, w, v, b, ids: x < v,
    "cat": lambda m, x, w, v, b, ids: m.cat([x, w]),
    "stack": lambda m, x, w, v, b, ids: m.stack([x, v]),
    "embedding": lambda m, x, w, v, b, ids: m.nn.functional.embedding(ids, w),
    "reshape": lambda m, x, w, v, b, ids: x.reshape(8, 4),
    "index": lambda m, x, w, v, b, ids: x.narrow(0, 1, 2),
    "masked_fill": lambda m, x, w, v, b, ids: x.masked_fill(x > 0, 0.0),
    "argmax": lambda m, x, w, v, b, ids: x.argmax(-1),
}
for name in "gelu silu relu elu softplus logsigmoid normalize leaky_relu".split():
    CASES[name] = partial(lambda m, x, *_, name: getattr(m.nn.functional, name)(x), name=name)
for name in "exp expm1 exp2 log log2 log10 log1p sqrt rsqrt reciprocal sin cos tanh sigmoid erf neg".split():
    CASES[name] = partial(lambda m, x, *_, name: getattr(m, name)(x.abs() + 1), name=name)
for name in "sum mean prod var std amax norm".split():
    CASES[name] = partial(lambda m, x, *_, name: getattr(m, name)(x), name=name)
SINGLE, BRAIN = "float32", "bfloat16"
GIVEN = [(SINGLE, SINGLE), (BRAIN, BRAIN), (BRAIN, SINGLE)]  # x's dtype and w's
rng = np.random.default_rng(0)
X, W, V, B = [rng.standard_normal(shape).astype(np.float32) for shape in ((4, 8), (8, 8), (4, 8), (8,))]
IDS = np.array([1, 0, 7, 3])


def ours(case: str, dtypes: tuple[str, str]) -> tl.Tensor | str:
    given = [tl.tensor(a).to(getattr(tl, dtype)) for a, dtype in zip((X, W, V, B), (dtypes[0], *[dtypes[1]] * 3))]
    with tl.autocast("cpu", dtype=tl.bfloat16):
        return CASES[case](tl, *given, tl.tensor(IDS))


def theirs(case: str, dtypes: tuple[str, str], device: str) -> Any:
    arrays = (X, W, V, B, IDS)
    kinds = [getattr(torch, dtype) for dtype in (dtypes[0], *[dtypes[1]] * 3, "int64")]
    given = [torch.empty(a.shape, dtype=kind, device=device) for a, kind in zip(arrays, kinds)]
    if device == "cpu":
        for tensor, array in zip(given, arrays):
            tensor.copy_(torch.tensor(array))
    return CASES[case](torch, *given)


@contextmanager
def pretended() -> Iterator[None]:
    """autocast of fake CUDA tensors, which torch.autocast itself refuses without a GPU."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    torch.autocast_increment_nesting()
    try:
        with FakeTensorMode():
            yield
    finally:
        torch.autocast_decrement_nesting()
        torch.clear_autocast_cache()
        torch.set_autocast_enabled("cuda", False)


@pytest.mark.filterwarnings("ignore:reduction")
@pytest.mark.parametrize("case", CASES)
def test_on_a_cpu(case: str):
    for dtypes in GIVEN:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            expected = theirs(case, dtypes, "cpu")
        result = ours(case, dtypes)
        assert f"torch.{result.dtype}" == str(expected.dtype), dtypes
        if expected.is_floating_point():
            wide = expected.float().numpy()
            # Either rounds some intermediate results to 8 bits and some not.
            np.testing.assert_allclose(
                result.float().numpy(), wide, rtol=0, atol=np.abs(wide).max() * 2**-7, err_msg=case
            )
        else:
            np.testing.assert_array_equal(result.numpy(), expected.numpy())


@pytest.mark.filterwarnings("ignore:reduction")
@pytest.mark.parametrize("case", CASES)
def test_the_lists_for_cuda(case: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(WIDE, "cpu", WIDE["cuda"])
    for dtypes in GIVEN:
        with pretended():
            expected = theirs(case, dtypes, "cuda").dtype
        assert f"torch.{ours(case, dtypes).dtype}" == str(expected), dtypes


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_step_of_training(dtype: str):
    """A linear layer, GELU, layer norm, and a head whose loss is trained: gradients are float32, and near PyTorch's."""
    results = []
    for m in (tl, torch):
        first, second = [m.tensor(a).requires_grad_() for a in (W, W.T.copy())]
        with m.autocast("cpu", dtype=getattr(m, dtype)):
            h = m.nn.functional.gelu(m.nn.functional.linear(m.tensor(X), first))
            h = m.nn.functional.layer_norm(h + m.tensor(X), (8,))
            logits = m.nn.functional.linear(h, second) + m.nn.functional.linear(h, first)
            loss = m.nn.functional.cross_entropy(logits, m.tensor(IDS))
        loss.backward()
        assert str(loss.dtype).endswith("float32") and str(first.grad.dtype).endswith("float32")
        results.append([np.asarray(x.detach().numpy()) for x in (loss, first.grad, second.grad)])
    for ours, theirs in zip(*results):
        np.testing.assert_allclose(
            ours, theirs, rtol=0, atol=np.abs(theirs).max() * (0.02 if dtype == "bfloat16" else 3e-3)
        )


def steps(m: Any, scaler: Any) -> list[Any]:
    """What a scaler does to SGD with momentum, over steps some of which overflow."""
    p = m.tensor(B.copy()).requires_grad_()
    optimizer = m.optim.SGD([p], lr=0.1, momentum=0.9)
    seen = []
    for i in range(12):
        optimizer.zero_grad()
        loss = (p * m.tensor(X[i % 4])).sum() * (float("inf") if i in (0, 4, 5) else 1.0)
        scaler.scale(loss).backward()
        if i % 2:
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        state = {name: float(value) for name, value in scaler.state_dict().items()}
        seen.append((p.detach().numpy().copy(), scaler.get_scale(), state))
    return seen


def test_grad_scaler():
    options = {"init_scale": 2.0**10, "growth_interval": 3}
    both = [steps(m, m.amp.GradScaler("cpu", **options)) for m in (tl, torch)]
    for (p, scale, state), (q, scale_of_theirs, state_of_theirs) in zip(*both):
        np.testing.assert_allclose(p, q, rtol=1e-6, atol=1e-7)
        assert scale == scale_of_theirs and state == state_of_theirs
