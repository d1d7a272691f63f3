"""Arithmetic: two numbers side by side. The engine broadcasts, undoes it backward, and mixes dtypes."""

from __future__ import annotations

import math
from typing import Any

from ..device import xp
from ..op import Analytic, Mixed, Op
from ..tensor import Tensor, array_of, attach, method
from .elementwise import log

# fmt: off
add      = Mixed("add",         lambda a, b: a + b,   da=lambda g: g,                  db=lambda g: g)
subtract = Mixed("subtract",    lambda a, b: a - b,   da=lambda g: g,                  db=lambda g: -g)
multiply = Mixed("multiply",    lambda a, b: a * b,   da=lambda g, b: g * b,           db=lambda g, a: g * a)
divide   = Analytic("divide",   lambda a, b: a / b,   da=lambda g, b: g / b,           db=lambda g, y, b: -g * y / b)
power    = Mixed("pow",         lambda a, b: _power(a, b),
                                da=lambda g, a, b: _power_da(g, a, b),                 db=lambda g, y, a, b: _power_db(g, y, a, b))

# Where two values are equal the larger (smaller) is both of them, and each gets half of the gradient.
maximum  = Mixed("maximum",     lambda a, b: xp(a).maximum(a, b),
                                da=lambda g, a, b: g * _wins(a, b),                    db=lambda g, a, b: g * _wins(b, a))
minimum  = Mixed("minimum",     lambda a, b: xp(a).minimum(a, b),
                                da=lambda g, a, b: g * _wins(b, a),                    db=lambda g, a, b: g * _wins(a, b))
choose   = Mixed("where",       lambda condition, a, b: xp(condition).where(condition, a, b),
                                da=lambda g, condition: where(condition, g, 0),        db=lambda g, condition: where(condition, 0, g),
                                aside=("condition",), expects="a condition of booleans, and two operands that broadcast with it")

floor_divide  = Mixed("floor_divide", lambda a, b: a // b)
remainder     = Mixed("remainder",    lambda a, b: a % b,   da=lambda g: g,            db=lambda g, a, b: -g * floor_divide(a, b))

eq          = Mixed("eq",          lambda a, b: a == b)
ne          = Mixed("ne",          lambda a, b: a != b)
lt          = Mixed("lt",          lambda a, b: a < b)
le          = Mixed("le",          lambda a, b: a <= b)
gt          = Mixed("gt",          lambda a, b: a > b)
ge          = Mixed("ge",          lambda a, b: a >= b)
bitwise_and = Mixed("bitwise_and", lambda a, b: a & b)
bitwise_or  = Mixed("bitwise_or",  lambda a, b: a | b)
bitwise_not = Mixed("bitwise_not", lambda x: ~x)
logical_and = Op("logical_and",    lambda a, b: xp(a).logical_and(a, b))
logical_or  = Op("logical_or",     lambda a, b: xp(a).logical_or(a, b))
logical_not = Op("logical_not",    lambda x: xp(x).logical_not(x))
# fmt: on

sub, mul, div, pow = subtract, multiply, divide, power


def where(condition: Any, input: Any = None, other: Any = None) -> Any:
    """`input` where the condition holds, `other` elsewhere; all three broadcast. Alone, where a condition holds: a
    vector of indices per dimension."""
    if input is None and other is None:
        return condition.nonzero(as_tuple=True)
    dtype = getattr(array_of(condition), "dtype", None)
    if dtype is not None and dtype.kind != "b":
        raise TypeError(f"where: the condition must be boolean, not {dtype}; use condition.bool()")
    return choose(condition, input, other)


def _wins(a: Any, b: Any) -> Any:
    """1 where a > b, 1/2 where they are equal, 0 elsewhere: the derivative of max(a, b) by a."""
    return where(gt(a, b), 1.0, where(eq(a, b), 0.5, 0.0))


def _power(a: Any, b: Any) -> Any:
    # NumPy multiplies for a square but calls the C library for a cube, 50 times slower.
    return a * a * a if isinstance(b, (int, float)) and b == 3 else a**b


def _power_da(g: Any, a: Any, b: Any) -> Any:
    """d(a^b)/da = b a^(b-1); that is 0 for b = 0, also at a = 0 where a^(b-1) is infinite."""
    if isinstance(b, (int, float)):
        return g * b * a ** (b - 1) if b else g * 0
    return g * where(eq(b, 0), 0.0, b * a ** where(eq(b, 0), 1.0, b - 1))


def _power_db(g: Any, y: Any, a: Any, b: Any) -> Any:
    """d(a^b)/db = a^b ln a; that is 0 at a = 0 for b >= 0, although ln a is not finite there."""
    if isinstance(a, (int, float)) and a > 0:
        return g * y * math.log(a)
    zero = logical_and(eq(a, 0), ge(b, 0))
    return g * where(zero, 0.0, y * log(where(zero, 1.0, a)))


def _operator(op: Op) -> Any:
    return lambda self, other: op(self, other)


def _reflected(op: Op) -> Any:
    return lambda self, other: op(other, self)


_TWO_SIDED = {
    "add": add, "sub": subtract, "mul": multiply, "truediv": divide, "pow": power, "mod": remainder,
    "floordiv": floor_divide, "and": bitwise_and, "or": bitwise_or,
}
attach(**{f"__{name}__": _operator(op) for name, op in _TWO_SIDED.items()})
attach(**{f"__r{name}__": _reflected(op) for name, op in _TWO_SIDED.items()})
attach(**{f"__{op.name}__": _operator(op) for op in (eq, ne, lt, le, gt, ge)}, __invert__=lambda self: bitwise_not(self))
attach(add=add, sub=sub, mul=mul, div=div, pow=pow, subtract=subtract, multiply=multiply, divide=divide)
attach(maximum=maximum, minimum=minimum, remainder=remainder, floor_divide=floor_divide)
attach(eq=eq, ne=ne, lt=lt, le=le, gt=gt, ge=ge)
attach(bitwise_and=bitwise_and, bitwise_or=bitwise_or, bitwise_not=bitwise_not)
attach(logical_and=logical_and, logical_or=logical_or, logical_not=logical_not)


@method
def masked_fill(self: Tensor, mask: Any, value: Any) -> Tensor:
    """`value` where the mask holds, self elsewhere; the mask broadcasts to self's shape."""
    if array_of(mask).dtype != bool:
        raise TypeError(f"masked_fill: the mask must be boolean, not {array_of(mask).dtype}; use mask.bool()")
    return where(mask, value, self)


__all__ = [
    "add", "bitwise_and", "bitwise_not", "bitwise_or", "div", "divide", "eq", "floor_divide", "ge", "gt", "le",
    "logical_and", "logical_not", "logical_or", "lt", "masked_fill", "maximum", "minimum", "mul", "multiply", "ne",
    "pow", "remainder", "sub", "subtract", "where",
]  # fmt: skip
