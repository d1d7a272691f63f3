"""Module: a computation that owns parameters, and may be made of other modules.

There is no registry. A Parameter, a buffer or a Module is an ordinary attribute, found by looking through
`vars(self)`, in the order of definition. So reading one costs what Python's attributes cost, replacing one
replaces it, and what you see in the debugger is all there is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np

from ..autograd import Handle
from ..dtype import is_floating
from ..tensor import Tensor, array_of, share, written
from .utils import clear_gradients

M = TypeVar("M")


class Parameter(Tensor):
    """A Tensor that a Module learns. As an attribute of a Module it is one of its `parameters()`.

    It shares the memory of `data` if that is a Tensor.
    """

    def __init__(self, data: Any, requires_grad: bool = True):
        if isinstance(data, Tensor):
            self.array = data.array
            share(self, data)
        else:
            super().__init__(data)
        self.requires_grad = requires_grad

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict(strict=False)` left alone."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """The base class of everything with parameters: define them in `__init__`, and `forward`; call the instance.

        >>> class Scale(Module):
        ...     def __init__(self, width):
        ...         super().__init__()
        ...         self.weight = Parameter([1.0] * width)
        ...
        ...     def forward(self, x):
        ...         return x * self.weight
        >>> [name for name, _ in Scale(3).named_parameters()]
        ['weight']

    training  whether dropout drops: set for a module and all within it by `train()` and `eval()`
    """

    # Defaults on the class: there is nothing that __init__ must do, so forgetting super().__init__() is no error.
    training: bool = True
    _buffers: Mapping[str, bool] = {}  # the names of buffers -> whether they belong to the state_dict
    _pre_hooks: list[Callable] | tuple[()] = ()
    _hooks: list[Callable] | tuple[()] = ()

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        if not (self._hooks or self._pre_hooks):
            return self.forward(*inputs, **options)
        for hook in tuple(self._pre_hooks):
            changed = hook(self, inputs)
            if changed is not None:
                inputs = changed if isinstance(changed, tuple) else (changed,)
        output = self.forward(*inputs, **options)
        for hook in tuple(self._hooks):
            changed = hook(self, inputs, output)
            output = output if changed is None else changed
        return output

    def _no_forward(self, *inputs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no forward(); define there what it computes")

    forward: Callable[..., Any] = _no_forward  # not a def, so that subclasses may choose their arguments

    # What it is made of ----------------------------------------------------------------------------

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """The same as `self.name = param`."""
        self._define(name, param, Parameter)

    def register_module(self, name: str, module: Module | None) -> None:
        """The same as `self.name = module`, also for names that are not Python's."""
        self._define(name, module, Module)

    add_module = register_module

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """A Tensor that is not learned but moves with the module: a mask, a running mean.

        persistent  whether it belongs to the `state_dict`
        """
        self._define(name, tensor, Tensor)
        self._buffers = {**self._buffers, name: persistent}

    def _define(self, name: str, member: Any, kind: type) -> None:
        if member is not None and not isinstance(member, kind):
            raise TypeError(f"{name!r} of {type(self).__name__} must be a {kind.__name__}, not {type(member).__name__}")
        if not name or "." in name:
            raise KeyError(f"{name!r} cannot name a part of {type(self).__name__}: a name is not empty and has no dot")
        if hasattr(self, name) and not (name in vars(self) and isinstance(vars(self)[name], kind | None)):
            raise KeyError(f"{type(self).__name__} already has an attribute {name!r}; choose another name")
        vars(self)[name] = member

    def _own_parameters(self) -> Iterator[tuple[str, Parameter]]:
        return ((name, x) for name, x in vars(self).items() if isinstance(x, Parameter))

    def _own_buffers(self) -> Iterator[tuple[str, Tensor]]:
        return ((name, x) for name in self._buffers if isinstance(x := vars(self).get(name), Tensor))

    def _own_modules(self) -> Iterator[tuple[str, Module]]:
        return ((name, x) for name, x in vars(self).items() if isinstance(x, Module))

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly within, each once."""
        return _once(self._own_modules(), True)

    def children(self) -> Iterator[Module]:
        return (module for _, module in self.named_children())

    def named_modules(self, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """Itself, under the name `prefix`, and all modules within; each once, unless remove_duplicate=False."""
        return _once(self._tree(prefix), remove_duplicate)

    def _tree(self, path: str) -> Iterator[tuple[str, Module]]:
        yield path, self
        for name, module in self._own_modules():
            yield from module._tree(_join(path, name))

    def modules(self) -> Iterator[Module]:
        return (module for _, module in self.named_modules())

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Its parameters and (recurse) those of all modules within. A shared one appears once, under its first
        name, unless remove_duplicate=False."""
        return self._members(Module._own_parameters, prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        return self._members(Module._own_buffers, prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def _members(
        self, own: Callable[[Module], Iterator[tuple[str, M]]], prefix: str, recurse: bool, once: bool
    ) -> Iterator[tuple[str, M]]:
        modules = self.named_modules(prefix, once) if recurse else [(prefix, self)]
        return _once(((_join(path, name), x) for path, module in modules for name, x in own(module)), once)

    def get_submodule(self, target: str) -> Module:
        """The module at a path such as "h.0.attn"; itself for "". Raises AttributeError if there is none."""
        return self if not target else self._get(target, Module)

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at a path such as "h.0.attn.weight". Raises AttributeError if there is none."""
        return self._get(target, Parameter)

    def get_buffer(self, target: str) -> Tensor:
        """The buffer at a path. Raises AttributeError if there is none."""
        return self._get(target, Tensor)

    def _get(self, target: str, kind: type[M]) -> M:
        found: Any = self
        for name in target.split("."):
            if name not in vars(found) or not isinstance(vars(found)[name], Module | kind):
                raise AttributeError(f"{type(found).__name__} has no {name!r}, looked for in {target!r}")
            found = vars(found)[name]
        if not isinstance(found, kind):
            raise AttributeError(f"{target!r} is a {type(found).__name__}, not a {kind.__name__}")
        return found

    # Switches --------------------------------------------------------------------------------------

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """fn(module) for every module within, then for itself."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def train(self, mode: bool = True) -> Self:
        """Training (True) or evaluating (False), for itself and all modules within."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Whether its parameters shall get gradients: False freezes them."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of its parameters."""
        clear_gradients(self.parameters(), set_to_none)

    # Where and what its numbers are ----------------------------------------------------------------

    def to(self, *args: Any, dtype: Any = None, device: Any = None) -> Self:
        """Move parameters and buffers to a device, or to a floating dtype, or both: `.to("cuda")`, `.to(float64)`.

        The Parameter objects stay the same, so an optimiser that has them keeps working (its own state stays
        where it is). Integer and boolean buffers keep their dtype. Raises TypeError for a dtype not floating.
        """
        if not is_floating(Tensor._of(np.empty(0, np.float32)).to(*args, dtype=dtype).dtype):
            raise TypeError(f"to: a module's numbers are floating; it cannot be turned into {dtype or args}")

        def convert(x: Tensor) -> Tensor:
            moved = x.to(*args, dtype=dtype, device=device)
            return moved if is_floating(x.dtype) else x.to(moved.device)

        for member in (*self.parameters(), *self.buffers()):
            array = convert(member.detach()).array
            if array is not member.array:
                member.array = array
                written(member)
            if member.grad is not None:
                member.grad = convert(member.grad.detach())
        return self

    def float(self) -> Self:
        return self.to(np.dtype("float32"))

    def double(self) -> Self:
        return self.to(np.dtype("float64"))

    def half(self) -> Self:
        return self.to(np.dtype("float16"))

    def cpu(self) -> Self:
        return self.to("cpu")

    def cuda(self, device: int = 0) -> Self:
        return self.to(f"cuda:{device}")

    # Its state -------------------------------------------------------------------------------------

    def _state(self, prefix: str = "") -> dict[str, Tensor]:
        """Its parameters and persistent buffers, the Tensors themselves, under every name they have."""
        state: dict[str, Tensor] = {}
        for path, module in self.named_modules(prefix, remove_duplicate=False):
            kept = [(name, x) for name, x in module._own_buffers() if module._buffers[name]]
            state |= {_join(path, name): x for name, x in (*module._own_parameters(), *kept)}
        return state

    def state_dict(self, *, prefix: str = "") -> dict[str, Tensor]:
        """Name -> Tensor of all parameters and persistent buffers, in order of definition.

        The Tensors share memory with the module: what trains on changes them; copy what shall stay. A
        parameter that is shared appears under each of its names.
        """
        return {name: x.detach() for name, x in self._state(prefix.removesuffix(".")).items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Copy numbers (Tensors or arrays) into the parameters and buffers of the same names.

        strict  whether every name must be on both sides; else those that are not are left alone and returned

        Raises RuntimeError that lists all names and shapes that do not fit; then nothing has been copied.
        """
        own = self._state()
        missing = [name for name in own if name not in state_dict]
        unexpected = [name for name in state_dict if name not in own]
        found = {name: array_of(state_dict[name]) for name in own if name in state_dict}
        shapes = [
            f"{name}: {np.shape(array)} in the state_dict, {own[name].shape} in the module"
            for name, array in found.items()
            if np.shape(array) != own[name].shape
        ]
        problems = {"of another shape": shapes}
        if strict:
            problems = {"only in the module": missing, "only in the state_dict": unexpected, **problems}
        if any(problems.values()):
            lists = ["\n    ".join([f"{what}:", *names]) for what, names in problems.items() if names]
            raise RuntimeError(
                "\n".join([f"load_state_dict: this does not fit {type(self).__name__}; nothing was loaded", *lists])
            )
        for name, array in found.items():
            own[name].array[...] = Tensor._of(array).to(own[name].device).array
            written(own[name])
        return IncompatibleKeys(missing, unexpected)

    # Hooks and words -------------------------------------------------------------------------------

    def register_forward_pre_hook(self, hook: Callable[[Module, tuple], Any]) -> Handle:
        """Call hook(module, inputs) before `forward`; what it returns, if anything, replaces the inputs.
        Returns a handle with `remove()`."""
        return self._hook("_pre_hooks", hook)

    def register_forward_hook(self, hook: Callable[[Module, tuple, Any], Any]) -> Handle:
        """Call hook(module, inputs, output) after `forward`; what it returns, if anything, replaces the output.
        Returns a handle with `remove()`."""
        return self._hook("_hooks", hook)

    def _hook(self, where: str, hook: Callable) -> Handle:
        hooks = vars(self).setdefault(where, [])
        hooks.append(hook)
        return Handle(hooks, hook)

    def extra_repr(self) -> str:
        """What to show of this module beside its name and parts; for subclasses to override."""
        return ", ".join(f"{name}: {x.shape}" for name, x in self._own_parameters())

    def __repr__(self) -> str:
        lines = []
        for (numbered, text), alike in groupby(self._own_modules(), lambda part: (part[0].isdigit(), repr(part[1]))):
            names = [name for name, _ in alike]
            labels = [f"({name}): " for name in names]
            if numbered and len(names) > 1:  # shown once
                labels = [f"({names[0]}-{names[-1]}): {len(names)} x "]
            lines += ["  " + label + text.replace("\n", "\n  ") for label in labels]
        inside = "\n".join(["", *lines, ""]) if lines else ""
        return f"{type(self).__name__}({self.extra_repr()}{inside})"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _once(named: Iterable[tuple[str, M]], once: bool) -> Iterator[tuple[str, M]]:
    """Without the things that were there before under another name."""
    seen: set[int] = set()
    for name, thing in named:
        if not (once and id(thing) in seen):
            seen.add(id(thing))
            yield name, thing
