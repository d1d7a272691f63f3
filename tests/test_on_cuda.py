"""The engine on a GPU, which a strict stand-in for CuPy plays: every op, modules, optimisers, a GPT, a training run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cupy_standin import gpu, installed

import tensorlite as tl
import tensorlite.nn.functional as F
from gpt.config import GPTConfig
from gpt.generate import generate
from gpt.model import GPT
from tensorlite import late, lens, nn, random
from tensorlite.amp.grad_scaler import unscale
from tensorlite.check.on_device import compare
from tensorlite.check.samples import SAMPLES
from tensorlite.kernels.cuda import module, optim
from tensorlite.nn.utils import norm_of, scale
from tensorlite.optim import Adam
from train import loop, pretrain
from train.pretrain import Config


@pytest.fixture(autouse=True)
def cuda() -> Iterator[Any]:
    """Two GPUs, the first of which is the current one."""
    with installed(devices=2) as cupy:
        yield cupy
    late._pending.clear()
    for where in [where for where in random._generators if where.type == "cuda"]:
        del random._generators[where]


def waited() -> list[str]:
    """Why the program waited for a GPU so far."""
    return list(gpu.here.synchronisations)


@pytest.mark.parametrize("op", [op for op in SAMPLES if op != "move"])
def test_op(op: str):
    """On the GPU that is not the current one: values, gradients, and gradients of gradients."""
    wrong = [c for c in compare([op], "cuda:1", ["float32"], large=False) if not c.ok]
    assert not wrong, wrong[0]
    assert gpu.here.current == 0


@pytest.mark.parametrize("op", ["getitem", "setitem", "take_along_dim", "put_along_dim", "embedding", "embedding_grad"])
def test_what_adds_at_places_in_half_precision(op: str):
    assert all(c.ok for c in compare([op], "cuda", ["float16"], large=False))


def test_adding_integers_at_places_is_exact():
    x, ids = [2**62 + 1, 2**62 + 1, -5], [0, 0, 1]
    for dtype in (tl.int64, tl.int32, tl.int16, tl.int8):
        xs = tl.tensor([n % 50 for n in x] if dtype != tl.int64 else x, dtype=dtype, device="cuda")
        out = tl.zeros(2, dtype=dtype, device="cuda").index_add(0, tl.tensor(ids, device="cuda"), xs)
        expected = np.zeros(2, dtype)
        np.add.at(expected, ids, xs.cpu().numpy())
        assert out.dtype == dtype and out.tolist() == expected.tolist()


def test_of_several_values_for_one_place_the_last_stays():
    x = tl.zeros(3, device="cuda", requires_grad=True)
    y = x.scatter(0, tl.tensor([1, 1, 0], device="cuda"), tl.tensor([5.0, 6.0, 7.0], device="cuda"))
    assert y.tolist() == [7, 6, 0]


# Modules and optimisers ------------------------------------------------------------------------------------

X, IDS, LABELS = np.linspace(-2, 2, 24, dtype="f").reshape(4, 6), np.array([[0, 3], [2, 3]]), np.array([1, 0, 5, -100])
MODULES: dict[str, tuple[Any, tuple[np.ndarray, ...]]] = {
    "Linear": (lambda: nn.Linear(6, 3), (X,)),
    "Embedding": (lambda: nn.Embedding(4, 3, padding_idx=0), (IDS,)),
    "LayerNorm": (lambda: nn.LayerNorm(6), (X,)),
    "RMSNorm": (lambda: nn.RMSNorm(6), (X,)),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(6), (X,)),
    "MultiheadAttention": (lambda: nn.MultiheadAttention(6, 2), (X[:, None],) * 3),
    "activations": (
        lambda: nn.Sequential(
            nn.GELU(), nn.GELU("tanh"), nn.ELU(), nn.SiLU(), nn.LeakyReLU(), nn.Softplus(), nn.Tanh(), nn.Sigmoid(),
            nn.LogSigmoid(), nn.ReLU(), nn.Linear(6, 6), nn.LogSoftmax(-1), nn.Softmax(-1), nn.Dropout(0.0),
            nn.Flatten(), nn.Unflatten(1, (2, 3)),
        ),
        (X,),
    ),
    "CrossEntropyLoss": (lambda: nn.CrossEntropyLoss(), (X, LABELS)),
    "CrossEntropyLoss, all of it": (
        lambda: nn.CrossEntropyLoss(weight=tl.arange(1.0, 7.0), label_smoothing=0.1), (X, LABELS),
    ),
    "NLLLoss": (lambda: nn.NLLLoss(), (X, LABELS)),
    "KLDivLoss": (lambda: nn.KLDivLoss(reduction="batchmean"), (X, np.abs(X))),
    "MSELoss": (lambda: nn.MSELoss(), (X, X[::-1].copy())),
    "SmoothL1Loss": (lambda: nn.SmoothL1Loss(), (X, X[::-1].copy())),
    "HuberLoss": (lambda: nn.HuberLoss(), (X, X[::-1].copy())),
    "BCEWithLogitsLoss": (lambda: nn.BCEWithLogitsLoss(), (X, (X > 0).astype("f"))),
    "BCELoss": (lambda: nn.BCELoss(), (np.abs(X) / 3, (X > 0).astype("f"))),
    "CosineSimilarity": (lambda: nn.CosineSimilarity(), (X, X[::-1].copy())),
}  # fmt: skip


def forward_and_backward(module: nn.Module, arrays: tuple[np.ndarray, ...], device: str) -> list[np.ndarray]:
    xs = [tl.tensor(x, device=device) for x in arrays]
    xs[0].requires_grad = xs[0].is_floating_point()
    y = module(*xs)
    y = y[0] if isinstance(y, tuple) else y
    (y * tl.arange(1.0, y.numel() + 1, device=device).reshape(y.shape)).sum().backward()
    before = len(waited())
    found = [y, xs[0].grad, *(p.grad for p in module.parameters()), *module.buffers()]
    assert before == 0 or device == "cpu"
    return [x.detach().cpu().numpy() for x in found if x is not None]


@pytest.mark.parametrize("name", MODULES)
def test_module(name: str):
    """Moved to a GPU it computes the same, and its steps do not wait."""
    make, arrays = MODULES[name]
    tl.manual_seed(0)
    module = make()
    expected = forward_and_backward(module, arrays, "cpu")
    tl.manual_seed(0)
    module = make().to("cuda:1")
    gpu.here.synchronisations.clear()
    for a, b in zip(forward_and_backward(module, arrays, "cuda:1"), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=5e-5)


OPTIMIZERS = {
    "SGD": lambda ps: tl.optim.SGD(ps, lr=0.1, momentum=0.9, weight_decay=0.1, nesterov=True),
    "Adam": lambda ps: tl.optim.Adam(ps, lr=0.1, weight_decay=0.1, amsgrad=True),
    "AdamW": lambda ps: tl.optim.AdamW(ps, lr=0.1),
    "Lion": lambda ps: tl.optim.Lion(ps, lr=0.1, weight_decay=0.1),
    "Muon": lambda ps: tl.optim.Muon(ps, lr=0.1),
}


def steps(make: Any, device: str, state: Any = None) -> tuple[np.ndarray, dict]:
    w = nn.Parameter(tl.tensor(X, device=device))
    optimizer = make([w])
    if state is not None:
        optimizer.load_state_dict(state)
    schedule = tl.optim.lr_scheduler.CosineAnnealingLR(optimizer, 5)
    before = len(waited())
    for _ in range(3):
        optimizer.zero_grad()
        ((w @ w.mT) ** 2).sum().backward()
        nn.utils.clip_grad_norm_([w], 1.0)
        nn.utils.clip_grad_value_([w], 0.5)
        optimizer.step()
        schedule.step()
    assert len(waited()) == before
    return w.detach().cpu().numpy(), optimizer.state_dict()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer(name: str):
    """The same steps as on the CPU, without waiting; and on from a state that the CPU saved."""
    make = OPTIMIZERS[name]
    expected, state = steps(make, "cpu")
    found, _ = steps(make, "cuda:1")
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    expected, _ = steps(make, "cpu", state)
    found, _ = steps(make, "cuda:1", state)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_all_parameters_at_once(monkeypatch: pytest.MonkeyPatch):
    """What the kernels are launched with lies on the parameters' GPU, is sent there once, and nothing waits for it."""
    launched: list[str] = []

    def function(library: Any, family: str, name: str, *rest: Any) -> Any:
        def run(grid: tuple[int, ...], block: tuple[int, ...], arguments: tuple[Any, ...], shared_mem: int) -> None:
            launched.append(name)
            assert gpu.here.current == 1 and grid[0] > 0
            assert all(x.device.id == 1 for x in arguments if isinstance(x, library.ndarray))

        return run

    monkeypatch.setattr(module, "function", function)
    monkeypatch.setattr(optim, "_addresses", lambda xs: [0 if x is None else id(x._host) for x in xs])
    kernels = {norm_of: optim.norm, scale: optim.scale_all, unscale: optim.unscale_all, Adam.together: optim._move}
    for many, kernel in kernels.items():
        monkeypatch.setitem(many.kernels, "cuda", kernel)
    weights = [nn.Parameter(tl.ones(n, 6, device="cuda:1")) for n in (4, 5, 700)]
    groups = [{"params": weights[:2]}, {"params": weights[2:], "weight_decay": 0.1}]
    optimizer, scaler = tl.optim.AdamW(groups), tl.amp.GradScaler("cuda:1")
    for w in weights:
        w.grad = tl.ones_like(w)
    for step in range(3):
        launched.clear()
        gpu.here.synchronisations.clear()
        gpu.here.uploads.clear()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(weights, 1.0)
        scaler.step(optimizer)
        assert waited() == ["Event.synchronize"] * (step > 0)  # for what was found in the step before
        assert max(gpu.here.uploads, default=0) <= (0 if step else 8 * 6 * 3)
        scaler.update()
        assert launched == ["scale", "norm_parts", "norm_total", "scale", "adam", "adam"]
    assert gpu.here.current == 0 and optimizer.state[weights[0]]["step"] == 3


def test_checkpoint_draws_the_same_dropout_again():
    x = tl.ones(64, device="cuda", requires_grad=True)
    y = tl.utils.checkpoint.checkpoint(lambda x: F.dropout(x, 0.5) * x, x, use_reentrant=False)
    y.sum().backward()
    assert x.grad.tolist() == (2 * y).tolist()


# A GPT -----------------------------------------------------------------------------------------------------

SMALL = GPTConfig(vocab_size=17, context_length=12, n_layer=2, n_head=2, n_embd=8)


def test_gpt():
    tl.manual_seed(0)
    model = GPT(SMALL)
    ids = tl.from_numpy(np.arange(24).reshape(2, 12) % 17)
    loss = model.loss(ids, ids.roll(1, 1))
    loss.backward()
    written = generate(model, ids[:, :3], 14, temperature=0.8, top_k=5, generator=tl.Generator())
    tl.manual_seed(0)
    other = GPT(SMALL).cuda(1)
    there = ids.cuda(1)
    gpu.here.synchronisations.clear()
    again = other.loss(there, there.roll(1, 1))
    again.backward()
    assert waited() == []
    assert again.item() == pytest.approx(loss.item(), rel=1e-6)
    for ours, theirs in zip(other.parameters(), model.parameters(), strict=True):
        np.testing.assert_allclose(ours.grad.cpu().numpy(), theirs.grad.numpy(), rtol=1e-3, atol=1e-6)
    found = generate(other, there[:, :3], 14, temperature=0.8, top_k=5, generator=tl.Generator())
    assert found.device == "cuda:1" and found.tolist() == written.tolist()


def trained(out: Path, text: Path, **options: Any) -> list[dict]:
    config = Config(
        data=(str(text),), tokenizer="characters",
        n_layer=1, n_head=2, n_embd=8, context_length=8, batch_size=4,
        accumulation=2, dropout=0.1, warmup=2, schedule="constant", log_every=3, eval_every=6, eval_batches=1,
        sample_every=None, checkpoint_every="4", measure_peak=False, keep=9,
        **{"device": "cuda:1", "out": out, **options},
    )  # fmt: skip
    if config.resume is None:
        pretrain.start(config)
    else:
        pretrain.resume(config, Path(config.resume))
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("the quick brown fox jumps over the lazy dog. " * 20)
    return path


def test_training(tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch):
    """No step waits for the GPU; what it found is read when it is logged. A run that stopped goes on with the same
    dropout."""
    within: list[list[str]] = []
    step = loop.Loop._step

    def watched(self: Any, *args: Any) -> Any:
        before = len(waited())
        done = step(self, *args)
        within.append(waited()[before:])
        return done

    monkeypatch.setattr(loop.Loop, "_step", watched)
    whole = trained(tmp_path / "whole", text, steps=6)
    assert within == [[]] * 6
    assert [m["step"] for m in whole] == [0, 3, 6] and all(m["tokens_per_second"] > 0 for m in whole[1:])
    trained(tmp_path / "parts", text, steps=4)
    tl.cuda.manual_seed_all(99)
    parts = trained(tmp_path / "parts", text, steps=6, resume=str(tmp_path / "parts"))
    assert parts[-1]["train_loss"] == whole[-1]["train_loss"] and parts[-1]["val_loss"] == whole[-1]["val_loss"]
    at_once = trained(tmp_path / "at once", text, steps=6, skip_outliers=9.0)
    assert at_once[-1]["train_loss"] == pytest.approx(whole[-1]["train_loss"], rel=1e-5)


def test_a_loss_that_is_not_finite_is_noticed_before_anything_is_saved(tmp_path: Path, text: Path):
    with pytest.raises(Exception, match=r"became nan at step \d, as was read after step 3; with --log-every 1 the op"):
        trained(tmp_path / "run", text, steps=6, lr=1e30, min_lr=0.0, clip=None)
    assert not list((tmp_path / "run" / "checkpoints").glob("step-*"))


# Looking at it ---------------------------------------------------------------------------------------------


def test_profile_and_lens(tmp_path: Path):
    """Times are the GPU's, which works a microsecond for each byte it makes, and is waited for at the end alone."""
    x = tl.tensor(X, device="cuda:1", requires_grad=True)
    gpu.here.synchronisations.clear()
    with tl.profile(show=False) as p:
        y = (x @ x.mT).exp().sum()
        tl.tensor(X, device="cuda") * 2
        y.backward()
        assert waited() == []
    assert waited() == ["deviceSynchronize"] * 2
    assert p.rows["matmul"].calls == 1 and p.rows["matmul"].forward == pytest.approx(4 * 4 * 4e-6)
    assert p.rows["matmul"].backward >= 2 * 4 * 6 * 4e-6
    assert p.rows["exp"].forward == p.rows["exp"].backward == pytest.approx(4 * 4 * 4e-6)
    assert p.rows["multiply"].forward == pytest.approx(4 * 6 * 4e-6)
    begins = {name: start for name, part, _, start, _ in p.events if part == "forward"}
    assert begins["exp"] - begins["matmul"] == pytest.approx(p.rows["matmul"].forward)
    before = gpu.here.clock
    with tl.profile(show=False) as p:  # of two ops, one inside the other, none counts twice
        tl.grad(x.tanh().sum(), x, create_graph=True)
    assert p.rows["multiply"].calls >= 2
    assert 0 < sum(row.seconds for row in p.rows.values()) <= (gpu.here.clock - before) / 1e3 + 1e-9
    with lens.record() as tape:
        loss = F.cross_entropy(x, tl.tensor([0, 1, 2, 3], device="cuda:1"))
        loss.backward()
    assert "cross_entropy" in str(tape) and "import numpy" in str(tape.as_numpy())
