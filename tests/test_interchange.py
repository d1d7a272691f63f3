"""Out of tensorlite and into it: NumPy, DLPack, copy and pickle."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import tensorlite as tl


def test_numpy_shares_and_force_detaches():
    x = tl.tensor([1.0, 2.0])
    assert x.numpy() is x.array
    x.requires_grad_()
    with pytest.raises(RuntimeError, match=r"use \.detach\(\)\.numpy\(\)"):
        x.numpy()
    assert x.numpy(force=True) is x.array


def test_array_protocol():
    x = tl.tensor([1.0, 2.0])
    assert np.asarray(x) is x.array and np.array(x, copy=None) is x.array
    assert np.array(x, copy=True) is not x.array
    assert np.asarray(x, dtype=np.float64).dtype == np.float64
    with pytest.raises(ValueError, match="Unable to avoid copy"):
        x.__array__(np.float64, copy=False)


def test_dlpack_with_numpy():
    x = tl.tensor([1.0, 2.0])
    array = np.from_dlpack(x)
    array[0] = 5
    y = tl.from_dlpack(array)
    y.array[1] = 6
    assert x.tolist() == [5, 6] == tl.from_dlpack(x).tolist()
    assert x.__dlpack_device__() == (1, 0)
    with pytest.raises(BufferError, match=r"__dlpack__: this Tensor requires a gradient.*detach"):
        np.from_dlpack(tl.zeros(2, requires_grad=True))
    with pytest.raises(TypeError, match="from_dlpack: a list does not speak DLPack"):
        tl.from_dlpack([1.0])


def test_dlpack_of_another_device():
    class Elsewhere:
        def __dlpack__(self) -> Any: ...
        def __dlpack_device__(self) -> tuple[int, int]:
            return 8, 0  # Metal

    with pytest.raises(BufferError, match="device of type 8; move it to the CPU or a CUDA GPU"):
        tl.from_dlpack(Elsewhere())


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64", "uint8", "bool"])
def test_dlpack_with_torch(dtype: str):
    torch = pytest.importorskip("torch")
    x = tl.tensor([[1, 0, 1], [0, 1, 1]]).to(np.dtype(dtype)).T
    theirs = torch.from_dlpack(x)
    assert str(theirs.dtype) == f"torch.{dtype}" and theirs.stride() == (1, 3)
    theirs[0, 0] = 0
    ours = tl.from_dlpack(theirs)
    theirs[1, 0] = 1
    assert x.tolist() == ours.tolist() == [[0, 0], [1, 1], [1, 1]]
    with pytest.raises(BufferError):
        tl.from_dlpack(torch.zeros(2, requires_grad=True))


def test_no_cuda_array_interface_on_the_cpu():
    assert not hasattr(tl.zeros(2), "__cuda_array_interface__")


def test_read_only_arrays_are_read():
    array = np.arange(3.0)
    array.flags.writeable = False
    x = tl.from_numpy(array)
    assert (x + 1).tolist() == [1, 2, 3]
    with pytest.raises(RuntimeError, match="NumPy protects it"):
        x.add_(1)


COPIES = {"copy": copy.copy, "deepcopy": copy.deepcopy, "pickle": lambda x: pickle.loads(pickle.dumps(x))}


@pytest.mark.parametrize("how", COPIES)
def test_copies_of_a_leaf(how: str):
    for make in (tl.nn.Parameter, lambda data: tl.tensor(data, dtype=tl.float64), lambda data: tl.tensor(data).long()):
        x = make([1.0, 2.0])
        x.grad = x.detach() * 2
        twin = COPIES[how](x)
        assert type(twin) is type(x) and twin.requires_grad == x.requires_grad and twin.dtype == x.dtype
        assert twin.tolist() == x.tolist() and twin.grad.tolist() == x.grad.tolist()
        assert np.shares_memory(twin.array, x.array) == (how == "copy")


def test_a_copy_is_noticed_when_written():
    x = tl.tensor([1.0], requires_grad=True)
    twin = copy.copy(x)
    y = x * x
    with tl.no_grad():
        twin.add_(1)
    with pytest.raises(RuntimeError, match="has been written in place"):
        y.backward()


def test_results_are_neither_pickled_nor_copied_deeply():
    y = tl.tensor([1.0], requires_grad=True) * 2
    for how in ("deepcopy", "pickle"):
        with pytest.raises(RuntimeError, match=rf"{how}: .*detach"):
            COPIES[how](y)
    assert copy.copy(y).node is y.node


def test_in():
    x = tl.tensor([[1, 2], [3, 4]])
    assert 3 in x and 5 not in x and tl.tensor([1, 2]) in x


def test_a_matrix_is_an_array():
    """NumPy's np.matrix has another *, which no Tensor shall have."""
    matrix = np.array([[1.0, 2.0], [3.0, 4.0]]).view(np.matrix)
    squares = [[1.0, 4.0], [9.0, 16.0]]
    for x in (tl.tensor(matrix), tl.from_numpy(matrix), tl.as_tensor(matrix)):
        assert type(x.numpy()) is np.ndarray
        assert (x * x).tolist() == squares
        assert (x * matrix).tolist() == squares
    shared = tl.from_numpy(matrix)
    shared[0, 0] = 9.0
    assert matrix[0, 0] == 9.0


def test_views_of_a_mapped_file_are_views(tmp_path: Any):
    """A write into one is noticed by what kept the other, although NumPy's memmap is an array of its own kind."""
    x = tl.from_numpy(np.memmap(tmp_path / "numbers", np.float32, "w+", shape=(3,)))
    w = tl.ones(2, 3, requires_grad=True)
    y = (w * x.expand(2, 3)).sum()
    x.fill_(7.0)
    with pytest.raises(RuntimeError, match="written in place"):
        y.backward()
