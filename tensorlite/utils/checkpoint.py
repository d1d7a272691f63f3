"""Memory for time: what a part of the forward kept is forgotten, and computed again when the backward needs it.

The graph of the part is recorded as ever, so parameters, hooks and `create_graph` need nothing special. Only what its
nodes kept is replaced by `_Forgotten`: the first of them to be asked runs the part once more, and each takes what its
counterpart of that second run kept. (Chen et al., Training deep nets with sublinear memory cost, 2016.)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .. import random
from ..mode import Hook, enable_grad, hooked, is_grad_enabled
from ..tensor import Tensor, Version

if TYPE_CHECKING:
    from ..node import Node
    from ..op import Op


def checkpoint(
    function: Callable,
    *args: Any,
    use_reentrant: bool | None = None,
    preserve_rng_state: bool = True,
    **kwargs: Any,
) -> Any:
    """function(*args, **kwargs), of which only the arguments and results are kept for the backward.

    preserve_rng_state  draw the same random numbers (dropout) the second time
    use_reentrant       for PyTorch's sake; there is one way here, which is that of use_reentrant=False

    The function must compute the same whenever it is called. RuntimeError in the backward if it does not, or if a
    parameter or an argument was written in place in between.
    """
    if not is_grad_enabled():
        return function(*args, **kwargs)
    part = _Part(function, args, kwargs, preserve_rng_state)
    with hooked(_Forget(part)):
        result = function(*args, **kwargs)
    part.complete = True
    return result


class _Part:
    """A part of the forward that can be run again."""

    def __init__(self, function: Callable, args: Sequence[Any], kwargs: Mapping[str, Any], replay: bool):
        self.function = function
        self.args = [_twin(x) for x in args]
        self.kwargs = {name: _twin(x) for name, x in kwargs.items()}
        self.rewound = _rewinding([*self.args, *self.kwargs.values()]) if replay else None
        self.steps: list[str] = []  # the ops that were recorded, in order
        self.kept: list[Any] = []  # per step what the second run kept, until the node takes it
        self.read: list[tuple[Any, int]] = []  # what counts the writes into a Tensor that was read, count then
        self.running = self.complete = False
        for x in (*self.args, *self.kwargs.values()):
            self.watch(x)

    def watch(self, x: Any) -> None:
        """Remember that x was read: if it is written, a second run would compute something else."""
        if isinstance(x, Tensor):
            if x.version is None and x.node is None:
                x.version = Version()
            self.read.append((x.version or x.node, x.version.count if x.version else 0))

    def take(self, i: int) -> Any:
        """What step number i keeps."""
        if not self.kept:
            self.run()
        kept, self.kept[i] = self.kept[i], None
        return kept

    def run(self) -> None:
        for holder, count in self.read:
            version = holder if isinstance(holder, Version) else holder.version
            if version is not None and version.count != count:
                raise RuntimeError(
                    f"checkpoint: a Tensor that {self._name()} reads has been written in place since, so it would "
                    "compute something else; write after backward(), or give it a clone()"
                )
        remember = _Remember()
        self.running = True
        try:
            with self.rewound() if self.rewound else enable_grad(), enable_grad(), hooked(remember):
                self.function(*self.args, **self.kwargs)
        finally:
            self.running = False
        made = [node.op.name for node in remember.nodes]
        if not self.complete:  # a backward within the part asks while the first run is still going on
            made = made[: len(self.steps)]
        then, now = [*self.steps, ""], [*made, ""]
        if then != now:
            i = next(i for i, (a, b) in enumerate(zip(then, now)) if a != b)
            raise RuntimeError(
                f"checkpoint: {self._name()} did not compute the same twice: op number {i} was "
                f"[{then[i] or 'none'}], and is [{now[i] or 'none'}] now"
            )
        self.kept = [node.kept for node in remember.nodes]

    def _name(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)


class _Forgotten(Sequence):
    """In the place of what a node kept: as many values, which are computed when somebody asks."""

    def __init__(self, part: _Part, i: int, length: int):
        self.part, self.i, self.length = part, i, length
        self.values: Sequence[Any] | None = None

    def __getitem__(self, k: Any) -> Any:
        if self.values is None:
            self.values = self.part.take(self.i)
        return self.values[k]

    def __len__(self) -> int:
        return self.length


class _Recorded(Hook):
    """Sees the nodes that are made in this thread."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()

    def after_forward(self, op: Op, inputs: Sequence[Any], attributes: dict[str, Any], output: Any) -> None:
        first = output[0] if isinstance(output, tuple) else output
        if first.node is not None and threading.get_ident() == self.thread:
            self.made(first.node, inputs)

    def made(self, node: Node, inputs: Sequence[Any]) -> None: ...


class _Forget(_Recorded):
    """Takes from each node what it kept, except from one whose memory is given up already, by a checkpoint around."""

    def __init__(self, part: _Part):
        super().__init__()
        self.part = part

    def made(self, node: Node, inputs: Sequence[Any]) -> None:
        if self.part.running:  # a backward within the part has run it again
            return
        for x in inputs:
            if isinstance(x, Tensor) and x.node is None and x.requires_grad:
                self.part.watch(x)
        if node.plan.holds and not isinstance(node.kept, _Forgotten):
            node.kept = _Forgotten(self.part, len(self.part.steps), len(node.kept or ()))
        self.part.steps.append(node.op.name)


class _Remember(_Recorded):
    """Holds on to the nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes: list[Node] = []

    def made(self, node: Node, inputs: Sequence[Any]) -> None:
        self.nodes.append(node)


def _twin(x: Any) -> Any:
    """x as it is now: inside the function its name may come to stand for something else (x.add_(1))."""
    if not isinstance(x, Tensor) or x.node is None:
        return x
    twin = Tensor._of(x.array, x.node)
    twin.index, twin.version = x.index, x.version
    return twin


def _rewinding(args: Sequence[Any]) -> Callable:
    """A context in which the random numbers, of the devices of `args` too, are those that come next now."""
    for x in args:
        if isinstance(x, Tensor):
            random.default_generator(x.device)  # which may not have drawn before
    generators = list(random._generators.values())
    states = [g.get_state() for g in generators]

    @contextmanager
    def rewound() -> Iterator[None]:
        present = [g.get_state() for g in generators]
        for g, state in zip(generators, states, strict=True):
            g.set_state(state)
        try:
            yield
        finally:
            for g, state in zip(generators, present, strict=True):
                g.set_state(state)

    return rewound
