"""Questions about the GPU: without one they say what is missing."""

import pytest

import tensorlite as tl

QUESTIONS = [
    "current_device", "get_device_name", "max_memory_allocated", "memory_allocated", "memory_reserved",
    "reset_peak_memory_stats", "synchronize",
]  # fmt: skip

without = pytest.mark.skipif(tl.cuda.is_available(), reason="there is a GPU")


@without
def test_without_a_gpu():
    assert not tl.cuda.is_available() and tl.cuda.device_count() == 0 and not tl.cuda.is_bf16_supported()
    for nothing in (tl.cuda.empty_cache(), tl.cuda.manual_seed(3), tl.cuda.manual_seed_all(3)):
        assert nothing is None
    with pytest.raises(RuntimeError, match=r"device 'cuda:1'"):
        tl.cuda.set_device(1)


@without
@pytest.mark.parametrize("question", QUESTIONS)
def test_questions_without_a_gpu(question: str):
    with pytest.raises(RuntimeError, match=r"device 'cuda'.*(needs CuPy|no NVIDIA GPU)"):
        getattr(tl.cuda, question)()


def test_a_cpu_is_no_gpu():
    with pytest.raises(ValueError, match=r"cuda\.synchronize: 'cpu' is no GPU"):
        tl.cuda.synchronize("cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not tl.cuda.is_available(), reason="no GPU")
def test_memory():
    tl.cuda.reset_peak_memory_stats()
    before = tl.cuda.memory_allocated()
    x = tl.zeros(1 << 20, device="cuda")
    assert tl.cuda.memory_allocated() == before + x.nbytes <= tl.cuda.max_memory_allocated()
    del x
    tl.cuda.empty_cache()
    assert tl.cuda.memory_allocated() == before
    assert tl.cuda.get_device_name() and tl.cuda.current_device() == 0
    tl.cuda.set_device("cuda:0")
    tl.cuda.synchronize()


def test_switches_can_be_set():
    tl.backends.cuda.matmul.allow_tf32 = True
    tl.backends.cudnn.allow_tf32 = True
    assert tl.backends.cuda.matmul.allow_tf32 and not tl.backends.cudnn.benchmark
