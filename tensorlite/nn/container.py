"""Modules that hold modules, or parameters: in a row, in a list, in a dictionary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any, Self

from ..tensor import Tensor
from .module import Module
from .parameter import Parameter


class _Container(Module):
    """Parts of one kind, as attributes."""

    _kind: type = Module

    def _put(self, name: str, part: Any) -> None:
        self._define(name, part, Module)

    def _dict(self) -> dict[str, Any]:
        return dict(self._own(self._kind))

    def _clear(self) -> None:
        for name in self._dict():
            delattr(self, name)

    def __len__(self) -> int:
        return len(self._dict())


class _Numbered(_Container):
    """A list: the attributes are named "0", "1", "2" …"""

    def _set(self, parts: Iterable[Any]) -> Self:
        parts = list(parts)
        self._clear()
        return self.extend(parts)

    def _list(self) -> list[Any]:
        return list(self._dict().values())

    def append(self, module: Any) -> Self:
        self._put(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Any]) -> Self:
        for module in list(modules):
            self.append(module)
        return self

    __iadd__ = extend

    def __add__(self, other: Iterable[Any]) -> Self:
        return self[:].extend(other)

    def insert(self, index: int, module: Any) -> None:
        parts = self._list()
        parts.insert(index, module)
        self._set(parts)

    def pop(self, key: int = -1) -> Any:
        part = self[key]
        del self[key]
        return part

    def __getitem__(self, index: Any) -> Any:
        """The part at an index; for a slice, a container of the same class with those parts."""
        if not isinstance(index, slice):
            return self._list()[index]
        part = self._empty()
        for i, (_, module) in enumerate(list(self._dict().items())[index]):
            part._put(str(i), module)
        return part

    def _empty(self) -> Self:
        twin = type(self).__new__(type(self))
        Module.__init__(twin)  # a subclass's own __init__ may want arguments
        return twin

    def __setitem__(self, index: int, module: Any) -> None:
        self._put(list(self._dict())[index], module)

    def __delitem__(self, index: Any) -> None:
        parts = self._list()
        del parts[index]
        self._set(parts)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._list())

    def _parts_repr(self) -> list[str]:
        """Equal ones that follow each other are shown once."""
        lines = []
        for text, alike in groupby(self._dict().items(), lambda part: _show(part[1])):
            names = [name for name, _ in alike]
            label = f"({names[0]}-{names[-1]}): {len(names)} x" if len(names) > 1 else f"({names[0]}):"
            lines.append(f"{label} {text}")
        return lines


class Sequential(_Numbered):
    """Modules one after the other: each gets what the one before returned. Takes them as arguments, or one
    dictionary of names and modules."""

    def __init__(self, *args: Any):
        super().__init__()
        if len(args) == 1 and isinstance(args[0], Mapping):
            for name, module in args[0].items():
                self._put(name, module)
        else:
            self._set(args)

    def __getitem__(self, index: Any) -> Any:
        """As of a list, but the modules of a slice keep their names."""
        if not isinstance(index, slice):
            return super().__getitem__(index)
        part = self._empty()
        for name, module in list(self._dict().items())[index]:
            part._put(name, module)
        return part

    def forward(self, input: Any) -> Any:
        for _, module in self._own(Module):
            input = module(input)
        return input

    _parts_repr = Module._parts_repr


class ModuleList(_Numbered):
    """A list whose modules are parts of the module that has it (those in a plain list are not)."""

    def __init__(self, modules: Iterable[Module] | None = None):
        super().__init__()
        self._set(modules or ())


class ParameterList(_Numbered):
    """A list whose parameters are parameters of the module that has it; Tensors become Parameters."""

    _kind = Parameter

    def __init__(self, values: Iterable[Any] | None = None):
        super().__init__()
        self._set(values or ())

    def _put(self, name: str, part: Any) -> None:
        self._define(name, _parameter(part), Parameter)


class _Mapping(_Container):
    """A dictionary: the attributes are named by its keys."""

    def update(self, modules: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> None:
        items = modules.items() if isinstance(modules, (Mapping, _Mapping)) else modules
        for name, part in items:
            self[name] = part

    def pop(self, key: str) -> Any:
        part = self[key]
        delattr(self, key)
        return part

    def clear(self) -> None:
        self._clear()

    def get(self, key: str, default: Any = None) -> Any:
        return self._dict().get(key, default)

    def keys(self) -> Iterable[str]:
        return self._dict().keys()

    def values(self) -> Iterable[Any]:
        return self._dict().values()

    def items(self) -> Iterable[tuple[str, Any]]:
        return self._dict().items()

    def __getitem__(self, key: str) -> Any:
        return self._dict()[key]

    def __setitem__(self, key: str, module: Any) -> None:
        self._put(key, module)

    def __delitem__(self, key: str) -> None:
        self.pop(key)

    def __contains__(self, key: object) -> bool:
        return key in self._dict()

    def __iter__(self) -> Iterator[str]:
        return iter(self._dict())

    def _parts_repr(self) -> list[str]:
        return [f"({name}): {_show(part)}" for name, part in self._dict().items()]


class ModuleDict(_Mapping):
    """A dictionary whose modules are parts of the module that has it (those in a plain dict are not)."""

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] | None = None):
        super().__init__()
        self.update(modules or {})


class ParameterDict(_Mapping):
    """A dictionary whose parameters are parameters of the module that has it; Tensors become Parameters."""

    _kind = Parameter

    def __init__(self, parameters: Any = None):
        super().__init__()
        self.update(parameters or {})

    def _put(self, name: str, part: Any) -> None:
        self._define(name, _parameter(part), Parameter)


def _parameter(x: Any) -> Any:
    return Parameter(x) if isinstance(x, Tensor) and not isinstance(x, Parameter) else x


def _show(part: Any) -> str:
    """A module as it is, of a parameter only dtype and shape."""
    if isinstance(part, Parameter):
        return f"Parameter containing: [{part.dtype} of size {'x'.join(map(str, part.shape))}]"
    return repr(part)
