"""What the user calls the Tensors of a recorded program, and where in it each op stands.

Names come from the variables at the end of the recording (`W1`, `layers[0].weight`, `model.fc.weight`), and from the
source: the value of the expression `h = (x @ W1).tanh()` is `h`, what leads to it is `h_matmul`.
"""

from __future__ import annotations

import ast
import keyword
import linecache
import re
from collections.abc import Iterator
from functools import lru_cache
from types import FrameType
from typing import Any

import numpy as np

from ..nn import Module
from ..op import Op
from ..tensor import Tensor
from .places import place_of
from .program import Call, Value
from .record import PACKAGE, Recorder

_DEEP = 3  # how far to look into lists, dictionaries and objects for Tensors
_LONG = 1000


def name_all(record: Recorder, frame: FrameType | None) -> None:
    """Give every Value of the record a name and an identifier, and every Call its place in the source."""
    variables, loops = _variables(frame)
    modules, tensors = _modules(variables), _tensors(variables, loops)
    for call in record.calls:
        call.path = _path(call.owners, modules)
    for value in record.values:
        key: Any = id(value.tensor) if value.tensor is not None else (value.call and value.call.node, value.index)
        if key in tensors:
            value.name, value.given = tensors[key], True
    for group in _groups(record.calls):
        _name_by_source(group)
    _identify(record)


# By the variables ------------------------------------------------------------------------------------------


def _variables(frame: FrameType | None) -> tuple[dict[str, Any], set[str]]:
    """The variables by name, and which are those of loops: `layer` is a bad name for the last of the `layers`."""
    if frame is None:
        return {}, set()
    loops = _loops("".join(linecache.getlines(frame.f_code.co_filename)))
    every = {**frame.f_globals, **frame.f_locals}
    return {
        name: x
        for name, x in every.items()
        if not name.startswith("_") and (name not in loops or isinstance(x, Tensor))
    }, loops


@lru_cache(maxsize=64)
def _loops(text: str) -> set[str]:
    try:
        targets = [node.target for node in ast.walk(ast.parse(text)) if isinstance(node, ast.For)]
    except SyntaxError:
        return set()
    return {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}


def _modules(variables: dict[str, Any]) -> dict[int, str]:
    """The modules by id. One that stands alone needs no name in front of its parts' names."""
    roots = {id(x): (name, x) for name, x in variables.items() if isinstance(x, Module)}
    inner = {id(m) for _, root in roots.values() for path, m in root.named_modules() if path}
    outer = [(name, root) for key, (name, root) in roots.items() if key not in inner]
    found: dict[int, str] = {}
    for name, root in outer:
        for path, module in root.named_modules():
            whole = ".".join(filter(None, [name, path]))
            found.setdefault(id(module), whole if len(outer) > 1 or not path else path)
    for name, x in _objects(variables):
        found.setdefault(id(x), name)
    return found


def _tensors(variables: dict[str, Any], loops: set[str]) -> dict[Any, str]:
    """By id for leaves, by node and output for what an op gave. Of several names the best: that of a variable, then
    that of an object's part (`layers[0].weight`), then a place in a list (`parameters[1]`)."""
    modules = _modules({name: x for name, x in variables.items() if isinstance(x, Module)})
    order = {name: i for i, name in enumerate(variables)}
    found: list[tuple[int, int, str, Any]] = []
    for name, x in _objects(variables):
        root = re.split(r"[.\[]", name)[0]
        if isinstance(x, Module):
            own = x.named_parameters, x.named_buffers
            for path, t in (pair for members in own for pair in members(recurse=False)):
                found.append((1, order.get(root, 0), f"{modules.get(id(x), name)}.{path}", id(t)))
        elif isinstance(x, Tensor):
            rank = 3 if root in loops else 0 if name in order or root not in order else 1 if "." in name else 2
            found.append((rank, order.get(root, 0), name, id(x) if x.node is None else (x.node, x.index)))
    found.sort(key=lambda each: each[:2])
    return {key: name for _, _, name, key in reversed(found)}


def _objects(variables: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What the variables hold, and what is in it: (the expression that leads there, the object)."""
    seen: set[int] = set()
    level = list(variables.items())
    for depth in range(_DEEP + 1):
        following: list[tuple[str, Any]] = []
        for name, x in level:
            if id(x) in seen:
                continue
            if not isinstance(x, Tensor):  # which may have several names, of which one is the best
                seen.add(id(x))
            if isinstance(x, Module):
                for path, module in x.named_modules():
                    if path and id(module) not in seen:
                        seen.add(id(module))
                        yield f"{name}.{path}", module
            elif depth < _DEEP:
                following += _within(name, x)
            yield name, x
        level = following


def _within(name: str, x: Any) -> list[tuple[str, Any]]:
    if isinstance(x, (list, tuple)) and len(x) <= _LONG:
        return [(f"{name}[{i}]", each) for i, each in enumerate(x)]
    if isinstance(x, dict) and len(x) <= _LONG:
        return [(_entry(name, key), each) for key, each in list(x.items()) if isinstance(key, (str, int))]
    plain = not isinstance(x, (Tensor, Op, type)) and type(x).__flags__ & 1 << 9  # made by a class statement
    if plain and hasattr(x, "__dict__") and not type(x).__module__.startswith(("tensorlite.", "_pytest")):
        return [(f"{name}.{key}", each) for key, each in list(vars(x).items()) if not key.startswith("_")]
    return []


def _entry(name: str, key: str | int) -> str:
    """A dictionary's entry: {"W1": …} gives W1 its name."""
    return key if isinstance(key, str) and key.isidentifier() else f"{name}[{key!r}]"


def _path(owners: tuple[Any, ...], modules: dict[int, str]) -> tuple[str, ...]:
    """The names of nested modules, each without that of the one around it."""
    path: list[str] = []
    around = ""
    for owner in owners:
        whole = modules.get(id(owner)) or type(owner).__name__
        path.append(whole.removeprefix(f"{around}.") if around else whole)
        around = whole
    return tuple(path)


# By the source ---------------------------------------------------------------------------------------------


def _groups(calls: list[Call]) -> Iterator[list[Call]]:
    """Ops that ran one after the other for one expression: a function of tensorlite's may run several."""
    group: list[Call] = []

    def same(a: Call, b: Call) -> bool:
        where = (a.code, a.instruction, a.frame, a.owners[:1]) == (b.code, b.instruction, b.frame, b.owners[:1])
        return where and not (a.op is b.op and a.op.name in _OPERATORS)

    for call in calls:
        if group and not same(group[-1], call):
            yield group
            group = []
        group.append(call)
    if group:
        yield group


_OPERATORS = {"add", "subtract", "multiply", "divide", "neg"}  # never part of another, so a loop runs it again


def _name_by_source(group: list[Call]) -> None:
    last = group[-1]
    place = place_of(last.code, last.instruction) if last.code is not None else None
    for call in group:
        call.file = last.code.co_filename if last.code is not None else ""
        if place is not None:
            call.line, call.expression = place.line, place.text
            call.source = linecache.getline(call.file, call.line).strip()
    if place is None:
        return
    for x, name in zip(last.inputs, place.operands if len(group) == 1 else ()):
        if isinstance(x, Value) and x.call is None and name and not x.name:
            x.name, x.given = name, True
    index = last.attributes.get("index")
    for each, name in zip(index if isinstance(index, tuple) else (index,), place.subscript):
        if name and isinstance(each, np.ndarray):
            last.constants.append((name, each))
    names = place.targets if place.whole and len(place.targets) == len(last.outputs) else ()
    for y, name in zip(last.outputs, names):
        _offer(y, name, last)
    if len(place.targets) == 1:
        for call in group:
            for y in call.outputs:
                _offer(y, f"{place.targets[0]}_{call.op.name}", call, given=False)


def _offer(y: Value, name: str, call: Call, given: bool = True) -> None:
    """A name from the source; that of a variable at the end is better."""
    if not y.name:
        y.name = ".".join([*_inside(call), name])
        y.given = given


def _inside(call: Call) -> tuple[str, ...]:
    """The modules whose own code the line is in; the outermost is not named."""
    theirs = call.code is not None and call.code.co_name in ("forward", "__call__")
    if not theirs:
        return ()
    assert call.code is not None
    path = [name for name, owner in zip(call.path, call.owners) if not _foreign(owner)]
    return tuple(path[1:])


def _foreign(owner: Any) -> bool:
    """Whether a module's code is tensorlite's, nn.Linear's say: no line of the user's stands in it."""
    function = getattr(type(owner), "forward", None) or type(owner).__call__
    return getattr(function, "__code__", owner.__class__.__init__.__code__).co_filename.startswith(PACKAGE)


# Identifiers -----------------------------------------------------------------------------------------------


_TAKEN = ("np", "math", "lens", "given", "compare", "print", "scatter_add", "put_along", "erf")  # in what is written


def _identify(record: Recorder) -> None:
    """Names that Python takes, of which no two, nor those of their gradients, are the same."""
    taken = {*_TAKEN, *keyword.kwlist}
    for value in sorted(record.values, key=lambda v: not v.given):  # the program's own names stay as they are
        if not value.name:
            value.name = "leaf" if value.needs else "data"
            if value.call is not None:
                value.name = ".".join([*value.call.path[1:], value.call.op.name])
        base = re.sub(r"\W+", "_", value.name).strip("_") or "x"
        base = base if base[0].isalpha() else f"x{base}"
        ident, k = base, 1
        while ident in taken or f"d{ident}" in taken:
            k += 1
            ident = f"{base}_{k}"
        taken |= {ident, f"d{ident}"}
        value.ident = ident
        if k > 1:
            value.name = f"{value.name}_{k}"
