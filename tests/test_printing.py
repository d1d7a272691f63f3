"""repr never fails, never warns, and is quick whatever the size."""

import math
import time

import numpy as np
import pytest

import tensorlite as tl


def test_a_huge_tensor_is_quick():
    x = tl.tensor(1.0).expand(100_000_000)
    start = time.perf_counter()
    assert repr(x) == "tensor([1., 1., 1.,  ..., 1., 1., 1.])"
    repr(x.view(10_000, 10_000).T)
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize("dtype", [tl.float16, tl.float32, tl.float64])
def test_extremes_do_not_warn(dtype: np.dtype):
    limits = np.finfo(dtype)
    with np.errstate(all="raise"):
        for numbers in ([limits.max, limits.smallest_subnormal], [limits.max, -limits.max], [math.nan, limits.tiny]):
            assert repr(tl.tensor(np.array(numbers, dtype))).startswith("tensor([")


def test_options():
    try:
        tl.set_printoptions(precision=2, sci_mode=False)
        assert repr(tl.tensor([1e-5, 1.0])) == "tensor([0.00, 1.00])"
        tl.set_printoptions(profile="default")
        assert repr(tl.tensor([1e-5, 1.0])) == "tensor([1.0000e-05, 1.0000e+00])"
        with pytest.raises(ValueError, match="profile is one of default, short, full, not 'long'"):
            tl.set_printoptions(profile="long")
    finally:
        tl.set_printoptions(profile="default")


def test_printing_leaves_the_tensor_alone():
    x = tl.tensor([1.0, 2.0], requires_grad=True)
    y = x * 2
    repr(y), str(x), f"{y}"
    assert y._version == 0 and x.version is None
