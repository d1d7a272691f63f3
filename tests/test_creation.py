"""Making Tensors: what PyTorch would make of the same arguments."""

import numpy as np
import pytest

import tensorlite as tl


def test_a_list_keeps_the_dtype_of_what_is_in_it():
    wide = tl.tensor(1.5, dtype=tl.float64)
    assert tl.tensor([wide, 2.0]).dtype == tl.float64
    assert tl.tensor([[np.zeros(2)]]).dtype == tl.float64
    assert tl.tensor([tl.tensor(1.5), 2.0]).dtype == tl.float32
    assert tl.tensor([np.float64(1.5), 2.0]).dtype == tl.float32  # one of Python's floats
    assert tl.tensor([tl.tensor(1), 2]).dtype == tl.int64


@pytest.mark.parametrize("data", [["a"], np.array(["a"]), np.array([None])], ids=["list", "text", "objects"])
def test_what_is_no_number_is_refused(data):
    with pytest.raises(TypeError, match="cannot make numbers"):
        tl.tensor(data)


def test_from_numpy_takes_arrays_only():
    array = np.zeros(2)
    tl.from_numpy(array)[0] = 1
    assert array[0] == 1
    with pytest.raises(TypeError, match=r"expected a NumPy array, not list; tensor\(…\) copies"):
        tl.from_numpy([1, 2])


def test_arange():
    assert tl.arange(3).tolist() == [0, 1, 2]
    assert tl.arange(1, end=3).tolist() == [1, 2]
    assert tl.arange(5, 0, step=-2).tolist() == [5, 3, 1]
    assert tl.arange(2, dtype=tl.float32).dtype == tl.float32
    assert tl.arange(tl.tensor(2.5)).tolist() == [0.0, 1.0, 2.0]
    x = tl.arange(1000, 1100, 0.1)  # the step is not a float32
    assert x.dtype == tl.float32
    np.testing.assert_array_equal(x.numpy(), (1000 + 0.1 * np.arange(1000)).astype(np.float32))


def test_uniform_numbers_stay_below_the_upper_bound():
    tl.manual_seed(0)
    x = tl.rand(100_000, dtype=tl.float16)  # one float32 in 4096 rounds to 1
    assert x.min().item() >= 0
    assert x.max().item() < 1


def test_like_and_friends_can_require_a_gradient():
    assert tl.full_like(tl.zeros(2), 3.0, requires_grad=True).requires_grad
    assert tl.linspace(0, 1, 3, requires_grad=True).tolist() == [0.0, 0.5, 1.0]
    assert tl.eye(2, requires_grad=True).requires_grad


def test_devices_compare_with_names():
    assert tl.device("cuda") == "cuda:0"
    assert tl.device("cpu") != "mps"
    with pytest.raises(TypeError, match="expected 'cpu', 'cuda' or 'cuda:N', not 0"):
        tl.zeros(1).to(0)


def test_assigning_data_shares_its_memory_and_its_version():
    x, data = tl.tensor([2.0], requires_grad=True), tl.tensor([3.0])
    x.data = data
    y = (x * x).sum()
    data.add_(1)
    assert x.item() == 4
    with pytest.raises(RuntimeError, match="written in place"):
        y.backward()
    with pytest.raises(RuntimeError, match="cannot hold int64"):
        x.data = tl.tensor([1])
    with pytest.raises(TypeError, match="expected a Tensor, not ndarray"):
        x.data = np.zeros(1)
