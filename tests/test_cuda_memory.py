"""Memory of a GPU, played by the stand-in for CuPy, whose pool cuts and joins its segments as the real one does."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from cupy_standin import gpu, installed

import tensorlite as tl
from gpt.config import GPTConfig
from gpt.model import GPT
from tensorlite import late

WARM_UP = 3  # steps


@pytest.fixture(autouse=True)
def cuda() -> Iterator[None]:
    with installed(devices=2):
        yield
    late._pending.clear()


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_training_step_takes_no_memory_from_the_driver(precision: str):
    """Once the pool has the pieces that it needs; what it reserves is then what it was."""
    if precision == "bfloat16":
        pytest.importorskip("ml_dtypes")
    tl.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=32, context_length=8, n_layer=1, n_head=2, n_embd=16, dropout=0.1)).to("cuda")
    optimizer = tl.optim.AdamW(model.parameters(), lr=1e-2)
    scaler = tl.amp.GradScaler("cuda", enabled=precision == "float16")
    rng = np.random.default_rng(0)
    taken, stats = [], []
    for _ in range(WARM_UP + 4):
        ids = tl.from_numpy(rng.integers(0, 32, (2, 9))).to("cuda")
        for _ in range(2):  # micro-batches
            with tl.autocast(
                "cuda", dtype=None if precision == "float32" else precision, enabled=precision != "float32"
            ):
                loss = model.loss(ids[:, :-1], ids[:, 1:])
            scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        tl.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        taken.append(len(gpu.here.mallocs))
        stats.append(tl.cuda.memory_stats())
    assert taken[0] > 0 and taken[WARM_UP - 1 :] == [taken[-1]] * 5, taken
    warm, last = stats[WARM_UP], stats[-1]
    assert warm["reserved_bytes.all.current"] == last["reserved_bytes.all.current"] == sum(gpu.here.mallocs)
    assert warm["allocated_bytes.all.current"] == last["allocated_bytes.all.current"]


def test_memory_stats():
    x = tl.zeros(1000, device="cuda:1")  # 4000 bytes, in pieces of 512
    y = tl.zeros(300, device="cuda:1")
    del x
    assert tl.cuda.memory_stats("cuda:1") == {
        "allocated_bytes.all.current": 1536,
        "reserved_bytes.all.current": 4096 + 1536,
        "inactive_split_bytes.all.current": 4096,
        "inactive_split.all.current": 1,
    }
    z = tl.ones(200, device="cuda:1")  # in the place of x
    assert tl.cuda.memory_reserved(1) == 4096 + 1536 and set(tl.cuda.memory_stats(0).values()) == {0}
    del y, z
    with tl.cuda._cupy(1, "")[0].cuda.Device(1):
        tl.cuda.empty_cache()
    assert set(tl.cuda.memory_stats(1).values()) == {0}


def test_memory_stats_without_a_gpu():
    with installed(devices=0), pytest.raises(RuntimeError, match="CuPy is installed, but it finds no NVIDIA GPU"):
        tl.cuda.memory_stats()
    with pytest.raises(ValueError, match=r"cuda\.memory_stats: 'cpu' is no GPU"):
        tl.cuda.memory_stats("cpu")
