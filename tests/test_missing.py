"""What is not there says so, and nothing else becomes slower or stranger by it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tensorlite as tl
from tensorlite import missing

X = tl.ones(2, 2)
GENERAL = "has the part of PyTorch that a GPT needs; docs/pytorch.md"

ABSENT: dict[str, tuple[Callable[[], Any], str]] = {
    "module": (lambda: tl.compile, "tensorlite has no 'compile': call the function or module itself"),
    "misspelt": (lambda: tl.arnage, "tensorlite has no 'arnage': did you mean 'arange'?"),
    "unknown": (lambda: tl.gibberish, f"tensorlite has no 'gibberish': it {GENERAL}"),
    "nn": (lambda: tl.nn.Conv2d, "tensorlite.nn has no 'Conv2d': there are no convolutions"),
    "nn, misspelt": (lambda: tl.nn.Lienar, "did you mean 'Linear'?"),
    "functional": (lambda: tl.nn.functional.conv2d, "tensorlite.nn.functional has no 'conv2d': there are no conv"),
    "init": (lambda: tl.nn.init.dirac_, "tensorlite.nn.init has no 'dirac_'"),
    "optim": (lambda: tl.optim.LBFGS, "tensorlite.optim has no 'LBFGS': use AdamW, Adam"),
    "utils": (lambda: tl.utils.tensorboard, "tensorlite.utils has no 'tensorboard': watch the ops with a"),
    "cuda": (lambda: tl.cuda.Event, "tensorlite.cuda has no 'Event': use synchronize() and a clock"),
    "autograd": (lambda: tl.autograd.Function, "tensorlite.autograd has no 'Function': declare a tensorlite.Op"),
    "method": (lambda: X.svd(), "Tensor has no 'svd': use numpy.linalg on x.detach().numpy()"),
    "method of the class": (lambda: tl.Tensor.svd, "Tensor has no 'svd'"),
    "method in place": (lambda: X.geometric_(0.5), "Tensor has no 'geometric_': draw with rand"),
    "method of which only the form in place is missing": (lambda: X.t_(), "use x = x.t(…)"),
    "other method": (lambda: X.record_stream(), f"Tensor has no 'record_stream': it {GENERAL}"),
}


@pytest.mark.parametrize("name", ABSENT)
def test_sentence(name: str):
    act, text = ABSENT[name]
    with pytest.raises(AttributeError) as raised:
        act()
    assert text in str(raised.value)


def test_questions_that_python_asks_are_answered_shortly():
    for thing in (tl, tl.nn, tl.optim, X):
        for name in ("__wrapped__", "__array_interface__", "_ipython_display_", "__path_x__"):
            with pytest.raises(AttributeError, match="has no attribute"):
                getattr(thing, name)
    assert not hasattr(X, "svd") and "svd" not in dir(X) and "sum" in dir(X)
    inspect.getmembers(X, callable)


def test_tensor_has_no_getattr():
    """It would slow down every attribute."""
    assert "__getattr__" not in vars(tl.Tensor)
    X.svd = 3  # what a user calls their own attribute is their business
    assert X.svd == 3
    del X.svd


def test_no_method_is_hidden():
    for name, x in vars(tl.Tensor).items():
        assert not isinstance(x, missing.Absent) or name.rstrip("_") in {
            each.rstrip("_") for each in (*missing.METHODS.split(), *missing._INSTEAD)
        }
    assert tl.Tensor.sum is tl.sum and callable(tl.Tensor.add_)


def test_the_table_in_the_docs():
    page = (Path(__file__).parents[1] / "docs" / "pytorch.md").read_text()
    assert "\n".join(missing.table()) in page, "write the output of python -m tensorlite.missing into docs/pytorch.md"
