"""The stand-in for CuPy: it offers what CuPy offers, and refuses what CuPy refuses."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from cupy_standin import gpu, installed
from cupy_standin.api import FILE, parts

HALVES = np.ones(3, np.float16)


@pytest.fixture
def cupy() -> Iterator:
    with installed(devices=2) as library:
        yield library


@pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="CuPy is not installed")
def test_its_list_is_that_of_the_real_one():
    command = [sys.executable, "-m", "cupy_standin.generate"]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    version, found = done.stdout.split("\n", 1)
    if version == FILE.read_text().split("\n", 1)[0]:
        assert found == FILE.read_text().split("\n", 1)[1]


def test_the_list_has_what_the_engine_relies_on():
    assert parts()["ndarray"]["sum"] == "(axis= dtype= out= keepdims=)"
    assert "permutation" not in parts()["Generator"] and "__index__" not in parts()["ndarray"]


REFUSED: dict[str, tuple[type[Exception], Callable]] = {
    "NumPy's function": (TypeError, lambda x, cp: np.sum(x)),
    "NumPy's ufunc": (TypeError, lambda x, cp: np.exp(x)),
    "conversion": (TypeError, lambda x, cp: np.asarray(x)),
    "a NumPy array on the right": (TypeError, lambda x, cp: x + np.ones(3, np.float32)),
    "a NumPy array on the left": (TypeError, lambda x, cp: np.ones(3, np.float32) + x),
    "a NumPy array in place": (TypeError, lambda x, cp: x.__iadd__(np.ones(3, np.float32))),
    "a NumPy array in a function": (TypeError, lambda x, cp: cp.concatenate([x, np.ones(3)])),
    "a NumPy array as a value": (TypeError, lambda x, cp: x.__setitem__(slice(1), np.ones(1))),
    "where=": (TypeError, lambda x, cp: cp.add(x, x, where=x > 0)),
    "initial=": (TypeError, lambda x, cp: x.sum(initial=0)),
    "a function that there is not": (AttributeError, lambda x, cp: cp.spacing_of),
    "a method that there is not": (AttributeError, lambda x, cp: x.searchsort),
    "flags.writeable": (AttributeError, lambda x, cp: x.flags.writeable),
    "at, of halves": (TypeError, lambda x, cp: cp.add.at(cp.asarray(HALVES), cp.asarray([0]), 1)),
    "at, of int64": (TypeError, lambda x, cp: cp.add.at(cp.arange(3), cp.asarray([0]), 1)),
    "at, of a ufunc that has none": (NotImplementedError, lambda x, cp: cp.exp.at(x, cp.asarray([0]))),
    "reduce, of a ufunc that has none": (NotImplementedError, lambda x, cp: cp.maximum.reduce(x)),
    "a condition that is no array": (AttributeError, lambda x, cp: cp.where(True, x, 0)),
    "a number to be found": (TypeError, lambda x, cp: cp.searchsorted(x, 1.0)),
    "an array as a bound": (TypeError, lambda x, cp: x[: cp.asarray(2)]),
    "a float as index": (IndexError, lambda x, cp: x[x]),
    "strings": (ValueError, lambda x, cp: cp.asarray(["a"])),
    "objects": (ValueError, lambda x, cp: cp.asarray([None])),
    "hash": (TypeError, lambda x, cp: hash(x)),
    "half random numbers": (TypeError, lambda x, cp: cp.random.default_rng(0).random(3, dtype=np.float16)),
    "permutation": (AttributeError, lambda x, cp: cp.random.default_rng(0).permutation(3)),
    "a device that there is not": (RuntimeError, lambda x, cp: cp.cuda.Device(2).use()),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_refuses(cupy, case: str):
    kind, call = REFUSED[case]
    with pytest.raises(kind):
        call(cupy.ones(3, np.float32), cupy)


def test_types_are_those_of_cupy(cupy):
    x = cupy.ones(3, np.float32)
    assert (x * 2.0).dtype == (x.sum() * x).dtype == np.float32
    assert (x * np.float64(2)).dtype == (x * x.sum(dtype=np.float64)).dtype == np.float64
    assert (np.float32(2) * x).dtype == np.float32 and isinstance(x.sum(), cupy.ndarray) and x.sum().shape == ()
    assert cupy.sqrt(cupy.arange(3)).dtype == np.float64


def test_indices_wrap_around_and_the_last_of_two_values_does_not_stay(cupy):
    x = cupy.arange(4)
    assert x[cupy.asarray([5, -6])].tolist() == [1, 2]
    x[cupy.asarray([0, 0])] = cupy.asarray([7, 8])
    assert x[0].item() == 7
    assert x[1:].base is x and x[cupy.asarray([0])].base is None


def test_what_makes_the_host_wait_is_counted(cupy):
    x = cupy.ones(3)
    y = (x * 2).sum()
    x[1:] = y
    assert gpu.here.synchronisations == [] and gpu.here.uploads == []
    waits = [lambda: bool(y), lambda: float(y), y.item, x.get, x.tolist, lambda: x[x > 0], lambda: cupy.nonzero(x)]
    for wait in waits:
        before = len(gpu.here.synchronisations)
        wait()
        assert len(gpu.here.synchronisations) > before
    cupy.asarray(np.ones(4))
    assert gpu.here.uploads == [32]


def test_an_array_belongs_to_a_device(cupy):
    with cupy.cuda.Device(1):
        x = cupy.ones(3)
    assert x.device.id == 1 and cupy.cuda.runtime.getDevice() == 0
    with pytest.raises(ValueError, match=r"array resides \(1\) is different from the current device \(0\)"):
        x + x
    assert x.copy().device.id == 0


def test_memory_ends():
    with installed(memory=4096) as cupy:
        x = cupy.ones(256)
        with pytest.raises(cupy.cuda.memory.OutOfMemoryError):
            cupy.ones(512)
        assert cupy.get_default_memory_pool().used_bytes() == 2048
        del x
        assert cupy.ones(512).nbytes == 4096
