"""Samples of every op, a family of ops a file, as in ../../ops. An op without samples fails the suite.

SAMPLES        op -> small samples
LARGE          op -> sizes at which kernels leave their simplest path: several blocks, and a rest
NOT_ANALYTIC   ops that are no analytic functions of complex numbers: differences instead of the complex step
NO_DERIVATIVE  ops whose results must not require a gradient

`sample` adds one for an op from elsewhere.
"""

from dataclasses import replace
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import numpy as np

from ...op import Op
from ...tensor import array_of
from .sample import S, Sample, Table

_FAMILIES = [import_module(f"{__name__}.{file.name}") for file in iter_modules(__path__) if file.name != "sample"]


def _all(name: str) -> list[Any]:
    return [item for family in _FAMILIES for item in getattr(family, name, ())]


def _named(tables: list[Table]) -> Table:
    """The samples, each with the name of its op."""
    return {op: [_of(op, sample) for sample in samples] for table in tables for op, samples in table.items()}


def _of(op: str, sample: Sample) -> Sample:
    return replace(sample, op=op, wrt=() if op in NO_DERIVATIVE else sample.wrt)


NOT_ANALYTIC: set[str] = set(_all("NOT_ANALYTIC"))
NO_DERIVATIVE: set[str] = set(_all("NO_DERIVATIVE"))
SAMPLES: Table = _named([family.SAMPLES for family in _FAMILIES])
LARGE: Table = _named([getattr(family, "LARGE", {}) for family in _FAMILIES])


def sample(op: Op, *inputs: Any, **attributes: Any) -> Sample:
    """Add a call of `op` to its samples: Tensors, float64 arrays, numbers or None, and the attributes.

    Its floating-point inputs are differentiated, those that have a derivative. Shapes should be small; among the
    samples should be a scalar, a size of 0, a broadcast, if the op takes them.
    """
    arrays = [array_of(x) for x in inputs]
    floats = [i for i, x in enumerate(arrays) if isinstance(x, np.ndarray) and x.dtype.kind == "f"]
    made = _of(op.name, S(*arrays, wrt=tuple(i for i in floats if op.plain.differentiable(i)), **attributes))
    SAMPLES.setdefault(op.name, []).append(made)
    return made


__all__ = ["LARGE", "NOT_ANALYTIC", "NO_DERIVATIVE", "SAMPLES", "Sample", "sample"]
