"""Module: a computation that owns parameters, and may be made of other modules.

A Parameter, a buffer or a Module is an ordinary attribute, so reading one costs what Python's attributes cost, and
what you see in the debugger is all there is. Which attributes are what stands in `_kinds`, a dictionary of their
names in the order of definition; assigning and deleting keep it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NoReturn, Self, TypeVar

import numpy as np

from ..dtype import bfloat16, is_floating
from ..tensor import Tensor, written
from .hooks import Hooked
from .parameter import Parameter
from .state import IncompatibleKeys, load
from .utils import clear_gradients

M = TypeVar("M")


class Module(Hooked):
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

    training: bool

    def __init__(self) -> None:
        self.training = True
        self._kinds: dict[str, type] = {}  # the names of parts -> Parameter, Module, or Tensor for a buffer
        self._transient: set[str] = set()  # the buffers that do not belong to the state_dict

    def _no_forward(self, *inputs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no forward(); define there what it computes")

    forward: Callable[..., Any] = _no_forward  # not a def, so that subclasses may choose their arguments

    # What it is made of ----------------------------------------------------------------------------

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """The same as `self.name = param`; with None the name is kept for a Parameter that comes later."""
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
        self._transient.discard(name)
        if not persistent:
            self._transient.add(name)

    def _define(self, name: str, member: Any, kind: type) -> None:
        if member is not None and not isinstance(member, kind):
            raise TypeError(f"{name!r} of {type(self).__name__} must be a {kind.__name__}, not {type(member).__name__}")
        if not isinstance(name, str) or not name or "." in name:
            raise KeyError(f"{name!r} cannot name a part of {type(self).__name__}: a name is not empty and has no dot")
        if hasattr(self, name) and self._part_kinds().get(name) is not kind:
            raise KeyError(f"{type(self).__name__} already has an attribute {name!r}; choose another name")
        self._part_kinds()[name] = kind
        vars(self)[name] = member

    def _part_kinds(self) -> dict[str, type]:
        try:
            return vars(self)["_kinds"]
        except KeyError:
            raise AttributeError(
                f"{type(self).__name__}: super().__init__() must be called before parameters, buffers or modules are "
                "assigned"
            ) from None

    def __setattr__(self, name: str, value: Any) -> None:
        kind = Parameter if isinstance(value, Parameter) else Module if isinstance(value, Module) else None
        kinds = self._part_kinds() if kind else vars(self).get("_kinds", {})
        before = kinds.get(name)
        if kind and kind is not before:
            kinds.pop(name, None)  # as in PyTorch it moves to the end
            kinds[name] = kind
        elif before and value is not None and not isinstance(value, before):
            what, remedy = "buffer", "a Tensor"
            if before is Parameter:
                what, remedy = "Parameter", "Parameter(x), or copy numbers into it: with no_grad(): p.copy_(x)"
            elif before is Module:
                what, remedy = "Module", "a Module"
            raise TypeError(
                f"{name!r} of {type(self).__name__} is a {what}, and cannot become a {type(value).__name__}; assign "
                f"{remedy}, or None"
            )
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        vars(self).get("_kinds", {}).pop(name, None)

    def _own(self, kind: type[M]) -> Iterator[tuple[str, M]]:
        """Its parameters, buffers (Tensor) or modules; not what is None."""
        members = vars(self)
        named = [name for name, k in self._kinds.items() if k is kind]
        return ((name, members[name]) for name in named if members.get(name) is not None)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly within, each once."""
        return _once(self._own(Module), True)

    def children(self) -> Iterator[Module]:
        return (module for _, module in self.named_children())

    def named_modules(self, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """Itself, under the name `prefix`, and all modules within; each once, unless remove_duplicate=False."""
        return _once(self._tree(prefix), remove_duplicate)

    def _tree(self, path: str) -> Iterator[tuple[str, Module]]:
        yield path, self
        for name, module in self._own(Module):
            yield from module._tree(_join(path, name))

    def modules(self) -> Iterator[Module]:
        return (module for _, module in self.named_modules())

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Its parameters and (recurse) those of all modules within. A shared one appears once, under its first
        name, unless remove_duplicate=False."""
        return self._members(Parameter, prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        return self._members(Tensor, prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def _members(self, kind: type[M], prefix: str, recurse: bool, once: bool) -> Iterator[tuple[str, M]]:
        modules = self.named_modules(prefix, once) if recurse else [(prefix, self)]
        return _once(((_join(path, name), x) for path, module in modules for name, x in module._own(kind)), once)

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
        """Training (True) or evaluating (False), for itself and all modules within, which may have a train() of their
        own."""
        self.training = mode
        for module in self.children():
            module.train(mode)
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

    def to(self, *args: Any, dtype: Any = None, device: Any = None, non_blocking: bool = False) -> Self:
        """Move parameters and buffers to a device, or to a floating dtype, or both: `.to("cuda")`, `.to(float64)`.

        The Parameter objects stay the same, so an optimiser that has them keeps working (its own state stays
        where it is). Integer and boolean buffers keep their dtype. Raises TypeError for a dtype not floating.
        """
        if not is_floating(Tensor._of(np.empty(0, np.float32)).to(*args, dtype=dtype).dtype):
            raise TypeError(f"to: a module's numbers are floating; it cannot be turned into {dtype or args}")

        def convert(x: Tensor) -> Tensor:
            moved = x.to(*args, dtype=dtype, device=device, non_blocking=non_blocking)
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

    def bfloat16(self) -> Self:
        """All floating-point parameters and buffers as bfloat16."""
        if bfloat16 is None:
            raise RuntimeError("Module.bfloat16: bfloat16 needs ml_dtypes: pip install 'tensorlite[bf16]'")
        return self.to(bfloat16)

    def cpu(self) -> Self:
        return self.to("cpu")

    def cuda(self, device: Any = None) -> Self:
        return self.to(f"cuda:{device}" if isinstance(device, int) else device or "cuda")

    # Its state -------------------------------------------------------------------------------------

    def _state(self) -> dict[str, Tensor]:
        """Its parameters and persistent buffers, the Tensors themselves, under every name they have."""
        state: dict[str, Tensor] = {}
        for path, module in self.named_modules(remove_duplicate=False):
            kept = [(name, x) for name, x in module._own(Tensor) if name not in module._transient]
            state |= {_join(path, name): x for name, x in (*module._own(Parameter), *kept)}
        return state

    def state_dict(
        self, *, destination: dict[str, Tensor] | None = None, prefix: str = "", keep_vars: bool = False
    ) -> dict[str, Tensor]:
        """Name -> Tensor of all parameters and persistent buffers, in order of definition.

        destination  a dictionary to put them into
        prefix       stands before each name
        keep_vars    give the Parameters themselves

        The Tensors share memory with the module: what trains on changes them; copy what shall stay. A
        parameter that is shared appears under each of its names.
        """
        destination = {} if destination is None else destination
        for name, x in self._state().items():
            destination[prefix + name] = x if keep_vars else x.detach()
        return destination

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Copy numbers (Tensors or arrays) into the parameters and buffers of the same names.

        strict  whether every name must be on both sides; else those that are not are left alone and returned
        assign  take over the memory, dtype and device of the Tensors instead of copying. The Parameter objects stay
                the same (PyTorch makes new ones), so that an optimiser that has them keeps working

        Raises RuntimeError that lists all names and shapes that do not fit; then nothing has been loaded.
        """
        return load(self._state(), state_dict, strict, assign, type(self).__name__)

    def __deepcopy__(self, memo: dict) -> Self:
        twin = memo[id(self)] = object.__new__(type(self))
        vars(twin).update(copy.deepcopy(vars(self), memo))
        return twin

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} is not pickled: save its numbers, save(module.state_dict(), path), and give them "
            "to a module that is built anew, module.load_state_dict(load(path))"
        )

    # In words --------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What to show of this module beside its name and parts; for subclasses to override."""
        return ""

    def _parts_repr(self) -> list[str]:
        """A line, or several with line breaks, for each part."""
        return [f"({name}): {vars(self).get(name)!r}" for name, kind in self._kinds.items() if kind is Module]

    def __repr__(self) -> str:
        extra, parts = self.extra_repr(), self._parts_repr()
        if extra and not parts and "\n" not in extra:
            return f"{type(self).__name__}({extra})"
        lines = [line for text in (extra, *parts) for line in text.splitlines()]
        inside = "\n".join(["", *(f"  {line}" for line in lines), ""]) if lines else ""
        return f"{type(self).__name__}({inside})"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _once(named: Iterable[tuple[str, M]], once: bool) -> Iterator[tuple[str, M]]:
    """Without the things that were there before under another name."""
    seen: set[int] = set()
    for name, thing in named:
        if not (once and id(thing) in seen):
            seen.add(id(thing))
            yield name, thing
