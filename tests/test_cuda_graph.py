"""CUDA graphs on the stand-in for CuPy, which remembers calls, runs none meanwhile, and refuses what CUDA refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cuda_on_host import COMPILER, Host
from cupy_standin import gpu, installed
from cupy_standin.array import owned
from cupy_standin.capture import recorded

import tensorlite as tl
from gpt.config import GPTConfig
from gpt.model import GPT
from gpt.options import UsageError
from tensorlite import late, random
from tensorlite.kernels.cuda import loss, module, product
from train import graphed, pretrain
from train.pretrain import Config


@pytest.fixture(autouse=True)
def cuda(request: pytest.FixtureRequest) -> Iterator[None]:
    with installed(devices=2, kernels="kernels" in request.fixturenames):
        yield
    late._pending.clear()
    for where in [where for where in random._generators if where.type == "cuda"]:
        del random._generators[where]


def test_replay_computes_again_what_was_recorded():
    x, w = tl.zeros(3, device="cuda"), tl.tensor([1.0, 2.0, 3.0], device="cuda", requires_grad=True)
    w.grad = tl.zeros(3, device="cuda")
    g = tl.cuda.CUDAGraph()
    with tl.cuda.graph(g):
        assert tl.cuda.is_current_stream_capturing()
        y = ((x * w).exp() + x).sum()
        y.backward()
    assert not tl.cuda.is_current_stream_capturing()
    assert np.isnan(y.item()) and w.grad.tolist() == [0, 0, 0]  # nothing has been computed yet
    grad, address = w.grad, y.array.data.ptr
    for numbers in ([0.5, -1.0, 2.0], [0.0, 0.25, 1.0]):
        x.copy_(tl.tensor(numbers))
        w.grad.zero_()
        gpu.here.synchronisations.clear()
        g.replay()
        assert not gpu.here.synchronisations
        expected = np.exp(np.array(numbers) * [1, 2, 3])
        assert y.item() == pytest.approx((expected + numbers).sum(), rel=1e-6)
        np.testing.assert_allclose(w.grad.cpu().numpy(), expected * numbers, rtol=1e-6)
    assert w.grad is grad and y.array.data.ptr == address


def test_memory_of_a_graph_is_its_own():
    """What the block made and dropped is not handed out to others as long as the graph lives."""
    x = tl.ones(1000, device="cuda")
    g = tl.cuda.CUDAGraph()
    with tl.cuda.graph(g):
        y = (x * 2 + 1).sqrt()
    pool = g._pool.arenas[0]
    inside = [(p.address, p.address + p.size) for _, _, p in pool.free] + [(y.array.data.ptr, y.array.data.ptr + 4000)]
    assert pool.mallocs >= 2
    others = [tl.zeros(1000, device="cuda") for _ in range(8)]
    assert all(not low <= t.array.data.ptr < high for t in others for low, high in inside)
    mallocs = len(gpu.here.mallocs)
    g.replay()
    assert len(gpu.here.mallocs) == mallocs and y.tolist() == [np.float32(3) ** np.float32(0.5)] * 1000
    g.reset()
    with pytest.raises(
        RuntimeError, match=r"CUDAGraph\.replay: nothing was recorded; first run the block under cuda\.gr"
    ):
        g.replay()


def parameter() -> tl.Tensor:
    w = tl.ones(3, device="cuda", requires_grad=True)
    w.grad = tl.ones(3, device="cuda")
    return w


CANNOT = {
    "item": (lambda x: x.sum().item(), "a number is read, for which the program would wait; read it after replay()"),
    "a condition": (lambda x: bool(x.sum() > 0), "a number is read, for which the program would wait"),
    "upload": (lambda x: x + tl.ones(3).to("cuda"), r"an array comes from the CPU.*copy_\(\) it before replay\(\)"),
    "new": (lambda x: x + tl.tensor([1.0, 2.0, 3.0], device="cuda"), "an array comes from the CPU"),
    "dropout": (lambda x: tl.nn.functional.dropout(x, 0.5), "random numbers are drawn, .* set dropout to 0"),
    "randn": (lambda x: x + tl.randn(3, device="cuda"), "random numbers are drawn"),
    "a mask": (lambda x: x[x > 0], "the block does what a graph cannot hold, such as waiting for the GPU: .*"),
    "an optimiser": (
        lambda x: tl.optim.SGD([W[0]], lr=0.1).step(),
        "a parameter is written; an optimiser's step .* let it step after replay",
    ),
    "cuBLAS": (lambda x: x @ x, "the block does what a graph cannot hold.*cuBLAS API during stream capture"),
    "another graph": (lambda x: tl.cuda.graph(tl.cuda.CUDAGraph()).__enter__(), "a graph is being recorded already"),
}
W: list[tl.Tensor] = []


@pytest.mark.parametrize("name", CANNOT)
def test_what_a_graph_cannot_hold(name: str):
    do, words = CANNOT[name]
    W[:] = [parameter()]
    x, g = tl.ones(3, device="cuda"), tl.cuda.CUDAGraph()
    with pytest.raises(RuntimeError, match=rf"(?s)cuda\.graph: .*{words}"), tl.cuda.graph(g):
        do(x + 1)
    assert not tl.cuda.is_current_stream_capturing() and gpu.here.capture is None and len(gpu.here.allocators) == 1
    with tl.cuda.graph(g):  # the GPU is as it was
        y = x + 1
    g.replay()
    assert y.tolist() == [2, 2, 2] and W[0].tolist() == [1, 1, 1]
    with pytest.raises(RuntimeError, match=r"holds something already; reset\(\) it"), tl.cuda.graph(g):
        pass


def test_an_error_of_the_program_stays_what_it_is():
    with pytest.raises(ZeroDivisionError), tl.cuda.graph(tl.cuda.CUDAGraph()):
        _ = 1 / 0
    assert tl.ones(2, device="cuda").sum().item() == 2


def test_an_id_out_of_range_is_found_at_the_replay_that_met_it():
    ids, table = tl.tensor([0, 1], device="cuda"), tl.ones(4, 2, device="cuda")
    g = tl.cuda.CUDAGraph()
    with tl.cuda.graph(g):
        y = tl.nn.functional.embedding(ids, table)
    tl.ones(1, device="cuda").item()  # nothing that was recorded counts
    for bad in (False, True, False):
        ids.copy_(tl.tensor([3, 9 if bad else 2]))
        g.replay()
    with pytest.raises(IndexError, match="token id 9 is outside the vocabulary of 4"):
        y.sum().item()
    g.replay()
    assert y.sum().item() == 4


# A model on the kernels ------------------------------------------------------------------------------------


@recorded
def products(a: Any, b: Any, bias: Any = None, out: Any = None, accumulate: bool = False) -> Any:
    """What cuBLASLt does, which a graph can hold."""
    hosts = [None if x is None else x._host for x in (a, b, bias, out)]
    y = product._by_arrays(*hosts, accumulate)
    return y if y is NotImplemented else out if out is not None else owned(y)


@pytest.fixture
def kernels(built: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    if COMPILER is None:
        pytest.skip("no C++ compiler (g++)")
    monkeypatch.setattr(module, "function", lambda *args: recorded(built.function(*args)))
    monkeypatch.setattr(product, "product", products)
    monkeypatch.setattr(loss, "product", products)
    monkeypatch.setattr(loss, "THREADS", 32)


def test_a_training_step(kernels: None):
    """Forward and backward of a GPT in bfloat16 as a graph: the bits of the same without one."""
    pytest.importorskip("ml_dtypes")
    rng = np.random.default_rng(0)
    batches = [rng.integers(0, 37, (2, 9)) for _ in range(4)]

    def losses(graphed: bool) -> list[float]:
        tl.manual_seed(0)
        model = GPT(GPTConfig(vocab_size=37, context_length=8, n_layer=1, n_head=2, n_embd=16)).to("cuda")
        optimizer = tl.optim.AdamW(model.parameters(), lr=1e-2)
        x, y = [tl.zeros(2, 8, dtype=tl.int64, device="cuda") for _ in range(2)]
        for p in model.parameters():
            p.grad = tl.zeros_like(p)

        def both() -> tl.Tensor:
            with tl.autocast("cuda", dtype="bfloat16"):
                loss = model.loss(x, y)
            loss.backward()
            return loss.detach()

        g, seen = tl.cuda.CUDAGraph(), []
        if graphed:
            with tl.cuda.graph(g):
                found = both()
        for ids in batches:
            x.copy_(tl.from_numpy(ids[:, :-1].copy()))
            y.copy_(tl.from_numpy(ids[:, 1:].copy()))
            if graphed:
                g.replay()
            else:
                found = both()
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)
            seen.append(found.item())
        return seen

    assert losses(True) == losses(False)


def trained(out: Path, text: Path, **options: Any) -> list[float]:
    settings: dict[str, Any] = dict(
        data=(str(text),), tokenizer="characters", n_layer=1, n_head=2, n_embd=16, context_length=8, batch_size=2,
        steps=3, accumulation=2, dropout=0.0, warmup=2, schedule="constant", log_every=1, eval_every=9, eval_batches=1,
        sample_every=None, checkpoint_every=None, measure_peak=False, device="cuda", out=out,
    )  # fmt: skip
    pretrain.start(Config(**{**settings, **options}))
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line[name] for line in lines for name in ("train_loss", "grad_norm")]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("the quick brown fox jumps over the lazy dog. " * 20)
    return path


def test_training_with_the_option(kernels: None, tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch):
    """Replayed from the fourth micro-batch on, in the middle of a step: the same bits as without."""
    replayed = []
    monkeypatch.setattr(
        tl.cuda.CUDAGraph, "replay", lambda self, was=tl.cuda.CUDAGraph.replay: replayed.append(was(self))
    )
    expected = trained(tmp_path / "a", text)
    assert not replayed
    assert trained(tmp_path / "b", text, cuda_graph=True) == expected and len(replayed) == 6 - graphed.WARM_UP


def test_the_option_and_dropout(kernels: None, tmp_path: Path, text: Path):
    with pytest.raises(UsageError, match=r"--cuda-graph: random numbers are drawn, .*set dropout to 0"):
        trained(tmp_path / "a", text, dropout=0.1, cuda_graph=True)


def test_other_shapes_and_other_things():
    """Shapes that were not recorded run without the graph, and gradients add up in one place."""
    w = tl.ones(2, device="cuda", requires_grad=True)

    def backward(batch: Any) -> tl.Tensor:
        loss = (w * batch[0].to("cuda")).sum()
        loss.backward()
        return loss

    run = graphed.Graphed(backward, [w], "cuda")
    for _ in range(graphed.WARM_UP):
        run((tl.ones(2),))
    w.grad = None
    assert [run((tl.full(shape, 2.0),)).item() for shape in ((2,), (3, 2), (2,))] == [4, 12, 4]
    assert w.grad.tolist() == [2 + 6 + 2] * 2
    run = graphed.Graphed(lambda batch: backward(batch["x"]), [w], "cuda")
    for _ in range(graphed.WARM_UP):
        run({"x": (tl.ones(2),)})
    with pytest.raises(UsageError, match="--cuda-graph: this training has micro-batches of other things than Tensors"):
        run({"x": (tl.ones(2),)})


@pytest.mark.parametrize(
    "options, words",
    [
        ({"device": "cpu"}, "--cuda-graph is for a GPU, not for --device cpu"),
        ({"device": "cuda", "precision": "fp16"}, "--cuda-graph and --precision fp16: its scale changes"),
    ],
)
def test_what_the_option_does_not_go_with(options: dict[str, str], words: str):
    with pytest.raises(UsageError, match=words):
        Config(cuda_graph=True, **options)
