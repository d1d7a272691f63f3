"""What all optimisers share: groups of parameters with their settings, a state for each parameter, and how to
write a parameter without fresh memory."""

from __future__ import annotations

import copy
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from ..device import follow, wandering, xp
from ..dtype import HALVES
from ..many import by_device
from ..mode import enable_grad, no_grad
from ..nn.utils import BLOCK, clear_gradients
from ..parallel import rows
from ..tensor import Tensor, written


def one_by_one(params: Iterable[Tensor], optimizer: Optimizer, group: dict[str, Any]) -> None:
    """Move parameters of a group, which lie on one device and have gradients."""
    for p in params:
        optimizer._move(p, group)
        written(p)


class Optimizer:
    """Holds parameters in groups, and changes them in `step()` by the gradients they have.

    param_groups  a list of dictionaries: "params", and the settings for them ("lr" …), which may be changed
    state         parameter -> what is remembered of it from step to step (running averages …; "master", the float32
                  numbers of a parameter that is kept in two bytes a number)
    found_inf     for a step of a GradScaler on a GPU: an array without dimensions, whether a gradient is not finite

    A subclass defines `update`, or like a subclass of PyTorch's a `step` of its own; and `check`, if it has settings
    that can be wrong.
    """

    found_inf: Any = None
    together: ClassVar[Callable[..., None]] = staticmethod(one_by_one)  # or a Many, for which there may be a kernel

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]):
        if isinstance(params, Tensor):
            raise TypeError(f"{type(self).__name__}: expected an iterable of Tensors or dicts; for one Tensor give [x]")
        if not isinstance(params, Iterable):
            raise TypeError(
                f"{type(self).__name__}: expected an iterable of Tensors or dicts, such as model.parameters(), "
                f"not {type(params).__name__}"
            )
        self.defaults = defaults
        self.state: dict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        groups = list(params)
        if not groups:
            raise ValueError(f"{type(self).__name__}: got an empty parameter list")
        for group in groups if isinstance(groups[0], dict) else [{"params": groups}]:
            self.add_param_group(group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Optimise more parameters: {"params": …} and settings that differ from the defaults.

        Raises ValueError for a setting out of range, a Tensor that is no leaf, or one that is there already.
        """
        if "params" not in param_group:
            raise ValueError(f"{type(self).__name__}: a group is a dict with 'params', not {', '.join(param_group)}")
        params = param_group["params"]
        group = {**self.defaults, **param_group, "params": [params] if isinstance(params, Tensor) else list(params)}
        seen = {id(p) for other in self.param_groups for p in other["params"]}
        for p in group["params"]:
            if not isinstance(p, Tensor):
                raise TypeError(f"{type(self).__name__}: can optimise only Tensors, not {type(p).__name__}")
            if p.node is not None:
                raise ValueError(f"{type(self).__name__}: cannot optimise the result of {p.node.op.name}, only leaves")
            if id(p) in seen:
                raise ValueError(f"{type(self).__name__}: a parameter of shape {p.shape} appears twice; give each once")
            seen.add(id(p))
        self.check(group)
        self.param_groups.append(group)

    def check(self, group: dict[str, Any]) -> None:
        """Raise ValueError if a setting of the group is out of range, or a parameter of it cannot be optimised."""

    def _check_at_least_0(self, group: dict[str, Any], *names: str) -> None:
        for name in names:
            if isinstance(group[name], str) or not group[name] >= 0:  # also if it is nan
                raise ValueError(f"{type(self).__name__}: {name} must be at least 0, not {group[name]!r}")

    def _check_betas(self, group: dict[str, Any]) -> None:
        if not isinstance(group["betas"], (tuple, list)) or len(group["betas"]) != 2:
            raise ValueError(f"{type(self).__name__}: betas are two numbers, not {group['betas']!r}")
        for i, beta in enumerate(group["betas"]):
            if not 0 <= beta < 1:
                raise ValueError(f"{type(self).__name__}: betas[{i}] must be at least 0 and less than 1, not {beta}")

    def update(self, p: Any, g: Any, group: dict[str, Any], state: dict[str, Any]) -> None:
        """Change the array p of a parameter, by its gradient g, and its state, which at first is empty."""
        raise NotImplementedError(f"{type(self).__name__} has no update(p, g, group, state)")

    @no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Change every parameter that has a gradient. Returns what `closure`, which computes the loss, returned."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        with wandering():
            for group in self.param_groups:
                for params in by_device(p for p in group["params"] if p.grad is not None):
                    follow(params[0].array)
                    self.together(params, self, group)
        return loss

    def _move(self, p: Tensor, group: dict[str, Any]) -> None:
        """Update one parameter. Of one that is kept in two bytes a number, which a small step would not change, the
        state has a float32 copy: that is moved, and rounded."""
        state, g = self.state[p], p.grad.array  # type: ignore[union-attr]
        update = self.update if self.found_inf is None else self._update_if_finite
        if p.dtype not in HALVES:
            update(p.array, g, group, state)
            return
        master = master_of(p, state)
        state.pop("master", None)
        # Where somebody has written the parameter since, its own numbers count.
        written_since = master.array.astype(p.dtype) != p.array
        master.array[...] = xp(g).where(written_since, p.array.astype(np.float32), master.array)
        update(master.array, g.astype(np.float32), group, state)
        state["master"] = master
        p.array[...] = master.array

    def _update_if_finite(self, p: Any, g: Any, group: dict[str, Any], state: dict[str, Any]) -> None:
        """As `update`; where `found_inf` holds, parameter and state are what they were, without asking for it."""

        def arrays() -> Iterator[tuple[str, Any]]:
            yield "the parameter", p
            yield from ((name, x.array) for name, x in state.items() if isinstance(x, Tensor))

        before = {name: array.copy() for name, array in arrays()}
        self.update(p, xp(g).where(self.found_inf, 0, g), group, state)
        for name, array in arrays():
            array[...] = xp(array).where(self.found_inf, before.get(name, 0), array)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters."""
        clear_gradients((p for group in self.param_groups for p in group["params"]), set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """{"state": {number: state}, "param_groups": […]} with parameters as numbers, in the order of the groups.

        Its Tensors share memory with the optimiser.
        """
        number = {p: i for i, p in enumerate(p for group in self.param_groups for p in group["params"])}
        return {
            "state": {number[p]: dict(state) for p, state in self.state.items()},
            "param_groups": [{**g, "params": [number[p] for p in g["params"]]} for g in self.param_groups],
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over states and settings, copied. Raises ValueError if groups or shapes differ from this optimiser's."""
        groups = copy.deepcopy(state_dict["param_groups"])
        sizes, own = [len(g["params"]) for g in groups], [len(g["params"]) for g in self.param_groups]
        if sizes != own:
            raise ValueError(f"load_state_dict: the saved groups have {sizes} parameters, this optimiser's have {own}")
        parameter = {
            i: p for g, mine in zip(groups, self.param_groups) for i, p in zip(g["params"], mine["params"], strict=True)
        }
        loaded = {parameter[i]: _like(parameter[i], state) for i, state in state_dict["state"].items()}
        for group, mine in zip(groups, self.param_groups):
            mine.update({**group, "params": mine["params"]})
        self.state = defaultdict(dict, loaded)

    def __repr__(self) -> str:
        groups = [", ".join(f"{k}={v}" for k, v in g.items() if k != "params") for g in self.param_groups]
        counts = [f"{len(g['params'])} parameters" for g in self.param_groups]
        return f"{type(self).__name__}({'; '.join(f'{n}: {g}' for n, g in zip(counts, groups))})"


def master_of(p: Tensor, state: Mapping[str, Any]) -> Tensor:
    """The float32 copy of a parameter of two bytes a number, which a first step makes."""
    return state["master"] if "master" in state else Tensor._of(p.array.astype(np.float32))


def not_differentiable(optimizer: Optimizer, differentiable: bool) -> None:
    """Refuse what PyTorch can and this cannot. Its `foreach`, `fused` and `capturable` choose between ways to the same
    numbers, so here they are taken and do nothing."""
    if differentiable:
        raise NotImplementedError(f"{type(optimizer).__name__}: differentiable=True is not supported")


def _like(p: Tensor, state: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a state, its arrays on the device of the parameter they belong to, and in its dtype or float32."""
    out: dict[str, Any] = {}
    for name, value in state.items():
        if isinstance(value, Tensor) and value.ndim == 0 and (p.ndim or name == "step"):
            value = value.item()
        if isinstance(value, Tensor):
            if value.shape != p.shape:
                raise ValueError(f"load_state_dict: {name} has shape {value.shape}, its parameter {p.shape}")
            value = value.detach().to(p.device, np.float32 if p.dtype in HALVES else p.dtype).clone()
        out[name] = value
    return out


# Writing without fresh memory --------------------------------------------------------------------------


def in_blocks(update: Callable[..., None], *arrays: Any, one_pass: bool = False) -> None:
    """update(*arrays), piece by piece: on vectors that see the arrays' memory.

    An update makes some ten passes over its arrays; on pieces that fit in the cache only the first costs memory
    traffic. One thread: a pass over a piece takes 10 us, and two threads would wait as long for the interpreter's lock.
    On a GPU, where a pass costs a launch, all is one piece; an update of one pass, a compiled loop, takes a piece per
    thread. Arrays that do not lie in order are copied, and written back.
    """
    if xp(arrays[0]) is not np:
        update(*arrays)
        return
    flat = [array.reshape(-1) for array in arrays]

    def piece(start: int, stop: int) -> None:
        update(*[array[start:stop] for array in flat])

    if one_pass:
        rows(piece, flat[0].size, sum(array.itemsize for array in arrays), one_pass)
    else:
        for start in range(0, flat[0].size, BLOCK):
            piece(start, start + BLOCK)
    for array, vector in zip(arrays, flat):
        if not array.flags.c_contiguous and array.flags.writeable:
            array[...] = vector.reshape(array.shape)


_held = threading.local()


def scratch(like: Any) -> Any:
    """An array to compute in, of the shape and dtype of `like`. Each thread has one, used again at the next call."""
    if xp(like) is not np or like.size > BLOCK:
        return xp(like).empty_like(like)
    buffers = vars(_held)
    if like.dtype not in buffers:
        buffers[like.dtype] = np.empty(BLOCK, like.dtype)
    return buffers[like.dtype][: like.size].reshape(like.shape)
