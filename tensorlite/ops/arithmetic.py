"""Arithmetic: two numbers side by side. The engine broadcasts, undoes it backward, and mixes dtypes."""

from __future__ import annotations

import math
from typing import Any

from ..device import xp
from ..dtype import common, finfo, is_floating, scalar
from ..node import apply
from ..op import Analytic, Mixed, Op
from ..tensor import Tensor, array_of, attach, method
from .elementwise import abs, isfinite, isnan, log, masked, sigmoid, trunc

# fmt: off
_add      = Mixed("add",        lambda a, b: a + b,   da=lambda g: g,                  db=lambda g: g)
_subtract = Mixed("subtract",   lambda a, b: a - b,   da=lambda g: g,                  db=lambda g: -g)
multiply  = Mixed("multiply",   lambda a, b: a * b,   da=lambda g, b: g * b,           db=lambda g, a: g * a)
_divide   = Analytic("divide",  lambda a, b: a / b,   da=lambda g, b: g / b,           db=lambda g, y, b: -g * y / b)
power     = Mixed("pow",        lambda a, b: _power(a, b),
                                da=lambda g, a, b: _power_da(g, a, b),                 db=lambda g, y, a, b: _power_db(g, y, a, b))
logaddexp = Analytic("logaddexp", lambda a, b: xp(a, b).logaddexp(a, b),
                                da=lambda g, a, b: g * sigmoid(a - b),                 db=lambda g, a, b: g * sigmoid(b - a))

# a = floor(a / b) b + remainder = trunc(a / b) b + fmod: the remainder has the sign of b, fmod that of a.
floor_divide = Mixed("floor_divide", lambda a, b: a // _divisor(a, b),
                                da=lambda g: g * 0,                                    db=lambda g: g * 0)
remainder = Mixed("remainder",  lambda a, b: a % _divisor(a, b),
                                da=lambda g: g,                                        db=lambda g, a, b: -g * floor_divide(a, b))
fmod      = Mixed("fmod",       lambda a, b: xp(a, b).fmod(a, _divisor(a, b)),
                                da=lambda g: g,                                        db=lambda g, a, b: -g * trunc(a / b))

# Where two values are equal the larger (smaller) is both of them, and each gets half of the gradient.
maximum   = Mixed("maximum",    lambda a, b: xp(a, b).maximum(a, b),
                                da=lambda g, a, b: _if_larger(g, a, b),                db=lambda g, a, b: _if_larger(g, b, a))
minimum   = Mixed("minimum",    lambda a, b: xp(a, b).minimum(a, b),
                                da=lambda g, a, b: _if_larger(g, b, a),                db=lambda g, a, b: _if_larger(g, a, b))
# A bound is no operand: where x equals it, x gets the whole gradient.
clamp_min = Mixed("clamp_min",  lambda x, min: xp(x, min).maximum(x, min),
                                dx=lambda g, x, min: masked(g, ge(x, min)),            dmin=lambda g, x, min: masked(g, lt(x, min)))
clamp_max = Mixed("clamp_max",  lambda x, max: xp(x, max).minimum(x, max),
                                dx=lambda g, x, max: masked(g, le(x, max)),            dmax=lambda g, x, max: masked(g, gt(x, max)))
choose    = Mixed("where",      lambda condition, a, b: xp(condition).where(condition, a, b),
                                da=lambda g, condition: masked(g, condition),          db=lambda g, condition: masked(g, logical_not(condition)),
                                aside=("condition",), expects="a condition of booleans, and two operands that broadcast with it")

eq          = Mixed("eq",          lambda a, b: a == b)
ne          = Mixed("ne",          lambda a, b: a != b)
lt          = Mixed("lt",          lambda a, b: a < b)
le          = Mixed("le",          lambda a, b: a <= b)
gt          = Mixed("gt",          lambda a, b: a > b)
ge          = Mixed("ge",          lambda a, b: a >= b)
bitwise_and = Mixed("bitwise_and", lambda a, b: a & b)
bitwise_or  = Mixed("bitwise_or",  lambda a, b: a | b)
bitwise_xor = Mixed("bitwise_xor", lambda a, b: a ^ b)
bitwise_not = Mixed("bitwise_not", lambda x: ~x)
logical_and = Op("logical_and",    lambda a, b: xp(a, b).logical_and(a, b))
logical_or  = Op("logical_or",     lambda a, b: xp(a, b).logical_or(a, b))
logical_xor = Op("logical_xor",    lambda a, b: xp(a, b).logical_xor(a, b))
logical_not = Op("logical_not",    lambda x: xp(x).logical_not(x))
# fmt: on

mul, pow = multiply, power


def _if_larger(g: Any, a: Any, b: Any) -> Any:
    """g where a > b, half of it where they are equal, 0 where a < b: the gradient of a in max(a, b). g beside a nan."""
    return masked(g, logical_not(lt(a, b))) * where(eq(a, b), 0.5, 1.0)


def _divisor(a: Any, b: Any) -> Any:
    """b, which must not be 0 where the numbers are whole: they have no infinity to answer with."""
    kind = (a if hasattr(a, "dtype") else b).dtype.kind
    if kind == "b":
        raise TypeError("booleans cannot be divided; convert one of them first: x.int()")
    if kind in "iu" and xp(b).any(b == 0):
        raise ValueError("division of integers by zero; convert one of them first, x.float(), for inf and nan")
    return b


def _power(a: Any, b: Any) -> Any:
    # NumPy multiplies for a square but calls the C library for a cube, 50 times slower.
    return a * a * a if isinstance(b, (int, float)) and b == 3 else a**b


def _power_da(g: Any, a: Any, b: Any) -> Any:
    """d(a^b)/da = b a^(b-1); that is 0 for b = 0, also at a = 0 where a^(b-1) is infinite."""
    if isinstance(b, (int, float)):
        return g * b * a ** (b - 1) if b else masked(g, False)
    return g * where(eq(b, 0), 0.0, b * a ** where(eq(b, 0), 1.0, b - 1))


def _power_db(g: Any, y: Any, a: Any, b: Any) -> Any:
    """d(a^b)/db = a^b ln a; that is 0 at a = 0 for b >= 0, although ln a is not finite there."""
    if isinstance(a, (int, float)) and a > 0:
        return g * y * math.log(a)
    zero = logical_and(eq(a, 0), ge(b, 0))
    return g * where(zero, 0.0, y * log(where(zero, 1.0, a)))


# Arithmetic ----------------------------------------------------------------------------------------------


def add(input: Any, other: Any, *, alpha: float = 1) -> Tensor:
    """input + alpha other."""
    return _add(input, other if alpha == 1 else _times(alpha, input, other))


def subtract(input: Any, other: Any, *, alpha: float = 1) -> Tensor:
    """input - alpha other."""
    return _subtract(input, other if alpha == 1 else _times(alpha, input, other))


def _times(alpha: float, input: Any, other: Any) -> Any:
    dtype = common([array_of(input), array_of(other)])
    if isinstance(alpha, float) and not is_floating(dtype):
        raise RuntimeError(f"alpha must be a whole number, not {alpha}, where the operands are {dtype}")
    return other * alpha


def divide(input: Any, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """input / other; rounded down with rounding_mode="floor", towards 0 with "trunc". Raises OpError if integers are
    divided by 0 and rounded."""
    if rounding_mode is None:
        return _divide(input, other)
    if rounding_mode == "floor":
        return floor_divide(input, other)
    if rounding_mode != "trunc":
        raise RuntimeError(f"div: rounding_mode is None, 'floor' or 'trunc', not {rounding_mode!r}")
    if is_floating(common([array_of(input), array_of(other)])):
        return trunc(_divide(input, other))
    return floor_divide(_subtract(input, fmod(input, other)), other)


def square(input: Tensor) -> Tensor:
    """input * input."""
    return power(input, 2)


def lerp(input: Tensor, end: Tensor, weight: Any) -> Tensor:
    """On the way from input to end: weight 0 is input, 1 is end."""
    return input + (end - input) * weight


def clamp(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """input, or the bound that it is beyond; `max` where min is larger than max. Bounds are numbers or Tensors."""
    if min is None and max is None:
        raise RuntimeError("clamp: at least one of min and max must be given")
    out = input if min is None else clamp_min(input, min)
    return out if max is None else clamp_max(out, max)


# Choosing ------------------------------------------------------------------------------------------------


def where(condition: Any, input: Any = None, other: Any = None) -> Any:
    """`input` where the condition holds, `other` elsewhere; all three broadcast. With a condition alone, the places
    where it holds: `condition.nonzero(as_tuple=True)`."""
    if input is None and other is None:
        return condition.nonzero(as_tuple=True)
    if input is None or other is None:
        raise TypeError("where: expected a condition alone, or a condition and two operands")
    dtype = getattr(array_of(condition), "dtype", None)
    if dtype is not None and dtype.kind != "b":
        raise TypeError(f"where: the condition must be boolean, not {dtype}; use condition.bool()")
    return choose(condition, input, other)


@method
def masked_fill(self: Tensor, mask: Any, value: Any) -> Tensor:
    """`value` (a number or a 0-dimensional Tensor, brought to self's dtype) where the mask holds, self elsewhere.

    Raises RuntimeError for a value that the dtype cannot hold.
    """
    if array_of(mask).dtype != bool:
        raise TypeError(f"masked_fill: the mask must be boolean, not {array_of(mask).dtype}; use mask.bool()")
    if not isinstance(value, Tensor):
        return where(mask, scalar(value, self.dtype, "masked_fill"), self)
    if value.ndim:
        raise RuntimeError(f"masked_fill: the value must be a number or 0-dimensional, not of shape {value.shape}; use where")
    return where(mask, value.to(self.dtype), self)


def nan_to_num(input: Tensor, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Tensor:
    """Numbers in the place of nan, inf and -inf; without posinf and neginf, the largest and smallest of the dtype."""
    if not is_floating(input.dtype):
        return input.clone()
    limits = finfo(input.dtype)
    out = where(isnan(input), nan, input)
    out = where(eq(input, math.inf), float(limits.max) if posinf is None else posinf, out)
    return where(eq(input, -math.inf), float(limits.min) if neginf is None else neginf, out)


# Comparing -----------------------------------------------------------------------------------------------


def isclose(input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> Tensor:
    """Per element, whether |input - other| <= atol + rtol |other|. Infinities are close to themselves only; nan to nan
    with equal_nan. Raises RuntimeError if the dtypes differ, or for a negative tolerance."""
    if input.dtype != other.dtype:
        raise RuntimeError(f"isclose: {input.dtype} and {other.dtype} differ; convert one of them with .to(dtype)")
    if rtol < 0 or atol < 0:
        raise RuntimeError(f"isclose: the tolerances must not be negative; rtol is {rtol}, atol {atol}")
    a, b = input.detach(), other.detach()
    close = eq(a, b)
    if equal_nan:
        close = close | isnan(a) & isnan(b)
    if not is_floating(a.dtype):
        a, b = a.double(), b.double()  # the difference of unsigned numbers is never negative
    apart = abs(a - b)
    return close | isfinite(apart) & le(apart, atol + abs(rtol * b))


def allclose(input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> bool:
    """Whether all elements are close, as `isclose` has it."""
    return bool(isclose(input, other, rtol, atol, equal_nan).all())


def equal(input: Tensor, other: Tensor) -> bool:
    """Whether two Tensors have the same shape and the same numbers."""
    return input.shape == other.shape and bool(eq(input, other).all())


# As operators and methods --------------------------------------------------------------------------------

sub, div, true_divide, clip = subtract, divide, divide, clamp


_OPERANDS = (Tensor, float, int, complex)  # and arrays


def _operator(op: Op) -> Any:
    return lambda self, other: apply(op, (self, other), {}) if isinstance(other, _OPERANDS) or hasattr(other, "dtype") else NotImplemented


def _reflected(op: Op) -> Any:
    return lambda self, other: apply(op, (other, self), {}) if isinstance(other, _OPERANDS) or hasattr(other, "dtype") else NotImplemented


_TWO_SIDED = {
    "add": _add, "sub": _subtract, "mul": multiply, "truediv": _divide, "pow": power, "mod": remainder,
    "floordiv": floor_divide, "and": bitwise_and, "or": bitwise_or, "xor": bitwise_xor,
}
attach(**{f"__{name}__": _operator(op) for name, op in _TWO_SIDED.items()})
attach(**{f"__r{name}__": _reflected(op) for name, op in _TWO_SIDED.items()})
attach(**{f"__{op.name}__": _operator(op) for op in (eq, ne, lt, le, gt, ge)}, __invert__=lambda self: bitwise_not(self))
attach(add=add, sub=sub, mul=mul, div=div, pow=pow, subtract=subtract, multiply=multiply, divide=divide)
attach(true_divide=true_divide, floor_divide=floor_divide, remainder=remainder, fmod=fmod, square=square, lerp=lerp)
attach(maximum=maximum, minimum=minimum, clamp=clamp, clip=clip, clamp_min=clamp_min, clamp_max=clamp_max)
attach(eq=eq, ne=ne, lt=lt, le=le, gt=gt, ge=ge, isclose=isclose, allclose=allclose, equal=equal)
attach(bitwise_and=bitwise_and, bitwise_or=bitwise_or, bitwise_xor=bitwise_xor, bitwise_not=bitwise_not)
attach(logical_and=logical_and, logical_or=logical_or, logical_xor=logical_xor, logical_not=logical_not)
attach(logaddexp=logaddexp, nan_to_num=nan_to_num, where=lambda self, condition, other: where(condition, self, other))


__all__ = [
    "add", "allclose", "bitwise_and", "bitwise_not", "bitwise_or", "bitwise_xor", "clamp", "clamp_max", "clamp_min", "clip",
    "div", "divide", "eq", "equal", "floor_divide", "fmod", "ge", "gt", "isclose", "le", "lerp", "logaddexp", "logical_and",
    "logical_not", "logical_or", "logical_xor", "lt", "masked_fill", "maximum", "minimum", "mul", "multiply", "nan_to_num",
    "ne", "pow", "remainder", "square", "sub", "subtract", "true_divide", "where",
]  # fmt: skip
