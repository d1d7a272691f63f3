"""Backpropagation with nothing but numbers: the whole idea on one page, slow and plain.

Every result remembers which numbers it was computed from and, for each of them, a small function: given g, how much
the end changes per change of the *result*, it says how much the end changes per change of that *input*. For y = a b,
a change of a changes y by b times as much, so what arrives at a is g b. That is the chain rule, and all of it.

    >>> a, b = Number(2.0), Number(3.0)
    >>> y = a * b + a
    >>> y.value
    8.0
    >>> y.backward()
    >>> a.grad, b.grad              # dy/da = b + 1, dy/db = a
    (4.0, 2.0)

A line through three points, found by walking downhill:

    >>> slope, height = Number(0.0), Number(0.0)
    >>> for step in range(200):
    ...     loss = sum(((slope * x + height - y) ** 2 for x, y in [(0, 1), (1, 3), (2, 5)]), Number(0.0))
    ...     slope.grad = height.grad = 0.0
    ...     loss.backward()
    ...     slope.value -= 0.1 * slope.grad
    ...     height.value -= 0.1 * height.grad
    >>> round(slope.value, 3), round(height.value, 3)
    (2.0, 1.0)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

Slope = Callable[[float], float]  # the gradient of the result -> the gradient of an input


class Number:
    """A number that remembers how it was computed.

    value    the number
    parents  what it was computed from, each with its slope; empty for a number that was simply given
    grad     d(end)/d(this), added up over all calls of backward(); only for numbers that were given
    """

    def __init__(self, value: float, *parents: tuple[Number, Slope]):
        self.value = value
        self.parents = parents
        self.grad = 0.0

    # Each line: the value, then per input the rule for its gradient.

    def __add__(self, other: Number | float) -> Number:
        a, b = self, number(other)
        return Number(a.value + b.value, (a, lambda g: g), (b, lambda g: g))

    def __sub__(self, other: Number | float) -> Number:
        a, b = self, number(other)
        return Number(a.value - b.value, (a, lambda g: g), (b, lambda g: -g))

    def __mul__(self, other: Number | float) -> Number:
        a, b = self, number(other)
        return Number(a.value * b.value, (a, lambda g: g * b.value), (b, lambda g: g * a.value))

    def __truediv__(self, other: Number | float) -> Number:
        a, b = self, number(other)
        return Number(a.value / b.value, (a, lambda g: g / b.value), (b, lambda g: -g * a.value / b.value**2))

    def __pow__(self, other: Number | float) -> Number:
        a, b = self, number(other)
        y = a.value**b.value
        return Number(
            y,
            (a, lambda g: g * b.value * a.value ** (b.value - 1)),
            (b, lambda g: g * y * math.log(a.value) if a.value > 0 else math.nan),
        )

    def exp(self) -> Number:
        y = math.exp(self.value)
        return Number(y, (self, lambda g: g * y))

    def log(self) -> Number:
        return Number(math.log(self.value), (self, lambda g: g / self.value))

    def tanh(self) -> Number:
        y = math.tanh(self.value)
        return Number(y, (self, lambda g: g * (1 - y * y)))

    def maximum(self, other: Number | float) -> Number:
        """Only the larger one matters; of two equal numbers, each gets half of the gradient."""
        a, b = self, number(other)
        share = (a.value > b.value) + (a.value == b.value) / 2
        return Number(max(a.value, b.value), (a, lambda g: g * share), (b, lambda g: g * (1 - share)))

    __radd__ = __add__
    __rmul__ = __mul__

    def __rsub__(self, other: float) -> Number:
        return number(other) - self

    def __rtruediv__(self, other: float) -> Number:
        return number(other) / self

    def __rpow__(self, other: float) -> Number:
        return number(other) ** self

    def backward(self) -> None:
        """Add d(self)/d(x) to x.grad for every x that self was computed from.

        The gradient of self by itself is 1. Whoever has its whole gradient hands each of its parents a share; a
        number that was used several times adds up its shares, since it acts on the end along every path.
        """
        gradient = {self: 1.0}
        for y in newest_first(self):
            g = gradient.pop(y)
            if not y.parents:
                y.grad += g
            for x, slope in y.parents:
                gradient[x] = gradient.get(x, 0.0) + slope(g)


def newest_first(end: Number) -> Iterable[Number]:
    """All that `end` was computed from, each number after everything that was computed from it."""
    oldest_first: list[Number] = []
    seen: set[Number] = set()

    def visit(y: Number) -> None:
        if y not in seen:
            seen.add(y)
            for x, _ in y.parents:
                visit(x)
            oldest_first.append(y)

    visit(end)
    return reversed(oldest_first)


def number(x: Number | float) -> Number:
    return x if isinstance(x, Number) else Number(x)
