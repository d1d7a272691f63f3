"""Functions of one number, applied to each element."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from ..device import xp
from ..op import Analytic, Mixed, Op
from ..tensor import Tensor, attach, method

# fmt: off
negative   = Mixed("neg",          lambda x: -x,                   dx=lambda g: -g)
absolute   = Mixed("abs",          lambda x: xp(x).abs(x),         dx=lambda g, x: g * sign(x))
sign       = Mixed("sign",         lambda x: _sign(x),             dx=lambda g: masked(g, False))
exp        = Analytic("exp",       lambda x: xp(x).exp(x),         dx=lambda g, y: g * y)
exp2       = Analytic("exp2",      lambda x: xp(x).exp2(x),        dx=lambda g, y: g * y * math.log(2))
expm1      = Analytic("expm1",     lambda x: xp(x).expm1(x),       dx=lambda g, y: g * (y + 1))
log        = Analytic("log",       lambda x: xp(x).log(x),         dx=lambda g, x: g / x)
log2       = Analytic("log2",      lambda x: xp(x).log2(x),        dx=lambda g, x: g / (x * math.log(2)))
log10      = Analytic("log10",     lambda x: xp(x).log10(x),       dx=lambda g, x: g / (x * math.log(10)))
log1p      = Analytic("log1p",     lambda x: xp(x).log1p(x),       dx=lambda g, x: g / (1 + x))
sqrt       = Analytic("sqrt",      lambda x: xp(x).sqrt(x),        dx=lambda g, y: g / (2 * y))
rsqrt      = Analytic("rsqrt",     lambda x: 1 / xp(x).sqrt(x),    dx=lambda g, y: g * y * y * y * -0.5)
reciprocal = Analytic("reciprocal", lambda x: 1 / x,               dx=lambda g, y: -g * y * y)
sin        = Analytic("sin",       lambda x: xp(x).sin(x),         dx=lambda g, x: g * cos(x))
cos        = Analytic("cos",       lambda x: xp(x).cos(x),         dx=lambda g, x: -g * sin(x))
tanh       = Analytic("tanh",      lambda x: xp(x).tanh(x),        dx=lambda g, y: g * (1 - y * y))
sigmoid    = Analytic("sigmoid",   lambda x: _sigmoid(x),          dx=lambda g, y: g * y * (1 - y))
erf        = Analytic("erf",       lambda x: _erf(x),              dx=lambda g, x: g * exp(-x * x) * (2 / math.sqrt(math.pi)))
masked     = Op("masked",          lambda x, mask: _masked(x, mask),  dx=lambda g, mask: masked(g, mask),
                                   expects="floats, and a mask of booleans that broadcasts to their shape")
relu       = Mixed("relu",         lambda x: xp(x).maximum(x, 0),  dx=lambda g, y: masked(g, ~(y <= 0)))  # nan is let through

floor      = Mixed("floor",        lambda x: _whole(x, xp(x).floor),  dx=lambda g: masked(g, False))
ceil       = Mixed("ceil",         lambda x: _whole(x, xp(x).ceil),   dx=lambda g: masked(g, False))
trunc      = Mixed("trunc",        lambda x: _whole(x, xp(x).trunc),  dx=lambda g: masked(g, False))
_round     = Mixed("round",        lambda x, *, decimals: xp(x).round(x, decimals),  dx=lambda g: masked(g, False))

isnan      = Mixed("isnan",        lambda x: xp(x).isnan(x))
isinf      = Mixed("isinf",        lambda x: xp(x).isinf(x))
isfinite   = Mixed("isfinite",     lambda x: xp(x).isfinite(x))
# fmt: on

neg, abs = negative, absolute
attach(__neg__=lambda self: negative(self), __pos__=lambda self: self, __abs__=lambda self: absolute(self))
attach(neg=neg, negative=negative, abs=abs, absolute=absolute, sign=sign, exp=exp, exp2=exp2, expm1=expm1, log=log)
attach(log2=log2, log10=log10, log1p=log1p, sqrt=sqrt, rsqrt=rsqrt, reciprocal=reciprocal, sin=sin, cos=cos, tanh=tanh)
attach(sigmoid=sigmoid, erf=erf, relu=relu, floor=floor, ceil=ceil, trunc=trunc, isnan=isnan, isinf=isinf, isfinite=isfinite)


@method
def round(input: Tensor, *, decimals: int = 0) -> Tensor:
    """The nearest number with that many decimals (negative: tens, hundreds ...); half-way, the even one."""
    return _round(input, decimals=decimals)


def _sign(x: Any) -> Any:
    """-1, 0 or 1, and 0 for nan, as in PyTorch (NumPy gives nan)."""
    return x.copy() if x.dtype == bool else (x > 0).astype(x.dtype) - (x < 0)


def _whole(x: Any, rounding: Any) -> Any:
    """A rounding of floats; integers are whole already, and some versions of NumPy would make floats of them."""
    return rounding(x) if x.dtype.kind == "f" else x.copy()


def _masked(x: Any, mask: Any) -> Any:
    """x where the mask holds, 0 elsewhere, also where x is inf or nan, of which x * mask would make nan: left of 0 the
    slope of sqrt is infinite, and that of sqrt(relu(x)) is 0.

    A mask's bits are all 1 (the integer -1) or all 0. To keep x's bits by them is 8 times as fast as to choose.
    """
    if not hasattr(mask, "dtype"):
        return x.copy() if mask else xp(x).zeros_like(x)
    if x.dtype.kind != "f":
        return xp(x).where(mask, x, 0)
    bits = f"i{x.dtype.itemsize}"
    return (-mask.astype(bits) & x.view(bits)).view(x.dtype)


def _sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)). Where exp(-x) overflows, the result is the 0 that it should be. (1 + tanh(x/2)) / 2 never
    overflows, but left of 0 it takes the difference of two equal numbers: in float32 sigmoid(-20) would be 0."""
    with np.errstate(over="ignore"):
        return 1 / (1 + xp(x).exp(-x))


def _erf(x: Any) -> Any:
    """The error function, which NumPy does not have.

    For z = |x| and t = 2/(2 + z), erfc(z) = t exp(-z^2 + P(t)) with a smooth P (Numerical Recipes, 3rd ed.,
    6.2.2). P is a Chebyshev series, fitted below to math.erfc: 22 terms give float64, 11 give float32.
    Near 0, where 1 - erfc(z) would leave nothing but the rounding of 1, Taylor's series has the digits.
    It is analytic on either side of 0, so complex numbers work too, as the complex step needs.
    """
    library = xp(x)
    side = 1 - 2 * (x.real < 0).astype(x.real.dtype)  # no branch for each element, as below
    z = x * side
    z = library.where(z.real > 6, 6, z).astype(x.dtype)  # from there on erf is 1, to the last bit of float64
    t = 2 / (2 + z)
    u = (t - 0.625) / 0.375  # t from [1/4, 1] to [-1, 1]
    u2 = 2 * u
    first = second = library.zeros_like(z)
    single = x.dtype in (np.float32, np.float16)
    terms = _erf_terms(11 if single else 22)
    for c in terms[:0:-1]:  # Clenshaw's recurrence
        first, second = u2 * first - second + c, first
    z2 = z * z
    far = 1 - t * library.exp(u * first - second + terms[0] - z2)
    near = (2 / math.sqrt(math.pi)) * z * (1 - z2 * (1 / 3 - z2 * (1 / 10 - z2 * (1 / 42))))
    small = z.real < (0.25 if single else 0.03)
    return side * (_masked(near, small) + _masked(far, ~small))


@cache
def _erf_terms(count: int) -> list[float]:
    nodes = np.cos(np.pi * (np.arange(count) + 0.5) / count)
    t = 0.625 + 0.375 * nodes
    values = [math.log(math.erfc(2 / t - 2) / t) + (2 / t - 2) ** 2 for t in t.tolist()]
    return [float(c) for c in np.polynomial.chebyshev.chebfit(nodes, values, count - 1)]


__all__ = [
    "abs", "absolute", "ceil", "cos", "erf", "exp", "exp2", "expm1", "floor", "isfinite", "isinf", "isnan", "log", "log10",
    "log1p", "log2", "neg", "negative", "reciprocal", "relu", "round", "rsqrt", "sigmoid", "sign", "sin", "sqrt", "tanh",
    "trunc",
]  # fmt: skip
