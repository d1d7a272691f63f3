"""autocast and the scaler on a GPU, played by the stand-in for CuPy: what CuPy refuses of small numbers fails here."""

import numpy as np
import pytest
from cupy_standin import gpu, installed

import tensorlite as tl
from gpt.config import GPTConfig
from gpt.model import GPT
from tensorlite import late

pytest.importorskip("ml_dtypes")


@pytest.fixture(autouse=True)
def cuda():
    with installed(devices=2):
        yield
    late._pending.clear()


def losses(device: str, dtype: str, steps: int = 4) -> tuple[list[float], list[str]]:
    """Training under autocast, and what it waited for within the steps after the first."""
    tl.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=32, context_length=8, n_layer=1, n_head=2, n_embd=16)).to(device)
    optimizer = tl.optim.AdamW(model.parameters(), lr=1e-2)
    scaler = tl.amp.GradScaler(device, enabled=dtype == "float16")
    ids = np.random.default_rng(0).integers(0, 32, (2, 9))
    x, y = [tl.from_numpy(a.copy()).to(device) for a in (ids[:, :-1], ids[:, 1:])]
    seen, waited = [], 0
    for i in range(steps):
        if device != "cpu" and i == 1:
            waited = len(gpu.here.synchronisations)
        with tl.autocast(device.partition(":")[0], dtype=dtype):
            loss = model.loss(x, y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        seen.append(loss.detach())
    within = [] if device == "cpu" else list(gpu.here.synchronisations)[waited:]
    return [x.item() for x in seen], within


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_model_trains_as_on_the_cpu(dtype: str):
    found, waited = losses("cuda:1", dtype)  # which is not the current one
    expected, _ = losses("cpu", dtype)
    np.testing.assert_allclose(found, expected, rtol=0.02)
    assert found[-1] < found[0]
    # The scaler asks in a step for what was found in the one before, which the GPU has left behind it.
    assert waited == (["Event.synchronize"] * 3 if dtype == "float16" else [])
