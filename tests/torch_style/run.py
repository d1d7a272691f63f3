"""Runs a PyTorch program as it stands, or with tensorlite in PyTorch's place: only its import statements change.

A program is an ordinary file with

    make_model(dropout=0.0)   a module with random weights
    train(model)              a dictionary of what came out: losses, tokens, Tensors, all by name

Engines draw different random numbers, so both start from the weights that PyTorch made, and what a program draws
itself, batches and tokens, comes from NumPy.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest

FOLDER = Path(__file__).parent
IDIOMS = ("idioms_tensors", "idioms_training")
PROGRAMS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in ("conftest", "run", *IDIOMS))


class Outcome(NamedTuple):
    """What a program gave, and the weights it ended with (in the order of its state_dict)."""

    results: dict[str, Any]
    weights: dict[str, np.ndarray]


class _Imports(ast.NodeTransformer):
    """`import torch` becomes `import tensorlite as torch`, and likewise for all below torch."""

    def visit_Import(self, node: ast.Import) -> ast.Import:
        names = []
        for alias in node.names:
            ours = _ours(alias.name)
            if ours == alias.name or alias.asname:
                names.append(ast.alias(ours, alias.asname))
            else:  # `import torch.nn` binds the name torch
                names += [ast.alias(ours)] * (ours != "tensorlite") + [ast.alias("tensorlite", "torch")]
        return ast.copy_location(ast.Import(names), node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom:
        return ast.copy_location(ast.ImportFrom(_ours(node.module or ""), node.names, node.level), node)


def _ours(module: str) -> str:
    top, dot, below = module.partition(".")
    return f"tensorlite{dot}{below}" if top == "torch" else module


def load(name: str, engine: str) -> ModuleType:
    """The program as a module, of "torch" or of "tensorlite"."""
    path = FOLDER / f"{name}.py"
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    if engine == "tensorlite":
        tree = ast.fix_missing_locations(_Imports().visit(tree))
    module = ModuleType(f"{name}_on_{engine}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look there
    exec(compile(tree, str(path), "exec"), vars(module))
    return module


def run(name: str, engine: str, dtype: str = "float32", start: dict[str, np.ndarray] | None = None) -> Outcome:
    """Make the program's model, let it begin with the weights `start`, and train it."""
    library = importlib.import_module(engine)
    program = load(name, engine)
    library.manual_seed(1234)
    model = program.make_model()
    if start is not None:
        assert list(model.state_dict()) == list(start), "the names in the state_dict, and their order"
        model.load_state_dict({key: library.from_numpy(array) for key, array in start.items()})
    model.to(getattr(library, dtype))
    with same_draws(library):
        results = program.train(model)
    return Outcome(plain(results), weights(model))


def weights(model: Any) -> dict[str, np.ndarray]:
    return {key: x.detach().cpu().numpy().copy() for key, x in model.state_dict().items()}


def plain(x: Any) -> Any:
    """Tensors as arrays, at any depth."""
    if isinstance(x, dict):
        return {key: plain(value) for key, value in x.items()}
    if isinstance(x, (list, tuple)):
        return [plain(value) for value in x]
    return x.detach().cpu().numpy().copy() if hasattr(x, "detach") else x


@contextmanager
def same_draws(library: ModuleType) -> Iterator[None]:
    """Inside, `randint` and `multinomial` draw the same from NumPy in both engines, from what `manual_seed` says."""
    numbers = np.random.default_rng(5)
    seed_engine = library.manual_seed

    def manual_seed(seed: int) -> Any:
        nonlocal numbers
        numbers = np.random.default_rng(seed)
        return seed_engine(seed)

    def randint(low: int, high: Any = None, size: Any = None, **_: Any) -> Any:
        low, high, size = (0, low, high) if size is None else (low, high, size)
        return library.from_numpy(numbers.integers(low, high, tuple(size)))

    def multinomial(input: Any, num_samples: int, replacement: bool = False, **_: Any) -> Any:
        assert num_samples == 1
        cumulative = input.detach().cpu().numpy().cumsum(-1)
        draws = numbers.random((*cumulative.shape[:-1], 1)) * cumulative[..., -1:]
        return library.from_numpy((draws >= cumulative).sum(-1, keepdims=True))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "manual_seed", manual_seed)
        patch.setattr(library, "randint", randint)
        patch.setattr(library, "multinomial", multinomial)
        yield


def compare(ours: Any, theirs: Any, tolerance: float, where: str = "") -> None:
    """Equal where they are whole numbers, words or shapes; floats within `tolerance` of the largest beside them."""
    assert type(ours) is type(theirs), f"{where}: {type(ours)}, PyTorch {type(theirs)}"
    if isinstance(theirs, dict):
        assert list(ours) == list(theirs), where
        for key in theirs:
            compare(ours[key], theirs[key], tolerance, f"{where}/{key}")
    elif isinstance(theirs, (list, tuple)) and not all(isinstance(x, float) for x in theirs):
        assert len(ours) == len(theirs), f"{where}: {len(ours)} items, PyTorch {len(theirs)}"
        for i, (a, b) in enumerate(zip(ours, theirs)):
            compare(a, b, tolerance, f"{where}/{i}")
    elif isinstance(theirs, (float, list, np.ndarray)):
        _close(np.asarray(ours), np.asarray(theirs), tolerance, where)
    else:
        assert ours == theirs, f"{where}: {ours!r}, PyTorch {theirs!r}"


def _close(ours: np.ndarray, theirs: np.ndarray, tolerance: float, where: str) -> None:
    assert ours.dtype == theirs.dtype, f"{where}: {ours.dtype}, PyTorch {theirs.dtype}"
    if theirs.dtype.kind != "f":
        np.testing.assert_array_equal(ours, theirs, err_msg=where)
        return
    if theirs.dtype == np.float32:
        tolerance = max(tolerance, 1e-6)  # a program that keeps float32 numbers has no more digits
    largest = float(np.abs(theirs[np.isfinite(theirs)]).max(initial=1e-3))
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance * largest, err_msg=where)


@cache
def idioms(file: str, engine: str) -> dict[str, Callable]:
    """The IDIOMS of a file, for one engine."""
    return load(file, engine).IDIOMS


def idiom(file: str, name: str, engine: str, dtype: str) -> Any:
    """What one entry of a file's IDIOMS gives, and the gradients of what it was given."""
    library = importlib.import_module(engine)
    function = idioms(file, engine)[name]
    numbers = np.random.default_rng(7)
    given = {key: numbers.normal(size=shape) for key, shape in {"x": (2, 3, 4), "m": (4, 4), "v": (6,)}.items()}
    inputs = {key: library.tensor(array, dtype=getattr(library, dtype)) for key, array in given.items()}
    inputs["ids"] = library.tensor([[1, 4, 0], [2, 1, 3]])
    inputs = {key: inputs[key] for key in inspect.signature(function).parameters if key in inputs}
    for x in inputs.values():
        if x.is_floating_point():
            x.requires_grad_(True)
    outputs = function(**inputs)
    for y in _tensors(outputs):
        if y.requires_grad:
            y.backward(library.tensor(numbers.normal(size=tuple(y.shape)), dtype=y.dtype), retain_graph=True)
    return plain(outputs), {key: plain(x.grad) for key, x in inputs.items()}


def _tensors(x: Any) -> list[Any]:
    if isinstance(x, dict):
        x = list(x.values())
    if isinstance(x, (list, tuple)):
        return [tensor for part in x for tensor in _tensors(part)]
    return [x] if hasattr(x, "detach") else []
