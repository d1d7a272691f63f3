"""Modules that hold modules: in a row, in a list, in a dictionary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

from .module import Module


class _Numbered(Module):
    """Modules as attributes named "0", "1", "2" …"""

    def _set(self, modules: Iterable[Module]) -> Self:
        modules = list(modules)
        for name, _ in list(self._own_modules()):
            del vars(self)[name]
        for i, module in enumerate(modules):
            self.register_module(str(i), module)
        return self

    def _list(self) -> list[Module]:
        return [module for _, module in self._own_modules()]

    def append(self, module: Module) -> Self:
        self.register_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        for module in modules:
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> None:
        modules = self._list()
        modules.insert(index, module)
        self._set(modules)

    def __getitem__(self, index: Any) -> Any:
        """The module at an index; for a slice, a container of the same class with those modules."""
        found = self._list()[index]
        return type(self).__new__(type(self))._set(found) if isinstance(found, list) else found

    def __setitem__(self, index: int, module: Module) -> None:
        name, _ = list(self._own_modules())[index]
        self.register_module(name, module)

    def __delitem__(self, index: Any) -> None:
        modules = self._list()
        del modules[index]
        self._set(modules)

    def __len__(self) -> int:
        return len(self._list())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._list())


class Sequential(_Numbered):
    """Modules one after the other: each gets what the one before returned. Takes them as arguments, or one
    dictionary of names and modules."""

    def __init__(self, *modules: Any):
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, module in modules[0].items():
                self.register_module(name, module)
        else:
            self._set(modules)

    def forward(self, input: Any) -> Any:
        for _, module in self._own_modules():
            input = module(input)
        return input


class ModuleList(_Numbered):
    """A list whose modules are parts of the module that has it (those in a plain list are not)."""

    def __init__(self, modules: Iterable[Module] | None = None):
        super().__init__()
        self._set(modules or ())


class ModuleDict(Module):
    """A dictionary whose modules are parts of the module that has it (those in a plain dict are not)."""

    def __init__(self, modules: Mapping[str, Module] | None = None):
        super().__init__()
        self.update(modules or {})

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        for name, module in dict(modules).items():
            self[name] = module

    def pop(self, key: str) -> Module:
        module = self[key]
        del vars(self)[key]
        return module

    def _dict(self) -> dict[str, Module]:
        return dict(self._own_modules())

    def keys(self) -> Iterable[str]:
        return self._dict().keys()

    def values(self) -> Iterable[Module]:
        return self._dict().values()

    def items(self) -> Iterable[tuple[str, Module]]:
        return self._dict().items()

    def __getitem__(self, key: str) -> Any:
        return self._dict()[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.register_module(key, module)

    def __delitem__(self, key: str) -> None:
        self.pop(key)

    def __contains__(self, key: object) -> bool:
        return key in self._dict()

    def __len__(self) -> int:
        return len(self._dict())

    def __iter__(self) -> Iterator[str]:
        return iter(self._dict())
