"""Whether the engine is right on a GPU: held against the CPU, which the tests hold against everything else."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np

import tensorlite as tl
from benchmarks.gpu.parts import MissingError, Row
from gpt.config import PRESETS
from gpt.model import GPT
from train.graphed import Graphed

STEPS, BATCH, LENGTH = 20, 4, 256


def gradients(dtype: str) -> Iterator[Row]:
    """Every op at every level: values, gradients and gradients of gradients against float64 on the CPU."""
    try:
        from tensorlite.check.on_device import compare
    except ImportError:
        raise MissingError("tensorlite.check.on_device is not there") from None
    names = [name for name, op in tl.OPS.items() if op.__module__.startswith("tensorlite.")]
    worst: dict[tuple[str, str], list[Any]] = {}
    for found in compare(names, "cuda", [dtype]):
        worst.setdefault((found.op, found.level), []).append(found)
    for (op, level), cases in worst.items():
        wrong = [case for case in cases if not case.ok]
        value = f"{len(cases) - len(wrong)} of {len(cases)} samples"
        why = (
            f": {wrong[0].problem or f'off by {max(wrong[0].values, wrong[0].gradients, wrong[0].second):.1e}'}"
            if wrong
            else ""
        )
        yield Row(f"{op}, {level}", value + why, wanted="all", ok=not wrong)


def devices() -> Iterator[Row]:
    """Two Tensors on different devices do not mix, and the error says where each is."""
    x, y = tl.ones(2), tl.ones(2, device="cuda")
    for name, op in (("add", lambda: x + y), ("matmul", lambda: y @ x), ("where", lambda: tl.where(x > 0, y, y))):
        try:
            op()
            said = "nothing was raised"
        except (RuntimeError, TypeError, ValueError) as error:
            said = str(error)
        yield Row(
            name, said.splitlines()[0], wanted="an error that names cpu and cuda", ok="cpu" in said and "cuda" in said
        )


def memory() -> Iterator[Row]:
    """What a run has taken is given back."""
    tl.cuda.empty_cache()
    before = tl.cuda.memory_allocated()
    losses(GPT(PRESETS["gpt2"]), "cuda", "bf16", 2)
    gc.collect()
    tl.cuda.empty_cache()
    after = tl.cuda.memory_allocated()
    # A workspace and constants stay; weights alone would be 500 MB.
    yield Row("left after a run of 124M", (after - before) / 2**20, "MiB", "less than 64", after - before < 64 << 20)


def out_of_memory() -> Iterator[Row]:
    """Too large a Tensor is an error that says which, and the process goes on."""
    shape = (1 << 22, 1 << 20)  # 16 TiB
    try:
        tl.zeros(shape, device="cuda")
        said = "nothing was raised"
    except (MemoryError, RuntimeError) as error:
        said = str(error)
    yield Row("the error", said.splitlines()[0], wanted=f"names {shape}", ok=str(shape[0]) in said)
    yield Row(
        "a sum after it",
        tl.ones(1000, device="cuda").sum().item(),
        wanted="1000",
        ok=tl.ones(1000, device="cuda").sum().item() == 1000,
    )
    x = tl.ones(64, 1 << 20, device="cuda", requires_grad=True)
    try:
        big = [tl.ones(1 << 30, device="cuda") for _ in range(200)]
        del big
        raised = False
    except (MemoryError, RuntimeError):
        raised = True
    gc.collect()
    (x * 2).sum().backward()
    yield Row("a backward after the GPU was full", str(raised), wanted="True", ok=raised and x.grad is not None)


def losses(model: GPT, device: str, precision: str, steps: int, seed: int = 0, graph: bool = False) -> list[float]:
    """The loss of each step of training on random tokens, which a model can only get to know by heart. `graph`: forward
    and backward are recorded as a CUDA graph and replayed."""
    model = model.to(device)
    optimizer = tl.optim.AdamW(model.parameter_groups(0.1), lr=3e-4, betas=(0.9, 0.95))
    ids = np.random.default_rng(seed).integers(0, 1000, (BATCH, LENGTH + 1))
    x, y = [tl.from_numpy(a.copy()).to(device) for a in (ids[:, :-1], ids[:, 1:])]
    casting: Any = tl.autocast(device, dtype=tl.bfloat16) if precision == "bf16" else nullcontext()

    def backward(batch: Any) -> tl.Tensor:
        with casting:
            loss = model.loss(*batch)
        loss.backward()
        return loss.detach()

    gather = Graphed(backward, list(model.parameters()), device) if graph else backward
    seen = []
    for _ in range(steps):
        loss = gather((x, y))
        tl.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seen.append(loss.item())
    return seen


def fresh() -> GPT:
    tl.manual_seed(0)
    return GPT(PRESETS["gpt2"])


def cuda_graph() -> Iterator[Row]:
    """Forward and backward replayed from a graph have the bits of those that are not; an error leaves all as it was."""
    for precision in ("fp32", "bf16"):
        found = []
        for graph in (False, True):
            tl.manual_seed(0)
            model = GPT(replace(PRESETS["gpt2"], dropout=0.0))
            found.append(losses(model, "cuda", precision, 8, graph=graph))
        apart = max(abs(a - b) for a, b in zip(*found, strict=True))
        yield Row(f"{precision}: largest difference of a step's loss", apart, wanted="0", ok=apart == 0)
    x = tl.ones(4, device="cuda")
    try:
        with tl.cuda.graph(tl.cuda.CUDAGraph()):
            x.sum().item()
        said = "nothing was raised"
    except RuntimeError as error:
        said = str(error)
    yield Row("item() within a graph", said, wanted="an error that names it", ok="a number is read" in said)
    yield Row("a sum after it", x.sum().item(), wanted="4", ok=x.sum().item() == 4)


def determinism() -> Iterator[Row]:
    """Twice the same gives the same bits."""
    for precision in ("fp32", "bf16"):
        digests = []
        for _ in range(2):
            model = fresh()
            losses(model, "cuda", precision, 5)
            numbers = [p.detach().cpu().numpy().tobytes() for p in model.parameters()]
            digests.append(hashlib.sha256(b"".join(numbers)).hexdigest())
        yield Row(
            f"weights after 5 steps in {precision}",
            digests[0][:16],
            wanted=digests[1][:16],
            ok=digests[0] == digests[1],
        )


def parity() -> Iterator[Row]:
    """The training curve of GPT-2 124M, 20 steps of 4 x 256 tokens, is that of the CPU."""
    expected = losses(fresh(), "cpu", "fp32", STEPS)
    yield Row("the CPU's loss, first and last step", f"{expected[0]:.5f}, {expected[-1]:.5f}")
    for precision, limit in (("fp32", 1e-4), ("bf16", 1e-2)):
        found = losses(fresh(), "cuda", precision, STEPS)
        apart = max(abs(a - b) / b for a, b in zip(found, expected, strict=True))
        yield Row(
            f"{precision}: largest difference of a step's loss", apart, wanted=f"at most {limit:g}", ok=apart <= limit
        )
