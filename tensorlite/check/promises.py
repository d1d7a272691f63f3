"""What an op promises beside the right numbers: it writes into nothing that is not its own, its gradients have the
shape and dtype of its inputs, and its levels agree."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..levels import LEVELS, using
from ..op import Op, describe
from .engine import Arrays, differentiable, gradients, is_float, outputs, tensors

LEVEL_AGREEMENT: dict[np.dtype, float] = {
    np.dtype(np.float64): 1e-12,
    np.dtype(np.float32): 2e-5,
}  # relative to the largest number


class Watch:
    """Sees which arrays are written to."""

    def __init__(self, arrays: Mapping[str, Any]):
        self.arrays = {name: x for name, x in arrays.items() if isinstance(x, np.ndarray)}
        self.before = {name: x.copy() for name, x in self.arrays.items()}

    def changed(self) -> list[str]:
        """Who was written to since the last call; they get their numbers back."""
        names = [name for name, x in self.arrays.items() if x.tobytes() != self.before[name].tobytes()]
        for name in names:
            self.arrays[name][...] = self.before[name]
        return names


def forward_writes(f: Callable[..., Any], inputs: Sequence[Any], names: Sequence[str]) -> list[str]:
    """Run f; which inputs it writes into."""
    watch = Watch(dict(zip(names, inputs, strict=True)))
    f(*tensors(inputs))
    return [f"the forward writes into {name}" for name in watch.changed()]


def result_casts(f: Callable[..., Any], inputs: Sequence[Any]) -> list[str]:
    """Run f; whether its results have another dtype than its inputs."""
    floats = {x.dtype for x in inputs if is_float(x)}
    dtypes = {y.dtype for y in differentiable(outputs(f, tensors(inputs)))}
    return [f"the result is {y}, and the inputs are {x}" for x in floats for y in dtypes - floats if len(floats) == 1]


def backward_writes(
    f: Callable[..., Any], inputs: Sequence[Any], wrt: Sequence[int], names: Sequence[str], u: Arrays
) -> list[str]:
    """Run f and its backward; what it writes into, and gradients that do not look like their inputs."""
    given = dict(zip(names, inputs, strict=True))
    watch = Watch({**given, **{f"the upstream gradient{i or ''}": each for i, each in enumerate(u)}})
    found = gradients(f, inputs, wrt, u)
    complaints = [f"the backward writes into {name}" for name in watch.changed()]
    for i, g in zip(wrt, found, strict=True):
        x = inputs[i]
        if g.shape != x.shape or g.dtype != x.dtype:
            complaints.append(f"the gradient of {names[i]} is {describe(g)}, and the input {describe(x)}")
    return complaints


def levels_differ(op: Op, inputs: Sequence[Any], attributes: Mapping[str, Any], wrt: Sequence[int]) -> list[str]:
    """Where reference, plain and kernel do not give the same results and gradients, in float64 and in float32."""
    if op.reference is None and not op.kernels:
        return []
    complaints = []
    for dtype, tolerance in LEVEL_AGREEMENT.items():
        xs = [x.astype(dtype, order="K") if is_float(x) else x for x in inputs]
        largest = max((np.abs(x[np.isfinite(x)]).max(initial=0) for x in xs if is_float(x)), default=0.0)
        tolerance += 4 * float(np.finfo(dtype).eps * largest)  # what rounding the inputs may do
        before: tuple[str, Arrays] | None = None
        for level in LEVELS:
            if (level == "reference" and op.reference is None) or (level == "kernel" and not op.kernels):
                continue
            with using(level):
                results = _results(lambda *a: op(*a, **attributes), xs, wrt)
            if before is not None:
                complaints += _differences(op, f"{level} and {before[0]}", results, before[1], wrt, tolerance, dtype)
            before = level, results
    return complaints


def _results(f: Callable[..., Any], inputs: Sequence[Any], wrt: Sequence[int]) -> Arrays:
    rng = np.random.default_rng(1)
    ys = [y.detach().numpy() for y in outputs(f, tensors(inputs))]
    u = [np.asarray(rng.standard_normal(y.shape)).astype(y.dtype) for y in ys if is_float(y)]
    return [*ys, *(gradients(f, inputs, wrt, u) if wrt else [])]


def _differences(
    op: Op, which: str, found: Arrays, expected: Arrays, wrt: Sequence[int], tolerance: float, dtype: np.dtype
) -> list[str]:
    first = len(found) - len(wrt)
    whats = ["result", *(f"result {k}" for k in range(1, first)), *(f"gradient of {op.input_name(i)}" for i in wrt)]
    complaints = []
    for what, a, b in zip(whats, found, expected, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            complaints.append(f"levels {which}: the {what} is {a.shape} {a.dtype} and {b.shape} {b.dtype} ({dtype})")
            continue
        largest = float(np.abs(b[np.isfinite(b)]).max(initial=1))
        if not np.allclose(a, b, rtol=tolerance, atol=tolerance * largest, equal_nan=True):
            with np.errstate(invalid="ignore"):
                worst = np.nanmax(np.abs(a - b))
            complaints.append(
                f"levels {which}: the {what} differs by {worst:.2e}, tolerance {tolerance * largest:.0e} ({dtype})"
            )
    return complaints
