"""Programs written for PyTorch train under tensorlite, changed in nothing but their imports, and give the same."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is the oracle of these tests and is not installed")

from torch_style.run import IDIOMS, PROGRAMS, compare, idiom, idioms, load, plain, run, weights

import tensorlite as tl

# Losses are means over many numbers; a weight whose gradient is nothing but rounding (the bias of keys, say) is
# moved by Adam all the same, so in float32 weights agree only within a step.
TOLERANCE = {"float32": (1e-4, 5e-3), "float64": (1e-9, 1e-9)}


def _start(name: str) -> dict[str, np.ndarray]:
    import torch

    torch.manual_seed(1234)
    return weights(load(name, "torch").make_model())


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_gives_what_it_gives_with_pytorch(name: str, dtype: str) -> None:
    start = _start(name)
    theirs = run(name, "torch", dtype, start)
    ours = run(name, "tensorlite", dtype, start)
    results, final = TOLERANCE[dtype]
    compare(ours.results, theirs.results, results, name)
    compare(ours.weights, theirs.weights, final, f"{name}: weights")


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_trains_with_dropout(name: str) -> None:
    tl.manual_seed(1)
    program = load(name, "tensorlite")
    losses = plain(program.train(program.make_model(dropout=0.1)))["losses"]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("file, name", [(file, name) for file in IDIOMS for name in idioms(file, "torch")])
def test_an_idiom_gives_what_it_gives_with_pytorch(file: str, name: str, dtype: str) -> None:
    theirs = idiom(file, name, "torch", dtype)
    with np.errstate(all="ignore"):  # PyTorch does not warn of infinities
        ours = idiom(file, name, "tensorlite", dtype)
    compare(ours, theirs, {"float32": 1e-5, "float64": 1e-11}[dtype], name)
