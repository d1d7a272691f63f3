"""Loading the parameters and buffers of a module: all of them fit, or nothing is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ..device import on
from ..tensor import Tensor, array_of, share, written


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict(strict=False)` left alone."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def load(
    own: Mapping[str, Tensor], state_dict: Mapping[str, Any], strict: bool, assign: bool, where: str
) -> IncompatibleKeys:
    """Module.load_state_dict, for the parameters and buffers `own` of the module called `where`."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"load_state_dict: expected what state_dict() returns, not {type(state_dict).__name__}")
    missing = [name for name in own if name not in state_dict]
    unexpected = [name for name in state_dict if name not in own]
    found = {name: state_dict[name] for name in own if name in state_dict}
    shapes = [
        f"{name}: {x.shape if hasattr(x, 'shape') else np.shape(x)} in the state_dict, {own[name].shape} in the module"
        for name, x in found.items()
        if (x.shape if hasattr(x, "shape") else np.shape(x)) != own[name].shape
    ]
    problems = {"of another shape": shapes}
    if strict:
        problems = {"only in the module": missing, "only in the state_dict": unexpected, **problems}
    if any(problems.values()):
        lists = ["\n    ".join([f"{what}:", *names]) for what, names in problems.items() if names]
        raise RuntimeError("\n".join([f"load_state_dict: this does not fit {where}; nothing was loaded", *lists]))
    for name, x in found.items():
        mine = own[name]
        written(mine)  # for the nodes that kept its old numbers
        if assign:
            theirs = x if isinstance(x, Tensor) else Tensor(x)
            mine.array = theirs.array
            share(mine, theirs)
        else:
            with on(mine.device):
                mine.array[...] = Tensor._of(array_of(x)).to(mine.device).array
    return IncompatibleKeys(missing, unexpected)
