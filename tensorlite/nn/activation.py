"""Functions of nn.functional as modules: made with the function's options, which have its names and defaults, and
called with its inputs. GELU("tanh")(x) is functional.gelu(x, "tanh")."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ..tensor import Tensor
from . import functional as F
from .module import Module


class Functional(Module):
    """The base of modules that are a function: its first `inputs` arguments come with the call, the options before.

    >>> class Scale(Functional, function=lambda input, factor=2: input * factor):
    ...     pass
    >>> Scale(3), Scale(3)(5)
    (Scale(factor=3), 15)
    """

    inputs = 1
    function: Callable
    options: inspect.Signature

    def __init_subclass__(cls, function: Callable | None = None):
        if function is not None:
            cls.function = staticmethod(function)
            parameters = list(inspect.signature(function).parameters.values())[cls.inputs :]
            cls.options = cls.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]

    def __init__(self, *args: Any, **options: Any):
        super().__init__()
        try:
            given = self.options.bind(*args, **options)
        except TypeError as error:
            raise TypeError(f"{type(self).__name__}: {error}; it is made with {self.options}") from None
        given.apply_defaults()
        for name, value in given.arguments.items():
            self.set_option(name, value)

    def set_option(self, name: str, value: Any) -> None:
        setattr(self, name, value)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs, **{name: getattr(self, name) for name in self.options.parameters})

    def extra_repr(self) -> str:
        options = {name: getattr(self, name) for name in self.options.parameters}
        return ", ".join(f"{name}={x!r}" for name, x in options.items() if name != "inplace" or x)


class ReLU(Functional, function=F.relu):
    """max(x, 0)"""


class LeakyReLU(Functional, function=F.leaky_relu):
    """x where it is positive, negative_slope x elsewhere."""


class ELU(Functional, function=F.elu):
    """x where it is positive, alpha (exp(x) - 1) elsewhere."""


class SiLU(Functional, function=F.silu):
    """x sigmoid(x)"""


class GELU(Functional, function=F.gelu):
    """x Φ(x); approximate="tanh" is the form GPT-2 was trained with."""


class Softplus(Functional, function=F.softplus):
    """log(1 + exp(beta x)) / beta; x itself where beta x is above the threshold."""


class Sigmoid(Functional, function=F.sigmoid):
    """1 / (1 + exp(-x))"""


class LogSigmoid(Functional, function=F.logsigmoid):
    """log(sigmoid(x)), exact in both tails."""


class Tanh(Functional, function=F.tanh):
    """(exp(x) - exp(-x)) / (exp(x) + exp(-x))"""


class Softmax(Functional, function=lambda input, dim: F.softmax(input, dim)):
    """exp(x) / sum(exp(x)) along dim."""


class LogSoftmax(Functional, function=lambda input, dim: F.log_softmax(input, dim)):
    """log(softmax(x)) along dim."""
