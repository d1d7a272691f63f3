"""The kernels in CUDA: without a GPU on this machine's processor, with one also there. Each against the reference level in
float64, for every dtype and for sizes that no block divides."""

import numpy as np
import pytest
from cuda_kernel_cases import CASES, DTYPES, Case, by_kernel, close, gradient, right, rounded
from cuda_on_host import COMPILER, Host

import tensorlite as tl
from tensorlite.kernels.cuda import module

HOST = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler (g++)")
GPU = [pytest.mark.gpu, pytest.mark.skipif(not tl.cuda.is_available(), reason="no GPU")]
WHERE = [pytest.param("cpu", marks=HOST, id="host"), pytest.param("cuda", marks=GPU, id="gpu")]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Host:
    return Host(tmp_path_factory.mktemp("cuda_on_host"))


@pytest.fixture
def host(built, monkeypatch) -> Host:
    monkeypatch.setattr(module, "function", built.function)
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
    inputs = rounded(case, dtype)
    g = gradient(case, inputs, dtype)
    close(by_kernel(case, inputs, g, where), right(case, inputs, g), dtype)
