"""Parameter: a Tensor that a Module learns."""

from __future__ import annotations

from typing import Any

from ..tensor import Tensor, share


class Parameter(Tensor):
    """A Tensor that a Module learns. As an attribute of a Module it is one of its `parameters()`.

    It shares the memory of `data` if that is a Tensor.
    """

    def __init__(self, data: Any, requires_grad: bool = True):
        if isinstance(data, Tensor):
            self.array = data.array
            share(self, data)
        else:
            super().__init__(data)
        self.requires_grad = requires_grad

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()
