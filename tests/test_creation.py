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


def test_generators_start_anew():
    generator = tl.Generator(device="cpu").manual_seed(3)
    assert generator.initial_seed() == 3 and generator.device == "cpu"
    first = tl.rand(5, generator=generator)
    seed = generator.seed()
    assert generator.initial_seed() == seed != 3
    again = tl.rand(5, generator=generator)
    assert not tl.equal(first, again)
    assert tl.equal(again, tl.rand(5, generator=tl.Generator().manual_seed(seed)))
    assert tl.equal(first, tl.rand(5, generator=generator.manual_seed(3)))


def test_seeds_of_the_default_generators():
    tl.manual_seed(7)
    assert tl.initial_seed() == 7
    drawn = tl.seed()
    assert tl.initial_seed() == drawn
    x = tl.randn(4)
    tl.manual_seed(drawn)
    assert tl.equal(x, tl.randn(4))


def test_bernoulli_and_normal_have_their_means():
    tl.manual_seed(0)
    chances = tl.tensor([[0.1], [0.5], [0.9]]).expand(3, 20_000)
    assert tl.allclose(tl.bernoulli(chances).mean(1), chances[:, 0], atol=0.02)
    x = tl.normal(tl.tensor([[-1.0], [2.0]]).expand(2, 20_000), tl.tensor([[1.0], [3.0]]))
    assert tl.allclose(x.mean(1), tl.tensor([-1.0, 2.0]), atol=0.1)
    assert tl.allclose(x.std(1), tl.tensor([1.0, 3.0]), atol=0.1)


@pytest.mark.parametrize("f, message", [
    (lambda: tl.zeros(), r"expected a size, as numbers or as size=\(…\), and got none"),
    (lambda: tl.zeros(2.5), r"a shape is made of whole numbers, not of \(2.5,\)"),
    (lambda: tl.ones(2, -1), r"no negative lengths: \(2, -1\)"),
    (lambda: tl.arange(5, 0), "arange: steps of 1 do not lead from 5 to 0"),
    (lambda: tl.full((1,), 300, dtype=tl.uint8), "full: 300 is beyond what uint8 can hold"),
    (lambda: tl.randint(3, 3, (1,)), "randint: there are no integers from 3 until before 3"),
    (lambda: tl.rand(1, dtype=tl.int64), "cannot be int64; use float32, or randint"),
    (lambda: tl.bernoulli(tl.ones(1), 2), "bernoulli: probabilities lie between 0 and 1"),
    (lambda: tl.bernoulli(tl.ones(1).int()), r"int32 cannot hold probabilities; use bernoulli\(x, p\)"),
    (lambda: tl.normal(0.0, 1.0), "normal: expected a Tensor of means"),
    (lambda: tl.normal(0.0, -1.0, (1,)), "a standard deviation is at least 0"),
    (lambda: tl.set_default_dtype(tl.int64), "set_default_dtype: int64 is not a floating-point dtype"),
    (lambda: tl.tensor([2]) // 0, r"\[floor_divide\] division of integers by zero"),
    (lambda: tl.tensor([True]) % True, r"\[remainder\] booleans cannot be divided"),
    (lambda: tl.div(tl.ones(1), 2, rounding_mode="up"), "div: rounding_mode is None, 'floor' or 'trunc', not 'up'"),
    (lambda: tl.add(tl.tensor([1]), 1, alpha=0.5), "alpha must be a whole number, not 0.5, where .* are int64"),
    (lambda: tl.ones(1).clamp(), "clamp: at least one of min and max"),
    (lambda: tl.where(tl.ones(1) > 0, 1.0), "where: expected a condition alone, or a condition and two operands"),
    (lambda: tl.ones(2).masked_fill(tl.ones(2) > 0, tl.ones(2)), r"a number or 0-dimensional, not of shape \(2,\)"),
    (lambda: tl.ones(1).isclose(tl.ones(1).double()), "isclose: float32 and float64 differ"),
    (lambda: tl.ones(1).isclose(tl.ones(1), atol=-1), "isclose: the tolerances must not be negative"),
    (lambda: tl.ones(0).max(), r"amax: shape \(0,\) has no elements, so"),
    (lambda: tl.ones(2, 0).argmax(1), r"argmax: shape \(2, 0\) has no elements along dimension 1"),
    (lambda: tl.ones(2, 2).argmax((0, 1)), r"argmax goes along one dimension, not along \(0, 1\)"),
    (lambda: tl.ones(2, 2).norm("nuc"), "norm: the nuclear norm needs singular values"),
    (lambda: tl.ones(2).var(0, True, correction=1), "var: give unbiased or correction, not both"),
])  # fmt: skip
def test_messages(f, message):
    with pytest.raises((RuntimeError, TypeError, ValueError, IndexError), match=message):
        f()
