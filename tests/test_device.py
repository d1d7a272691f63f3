"""Devices: where Tensors are made, moved and mixed; what a GPU finds out late; its generator; page-locked memory; its
end. A strict stand-in for CuPy plays the GPUs."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from cupy_standin import gpu, installed

import tensorlite as tl
import tensorlite.nn.functional as F
from tensorlite import late, nn, random
from tensorlite.device import _in_flight
from tensorlite.philox import Philox, philox


@pytest.fixture
def cuda() -> Iterator[Any]:
    with installed(devices=2) as cupy:
        yield cupy
    late._pending.clear()
    _in_flight.clear()
    for where in [where for where in random._generators if where.type == "cuda"]:
        del random._generators[where]


# Where ------------------------------------------------------------------------------------------------------


MAKING = [
    lambda d: tl.zeros(2, device=d), lambda d: tl.ones(2, device=d), lambda d: tl.empty(2, device=d),
    lambda d: tl.full((2,), 3, device=d), lambda d: tl.arange(2, device=d), lambda d: tl.arange(0.0, 1.0, device=d),
    lambda d: tl.linspace(0, 1, 2, device=d), lambda d: tl.eye(2, device=d), lambda d: tl.tensor([1.0], device=d),
    lambda d: tl.rand(3, device=d), lambda d: tl.randn(3, device=d), lambda d: tl.randint(5, (3,), device=d),
    lambda d: tl.randperm(5, device=d), lambda d: tl.zeros_like(tl.ones(2), device=d), lambda d: tl.ones(2).to(d),
    lambda d: nn.Linear(2, 3, device=d).weight, lambda d: nn.Linear(2, 3).to(d).weight,
    lambda d: tl.tensor([tl.tensor(1.0, device=d)], device=d), lambda d: tl.zeros(2, device=d).exponential_(),
    lambda d: tl.zeros(2, device=d).bernoulli_(), lambda d: tl.zeros(2, device=d).normal_().clone(),
    lambda d: tl.tril_indices(2, 2, device=d), lambda d: tl.bernoulli(tl.full((2,), 0.5, device=d)),
    lambda d: tl.multinomial(tl.ones(3, device=d), 2), lambda d: tl.as_tensor([1.0], device=d),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(MAKING)))
def test_made_on_a_device(cuda, number: int):
    """On the one that is named, whichever is current; "cuda" is the current one."""
    make = MAKING[number]
    assert make("cuda:1").device == tl.device("cuda:1") and gpu.here.current == 0
    tl.cuda.set_device(1)
    assert make("cuda").device == "cuda:1" and make("cuda:0").device == "cuda:0"


def test_moving(cuda):
    x = tl.ones(3, requires_grad=True)
    y = x.to("cuda") * 2
    z = y.to("cuda:1") * 3
    assert [t.device for t in (x, y, z, z.cpu(), y.cuda(1))] == ["cpu", "cuda:0", "cuda:1", "cpu", "cuda:1"]
    assert y.to("cuda:0") is y and y.is_cuda and not x.is_cuda
    z.cpu().sum().backward()
    assert x.grad.device == "cpu" and x.grad.tolist() == [6, 6, 6]
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).cuda()
    assert {t.device for t in (*model.parameters(), *model.buffers())} == {tl.device("cuda:0")}
    assert {t.device for t in model.cpu().state_dict().values()} == {tl.device("cpu")}
    with pytest.raises(RuntimeError, match=r"grad: .* device of its Tensor, which are .*cuda:0; this one has .*cpu"):
        y.detach().grad = tl.ones(3)


MIXED: dict[str, Callable] = {
    "add": lambda a, b: a + b,
    "matmul": lambda a, b: a @ b,
    "linear": lambda a, b: F.linear(a, b),
    "cat": lambda a, b: tl.cat([a, b]),
    "where": lambda a, b: tl.where(a > 0, a, b),
    "mse_loss": lambda a, b: F.mse_loss(a, b),
    "embedding": lambda a, b: F.embedding(a.long(), b),
    "cross_entropy": lambda a, b: F.cross_entropy(a, b.long()[:, 0]),
    "take_along_dim": lambda a, b: a.take_along_dim(b.long(), 0),
    "add_": lambda a, b: a.add_(b),
    "norm": lambda a, b: nn.utils.get_total_norm([a, b]),
}


@pytest.mark.parametrize("case", MIXED)
@pytest.mark.parametrize("where", [("cpu", "cuda:0"), ("cuda:1", "cpu"), ("cuda:0", "cuda:1")])
def test_mixing_devices_names_both(cuda, case: str, where: tuple[str, str]):
    a, b = [tl.ones(2, 2, device=d) for d in where]
    with pytest.raises((RuntimeError, ValueError), match="different devices") as error:
        MIXED[case](a, b)
    assert all(d in str(error.value) for d in where) and ".to(device)" in str(error.value)


def test_a_gradient_from_another_device(cuda):
    x = tl.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"gradient given lies on cuda:0 and the Tensor on cpu; move it with \.to"):
        (x * 2).backward(tl.ones(2, device="cuda"))


def test_lists_and_numpy_arrays_are_indices_anywhere(cuda):
    x = tl.arange(4.0, device="cuda:1").requires_grad_()
    y = x * 1
    y[[0, 2]] = 7.0
    y[np.array([1])] = tl.tensor([8.0], device="cuda:1")
    y[[True, False, False, False]] *= 2
    assert y.tolist() == [14, 8, 7, 3] and y[[3, 0]].tolist() == y[np.array([3, 0])].tolist() == [3, 14]
    with pytest.raises(IndexError, match="index 4 is out of bounds"):
        y[[4]]


def test_what_is_not_there(cuda):
    with pytest.raises(
        RuntimeError, match=r"'cuda:7' does not exist: this machine has 2 GPU\(s\), counted from cuda:0"
    ):
        tl.zeros(1, device="cuda:7")


def test_without_a_gpu_or_without_cupy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(RuntimeError, match=r"'cuda' needs CuPy: pip install 'tensorlite\[cuda13\]' \(or \[cuda12\]"):
        tl.zeros(1, device="cuda")
    monkeypatch.undo()
    with installed(devices=0):
        for ask in (lambda: tl.zeros(1).cuda(), lambda: nn.Linear(1, 1).to("cuda"), lambda: tl.ones(2).pin_memory()):
            with pytest.raises(RuntimeError, match="CuPy is installed, but it finds no NVIDIA GPU or no driver"):
                ask()
        assert not tl.cuda.is_available() and tl.cuda.device_count() == 0


# Late -------------------------------------------------------------------------------------------------------

OUTSIDE: dict[str, tuple[Callable, str]] = {
    "embedding": (
        lambda ids: F.embedding(ids, tl.ones(4, 2, device="cuda")), "token id 9 is outside the vocabulary of 4",
    ),
    "cross_entropy": (
        lambda ids: F.cross_entropy(tl.ones(3, 4, device="cuda"), ids), "target 9 is not one of the 4 classes",
    ),
    "linear_cross_entropy": (
        lambda ids: F.linear_cross_entropy(tl.ones(3, 2, device="cuda"), tl.ones(4, 2, device="cuda"), ids),
        "target 9 is not one of the 4 classes",
    ),
    "nll_loss": (lambda ids: F.nll_loss(tl.ones(3, 4, device="cuda"), ids), "target 9 is not one of the 4 classes"),
    "gather": (lambda ids: tl.ones(4, device="cuda").gather(0, ids), "index 9 is outside dimension 0, of length 4"),
    "index": (lambda ids: tl.ones(4, device="cuda")[ids], "index 9 is out of bounds for dimension 0 with size 4"),
    "take_along_dim": (
        lambda ids: tl.ones(4, device="cuda").take_along_dim(ids, 0), "index 9 is out of bounds for dimension 0",
    ),
    "one_hot": (lambda ids: F.one_hot(ids, 4), "class 9 is not one of 4"),
}  # fmt: skip


@pytest.mark.parametrize("case", OUTSIDE)
def test_an_id_out_of_range_is_raised_before_a_number_is_seen(cuda, case: str):
    call, words = OUTSIDE[case]
    ids = tl.tensor([0, 9, 1], device="cuda")
    gpu.here.synchronisations.clear()
    call(ids)
    assert gpu.here.synchronisations == []
    with pytest.raises(IndexError):
        tl.cuda.synchronize()
    for look in (tl.Tensor.tolist, tl.Tensor.cpu, repr, lambda y: y.sum().item(), lambda y: tl.cuda.synchronize()):
        y = call(ids)
        with pytest.raises(IndexError, match=re.escape(words) + r".* \(found on cuda:0 by an earlier operation\)"):
            look(y)
    assert call(tl.tensor([0, 3, 1], device="cuda")).tolist() is not None


def test_noting_ranges_takes_no_memory_with_time(cuda):
    table, ids = tl.ones(4, 2, device="cuda"), tl.tensor([1, 2], device="cuda")
    for _ in range(5):
        F.embedding(ids, table)
    assert [len(noted) for noted in late._pending.values()] == [1]
    assert F.embedding(tl.tensor([-1], device="cuda"), table).shape == (1, 2)
    F.embedding(ids, table)
    with pytest.raises(IndexError, match="token id -1"):
        ids.tolist()


# Random numbers ---------------------------------------------------------------------------------------------


def test_philox_gives_the_published_numbers():
    """Random123's known answers: kat_vectors, philox4x32 10."""
    words = [int(w[0]) for w in philox(np.zeros(1, np.uint64), 0)]
    assert words == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


def test_numbers_are_distributed_as_they_should_be():
    draws = Philox(tl.device("cpu"), 7)
    u, n = draws.random((200_000,), np.float32), draws.standard_normal((200_001,), np.float32)
    assert u.dtype == n.dtype == np.float32 and u.min() >= 0 and u.max() < 1
    assert abs(u.mean() - 0.5) < 0.003 and abs(u.var() - 1 / 12) < 0.001
    assert abs(n.mean()) < 0.01 and abs(n.std() - 1) < 0.01 and abs((n**4).mean() - 3) < 0.1
    assert abs(np.corrcoef(u[1:], u[:-1])[0, 1]) < 0.01 and len(np.unique(draws.random((50_000,)))) == 50_000
    assert abs(draws.standard_exponential((100_000,)).mean() - 1) < 0.02
    counts = np.bincount(draws.integers(-3, 4, (70_000,)) + 3)
    assert len(counts) == 7 and abs(counts - 10_000).max() < 500
    assert sorted(draws.permutation(1000).tolist()) == list(range(1000)) != draws.permutation(1000).tolist()
    other = Philox(tl.device("cpu"), 8).random((200_000,), np.float32)
    assert abs(np.corrcoef(u, other)[0, 1]) < 0.01


def test_the_state_of_a_gpus_generator(cuda):
    source = tl.Generator("cuda:1").manual_seed(5)
    first = tl.rand(5, device="cuda:1", generator=source)
    state = source.get_state()
    again = [tl.randn(3, device="cuda:1", generator=source).tolist(), source.draw_seed()]
    assert state.device == "cpu"
    source.set_state(state)
    assert [tl.randn(3, device="cuda:1", generator=source).tolist(), source.draw_seed()] == again
    assert tl.rand(5, device="cuda:1", generator=tl.Generator("cuda:1").manual_seed(5)).tolist() == first.tolist()
    tl.cuda.manual_seed(3)
    state = tl.cuda.get_rng_state()
    x = tl.rand(4, device="cuda")
    tl.cuda.set_rng_state(state)
    assert tl.rand(4, device="cuda").tolist() == x.tolist() and tl.cuda.initial_seed() == 3
    states = tl.cuda.get_rng_state_all()
    x = tl.rand(4, device="cuda:1")
    tl.cuda.set_rng_state_all(states)
    assert tl.rand(4, device="cuda:1").tolist() == x.tolist()


def test_states_and_generators_of_another_device(cuda):
    with pytest.raises(ValueError, match="not a state that get_state\\(\\) of a generator on cuda:0 gave"):
        tl.Generator("cuda").set_state(tl.Generator().get_state())
    with pytest.raises(RuntimeError, match=r"generator draws on cpu, but the numbers are wanted on cuda:0; use Gen"):
        tl.rand(2, device="cuda", generator=tl.Generator())


def test_drawing_does_not_wait(cuda):
    x = tl.ones(8, 4, 6, device="cuda")
    F.dropout(x, 0.3)
    F.scaled_dot_product_attention(x, x, x, dropout_p=0.2)
    tl.randperm(9, device="cuda"), tl.randint(4, (3,), device="cuda"), tl.bernoulli(x)
    assert gpu.here.synchronisations == []


# Page-locked memory -----------------------------------------------------------------------------------------


def test_pinned_memory(cuda):
    x = tl.arange(6).reshape(2, 3)
    pinned = x.pin_memory()
    assert pinned.is_pinned() and not x.is_pinned() and pinned[1:].is_pinned() and pinned.pin_memory() is pinned
    assert pinned.tolist() == x.tolist()
    there = pinned.to("cuda:1", non_blocking=True)
    assert there.device == "cuda:1" and there.tolist() == x.tolist()
    assert len(_in_flight) == 1  # held until the copy is done
    assert x.to("cuda", non_blocking=True).tolist() == pinned.T.cuda(non_blocking=True).mT.tolist()
    with pytest.raises(RuntimeError, match="pin_memory: this Tensor lies on cuda:1; only memory of the CPU"):
        there.pin_memory()
    assert len(_in_flight) <= 1


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_pins(cuda, workers: int):
    data = [{"x": np.full(2, i, "f"), "y": (i, "name")} for i in range(4)]
    for batch in tl.data.DataLoader(data, batch_size=2, pin_memory=True, num_workers=workers):
        assert batch["x"].is_pinned() and batch["y"][0].is_pinned() and batch["y"][1] == ["name"] * 2


def test_a_loader_without_a_gpu_does_not_pin():
    (batch,) = tl.data.DataLoader([1.0, 2.0], batch_size=2, pin_memory=True)
    assert tl.cuda.is_available() or not batch.is_pinned()


# The end of memory ------------------------------------------------------------------------------------------


def test_out_of_memory():
    words = r"\[exp\] Out of memory.*GiB(.|\n)*given: x \(400, 400\) float32 on cuda:0"
    with installed(memory=1_000_000):
        x = tl.ones(400, 400, device="cuda")
        with pytest.raises(tl.OutOfMemoryError, match=words):
            x.exp()
        with pytest.raises(tl.OutOfMemoryError, match=r"zeros\(\(1000, 1000\), float32\): Out of memory .* A smaller"):
            tl.zeros(1000, 1000, device="cuda")
        assert x.mean().item() == 1  # all goes on
    with pytest.raises(tl.OutOfMemoryError, match=r"\[add\] Unable to allocate(.|\n)*given: a \(1000000, 1\)"):
        tl.ones(1_000_000, 1) + tl.ones(1, 100_000_000)
    assert issubclass(tl.OutOfMemoryError, MemoryError) and issubclass(tl.OutOfMemoryError, RuntimeError)
    assert tl.cuda.OutOfMemoryError is tl.OutOfMemoryError
