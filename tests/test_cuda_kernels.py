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
from tensorlite.check.samples import SAMPLES
from tensorlite.device import move
from tensorlite.kernels.cuda import module, normalisation, optim

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
def addresses(where, built, monkeypatch):
    """addresses(*lists of arrays): on the host, let the kernels find these through tables of addresses."""

    def known(*lists):
        if where == "cpu":
            built.behind = [x for arrays in lists for x in arrays]

    if where == "cpu":
        monkeypatch.setattr(optim, "_addresses", lambda xs: [0 if x is None else x.ctypes.data for x in xs])
    yield known
    built.behind = []


SIZES = [(3,), (17, 5), (1,), (40000,), (130, 128)]  # of several chunks, and less than one


def parameters(seed: int, dtype: str, size: float = 1.0) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [np.asarray(generator.standard_normal(shape) * size).astype(DTYPES[dtype]) for shape in SIZES]


def test_norm_and_what_clipping_multiplies_by(where, dtype, addresses):
    gradients = [move(g, where) for g in parameters(1, dtype, 0.05)]
    addresses(gradients)
    exact = np.sqrt(sum((np.asarray(move(g, "cpu")).astype(np.float64) ** 2).sum() for g in gradients))
    for most, scale in ((1.0, 1 / exact), (1e9, 1.0)):
        norm, factor = move(optim.norm_and_scale(gradients, most), "cpu")
        np.testing.assert_allclose((norm, factor), (exact, scale), rtol=2e-6)
    gradients[1][2, 3] = np.nan
    assert np.isnan(move(optim.norm_and_scale(gradients, 1.0), "cpu")).all()


def test_adamw_is_the_optimiser(where, dtype, addresses):
    """Three steps, clipped, beside tensorlite.optim's in float64."""
    settings = {"lr": 3e-3, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
    params = [move(p, where) for p in parameters(2, dtype)]
    wide = [np.asarray(move(p, "cpu")).astype(np.float32) for p in params]
    half = dtype != "float32"
    originals = [move(p, where) for p in wide] if half else None
    averages, squares = ([move(np.zeros(s, np.float32), where) for s in SIZES] for _ in range(2))
    leaves = [tl.tensor(p.astype(np.float64), requires_grad=True) for p in wide]
    exact = tl.optim.AdamW(leaves, **settings)
    scale = move(np.array([0.5], np.float32), where)
    for step in (1, 2, 3):
        gradients = [move(g, where) for g in parameters(step + 5, dtype)]
        addresses(params, gradients, averages, squares, originals or [])
        optim.adamw(params, gradients, averages, squares, originals, scale, step=step, **settings)
        for leaf, g in zip(leaves, gradients):
            leaf.grad = tl.tensor(0.5 * np.asarray(move(g, "cpu")).astype(np.float64))
        exact.step()
    for mine, leaf in zip(originals or params, leaves):
        np.testing.assert_allclose(move(mine, "cpu"), leaf.detach().numpy(), rtol=0, atol=2e-6)
    if half:  # the weights are their originals, rounded
        for p, original in zip(params, originals):
            assert (move(p, "cpu") == np.asarray(move(original, "cpu")).astype(DTYPES[dtype])).all()


def test_every_kernel_has_run(host, request):
    """On the host, for float32 and for bfloat16, in the tests above."""
    here = [item for item in request.session.items if item.module is request.module]
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
    assert len(done) == len(set(done)) == 16


@pytest.mark.skipif(tl.cuda.is_available(), reason="there is a GPU")
def test_the_benchmark_says_what_is_missing(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["benchmarks.gpu_kernels"])
    with pytest.raises(SystemExit, match="2"):
        gpu_kernels.main()
    assert re.match(r"benchmarks.gpu_kernels: device 'cuda'.*(needs CuPy|no NVIDIA GPU)", capsys.readouterr().err)
