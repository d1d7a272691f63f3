"""How long a training step takes, from what one block and the rest of the model take on this machine.

A step of L blocks is L times that of a block, and what a model has beside its blocks: embeddings, head, loss. Both are
measured at the width, vocabulary and micro-batch that are planned for, with random weights and tokens.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import tensorlite as tl
from gpt.config import GPTConfig
from gpt.model import GPT, Block
from tensorlite import Tensor, cuda, nn
from tensorlite.nn.utils import clip_grad_norm_
from train.loop import make_optimizer
from train.recipe import Recipe

BLOCKS = 2  # in a row, so that none finds in the cache what it left there itself
LEAST, MOST = 3, 30  # turns
ENOUGH = 2.0  # seconds


@dataclass(frozen=True)
class Cost:
    """Seconds for a micro-batch, forward and backward, and for the update of the weights."""

    batch: float
    update: float

    def times(self, factor: float) -> Cost:
        return Cost(factor * self.batch, factor * self.update)

    def plus(self, other: Cost) -> Cost:
        return Cost(self.batch + other.batch, self.update + other.update)


@dataclass(frozen=True)
class Pace:
    """What a block costs, and what a model has beside its blocks."""

    block: Cost
    rest: Cost

    def step(self, n_layer: int, accumulation: int = 1) -> float:
        """Seconds of an optimiser step."""
        cost = self.block.times(n_layer).plus(self.rest)
        return accumulation * cost.batch + cost.update


def probe(config: GPTConfig) -> GPTConfig:
    """The largest model that `measure` makes."""
    return replace(config, n_layer=BLOCKS)


def measure(config: GPTConfig, batch: int, device: str = "cpu") -> Pace:
    """Of a step with micro-batches of `batch` sequences as long as the context. Takes a few seconds for a small model,
    and a few steps' time for a large one."""
    generator = tl.get_rng_state()
    shape = batch, config.context_length
    model = GPT(replace(config, n_layer=1)).to(device)
    ids = tl.randint(0, config.vocab_size, shape).to(device)
    blocks = nn.Sequential(*[Block(config) for _ in range(BLOCKS)]).to(device)
    x = tl.randn(*shape, config.n_embd).to(device).requires_grad_()
    g = tl.randn(*shape, config.n_embd).to(device)
    one = _Turns(model, lambda: model.loss(ids, ids), device)
    some = _Turns(blocks, lambda: blocks(x), device, g)
    start = time.perf_counter()
    while len(one.batches) < LEAST or (time.perf_counter() - start < ENOUGH and len(one.batches) < MOST):
        one.take()
        some.take()
        x.grad = None
    tl.set_rng_state(generator)
    block = some.cost().times(1 / BLOCKS)
    whole = one.cost()
    return Pace(block, Cost(max(whole.batch - block.batch, 0.0), max(whole.update - block.update, 0.0)))


class _Turns:
    """Steps of a module, timed; the first, which takes memory and makes the optimiser's state, is not."""

    def __init__(self, module: nn.Module, forward: Callable[[], Tensor], device: str, g: Tensor | None = None):
        self.module, self.forward, self.device, self.g = module, forward, device, g
        self.optimizer = make_optimizer(module, Recipe())
        self.batches: list[float] = []
        self.updates: list[float] = []
        self.take()
        self.batches.clear()
        self.updates.clear()

    def take(self) -> None:
        start = self._now()
        self.forward().backward(self.g)
        middle = self._now()
        clip_grad_norm_(self.module.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.batches.append(middle - start)
        self.updates.append(self._now() - middle)

    def cost(self) -> Cost:
        return Cost(statistics.median(self.batches), statistics.median(self.updates))

    def _now(self) -> float:
        if self.device == "cuda":
            cuda.synchronize()
        return time.perf_counter()
