"""Products by cuBLASLt: what can be checked without a GPU. How arrays lie is told as the library documents it; with the
library installed (the wheel nvidia-cublas) it takes the descriptions of all of GPT-2's products."""

import ctypes
import json
from types import SimpleNamespace

import numpy as np
import pytest

from tensorlite.kernels.cuda import cublaslt
from tensorlite.kernels.cuda import product as module
from tensorlite.kernels.cuda.cublaslt import Choices, Operand, Plan, Problem
from tensorlite.kernels.cuda.product import describe, operand

with_library = pytest.mark.skipif(
    cublaslt.library() is None, reason="cuBLASLt is not installed (the wheel nvidia-cublas)"
)
rng = np.random.default_rng(0)


def numbers(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def column_major(memory, rows, columns, leading, start):
    """The matrix that BLAS sees: element (i, j) at start + i + j leading."""
    return np.array([[memory[start + i + j * leading] for j in range(columns)] for i in range(rows)])


def at(address):
    """The float32 numbers from an address on."""
    return (ctypes.c_float * (1 << 20)).from_address(address)


def as_blas_does(problem, a, b, y, bias=0):
    """What cublasLtMatmul does with these addresses: D = op(A) op(B) [+ C], with A our b, and B our a."""
    n, m, k = problem.n, problem.m, problem.k
    for z in range(problem.batch):
        sides = []
        for x, address, (rows, columns) in ((problem.b, b, (m, k)), (problem.a, a, (k, n))):
            shape = (columns, rows) if x.transposed else (rows, columns)
            matrix = column_major(at(address), *shape, x.leading, z * x.stride)
            sides.append(matrix.T if x.transposed else matrix)
        d, memory = sides[0] @ sides[1], at(y)  # (m, n)
        for i in range(m):
            for j in range(n):
                place = z * problem.y.stride + i + j * problem.y.leading
                memory[place] = d[i, j] + (at(bias)[i] if bias else 0) + (memory[place] if problem.accumulate else 0)


CASES = {
    "as they are": lambda: (numbers(3, 5), numbers(5, 4)),
    "a transposed": lambda: (numbers(5, 3).T, numbers(5, 4)),
    "b transposed": lambda: (numbers(3, 5), numbers(4, 5).T),
    "both": lambda: (numbers(5, 3).T, numbers(4, 5).T),
    "one row": lambda: (numbers(1, 5), numbers(5, 4)),
    "one row of a transpose": lambda: (numbers(5, 1).T, numbers(5, 4)),
    "one column": lambda: (numbers(3, 5), numbers(5, 1)),
    "k of one": lambda: (numbers(3, 1), numbers(1, 4)),
    "columns of a wider matrix": lambda: (numbers(3, 9)[:, :5], numbers(5, 8)[:, :4]),
    "a batch": lambda: (numbers(2, 3, 5), numbers(2, 5, 4)),
    "a batch, transposed": lambda: (numbers(2, 3, 5), numbers(2, 4, 5).swapaxes(-1, -2)),
    "a batch of heads": lambda: (numbers(2, 3, 4, 5), numbers(2, 3, 4, 5).swapaxes(-1, -2)),
    "one matrix for a batch": lambda: (numbers(2, 3, 5), numbers(5, 4)),
}


@pytest.mark.parametrize("case", CASES)
def test_what_the_library_is_told_is_the_product(case):
    a, b = CASES[case]()
    y = np.zeros((a @ b).shape, np.float32)
    problem = describe(a, b, y)
    as_blas_does(problem, *(x.ctypes.data for x in (a, b, y)))
    np.testing.assert_allclose(y, a @ b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "x",
    [numbers(4, 6)[:, ::2], np.broadcast_to(numbers(1, 4), (3, 4)), numbers(2, 3, 4, 5).transpose(0, 2, 1, 3)],
    ids=["every other column", "a row repeated", "heads that were not moved"],
)
def test_what_the_library_cannot_read(x):
    assert operand(x) is None


def test_other_numbers_are_not_its_business():
    a = np.ones((2, 2))
    assert describe(a, a, a) is None and describe(a.astype(np.float32), a, a) is None


class Lying(np.ndarray):
    """An array that tells its address as CuPy's do."""

    @property
    def data(self):
        return SimpleNamespace(ptr=self.ctypes.data)


class OnCPU:
    """A Plan whose GPU is the CPU: the slower of two algorithms is proposed first."""

    def __init__(self, problem):
        self.problem, self.algorithm = problem, None

    def candidates(self, device):
        return [(ctypes.c_uint64 * 8)(speed) for speed in (9, 2)]

    def run(self, a, b, y, bias, workspace, device, stream, algorithm):
        assert workspace and stream == 7
        CLOCK[0] += algorithm[0]
        as_blas_does(self.problem, a, b, y, bias)


CLOCK = [0]


class Event:
    def record(self):
        self.time = CLOCK[0]

    def synchronize(self):
        pass


@pytest.fixture
def on_cpu(monkeypatch, tmp_path):
    """product.py as it is, on a GPU that is not there; gives the file of choices."""
    lying = lambda make: lambda *args: make(*args).view(Lying)
    properties = lambda device: {"name": b"None 200"}
    cuda = SimpleNamespace(
        Event=Event,
        get_elapsed_time=lambda a, b: b.time - a.time,
        get_current_stream=lambda: SimpleNamespace(ptr=7),
        runtime=SimpleNamespace(getDeviceProperties=properties),
    )
    made = {name: staticmethod(lying(getattr(np, name))) for name in ("empty", "empty_like")}
    library = type("library", (), {"cuda": cuda, **made})
    monkeypatch.setenv("TENSORLITE_CACHE", str(tmp_path))
    for name, value in {
        "Plan": OnCPU,
        "library": lambda: True,
        "version": lambda: 130000,
        "xp": lambda x: library,
    }.items():
        monkeypatch.setattr(module, name, value)
    caches = module.plan, module.workspace, cublaslt.choices
    for each in caches:
        each.cache_clear()
    yield tmp_path / "cublaslt.json"
    for each in caches:
        each.cache_clear()


@pytest.mark.parametrize("case", CASES)
def test_product(case, on_cpu):
    a, b = [x.view(Lying) for x in CASES[case]()]
    expected = np.asarray(a) @ np.asarray(b)
    np.testing.assert_allclose(module.product(a, b), expected, rtol=1e-4, atol=1e-5)
    bias = numbers(b.shape[-1]).view(Lying)
    np.testing.assert_allclose(module.product(a, b, bias), expected + bias, rtol=1e-4, atol=1e-5)
    y = numbers(*expected.shape).view(Lying)
    before = np.array(y)
    assert module.product(a, b, out=y, accumulate=True) is y
    np.testing.assert_allclose(y, expected + before, rtol=1e-4, atol=1e-5)


def test_linear(on_cpu):
    x, weight, bias = [numbers(*shape).view(Lying) for shape in ((2, 3, 5), (4, 5), (4,))]
    np.testing.assert_allclose(module._affine(x, weight, bias), np.asarray(x) @ weight.T + bias, rtol=1e-4, atol=1e-5)
    assert module._affine(x, weight[:, :3], bias) is NotImplemented  # for the plain level to complain about


def test_the_fastest_algorithm_is_taken_and_known_from_then_on(on_cpu):
    a, b = numbers(3, 5).view(Lying), numbers(5, 4).view(Lying)
    CLOCK[0] = 0
    module.product(a, b)
    assert CLOCK[0] == (module.REPEATS + 1) * (9 + 2) + 2
    ((key, words),) = json.loads(on_cpu.read_text()).items()
    assert key.startswith("None 200 130000 ('float32', 3, 4, 5,") and words[0] == 2
    module.product(a, b)
    assert CLOCK[0] == (module.REPEATS + 1) * (9 + 2) + 4
    module.plan.cache_clear()  # as in another process
    cublaslt.choices.cache_clear()
    module.product(a, b)
    assert CLOCK[0] == (module.REPEATS + 1) * (9 + 2) + 6


def gpt2(batch=32, length=1024):
    """The products of a step of GPT-2 124M: of each linear the forward, and backward for input and weight."""
    rows = batch * length
    for outputs, inputs in ((2304, 768), (768, 768), (3072, 768), (768, 3072), (50257, 768), (50304, 768)):
        yield rows, outputs, inputs, False, True, True  # x Wᵀ + b
        yield rows, inputs, outputs, False, False, False  # g W
        yield outputs, inputs, rows, True, False, False  # gᵀ x


def problem_of(n, m, k, a_transposed, b_transposed, bias, **more):
    a = Operand(a_transposed, n if a_transposed else k, 0, 256)
    b = Operand(b_transposed, k if b_transposed else m, 0, 256)
    return Problem("bfloat16", n, m, k, a, b, Operand(False, m, 0, 256), bias=bias, **more)


def read(name, what, attribute, kind):
    value, written = kind(), ctypes.c_size_t()
    cublaslt._call(
        f"{name}GetAttribute",
        what,
        attribute,
        ctypes.byref(value),
        ctypes.c_size_t(ctypes.sizeof(kind)),
        ctypes.byref(written),
    )
    assert written.value == ctypes.sizeof(kind)
    return value.value


@with_library
@pytest.mark.parametrize("shape", list(gpt2()))
def test_the_products_of_gpt2(shape):
    problem = problem_of(*shape)
    plan = Plan(problem)
    layouts = [
        [
            read("MatrixLayout", x, i, kind)
            for i, kind in ((2, ctypes.c_uint64), (3, ctypes.c_uint64), (4, ctypes.c_int64))
        ]
        for x in plan.layouts
    ]
    n, m, k = shape[:3]
    assert layouts[2] == [m, n, m]
    for (rows, columns, leading), flag, transposed, expected in (
        (layouts[0], cublaslt._TRANSA, problem.b.transposed, (m, k)),
        (layouts[1], cublaslt._TRANSB, problem.a.transposed, (k, n)),
    ):
        assert read("MatmulDesc", plan.description, flag, ctypes.c_int) == transposed
        assert (columns, rows) == expected if transposed else (rows, columns) == expected
        assert leading == rows
    assert read("MatmulDesc", plan.description, cublaslt._EPILOGUE, ctypes.c_int) == (4 if problem.bias else 1)
    assert read("MatmulDesc", plan.description, 0, ctypes.c_int) == cublaslt._COMPUTE_32F
    assert all(read("MatrixLayout", x, 0, ctypes.c_int) == cublaslt.TYPES["bfloat16"] for x in plan.layouts)


@with_library
def test_a_batch_tf32_and_accumulation():
    x = Operand(False, 64, 64 * 1024, 256)
    plan = Plan(Problem("float32", 1024, 64, 64, x, x, x, batch=384, accumulate=True, tf32=True))
    assert read("MatmulDesc", plan.description, 0, ctypes.c_int) == cublaslt._COMPUTE_TF32 and plan.beta.value == 1
    assert [read("MatrixLayout", y, cublaslt._BATCH_COUNT, ctypes.c_int32) for y in plan.layouts] == [384] * 3
    assert [read("MatrixLayout", y, cublaslt._BATCH_STRIDE, ctypes.c_int64) for y in plan.layouts] == [65536] * 3


def test_a_sum_of_products_in_float32():
    """Factors in two bytes, and a float32 array which their product is added to."""
    a, b, y = numbers(3, 5).astype(np.float16), numbers(5, 4).astype(np.float16), numbers(3, 4)
    problem = describe(a, b, y, accumulate=True)
    assert problem.wide and problem.accumulate and problem.dtype == "float16"
    assert describe(a, b, y, bias=numbers(4)) is None and describe(a, b, y.astype(np.float64)) is None
    before = y.copy()
    assert module.product(a, b, out=y, accumulate=True) is y  # NumPy, as CuPy without the library, in two steps
    np.testing.assert_allclose(y, before + a.astype(np.float32) @ b.astype(np.float32), rtol=1e-6)
    module.product(a, b, out=y)
    np.testing.assert_allclose(y, a.astype(np.float32) @ b.astype(np.float32), rtol=1e-6)


@with_library
def test_the_library_is_told_which_of_them_is_float32():
    plan = Plan(problem_of(768, 50257, 4096, True, False, False, accumulate=True, wide=True))
    assert [read("MatrixLayout", x, 0, ctypes.c_int) for x in plan.layouts] == [14, 14, 0] and plan.beta.value == 1


@with_library
def test_a_refusal_is_an_error_with_words():
    with pytest.raises(RuntimeError, match=r"cublasLtMatrixLayoutGetAttribute: invalid value \(status 7\)"):
        read("MatrixLayout", Plan(problem_of(8, 8, 8, False, False, False)).layouts[0], 999, ctypes.c_int)


def test_choices_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("TENSORLITE_CACHE", str(tmp_path / "a"))
    choices = Choices()
    assert choices.get("key") is None
    choices.put("key", (ctypes.c_uint64 * 8)(*range(8)))
    assert list(Choices().get("key")) == list(range(8))
    (tmp_path / "a" / "cublaslt.json").write_text(json.dumps({"key": [1]}))
    assert Choices().get("key") is None
    (tmp_path / "a" / "cublaslt.json").write_text("{")
    assert Choices().known == {}
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TENSORLITE_CACHE", str(tmp_path / "file" / "b"))
    Choices().put("key", (ctypes.c_uint64 * 8)())  # where nothing can be written, nothing is


@pytest.mark.gpu
def test_on_a_gpu():
    import tensorlite as tl

    if not tl.cuda.is_available() or cublaslt.library() is None:
        pytest.skip("no GPU")
    for case in CASES:
        a, b = CASES[case]()
        on_gpu = [tl.tensor(np.ascontiguousarray(x), device="cuda").array for x in (a, b)]
        np.testing.assert_allclose(module.product(*on_gpu).get(), a @ b, rtol=1e-3, atol=1e-4, err_msg=case)
