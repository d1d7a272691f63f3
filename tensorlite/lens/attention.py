"""Which tokens a model looks at: the attention weights of every layer and head, which the fused op never shows."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from .. import reference
from ..mode import Hook, hooked, no_grad
from ..op import Op
from ..tensor import Tensor, array_of
from .program import numbers


class attention_maps(Hook):
    """`with lens.attention_maps() as maps: model(x)`; then `maps.weights` has an array (…, T, S) per attention.

    An array says how much query t takes of key s; each row sums to 1. Dropout is left out.

    It sees F.scaled_dot_product_attention, and a softmax over the last dimension of square scores with at least three
    dimensions, as attention written out has it.
    """

    def __init__(self) -> None:
        self.weights: list[np.ndarray] = []

    def __enter__(self) -> attention_maps:
        self._hooked: AbstractContextManager = hooked(self)
        self._hooked.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._hooked.__exit__(*error)

    def after_forward(self, op: Op, inputs: Sequence[Any], attributes: dict[str, Any], output: Any) -> None:
        if op.name == "attention":
            q, k, mask = (numbers(array_of(inputs[i])) for i in (0, 1, 3))
            # Of a value that is 1 at its own place alone, a query takes just its weight.
            places = np.broadcast_to(np.eye(k.shape[-2], dtype=q.dtype), (*k.shape[:-1], k.shape[-2]))
            with no_grad():
                self.weights.append(reference.attention(q, k, places, mask, **attributes | {"dropout_p": 0.0}))
        elif op.name == "softmax" and isinstance(output, Tensor) and output.ndim >= 3:
            last = attributes["dim"] in (-1, output.ndim - 1)
            if last and output.shape[-1] == output.shape[-2]:
                self.weights.append(np.array(numbers(output.array)))
