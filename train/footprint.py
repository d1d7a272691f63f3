"""How much memory a training step takes, read off a step of a twin of the model that is a few numbers wide.

The twin runs the same code. Whatever an op keeps for the backward, and each gradient on its way, is a product of powers
of the batch, the context, the width, the heads and the vocabulary; a twin in which one of them is doubled tells which.
So what is planned is what this engine does: nothing here knows what a layer keeps, or that attention keeps no scores.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

import tensorlite as tl
from gpt.config import GPTConfig
from gpt.model import GPT
from tensorlite.levels import using
from tensorlite.mode import Hook, hooked
from tensorlite.node import Node
from tensorlite.op import Op
from train.loop import make_optimizer
from train.recipe import Recipe

SIZES = ("batch", "context_length", "n_embd", "n_head", "vocab_size")
TWIN = (2, 4, 8, 2, 16)
ITEM = 4  # bytes of a float32


@dataclass(frozen=True)
class Footprint:
    """Bytes that training takes.

    weights, gradients, optimizer, copy  whatever the batch; `copy` is the one that a checkpoint is written from
    activations                          what the forward keeps for the backward
    logits                               of which the loss has a part in memory at a time
    peak                                 of a step, all of these where they meet, with gradients on their way, but
                                         without `copy`: when gradients are all there, activations are gone
    """

    weights: int
    gradients: int
    optimizer: int
    copy: int
    activations: int
    logits: int
    peak: int


def footprint(config: GPTConfig, batch: int, accumulation: int = 1, device: str = "cpu") -> Footprint:
    """Of a step of the loop's optimiser, with micro-batches of `batch` sequences as long as the context."""
    twin = _shaped(config, TWIN[1:])
    step = _step(twin, accumulation > 1, "kernel" if device == "cpu" else "plain")
    growth = np.array([batch, *[getattr(config, name) for name in SIZES[1:]]]) / TWIN
    sizes = step.sizes * np.prod(growth**step.powers, axis=1)
    weights = ITEM * config.parameters()
    optimizer = round(step.state * weights)
    logits = _logits(batch * config.context_length, config.vocab_size, config.n_embd, device)
    forward, backward = _scores(batch, config, device)
    inside = [{"linear_cross_entropy": logits, "attention": forward}, {"attention": backward}]
    live = step.live(sizes) + [inside[i > step.turn].get(op, 0) for i, op in enumerate(step.ops)]
    of_tokens = step.live(sizes * (step.powers[:, 0] > 0))
    return Footprint(
        weights=weights,
        gradients=weights,
        optimizer=optimizer,
        copy=weights + optimizer,
        activations=round(of_tokens[step.turn]),
        logits=logits,
        peak=weights + optimizer + round(live.max()) + (weights if accumulation > 1 else 0),
    )


def _shaped(config: GPTConfig, sizes: Sequence[int]) -> GPTConfig:
    return GPTConfig.from_dict({**config.to_dict(), **dict(zip(SIZES[1:], sizes))})


@dataclass(frozen=True)
class _Step:
    """A twin's step: its arrays, and when they were there.

    ops          the op that runs at each moment, first forward, from moment `turn` + 1 on backward
    sizes        (arrays,) bytes
    powers       (arrays, SIZES): an array grows with this power of each size
    first, last  (arrays,) the moments from which and to which an array is there
    state        bytes of the optimiser for each byte of weights
    """

    ops: Sequence[str]
    turn: int
    sizes: np.ndarray
    powers: np.ndarray
    first: np.ndarray
    last: np.ndarray
    state: float

    def live(self, sizes: np.ndarray) -> np.ndarray:
        """(moments,) what is there at each moment, were the arrays as large as `sizes`."""
        change = np.zeros(len(self.ops) + 1)
        np.add.at(change, self.first, sizes)
        np.subtract.at(change, self.last + 1, sizes)
        return np.cumsum(change)[:-1]


@cache
def _step(config: GPTConfig, accumulated: bool, level: str) -> _Step:
    runs = []
    for doubled in (None, *range(len(SIZES))):
        batch, *shape = (2 * size if i == doubled else size for i, size in enumerate(TWIN))
        runs.append(_run(_shaped(config, shape), batch, accumulated, level))
    (watch, state), *others = runs
    if any((other.ops, other.first, other.last) != (watch.ops, watch.first, watch.last) for other, _ in others):
        raise RuntimeError("footprint: a larger model runs other ops, so that nothing follows from a small one")
    sizes = np.array(watch.sizes, float)
    powers = np.log2([other.sizes for other, _ in others] / sizes).T
    last = np.minimum(watch.last, len(watch.ops) - 1)
    return _Step(watch.ops, watch.turn, sizes, powers, np.array(watch.first), last, state)


def _run(config: GPTConfig, batch: int, accumulated: bool, level: str) -> tuple[_Watch, float]:
    """One step of a model like this, and the size of the optimiser's state for each byte of weights."""
    generator = tl.get_rng_state()
    model = GPT(config)
    ids = tl.zeros(batch, config.context_length, dtype=tl.int64)
    watch = _Watch([p.array for p in model.parameters()], accumulated)
    with using(level), hooked(watch):
        (model.loss(ids, ids) / (1 + accumulated)).backward()
    tl.set_rng_state(generator)
    optimizer = make_optimizer(model, Recipe())
    optimizer.step()
    state = sum(x.array.nbytes for s in optimizer.state.values() for x in s.values() if isinstance(x, tl.Tensor))
    return watch, state / sum(p.array.nbytes for p in model.parameters())


class _Watch(Hook):
    """Numbers the arrays of a step, and writes down when each is seen first and last.

    lasting      arrays that are not to be counted
    accumulated  the leaves have gradients already, to which those of this step are added
    """

    def __init__(self, lasting: Sequence[Any], accumulated: bool):
        self.accumulated = accumulated
        self.ops: list[str] = []
        self.turn = 0  # the last moment of the forward
        self.sizes: list[int] = []
        self.first: list[int] = []
        self.last: list[int] = []
        self._seen = {id(x): (-1, x) for x in lasting}  # with the array, so that no other has its id
        self._arrived: dict[Any, int] = {}  # the gradient so far of a node or leaf

    def after_forward(self, op: Op, inputs: Sequence[Any], attributes: dict[str, Any], output: Any) -> None:
        self.turn = len(self.ops)
        self.ops.append(op.name)
        node = (output[0] if op.several else output).node
        if node is not None:
            self._see(node.kept)

    def after_backward(self, node: Node, gradient: Any, contributions: Sequence[Any]) -> None:
        self.ops.append(node.op.name)
        self._see((node.kept, gradient, *contributions))
        if node in self._arrived:
            self.last[self._arrived.pop(node)] = len(self.ops) - 1
        for parent, x in zip(node.parents, contributions):
            if parent is not None and isinstance(x, np.ndarray):
                self._arrive(parent, x)

    def _arrive(self, place: Any, x: Any) -> None:
        """A node that is given a second gradient makes a fresh sum, a leaf adds it to its own."""
        leaf = isinstance(place, tl.Tensor)
        size = place.array.nbytes if leaf else x.nbytes
        if place not in self._arrived and _base(x).nbytes == size:
            self._arrived[place] = self._seen[id(_base(x))][0]
        elif place not in self._arrived or not leaf:
            self._arrived[place] = self._new(size)
        if leaf:
            self.last[self._arrived[place]] = len(self.ops) - 1 if self.accumulated else sys.maxsize

    def _see(self, found: Any) -> None:
        for x in _arrays(found):
            base = _base(x)
            if id(base) not in self._seen:
                self._seen[id(base)] = (self._new(base.nbytes), base)
            number = self._seen[id(base)][0]
            if number >= 0:
                self.last[number] = max(self.last[number], len(self.ops) - 1)

    def _new(self, size: int) -> int:
        self.sizes.append(size)
        self.first.append(len(self.ops) - 1)
        self.last.append(len(self.ops) - 1)
        return len(self.sizes) - 1


def _arrays(found: Any) -> Iterator[Any]:
    for x in found or ():
        if isinstance(x, (tuple, list)):
            yield from _arrays(x)
        elif isinstance(x, np.ndarray):
            yield x


def _base(array: Any) -> Any:
    return array if array.base is None else array.base


# What an op has in memory only while it runs ------------------------------------------------------------


def _logits(positions: int, classes: int, width: int, device: str) -> int:
    """Of the loss: a part of the logits, and from the second part on a second gradient of the head."""
    if device == "cpu" and tl.OPS["linear_cross_entropy"].kernels:
        from tensorlite.kernels.cpu.loss import positions_at_a_time

        at_a_time = positions_at_a_time(positions, classes, ITEM)
        return ITEM * classes * (at_a_time + (width if at_a_time < positions else 0))
    return round(_plain_logits() * ITEM * positions * classes)


def _scores(batch: int, config: GPTConfig, device: str) -> tuple[int, int]:
    """Of attention, forward and backward: nothing that grows, where a kernel computes it in tiles; else some arrays of
    T x T for each head."""
    if device == "cpu":
        return 0, 0
    scores = ITEM * batch * config.n_head * config.context_length**2
    forward, backward = _plain_scores(config.dropout)
    return round(forward * scores), round(backward * scores)


@cache
def _plain_logits(n: int = 256) -> float:
    """How many times all logits are in memory at once, without a kernel."""
    x, weight = [tl.zeros(n, 1, requires_grad=True) for _ in range(2)]
    target = tl.zeros(n, dtype=tl.int64)
    with using("plain"):
        return _peak(lambda: tl.nn.functional.linear_cross_entropy(x, weight, target)) / (ITEM * n * n)


@cache
def _plain_scores(dropout: float, n: int = 256) -> tuple[float, float]:
    """How many times all scores of attention are in memory at once, forward and backward, without a kernel."""
    q, k, v = [tl.zeros(1, 1, n, 1, requires_grad=True) for _ in range(3)]
    attend = partial(tl.nn.functional.scaled_dot_product_attention, q, k, v, None, dropout, True)
    generator = tl.get_rng_state()
    with using("plain"):
        total = attend().sum()
        peaks = _peak(attend), _peak(total.backward)
    tl.set_rng_state(generator)
    return peaks[0] / (ITEM * n * n), peaks[1] / (ITEM * n * n)


def _peak(work: Callable[[], Any]) -> int:
    """The most bytes that `work` takes."""
    traced = tracemalloc.is_tracing()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        if not traced:
            tracemalloc.stop()
