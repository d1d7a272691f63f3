"""An array that remembers how it was computed, as text.

Formulas of the table work on whatever behaves like an array. Run on a Traced they compute the same numbers, and leave
the NumPy expression that does: straight, without the conditions and helper functions on the way.
"""

from __future__ import annotations

import ast
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

_BINARY = {
    "add": ast.Add, "sub": ast.Sub, "mul": ast.Mult, "truediv": ast.Div, "pow": ast.Pow, "matmul": ast.MatMult,
    "floordiv": ast.FloorDiv, "mod": ast.Mod, "and": ast.BitAnd, "or": ast.BitOr, "xor": ast.BitXor,
}  # fmt: skip
_COMPARE = {"lt": ast.Lt, "le": ast.LtE, "gt": ast.Gt, "ge": ast.GtE, "eq": ast.Eq, "ne": ast.NotEq}
_UNARY = {"neg": ast.USub, "invert": ast.Invert}

Build = Callable[..., ast.expr]  # of the syntax trees of a Term's parts


class Term:
    """A node of the expression: how to write it from its parts. A name has no parts."""

    def __init__(self, build: Build, parts: Sequence[Any] = (), name: str = "", writes: tuple[Any, Any] | None = None):
        self.build, self.parts, self.name = build, _now(parts), name  # what is written in place later is another
        self.writes = _now(writes)  # (index, value): a copy of the first part, into which that is written


def _now(x: Any) -> Any:
    """x as it is now, with everything traced that is in it."""
    if isinstance(x, (list, tuple)):
        return type(x)([_now(each) for each in x])
    if isinstance(x, Index):
        return Index(_now(x.index))
    return Traced(x.value, x.term) if isinstance(x, Traced) else x


def named(name: str) -> Term:
    return Term(lambda: ast.Name(name), name=name)


class Traced:
    """A NumPy array beside its expression."""

    __hash__ = object.__hash__

    def __init__(self, value: Any, term: Term):
        self.value, self.term = value, term

    # What it is --------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        return np.shape(self.value)

    dtype = property(lambda self: self.value.dtype)
    ndim = property(lambda self: np.ndim(self.value))
    size = property(lambda self: np.size(self.value))
    itemsize = property(lambda self: self.value.dtype.itemsize)
    flags = property(lambda self: np.asarray(self.value).flags)

    def __len__(self) -> int:
        return len(self.value)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("lens: a formula takes the numbers out of its arrays, so it cannot be written as NumPy")

    # What can be done with it ------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        if method != "__call__":
            return NotImplemented
        result = call(f"np.{ufunc.__name__}", ufunc, *inputs, **options)
        return self._into(out[0], result) if out else result

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        return call(f"np.{function.__name__}", function, *args, **options)

    @staticmethod
    def _into(out: Any, result: Traced) -> Traced:
        out.value, out.term = result.value, result.term
        return out

    def __getattr__(self, name: str) -> Any:
        if name in ("mT", "T"):
            attribute = "T" if self.ndim == 2 else name
            return Traced(getattr(self.value, name), Term(lambda x: ast.Attribute(x, attribute), [self]))
        if name.startswith("__") or not callable(getattr(np.ndarray, name, None)):
            raise AttributeError(name)

        def method(*args: Any, **options: Any) -> Traced:
            def build(x: ast.expr, *rest: ast.expr) -> ast.expr:
                return _call(ast.Attribute(x, name), rest, len(args), options)

            raw = getattr(self.value, name)(*strip(args), **strip(options))
            return Traced(raw, Term(build, [self, *args, *options.values()]))

        return method

    def __getitem__(self, index: Any) -> Traced:
        return Traced(self.value[strip(index)], Term(_subscript, [self, Index(index)]))

    def __setitem__(self, index: Any, value: Any) -> None:
        written = np.array(self.value)
        written[strip(index)] = strip(value)
        self.value, self.term = written, Term(lambda x: x, [Traced(self.value, self.term)], writes=(index, value))


class Index:
    """Something between square brackets."""

    def __init__(self, index: Any):
        self.index = index


def strip(x: Any) -> Any:
    """Values in the place of Traced ones."""
    if isinstance(x, Traced):
        return x.value
    if isinstance(x, Index):
        return strip(x.index)
    if isinstance(x, (tuple, list)):
        return type(x)([strip(each) for each in x])
    return {key: strip(each) for key, each in x.items()} if isinstance(x, dict) else x


def call(name: str, function: Callable, *args: Any, **options: Any) -> Any:
    """`function` on the values, written as a call of `name`."""

    def build(*parts: ast.expr) -> ast.expr:
        return _call(ast.parse(name, mode="eval").body, parts, len(args), options)

    return Traced(function(*strip(args), **strip(options)), Term(build, [*args, *options.values()]))


def _call(function: ast.expr, parts: Any, count: int, options: dict[str, Any]) -> ast.expr:
    return ast.Call(
        function, list(parts[:count]), [ast.keyword(k, p) for k, p in zip(options, parts[count:], strict=True)]
    )


def template(text: str, value: Any, *parts: Any) -> Traced:
    """The expression `text`, in which _0, _1 … stand for the parts."""

    def build(*trees: ast.expr) -> ast.expr:
        class Put(ast.NodeTransformer):
            def visit_Name(self, node: ast.Name) -> ast.AST:
                return trees[int(node.id[1:])] if node.id[0] == "_" and node.id[1:].isdigit() else node

        return Put().visit(ast.parse(text, mode="eval").body)

    return Traced(value, Term(build, list(parts)))


def _subscript(x: ast.expr, index: ast.expr) -> ast.expr:
    return ast.Subscript(x, index)


def _operators() -> None:
    def binary(name: str, kind: type[ast.operator]) -> None:
        forward = getattr(np.ndarray, f"__{name}__")

        def apply(self: Any, other: Any) -> Any:
            return Traced(
                forward(np.asarray(self.value), strip(other)),
                Term(lambda a, b: ast.BinOp(a, kind(), b), [self, other]),
            )

        def reflected(self: Any, other: Any) -> Any:
            value = forward(np.asarray(other, None if hasattr(other, "dtype") else self.value.dtype), self.value)
            return Traced(value, Term(lambda a, b: ast.BinOp(a, kind(), b), [other, self]))

        setattr(Traced, f"__{name}__", apply)
        setattr(Traced, f"__r{name}__", reflected)
        setattr(Traced, f"__i{name}__", lambda self, other: self._into(self, apply(self, other)))

    def compare(name: str, kind: type[ast.cmpop]) -> None:
        def apply(self: Any, other: Any) -> Any:
            value = getattr(np.asarray(self.value), f"__{name}__")(strip(other))
            return Traced(value, Term(lambda a, b: ast.Compare(a, [kind()], [b]), [self, other]))

        setattr(Traced, f"__{name}__", apply)

    def unary(name: str, kind: type[ast.unaryop]) -> None:
        def apply(self: Any) -> Any:
            value = getattr(np.asarray(self.value), f"__{name}__")()
            return Traced(value, Term(lambda a: ast.UnaryOp(kind(), a), [self]))

        setattr(Traced, f"__{name}__", apply)

    for name, operator in _BINARY.items():
        binary(name, operator)
    for name, comparison in _COMPARE.items():
        compare(name, comparison)
    for name, sign in _UNARY.items():
        unary(name, sign)


_operators()


# Writing it down -------------------------------------------------------------------------------------------


class Writer:
    """Turns terms into lines `name = expression`. What is used twice gets a name of its own.

    constant  gives a name to an array that stands in a formula
    fresh     makes a name for a step in between from the target's
    """

    def __init__(self, constant: Callable[[Any], str], fresh: Callable[[str], str]):
        self.constant, self.fresh = constant, fresh

    def lines(self, targets: list[tuple[str, Any]]) -> Iterator[str]:
        """The assignments that give each target its expression."""
        uses = Counter[Term]()
        for _, x in targets:
            _count(x, uses)
        done: dict[Term, str] = {}
        for name, x in targets:
            lines: list[str] = []
            if isinstance(x, Traced) and x.term not in done and x.term.writes is None:
                tree = x.term.build(*[self._tree(part, name, uses, done, lines) for part in x.term.parts])
                if not x.term.name:
                    done[x.term] = name
            else:
                tree = self._tree(x, name, uses, done, lines)
            yield from lines
            yield f"{name} = {_text(tree)}"

    def _tree(self, x: Any, target: str, uses: Counter[Term], done: dict[Term, str], lines: list[str]) -> ast.expr:
        if isinstance(x, Index):
            return self._index(x.index, target, uses, done, lines)
        if isinstance(x, (tuple, list)):
            kind = ast.Tuple if isinstance(x, tuple) else ast.List
            return kind([self._tree(each, target, uses, done, lines) for each in x], ast.Load())
        if isinstance(x, slice):
            return ast.parse(repr(x), mode="eval").body
        if not isinstance(x, Traced):
            return self._literal(x)
        term = x.term
        if term in done:
            return ast.Name(done[term])
        tree = term.build(*[self._tree(part, target, uses, done, lines) for part in term.parts])
        if term.writes is not None or (uses[term] > 1 and not term.name):
            name = self.fresh(target)
            lines.append(f"{name} = {_text(tree)}")
            if term.writes is not None:
                lines[-1] += ".copy()" if isinstance(tree, ast.Name) else ""
                where = self._index(term.writes[0], target, uses, done, lines)
                value = self._tree(term.writes[1], target, uses, done, lines)
                lines.append(f"{name}[{_bare(where)}] = {_text(value)}")
            done[term] = name
            return ast.Name(name)
        return tree

    def _index(self, index: Any, target: str, uses: Any, done: Any, lines: list[str]) -> ast.expr:
        if isinstance(index, tuple):
            parts = [self._index(each, target, uses, done, lines) for each in index]
            return ast.Tuple(parts, ast.Load())
        if isinstance(index, slice):
            ends = [None if i is None else ast.Constant(i) for i in (index.start, index.stop, index.step)]
            return ast.Slice(*ends)
        return self._tree(index, target, uses, done, lines)

    def _literal(self, x: Any) -> ast.expr:
        if isinstance(x, np.ndarray) and x.ndim:
            return ast.Name(self.constant(x))
        if isinstance(x, (np.generic, np.ndarray)):
            x = x.item()
        if isinstance(x, np.dtype) or (isinstance(x, type) and issubclass(x, np.generic)):
            return ast.parse(f"np.{np.dtype(x).name}", mode="eval").body
        if isinstance(x, float) and not math.isfinite(x):
            return ast.parse("np.nan" if math.isnan(x) else "np.inf" if x > 0 else "-np.inf", mode="eval").body
        if isinstance(x, range):
            return ast.parse(f"np.arange({x.start}, {x.stop}, {x.step})".replace(", 1)", ")"), mode="eval").body
        if x is bool:
            return ast.Name("bool")
        return ast.parse(repr(x), mode="eval").body


def _count(x: Any, uses: Counter[Term]) -> None:
    """How often each term is used, by loops: an expression may be deeper than Python's stack is."""
    stack = [x]
    while stack:
        each = stack.pop()
        if isinstance(each, (tuple, list)):
            stack += each
        elif isinstance(each, Index):
            stack.append(each.index)
        elif isinstance(each, Traced):
            uses[each.term] += 1
            if uses[each.term] == 1:
                stack += [*each.term.parts, *(each.term.writes or ())]


def _text(tree: ast.expr) -> str:
    return ast.unparse(ast.fix_missing_locations(tree))


def _bare(index: ast.expr) -> str:
    text = _text(index)
    return text[1:-1] if isinstance(index, ast.Tuple) and index.elts and not text.endswith(",)") else text
