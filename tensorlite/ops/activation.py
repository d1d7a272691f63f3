"""What stands between the products of a network: softmax, GELU and its kin, dropout. The simplest, tanh and relu say,
are in elementwise.py. A fused op is composed of simple ones in ../reference.py, which says what it means; here is the
whole formula at once with its derivative, because that is faster and keeps less."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from .. import mode, reference
from ..device import device_of, xp
from ..dtype import HALVES
from ..op import Analytic, Op
from ..random import default_generator, keep_mask, place_kept
from ..tensor import Tensor, method
from . import elementwise
from .arithmetic import gt, maximum, minimum, where
from .elementwise import _sigmoid, exp, sigmoid, tanh
from .elementwise import erf as erf_
from .reduction import _floats_only, sum
from .shape import _place, reshape, to

F = TypeVar("F", bound=Callable)

# fmt: off
_softmax       = Analytic("softmax",     lambda x, *, dim: _exponentials(x, dim),
                                         dx=lambda g, y, dim: (g - sum(g * y, dim, True)) * y,
                                         reference=reference.softmax)
_log_softmax   = Analytic("log_softmax", lambda x, *, dim: x - _logsumexp(x, dim),
                                         dx=lambda g, y, dim: g - exp(y) * sum(g, dim, True),
                                         reference=reference.log_softmax)
_gelu          = Analytic("gelu",        lambda x, *, approximate: _gelu_tanh(x) if approximate == "tanh" else _gelu_erf(x),
                                         dx=lambda g, x, approximate: g * _gelu_slope(x, approximate),
                                         reference=reference.gelu)
_elu           = Analytic("elu",         lambda x, *, alpha: where(x > 0, x, alpha * xp(x).expm1(where(x > 0, 0, x))),
                                         dx=lambda g, x, alpha: g * where(x > 0, 1.0, alpha * exp(where(x > 0, 0.0, x))))
_silu          = Analytic("silu",        lambda x: x * _sigmoid(x),
                                         dx=lambda g, x: g * _silu_slope(x))
_swiglu        = Analytic("swiglu",      lambda gate, up: gate * _sigmoid(gate) * up,
                                         dgate=lambda g, gate, up: g * up * _silu_slope(gate),
                                         dup=lambda g, gate: g * (gate * sigmoid(gate)),
                                         reference=reference.swiglu)
_logsigmoid    = Analytic("logsigmoid",  lambda x: _log_of_sigmoid(x),
                                         dx=lambda g, x: g * sigmoid(-x))
_dropout       = Op("dropout",           lambda x, mask, *, p: x * mask * (1 / (1 - p)),
                                         dx=lambda g, mask, p: _dropout(g, mask, p=p))
# The same without a mask in memory: what is kept is drawn from a seed, in the backward again.
_seeded_dropout = Op("seeded_dropout",   lambda x, *, p, seed: x * (place_kept(x, p, seed) * x.dtype.type(1 / (1 - p))),
                                         dx=lambda g, p, seed: _seeded_dropout(g, p=p, seed=seed))
# fmt: on


def _exponentials(x: Any, dim: int) -> Any:
    e = x - x.max(axis=dim, keepdims=True)
    xp(x).exp(e, out=e)
    e /= e.sum(axis=dim, keepdims=True)
    return e


def _logsumexp(x: Any, dim: int) -> Any:
    top = x.max(axis=dim, keepdims=True)
    e = x - top
    xp(x).exp(e, out=e)
    return xp(x).log(e.sum(axis=dim, keepdims=True)) + top


_C = math.sqrt(2 / math.pi)
_A = 0.044715


def _gelu_tanh(x: Any) -> Any:
    """x/2 (1 + tanh(c (x + a x^3))), in one buffer."""
    u = xp(x).multiply(x, x, out=xp(x).empty_like(x))
    u *= _A * _C
    u += _C
    u *= x
    xp(u).tanh(u, out=u)
    u += 1
    u *= x
    u *= 0.5
    return u


def _gelu_erf(x: Any) -> Any:
    return 0.5 * x * (1 + erf_(x * math.sqrt(0.5)))


def _gelu_slope(x: Any, approximate: str) -> Any:
    """exact: Φ(x) + x φ(x).   tanh, t = tanh(c (x + a x^3)):  (1 + t)/2 + x/2 (1 - t^2) c (1 + 3 a x^2)

    Beyond ±40 both are 0 or 1 to the last bit of float64; taken there, no power of x overflows.
    """
    x = minimum(maximum(x, -40.0), 40.0)
    if approximate == "tanh":
        t = tanh(_C * (x + _A * x * x * x))
        return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * (_C * (1 + 3 * _A * x * x))
    return 0.5 * (1 + erf_(x * math.sqrt(0.5))) + x * exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))


def _silu_slope(x: Any) -> Any:
    """With s = sigmoid(x), s' = s (1 - s):  (x s)' = s + x s (1 - s)"""
    s = sigmoid(x)
    return s * (1 + x * (1 - s))


def _log_of_sigmoid(x: Any) -> Any:
    """log(1 / (1 + exp(-x))) = min(x, 0) - log(1 + exp(-|x|)), which neither overflows nor rounds to 0 in a tail."""
    library = xp(x)
    low = library.minimum(x, 0)
    return low - library.log1p(library.exp(low - library.maximum(x, 0)))


def listed_by_autocast(name: str, input: Any) -> bool:
    """Whether autocast says in which dtype a function computes."""
    casting = mode.state.autocast
    return casting is not None and casting.dtype(name, (input,)) is not None


def in_float32(function: F) -> F:
    """The same function, which computes in float32 what it is given in two bytes a number: squares and sums soon pass
    65504, where float16 ends, and bfloat16 has three digits. Where autocast lists the function the result stays so."""

    def single(x: Any) -> Any:
        return x.float() if isinstance(x, Tensor) and x.dtype in HALVES else x

    @wraps(function)
    def wide(input: Tensor, *args: Any, **options: Any) -> Tensor:
        half = isinstance(input, Tensor) and input.dtype in HALVES
        listed = listed_by_autocast(function.__name__, input)
        if not half and not listed:
            return function(input, *args, **options)
        widened = {name: single(x) for name, x in options.items()}
        y = function(single(input), *[single(x) for x in args], **widened)
        return y if listed else y.to(input.dtype)

    return wide  # type: ignore[return-value]


def _along(op: Op, input: Tensor, dim: int, dtype: Any) -> Tensor:
    """op along dim, in dtype. A number is a row of one; rows of nothing stay as they are."""
    if dim is None:
        raise TypeError(f"{op.name}: dim must be given, for instance dim=-1; PyTorch's guess of it is deprecated")
    x = input if dtype is None else to(input, dtype)
    dim = _place(dim, x.ndim, x, op.name)
    if not x.ndim:
        return reshape(op(reshape(x, 1), dim=0), ())
    return op(x, dim=dim) if x.shape[dim] else x * 1.0


def _into(input: Tensor, y: Tensor, inplace: bool) -> Tensor:
    """y, which `inplace` writes into the input."""
    return input.copy_(y) if inplace else y


@method
def softmax(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """exp(x) / sum(exp(x)) along dim; dtype: what the input is converted to first.

    PyTorch's nn.functional.softmax also guesses a dim where none is given, and warns. Here it must be given.
    """
    return _along(_softmax, input, dim, dtype)


@method
def log_softmax(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """log(softmax(x)) along dim, without overflow; as `softmax`."""
    return _along(_log_softmax, input, dim, dtype)


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0)"""
    return _into(input, elementwise.relu(input), inplace)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where it is positive, negative_slope x elsewhere. Maas, Hannun, Ng, 2013."""
    return _into(input, where(gt(input, 0), input, input * negative_slope), inplace)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where it is positive, alpha (exp(x) - 1) elsewhere. Clevert, Unterthiner, Hochreiter, 2015."""
    return _into(input, _elu(input, alpha=alpha), inplace)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """x sigmoid(x), also called swish. Elfwing, Uchibe, Doya, 2017."""
    return _into(input, _silu(input), inplace)


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up, element by element: between the two products and the third of a feed-forward layer as LLaMA's,

        down(swiglu(gate(x), up(x)))

    PyTorch has no function for it. For the backward it keeps its two inputs and nothing else. Shazeer, GLU variants
    improve Transformer, 2020.
    """
    if not isinstance(gate, Tensor):
        raise TypeError(f"swiglu: gate is a Tensor, not {type(gate).__name__}")
    return _swiglu(gate, up)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x Φ(x); approximate="tanh" is the form GPT-2 was trained with."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate is 'none' or 'tanh', not {approximate!r}")
    return _gelu(input, approximate=approximate)


def logsigmoid(input: Tensor) -> Tensor:
    """log(sigmoid(x)), exact in both tails."""
    return _logsigmoid(input)


@in_float32
def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta x)) / beta, a smooth max(x, 0); x itself where beta x is above the threshold."""
    scaled = input * beta
    return where(gt(scaled, threshold), input, -logsigmoid(-scaled) / beta)


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Each element set to 0 with probability p, the rest scaled by 1/(1-p); the input itself if not training.

    Srivastava et al., Dropout, 2014.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: p is a probability, and {p} is not between 0 and 1")
    _floats_only(input, "dropout")
    if not training or p == 0:
        return input
    if p == 1:
        return _into(input, input * 0, inplace)
    generator = default_generator(device_of(input.array))
    if generator.device.type == "cuda":
        return _into(input, _seeded_dropout(input, p=p, seed=generator.draw_seed()), inplace)
    kept = keep_mask(input.shape, p, generator)
    return _into(input, _dropout(input, kept, p=p), inplace)


__all__ = ["log_softmax", "softmax"]
