"""The same ops on another device: values and gradients held against the CPU's, which `checker` holds against slopes.

python -m tensorlite.check --device cuda
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..autograd import grad
from ..creation import from_numpy
from ..dtype import bfloat16, kind
from ..levels import using
from ..op import OPS
from ..tensor import Tensor, array_of
from .engine import differentiable, outputs
from .measure import upstream
from .samples import LARGE, SAMPLES, Sample

Arrays = list[np.ndarray]

# How far a result may be from the CPU's in float64, relative to the largest element: some roundings.
TOLERANCE = {"float64": 1e-12, "float32": 2e-5, "float16": 1e-1}
if bfloat16 is not None:
    TOLERANCE["bfloat16"] = 8e-2


@dataclass(frozen=True)
class Comparison:
    """One sample on the device: the level and dtype it ran in, and how far it was off, or what it raised."""

    op: str
    number: int
    level: str
    dtype: str
    values: float
    gradients: float
    second: float
    problem: str = ""

    @property
    def ok(self) -> bool:
        worst = np.array([self.values, self.gradients, self.second])
        return not self.problem and bool((worst <= TOLERANCE[self.dtype]).all())


def compare(
    names: Sequence[str], device: Any, dtypes: Sequence[str] = tuple(TOLERANCE), large: bool = True
) -> Iterator[Comparison]:
    """Every sample of these ops, at every level that differs for it, in each dtype. `large`: also those of large sizes,
    at which kernels leave their simplest path."""
    for name in [name for name in names if name != "move"]:  # which names devices itself
        op = OPS[name]
        levels = [level for level, has in (("reference", op.reference), ("plain", True), ("kernel", op.kernels)) if has]
        for number, sample in enumerate([*SAMPLES.get(name, ()), *(LARGE.get(name, ()) if large else ())]):
            for dtype in dtypes:
                # Of the numbers as the dtype has them: what their rounding changes is no fault of the op.
                expected = results(sample, "cpu", np.dtype(np.float64), np.dtype(dtype))
                for level in levels:
                    yield _compare(name, number, sample, level, dtype, device, expected)


def _compare(
    name: str, number: int, sample: Sample, level: str, dtype: str, device: Any, expected: tuple[Arrays, Arrays, Arrays]
) -> Comparison:
    try:
        with using(level), np.errstate(all="ignore"):
            found = results(sample, device, np.dtype(dtype))
        errors = [_worst(ours, theirs) for ours, theirs in zip(found, expected, strict=True)]
    except Exception as error:  # one op that cannot run must not hide the others
        return Comparison(name, number, level, dtype, np.nan, np.nan, np.nan, f"{type(error).__name__}: {error}")
    values, gradients, second = errors
    return Comparison(name, number, level, dtype, values, gradients, second)


def results(
    sample: Sample, device: Any, dtype: np.dtype, given: np.dtype | None = None
) -> tuple[Arrays, Arrays, Arrays]:
    """The outputs; the gradients of their products with some random numbers; and of the products of those with some.
    All in `dtype`, of numbers that `given` can hold."""
    rng = np.random.default_rng(0)
    inputs = [_on(x, device, dtype, given) for x in sample.inputs]
    sought = [inputs[i].requires_grad_() for i in sample.wrt]
    ys = outputs(sample, inputs)
    values = [_numbers(y) for y in ys]
    alive = [y for y in differentiable(ys) if y.requires_grad]
    if not alive:
        return values, [], []
    u = [_on(x, device, dtype, given).requires_grad_() for x in upstream([y.detach().cpu().array for y in alive], rng)]
    first = grad(alive, sought, u, create_graph=True, allow_unused=True)
    gradients = [_numbers(g) for g in first if g is not None]
    again = [g for g in first if g is not None and g.requires_grad]
    w = [_on(x, device, dtype, given) for x in upstream([g.detach().cpu().array for g in again], rng)]
    second = grad(again, [*sought, *u], w, allow_unused=True) if again else ()
    return values, gradients, [_numbers(g) for g in second if g is not None]


def _on(x: Any, device: Any, dtype: np.dtype, given: np.dtype | None = None) -> Any:
    """An input of a sample, on the device: floats in the dtype, rounded to `given` before."""
    if not isinstance(x, np.ndarray):
        return x
    on_device = from_numpy(x).to(device)
    return on_device.to(given or dtype).to(dtype) if kind(x.dtype) == "f" else on_device


def _numbers(x: Any) -> np.ndarray:
    array = array_of(x.detach().cpu()) if isinstance(x, Tensor) else np.asarray(x)
    return array.astype(np.float64) if kind(array.dtype) == "f" else array


def _worst(found: Arrays, expected: Arrays) -> float:
    """The largest difference, relative to the largest number; inf for another shape or another dtype of integers."""
    if [x.shape for x in found] != [x.shape for x in expected]:
        return np.inf
    return max([_difference(a, b) for a, b in zip(found, expected, strict=True)], default=0.0)


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    if kind(a.dtype) != "f" or kind(b.dtype) != "f":
        return 0.0 if np.array_equal(a, b) and a.dtype == b.dtype else np.inf
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return np.inf
    scale = max(np.abs(b[finite]).max(initial=0), 1e-30)
    return float(np.abs(a[finite] - b[finite]).max(initial=0) / max(scale, 1))
