"""Numbers of two bytes, autocast, and the scaler: what holds without PyTorch to compare with."""

import copy
from functools import partial

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import nn
from tensorlite.nn import functional as F

pytest.importorskip("ml_dtypes")
bf16 = tl.bfloat16


def rounded(x: np.ndarray) -> np.ndarray:
    return x.astype(bf16).astype(np.float32)


# bfloat16 ------------------------------------------------------------------------------------------------


def test_it_is_a_floating_dtype():
    x = tl.tensor([1.0, 2.5], dtype=bf16, requires_grad=True)
    assert x.dtype == bf16 and x.is_floating_point() and x.itemsize == 2
    assert repr(x) == "tensor([1.0000, 2.5000], dtype=bfloat16, requires_grad=True)"
    assert tl.finfo(bf16).eps == 2**-7 and tl.finfo(tl.float16).max == 65504
    assert x.float().dtype == tl.float32 and x.int().tolist() == [1, 2] and x.detach().tolist() == [1.0, 2.5]


def test_how_it_mixes():
    x, full = tl.ones(2, dtype=bf16), tl.ones(2)
    assert (x * 2.5).dtype == (x + tl.ones(2, dtype=tl.int32)).dtype == (x + tl.tensor(1.0)).dtype == bf16
    assert (x + full).dtype == tl.promote_types(bf16, tl.float16) == tl.float32
    assert tl.promote_types(bf16, tl.float64) == tl.float64
    with pytest.raises(tl.OpError, match="a is bfloat16 and b is float32"):
        tl.ones(2, 2, dtype=bf16) @ tl.ones(2, 2)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_sum_is_added_up_in_float32(dtype: str):
    x = tl.full((4096,), 1 + 2**-7, dtype=dtype, requires_grad=True)
    total = x.sum()
    assert total.item() == 4128 and total.dtype == x.dtype
    mean = x.mean()
    mean.backward()
    assert x.grad.dtype == x.dtype and x.grad[0].item() == 2**-12
    w = tl.full((4096, 1), 1.0, dtype=dtype)
    assert (x.reshape(1, -1) @ w).item() == 4128
    bias = tl.zeros(1, dtype=dtype, requires_grad=True)
    (tl.zeros(4096, dtype=dtype) + bias).sum().backward()  # the gradient of what was broadcast is a sum too
    assert bias.grad.item() == 4096


def test_only_the_result_is_rounded():
    rng = np.random.default_rng(0)
    x = rounded(rng.standard_normal((6, 32)).astype(np.float32))
    for name in ("gelu", "silu", "softplus"):
        wide = getattr(F, name)(tl.tensor(x))
        assert np.array_equal(getattr(F, name)(tl.tensor(x).to(bf16)).float().numpy(), rounded(wide.numpy())), name


def test_memory_is_that_of_two_bytes():
    """What a node keeps for the backward stays as small as it came."""
    x = tl.randn(64, 64, dtype=bf16, requires_grad=True)
    y = (x @ x).exp()
    assert {a.dtype for a in y.node.kept} == {bf16}
    matmul = y.node.parents[0]
    assert {a.dtype for a in matmul.kept if hasattr(a, "dtype")} == {bf16}


def test_views_share_memory():
    x = tl.zeros(4, 4, dtype=bf16)
    x[1:3].transpose(0, 1).reshape(4, 2)
    with tl.no_grad():
        x.view(16)[5:6].fill_(3.0)
    assert x[1, 1].item() == 3.0


def test_second_derivatives():
    x = tl.tensor([1.5, 2.0], dtype=bf16, requires_grad=True)
    (first,) = tl.grad((x**3).sum(), x, create_graph=True)
    (second,) = tl.grad(first.sum(), x)
    assert first.dtype == second.dtype == bf16 and second.tolist() == [9.0, 12.0]


def test_a_module_of_it_is_saved_and_loaded(tmp_path):
    model = nn.Linear(3, 2).bfloat16()
    assert model(tl.ones(1, 3, dtype=bf16)).dtype == bf16
    tl.save(model.state_dict(), tmp_path / "a.safetensors")
    other = nn.Linear(3, 2).bfloat16()
    other.load_state_dict(tl.load(tmp_path / "a.safetensors"))
    assert other.weight.dtype == bf16 and other.weight.tolist() == model.weight.tolist()
    assert (tmp_path / "a.safetensors").stat().st_size < 600


@pytest.mark.parametrize("optimizer", ["AdamW", "SGD", "Lion"])
def test_a_parameter_of_it_is_moved_by_its_float32_copy(optimizer: str):
    """Steps far below its resolution add up, as they do in float32."""
    results = []
    for dtype in (bf16, tl.float32):
        p = tl.full((64, 3), 2.0, dtype=dtype, requires_grad=True)
        moves = getattr(tl.optim, optimizer)([p], lr=1e-4)
        for _ in range(150):
            p.grad = tl.ones(64, 3, dtype=dtype)
            moves.step()
        results.append(p)
    assert results[0].dtype == bf16 and results[0].tolist() == results[1].to(bf16).tolist() != [[2.0] * 3] * 64


def test_the_float32_copy_is_saved_and_gives_way_to_what_is_written(tmp_path):
    p = tl.tensor([1.0, 2.0], dtype=bf16, requires_grad=True)

    def step(optimizer):
        p.grad = tl.ones(2, dtype=bf16)
        optimizer.step()
        return optimizer.state[p]["master"].tolist()

    first = tl.optim.SGD([p], lr=2**-12)
    assert step(first) == [1 - 2**-12, 2 - 2**-12] and p.tolist() == [1.0, 2.0]
    tl.save(first.state_dict(), tmp_path / "a.safetensors")
    second = tl.optim.SGD([p], lr=2**-12)
    second.load_state_dict(tl.load(tmp_path / "a.safetensors"))
    with tl.no_grad():
        p[0] = 8.0
    assert step(second) == [8 - 2**-12, 2 - 2**-11]


# autocast ------------------------------------------------------------------------------------------------


def test_one_cast_of_a_weight_serves_the_whole_block():
    layer = nn.Linear(4, 4)
    casts = []

    class Count(tl.Hook):
        def after_forward(self, op, inputs, attributes, output):
            casts.extend([op.name] * (op.name == "to" and inputs[0] is layer.weight))

    for cache, expected in ((True, 1), (False, 3)):
        casts.clear()
        with tl.hooked(Count()), tl.autocast("cpu", cache_enabled=cache):
            y = layer(layer(layer(tl.ones(2, 4))))
        y.sum().backward()
        assert len(casts) == expected and layer.weight.grad.dtype == tl.float32


def test_a_weight_that_was_written_is_cast_anew():
    layer = nn.Linear(1, 1, bias=False)
    with tl.autocast("cpu"):
        layer(tl.ones(1))
        with tl.no_grad():
            layer.weight.fill_(3.0)
        assert layer(tl.ones(1)).item() == 3.0


def test_a_cast_without_recording_does_not_cut_the_graph():
    layer = nn.Linear(2, 2)
    with tl.autocast("cpu"):
        with tl.no_grad():
            layer(tl.ones(2))
        assert layer(tl.ones(2)).requires_grad


def test_nested_and_as_a_decorator():
    x = tl.ones(2, 2)
    product = tl.autocast("cpu")(lambda: x @ x)
    assert product().dtype == bf16 and (x @ x).dtype == tl.float32
    with tl.autocast("cpu", dtype=tl.float16):
        assert tl.is_autocast_enabled("cpu") and tl.get_autocast_dtype("cpu") == tl.float16
        assert not tl.is_autocast_enabled("cuda") and tl.get_autocast_dtype("cuda") == tl.float16
        assert (x @ x).dtype == tl.float16
        with tl.autocast("cpu", enabled=False):
            assert (x @ x).dtype == tl.float32 and not tl.is_autocast_enabled("cpu")
        with tl.autocast("cuda", dtype=bf16):  # of another device
            assert (x @ x).dtype == tl.float16
        assert product().dtype == bf16 and (x @ x).dtype == tl.float16
    assert (x @ x).dtype == tl.float32
    with tl.autocast("bfloat16"):
        assert (x @ x).dtype == bf16 and (x.double() @ x.double()).dtype == tl.float64


@pytest.mark.parametrize("level", tl.levels.LEVELS)
def test_at_every_level(level: str):
    """A fused op, and what it is composed of, get the same dtypes."""
    x = tl.randn(1, 2, 4, 8, requires_grad=True)
    with tl.autocast("cpu"), tl.using(level):
        y = F.scaled_dot_product_attention(x, x, x, is_causal=True)
        loss = F.linear_cross_entropy(y.reshape(8, 8), tl.ones(5, 8), tl.zeros(8, dtype=tl.int64))
    loss.backward()
    assert y.dtype == bf16 and loss.dtype == tl.float32 and x.grad.dtype == tl.float32


@pytest.mark.parametrize(
    "arguments, error, text",
    [
        (("mps",), ValueError, "autocast: device_type is 'cuda' or 'cpu', or the dtype, 'bfloat16' say; not 'mps'"),
        (("cpu", "float32"), ValueError, "autocast: dtype is bfloat16 or float16, not float32"),
        (("float16", "float16"), ValueError, "'float16' is a dtype already; the device_type is 'cuda' or 'cpu'"),
    ],
)
def test_what_autocast_refuses(arguments, error, text):
    with pytest.raises(error, match=text):
        tl.autocast(*arguments)


def test_without_ml_dtypes(monkeypatch: pytest.MonkeyPatch):
    import tensorlite.amp.casting as module

    monkeypatch.setattr(module, "bfloat16", None)
    with pytest.raises(RuntimeError, match=r"bfloat16 needs ml_dtypes: pip install 'tensorlite\[bf16\]'"):
        tl.autocast("cpu", dtype="bfloat16")
    with tl.autocast("bfloat16", enabled=False):
        assert (tl.ones(2, 2) @ tl.ones(2, 2)).dtype == tl.float32
    monkeypatch.delattr(tl, "bfloat16")
    with pytest.raises(AttributeError, match=r"install ml_dtypes, which has these numbers: pip install"):
        tl.bfloat16


# The scaler ----------------------------------------------------------------------------------------------


def train(optimizer_of, late: bool) -> tuple[list, dict]:
    tl.manual_seed(0)
    model = nn.Linear(6, 3)
    optimizer = optimizer_of(model.parameters())
    scaler = tl.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
    scaler._late = late  # as on a GPU: the host does not know whether a step counts
    for i in range(8):
        optimizer.zero_grad()
        scaler.scale(model(tl.ones(2, 6) * (i + 1)).pow(2).sum()).backward()
        if i in (0, 3, 4):
            model.bias.grad[1] = np.inf
        scaler.step(optimizer)
        scaler.update()
    return [p.detach().numpy().copy() for p in model.parameters()], scaler.state_dict()


@pytest.mark.parametrize("optimizer, lr", [("AdamW", 0.1), ("SGD", 1e-3), ("Lion", 1e-2)])
def test_a_skipped_step_changes_nothing_also_where_only_the_device_knows(optimizer: str, lr: float):
    at_once, state = train(partial(getattr(tl.optim, optimizer), lr=lr), late=False)
    later, state_later = train(partial(getattr(tl.optim, optimizer), lr=lr), late=True)
    for a, b in zip(at_once, later):
        np.testing.assert_array_equal(a, b)
    assert state == state_later and state["scale"] == 8 / 2 * 2 / 2 / 2 * 2


def test_the_scaler_goes_on_where_it_stopped():
    scaler = tl.amp.GradScaler("cpu", init_scale=4.0)
    other = tl.amp.GradScaler("cpu")
    other.load_state_dict(copy.deepcopy(scaler.state_dict()))
    assert other.state_dict() == scaler.state_dict() and other.get_scale() == 4.0
    assert [x.item() for x in scaler.scale([tl.tensor(1.0), tl.tensor(2.0)])] == [4.0, 8.0]


def test_a_scaler_that_is_off_lets_everything_pass():
    scaler = tl.amp.GradScaler("cpu", enabled=False)
    p = tl.ones(1, requires_grad=True)
    optimizer = tl.optim.SGD([p], lr=1.0)
    scaler.scale((p * 2).sum()).backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    assert p.item() == -1.0 and scaler.state_dict() == {} and scaler.get_scale() == 1.0


def test_what_the_scaler_refuses():
    half = tl.ones(1, dtype=tl.float16, requires_grad=True)
    half.sum().backward()
    optimizer = tl.optim.SGD([half], lr=1.0)
    scaler = tl.amp.GradScaler("cpu")
    with pytest.raises(ValueError, match="a gradient is float16; parameters stay float32 under autocast"):
        scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match=r"nothing was unscaled; call step\(optimizer\) before"):
        scaler.update()
    optimizer = tl.optim.SGD([tl.ones(1, requires_grad=True)], lr=1.0)
    scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match=r"called twice since the last update\(\)"):
        scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match="a closure would compute gradients that are not scaled"):
        scaler.step(optimizer, lambda: None)
    scaler.step(optimizer)
    with pytest.raises(RuntimeError, match=r"step: called twice"):
        scaler.step(optimizer)
    with pytest.raises(TypeError, match="expected a Tensor or several, not float"):
        scaler.scale(1.0)
    with pytest.raises(ValueError, match="growth_factor is above 1"):
        tl.amp.GradScaler(growth_factor=0.5)
    with pytest.raises(RuntimeError, match="of a scaler that was not enabled"):
        scaler.load_state_dict({})


# TF32 ----------------------------------------------------------------------------------------------------


def test_the_switch_for_tf32(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUPY_TF32", "0")
    assert not tl.backends.cuda.matmul.allow_tf32 and tl.get_float32_matmul_precision() == "highest"
    try:
        tl.backends.cuda.matmul.allow_tf32 = True
        assert tl.get_float32_matmul_precision() == "high"
        tl.set_float32_matmul_precision("medium")
        assert tl.backends.cuda.matmul.allow_tf32
    finally:
        tl.set_float32_matmul_precision("highest")
    with pytest.raises(ValueError, match="expected 'highest', 'high' or 'medium', not 'low'"):
        tl.set_float32_matmul_precision("low")
