"""Tensors as text, as PyTorch prints them: one format and one width for all elements, and large ones in part."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .device import move
from .dtype import DEFAULT, kind
from .tensor import Tensor


@dataclass
class Options:
    """precision: digits after the point. threshold: elements above which only edgeitems at each end of a dimension are
    shown. linewidth: characters. sci_mode: 1.0000e+00 always (True) or never (False); None decides by the numbers."""

    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None


PROFILES = {"default": Options(), "short": Options(precision=2, edgeitems=2), "full": Options(threshold=math.inf)}
_options = Options()


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """How Tensors are printed from now on; `Options` says what they mean. What is left out stays as it was, except
    sci_mode. A profile, "default", "short" or "full", is set first. Raises ValueError for another."""
    if profile is not None:
        if profile.lower() not in PROFILES:
            raise ValueError(f"set_printoptions: profile is one of {', '.join(PROFILES)}, not {profile!r}")
        vars(_options).update(vars(PROFILES[profile.lower()]))
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    vars(_options).update({name: value for name, value in given.items() if value is not None})
    _options.sci_mode = sci_mode


class _Format:
    """How each of some numbers is written."""

    def __init__(self, numbers: np.ndarray):
        self.floating = kind(numbers.dtype) == "f"
        self.spec, self.point, self.width = ".0f", ".", 1
        if not self.floating:
            self.width = max([1, *(len(str(x)) for x in numbers.reshape(-1).tolist())])
            return
        wide = numbers.astype(np.float64)
        finite = wide[np.isfinite(wide) & (wide != 0)]
        if not finite.size:
            return
        least, most = float(np.abs(finite).min()), float(np.abs(finite).max())
        scientific = _options.sci_mode
        if scientific is None:
            scientific = most / least > 1000 or most > 1e8 or least < 1e-4
        if scientific:
            self.spec, self.point = f".{_options.precision}e", ""
        elif (finite != np.ceil(finite)).any():
            self.spec, self.point = f".{_options.precision}f", ""
        self.width = max([1, *(len(format(x, self.spec) + self.point) for x in finite.tolist())])

    def __call__(self, x: Any) -> str:
        if not self.floating:
            return str(x).rjust(self.width)
        return (format(x, self.spec) + (self.point if math.isfinite(x) else "")).rjust(self.width)


class _ComplexFormat:
    def __init__(self, numbers: np.ndarray):
        self.real, self.imag = _Format(numbers.real), _Format(numbers.imag)
        self.width = self.real.width + self.imag.width + 1

    def __call__(self, x: complex) -> str:
        imag = self.imag(x.imag).lstrip()
        return f"{self.real(x.real)}{'' if imag[0] in '+-' else '+'}{imag}j"


def _edges(array: Any) -> Any:
    """The elements that are shown of an array too large to be shown whole."""
    n = _options.edgeitems
    for dim, length in enumerate(array.shape):
        if length > 2 * n:
            at = (slice(None),) * dim
            first, last = array[(*at, slice(n))], array[(*at, slice(length - n, length))]
            # One end after the other, so that of an array on a GPU only this much moves.
            array = np.concatenate([move(first, "cpu"), move(last, "cpu")], axis=dim)
    return move(array, "cpu")


def _nested(array: np.ndarray, cut: tuple[bool, ...], indent: int, form: Any) -> str:
    """The array in brackets. `cut` says of each dimension whether elements are missing in its middle."""
    if not array.ndim:
        return form(array.item())
    n = _options.edgeitems
    if array.ndim == 1:
        words = [form(x) for x in array.tolist()]
        if cut[0]:
            words[n:n] = [" ..."] if n else ["..."]
        per_line = max(1, (_options.linewidth - indent) // (form.width + 2))
        lines = [", ".join(words[i : i + per_line]) for i in range(0, len(words), per_line)]
        return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"
    rows = [_nested(row, cut[1:], indent + 1, form) for row in array]
    if cut[0]:
        rows[n:n] = ["..."]
    return "[" + ("," + "\n" * (array.ndim - 1) + " " * (indent + 1)).join(rows) + "]"


def text(x: Tensor) -> str:
    """repr(x). Looks only at the elements it shows, so it is quick for a Tensor of any size."""
    start = "tensor("
    notes = []
    if not x.array.size:
        body = "[]"
        notes += [f"size={x.shape}"] * (x.ndim != 1)
    else:
        large = x.array.size > _options.threshold
        shown = _edges(x.array) if large else move(x.array, "cpu")
        cut = tuple([large and n > 2 * _options.edgeitems for n in x.shape])
        body = _nested(shown, cut, len(start), (_ComplexFormat if shown.dtype.kind == "c" else _Format)(shown))
        notes += [f"size={x.shape}"] * (not _options.edgeitems)
    if x.is_cuda:
        notes.append(f"device='{x.device}'")
    if x.dtype != DEFAULT and not (x.array.size and x.dtype in (np.int64, np.bool_)):
        notes.append(f"dtype={x.dtype}")
    if x.node is not None:
        notes.append(f"grad_fn=<{x.node.op.name}>")
    elif x.requires_grad:
        notes.append("requires_grad=True")
    written = start + body
    column = len(written) - written.rfind("\n") + 1
    for note in notes:
        if column + len(note) + 2 > _options.linewidth:
            written, column = f"{written},\n{' ' * len(start)}{note}", len(start) + len(note)
        else:
            written, column = f"{written}, {note}", column + len(note) + 2
    return written + ")"
