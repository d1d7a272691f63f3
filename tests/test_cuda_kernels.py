"""The kernels in CUDA: without a GPU on this machine's processor, with one also there. Each against the reference level
in float64, for every dtype and for sizes that no block divides."""

import re

import numpy as np
import pytest
from cuda_kernel_cases import CASES, DTYPES, Case, bfloat16, by_kernel, close, gradient, right, rounded
from cuda_on_host import COMPILER, Host

import tensorlite as tl
from benchmarks import gpu_kernels
from gpt.config import GPTConfig
from gpt.model import GPT
from tensorlite.amp.grad_scaler import unscale
from tensorlite.check.samples import SAMPLES
from tensorlite.device import move
from tensorlite.kernels.cuda import module, normalisation, optim
from tensorlite.nn.utils import norm_of, scale
from tensorlite.optim import Adam

HOST = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler (g++)")
GPU = [pytest.mark.gpu, pytest.mark.skipif(not tl.cuda.is_available(), reason="no GPU")]
WHERE = [pytest.param("cpu", marks=HOST, id="host"), pytest.param("cuda", marks=GPU, id="gpu")]


@pytest.fixture
def host(built, monkeypatch) -> Host:
    monkeypatch.setattr(module, "function", built.function)
    monkeypatch.setattr(module, "_most_shared", lambda library, device: 227 * 1024)
    return built


@pytest.fixture(params=WHERE)
def where(request) -> str:
    if request.param == "cpu":
        request.getfixturevalue("host")
    return request.param


@pytest.fixture(params=DTYPES)
def dtype(request) -> str:
    if DTYPES[request.param] is None:
        pytest.skip("bfloat16 needs the package ml_dtypes")
    return request.param


@pytest.mark.parametrize("case", CASES, ids=str)
def test_kernel_is_the_reference(where: str, dtype: str, case: Case):
    if dtype == "float16" and where == "cpu" and case.op not in ("layer_norm", "cross_entropy"):
        pytest.skip("on the host two families are enough: float16 differs from bfloat16 in two conversions")
    inputs = rounded(case, dtype)
    g = gradient(case, inputs, dtype)
    close(by_kernel(case, inputs, g, where), right(case, inputs, g), dtype)


def test_a_block_goes_on_to_other_rows(where, monkeypatch):
    """The sums for weight and bias when a warp has many rows; and the same bits each time."""
    monkeypatch.setattr(normalisation, "BLOCKS", 2)
    case = next(case for case in CASES if case.op == "layer_norm" and np.shape(case.inputs[0]) == (70, 24))
    inputs = rounded(case, "float32")
    g = gradient(case, inputs, "float32")
    found, again = (by_kernel(case, inputs, g, where) for _ in range(2))
    close(found, right(case, inputs, g), "float32")
    assert all((a == b).all() for a, b in zip(found, again))


@pytest.mark.parametrize("centre", [True, False], ids=["layer_norm", "rms_norm"])
@pytest.mark.parametrize("shape", [(6, 40), (3, 7001)], ids=str)
def test_norm_of_a_sum(where, dtype, centre, shape):
    """x + residual is written along the way, and backward what arrives there is added to the gradient."""
    x, residual, weight, g, arriving = (
        np.random.default_rng(i).standard_normal(size).astype(DTYPES[dtype])
        for i, size in enumerate([shape, shape, shape[1:], shape, shape])
    )
    on = [move(array, where) for array in (x, residual, weight, g, arriving)]
    y, total, mean, rstd = normalisation.normalise(on[0], on[1], on[2], None, 1, 1e-5, centre)
    dx = normalisation.normalise_backward(on[3], total, on[2], mean, rstd, on[4], 1, (False, False))[0]
    exact = x.astype(np.float64) + residual.astype(np.float64)
    close([np.asarray(move(total, "cpu"))], [exact], dtype)
    seen = tl.tensor(np.asarray(move(total, "cpu")).astype(np.float64), requires_grad=True)
    options = {"dims": 1, "eps": 1e-5}
    wide = tl.tensor(weight.astype(np.float64))
    with tl.using("reference"):
        norm = (
            tl.OPS["layer_norm"](seen, wide, None, **options) if centre else tl.OPS["rms_norm"](seen, wide, **options)
        )
    norm.backward(tl.tensor(g.astype(np.float64)))
    expected = [norm.detach().numpy(), seen.grad.numpy() + arriving.astype(np.float64)]
    close([np.asarray(move(each, "cpu")) for each in (y, dx)], expected, dtype)


def test_a_target_that_is_no_class_makes_the_loss_nan(where):
    logits = move(np.array([[0.5, 1.0, -1.0]] * 4, np.float32), where)
    target = move(np.array([-1, 3, 1, 0]), where)
    kernel = tl.OPS["cross_entropy"].kernels["cuda"]
    loss, logsumexp = kernel.forward(logits, target, None)
    assert np.isnan(move(loss, "cpu")).tolist() == [True, True, False, False]
    slope = kernel.rows["logits"](move(np.ones(4, np.float32), where), logits, target, None, logsumexp)
    assert np.isfinite(move(slope, "cpu")).all()


def test_a_row_of_weight_0_counts_nothing_whatever_its_logits(where):
    logits = np.array([[np.inf, np.nan, 1.0], [1.0, 2.0, 3.0]], np.float32)
    given = [move(x, where) for x in (logits, np.array([0, 2]), np.array([0.0, 1.0], np.float32))]
    kernel = tl.OPS["cross_entropy"].kernels["cuda"]
    loss, logsumexp = kernel.forward(*given)
    slope = kernel.rows["logits"](move(np.ones(2, np.float32), where), *given, logsumexp)
    assert move(loss, "cpu")[0] == 0 and np.isfinite(move(loss, "cpu")[1])
    assert (move(slope, "cpu")[0] == 0).all() and np.isfinite(move(slope, "cpu")[1]).all()


def test_an_id_that_is_no_token_writes_nowhere(where):
    x, ids = move(np.ones((6, 4), np.float32), where), move(np.array([0, 7, -2, 1, 7, 1]), where)
    found = move(tl.OPS["embedding_grad"].kernels["cuda"].forward(x, ids, count=2), "cpu")
    assert found.tolist() == [[1] * 4, [2] * 4]


@pytest.mark.parametrize("shape", [(1,), (3, 5, 67)], ids=str)
def test_dropout_draws_what_the_plain_level_draws(where, dtype, shape):
    x = np.full(shape, 0.75, DTYPES[dtype])
    op, options = tl.OPS["seeded_dropout"], {"p": 0.25, "seed": 12345 << 33}
    found = move(op.kernels["cuda"].forward(move(x, where), **options), "cpu")
    assert found.dtype == x.dtype and (found == op.plain.forward(x, **options)).all()


@pytest.mark.parametrize("op", sorted(name for name, op in tl.OPS.items() if "cuda" in op.kernels))
def test_what_a_kernel_cannot_take_is_left_to_the_plain_level(op):
    """float64 and arrays of nothing are declined, before anything is launched."""
    for sample in SAMPLES[op]:
        assert tl.OPS[op].kernels["cuda"].forward(*sample.inputs, **sample.attributes) is NotImplemented


def test_arguments_must_have_a_width():
    x = np.zeros(3, np.float32)
    with pytest.raises(TypeError, match=r"gelu_tanh: 3 has no width; pass np\.int32, np\.int64 or np\.float32"):
        module.launch("activation", "gelu_tanh", x, (1,), (32,), x, x, 3)


# All parameters at once ------------------------------------------------------------------------------------


@pytest.fixture
def together(where, request, monkeypatch):
    """What is done to all parameters at once is done by the kernels; on the host too, where they find arrays through
    tables of addresses."""
    if where == "cpu":
        built = request.getfixturevalue("built")

        def addresses(arrays):
            built.behind += [x for x in arrays if x is not None and all(x is not each for each in built.behind)]
            return [0 if x is None else x.ctypes.data for x in arrays]

        monkeypatch.setattr(optim, "_addresses", addresses)
        for many in (norm_of, scale, unscale, Adam.together):
            monkeypatch.setitem(many.kernels, "cpu", many.kernels["cuda"])
        yield
        built.behind = []
    else:
        yield


SIZES = [(3,), (17, 5), (), (40000,), (130, 128)]  # of several chunks, and less than one


def parameters(seed: int, dtype: str, size: float = 1.0) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [np.asarray(generator.standard_normal(shape) * size).astype(DTYPES[dtype]) for shape in SIZES]


def back(x) -> np.ndarray:
    return np.asarray(move(x, "cpu"))


@pytest.mark.usefixtures("together")
def test_norm_of_all_gradients(where, dtype):
    gradients = [move(g, where) for g in [*parameters(1, dtype, 0.05), *parameters(2, "float32", 0.05)]]
    gradients.append(move(np.zeros((3, 0), np.float32), where))
    exact = np.sqrt(sum((back(g).astype(np.float64) ** 2).sum() for g in gradients))
    found = tl.nn.utils.get_total_norm([tl.tensor(g, device=where) for g in gradients])
    assert found.shape == () and found.item() == pytest.approx(exact, rel=2e-6)
    gradients[1][2, 3] = np.nan
    assert np.isnan(back(optim.norm(gradients[:-1])))


@pytest.mark.usefixtures("together")
def test_scale_of_all_gradients(where, dtype):
    before = parameters(1, dtype)
    for factor in (1.0, 0.3):
        gradients, found = [move(g.copy(), where) for g in before], move(np.zeros((), bool), where)
        optim.scale_all(gradients, move(np.array(factor, np.float32), where), found)
        for g, old in zip(gradients, before):
            assert (back(g) == (old.astype(np.float32) * np.float32(factor)).astype(old.dtype)).all()
        assert not back(found)
    for bad in (np.inf, np.nan):
        gradients = [move(g.copy(), where) for g in before]
        gradients[3][39_999] = bad
        assert back(optim.unscale_all(gradients, move(np.array(1, np.float32), where)))


ADAMS = {
    "AdamW": lambda ps: tl.optim.AdamW(ps, lr=3e-3, betas=(0.9, 0.95), weight_decay=0.1),
    "Adam, L2": lambda ps: tl.optim.Adam(ps, lr=3e-3, weight_decay=0.1),
    "AdamW, amsgrad, maximize": lambda ps: tl.optim.AdamW(ps, lr=3e-3, amsgrad=True, maximize=True, eps=1e-6),
}


def moved(make, leaves, gradient_dtype: str, where: str):
    """Four steps. One parameter has no gradient in the second, one is written before the third, the fourth is not
    finite."""
    optimizer = make(leaves)
    for step in range(4):
        for i, (leaf, g) in enumerate(zip(leaves, parameters(step + 5, gradient_dtype))):
            leaf.grad = None if (i, step) == (1, 1) else tl.tensor(g.astype(leaf.dtype), device=where)
        if step == 2:
            with tl.no_grad():
                leaves[3][7:100] = 1.5
        if step == 3:
            optimizer.found_inf = move(np.array(True), where)
        optimizer.step()
    return optimizer


@pytest.mark.usefixtures("together")
@pytest.mark.parametrize("name", ADAMS)
def test_adam_is_the_optimiser(where, dtype, name):
    """Parameters, averages and steps as by the plain level on the CPU, of float32 parameters in float64."""
    given, half = parameters(2, dtype), dtype != "float32"
    exact = [tl.tensor(p if half else p.astype(np.float64), requires_grad=True) for p in given]
    with tl.using("plain"):
        expected = moved(ADAMS[name], exact, dtype, "cpu")
    leaves = [tl.tensor(p, requires_grad=True, device=where) for p in given]
    versions = [p._version for p in leaves]
    found = moved(ADAMS[name], leaves, dtype, where)
    assert all(p._version > before for p, before in zip(leaves, versions))
    for mine, right_one in zip(leaves, exact):
        ours, state = found.state[mine], expected.state[right_one]
        assert ours["step"] == state["step"] and set(ours) == set(state)
        for key, x in state.items():
            if key != "step":
                np.testing.assert_allclose(ours[key].cpu().numpy(), x.numpy(), rtol=2e-6, atol=2e-6, err_msg=key)
        if half:  # the weights are their originals, rounded
            assert (back(mine.array) == ours["master"].cpu().numpy().astype(DTYPES[dtype])).all()
        else:
            np.testing.assert_allclose(back(mine.array), right_one.detach().numpy(), rtol=2e-6, atol=2e-6)


@HOST
@pytest.mark.usefixtures("together")
def test_adam_launches_once_for_what_is_alike(host, monkeypatch):
    """Twice here: one parameter has not made as many steps. What is in another order, or float64, goes one by one."""
    made, launch = [], optim.launch
    monkeypatch.setattr(optim, "launch", lambda *args: (made.append(args[1]), launch(*args)))
    leaves = [tl.ones(5, 3, requires_grad=True) for _ in range(4)]
    leaves += [tl.tensor(np.ones((5, 3)), requires_grad=True), tl.from_numpy(np.ones((3, 5), np.float32).T)]
    optimizer = tl.optim.AdamW(leaves)
    for have in (3, 6):
        for leaf in leaves[:have]:
            leaf.grad = tl.ones(5, 3, dtype=leaf.dtype)
        optimizer.step()
    assert made == ["adam", "adam", "adam"]
    assert len({p.detach().numpy().astype(np.float32).tobytes() for p in leaves[3:]}) == 1
    with tl.using("plain"):
        optimizer.step()
    assert len(made) == 3


@HOST
@pytest.mark.usefixtures("together", "host")
def test_an_optimiser_derived_from_adam_keeps_its_own_update():
    class Still(tl.optim.AdamW):
        def update(self, p, g, group, state):
            p += 1

    w = tl.zeros(3, requires_grad=True)
    w.grad = tl.ones(3)
    Still([w]).step()
    assert w.tolist() == [1, 1, 1]


@pytest.mark.usefixtures("together")
def test_a_step_of_mixed_precision(where, monkeypatch):
    """Scaler, clipping and AdamW by the kernels are what they are without; also where a step does not count."""

    def trained():
        w = tl.tensor(np.linspace(-1, 1, 70, dtype=np.float32).reshape(7, 10), requires_grad=True, device=where)
        optimizer, scaler = tl.optim.AdamW([w], lr=0.1), tl.amp.GradScaler(where, init_scale=64.0)
        scaler._late = True  # as on a GPU
        for step in range(4):
            scaler.scale((w**2).sum() * (np.inf if step == 1 else 1.0)).backward()
            scaler.unscale_(optimizer)
            norm = tl.nn.utils.clip_grad_norm_([w], 0.7)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
        return [back(w.array), norm.item(), scaler.get_scale()]

    with tl.using("plain"):
        expected = trained()
    made, launch = [], optim.launch
    monkeypatch.setattr(optim, "launch", lambda *args: (made.append(args[1]), launch(*args)))
    for mine, right_one in zip(trained(), expected):
        np.testing.assert_allclose(mine, right_one, rtol=2e-6, atol=1e-7)
    assert made[:5] == ["scale", "norm_parts", "norm_total", "scale", "adam"]


def test_every_kernel_has_run(host, request):
    """On the host, for float32 and for bfloat16, in the tests above."""
    here = [item for item in request.session.items if getattr(item, "module", None) is request.module]
    if bfloat16 is None or len(here) < len(WHERE) * len(DTYPES) * len(CASES):
        pytest.skip("only a part of this file's tests was asked for, or ml_dtypes is missing")
    for family in module.FAMILIES:
        # attention.cu is for float32, but for what attention_mma.cu shares with it
        dtypes = {"float32"} if family == "attention" else {"float32", "bfloat16"} & set(module.dtypes(family))
        assert {(name, dtype) for name in module.kernels(family) for dtype in dtypes} <= host.launched


# A model ---------------------------------------------------------------------------------------------------


def test_a_model_trains_on_these_kernels(host, monkeypatch):
    """Loss and gradients of a GPT through the engine, each op by its CUDA kernel, are those of the plain level."""
    config = GPTConfig(vocab_size=37, context_length=24, n_embd=32, n_head=2, n_layer=2)
    tl.manual_seed(3)
    model = GPT(config)
    tokens = tl.randint(0, 37, (2, 25))

    def gradients():
        model.zero_grad()
        loss = model.loss(tokens[:, :-1], tokens[:, 1:])
        loss.backward()
        return loss.item(), {name: p.grad.numpy() for name, p in model.named_parameters()}

    with tl.using("plain"):
        loss, expected = gradients()
    for op in tl.OPS.values():
        if "cuda" in op.kernels:
            monkeypatch.setitem(op.kernels, "cpu", op.kernels["cuda"])
    earlier, host.launched = host.launched, set()
    found_loss, found = gradients()
    assert abs(found_loss - loss) < 1e-5
    for name, right_one in expected.items():
        np.testing.assert_allclose(found[name], right_one, rtol=0, atol=2e-6 + 1e-4 * np.abs(right_one).max())
    ran, host.launched = {name for name, _ in host.launched}, earlier
    assert {"layer_norm_forward_2", "layer_norm_backward", "gelu_tanh", "gelu_tanh_backward"} <= ran
    assert {"attention_forward", "attention_backward_keys", "column_sum_parts", "embedding_parts"} <= ran


# The stand-in itself ---------------------------------------------------------------------------------------

FAULTS = {
    "a race": "shared[threadIdx.x] = threadIdx.x; out[threadIdx.x] = shared[(threadIdx.x + 1) % 64];",
    "not all reach the same barrier": "if (threadIdx.x < 32) __syncthreads();",
    "not all reach the same barrier or shuffle": "if (threadIdx.x % 2) out[threadIdx.x] = warp_sum(1);",
    "writes beyond an array": "out[threadIdx.x + 1] = 0;",
}


@HOST
@pytest.mark.parametrize("complaint", FAULTS)
def test_a_fault_is_found_on_the_host(host, monkeypatch, complaint):
    common = module.source("dropout").partition('#line 1 "common.cuh"')[2].partition('#line 1 "philox.cuh"')[0]
    faulty = f'{common}\nextern "C" __global__ void faulty(float* out) {{ {FAULTS[complaint]} }}'
    monkeypatch.setattr(module, "source", lambda family: faulty)
    out = np.zeros(64, np.float32)
    with pytest.raises(AssertionError, match=complaint):
        module.launch(f"fault{list(FAULTS).index(complaint)}", "faulty", out, (1,), (64,), out)


@HOST
def test_arguments_of_other_types_are_found_on_the_host(host):
    x = np.zeros(8, np.float32)
    with pytest.raises(AssertionError, match="arguments of other types than the kernel's"):
        module.launch("activation", "silu", x, (1,), (32,), x, x, np.int32(8))


@HOST
@pytest.mark.parametrize("dtype", [np.float32, bfloat16], ids=["float32", "bfloat16"])
def test_the_benchmark_runs_every_kernel(host, monkeypatch, dtype):
    """On the host and small; its figures need a GPU."""
    if dtype is None:
        pytest.skip("bfloat16 needs the package ml_dtypes")
    monkeypatch.setattr(optim, "_addresses", lambda xs: [0 if x is None else x.ctypes.data for x in xs])
    done = []
    for work in gpu_kernels.works(np, dtype, batch=1, t=5, heads=1, d=8, v=11):
        work.run()
        assert (work.bytes > 0) != (work.flops > 0)
        done.append(work.name)
    assert len(done) == len(set(done)) == 19


@pytest.mark.skipif(tl.cuda.is_available(), reason="there is a GPU")
def test_the_benchmark_says_what_is_missing(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["benchmarks.gpu_kernels"])
    with pytest.raises(SystemExit, match="2"):
        gpu_kernels.main()
    assert re.match(r"benchmarks.gpu_kernels: device 'cuda'.*(needs CuPy|no NVIDIA GPU)", capsys.readouterr().err)
