"""A micro-batch's forward and backward as a CUDA graph: `--cuda-graph`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorlite as tl
from gpt.options import UsageError

WARM_UP = 3  # micro-batches before one is recorded: kernels are compiled by then, and the fastest products known


class Graphed:
    """`backward` of micro-batches, which adds to the gradients and returns the loss: recorded once, then replayed.

    Micro-batches are tuples of Tensors. Those of another shape than the recorded one's run as they would without a
    graph, and add to the same gradients. These stay where they are from step to step, which the graph relies on.

    Raises UsageError where the model does what a graph cannot hold.
    """

    def __init__(self, backward: Callable[[Any], tl.Tensor], parameters: Sequence[tl.Tensor], device: str):
        self.backward, self.parameters, self.device = backward, parameters, device
        self.seen = 0
        self.graph = tl.cuda.CUDAGraph()
        self.gradients: dict[tl.Tensor, tl.Tensor] = {}
        self.batch: tuple[tl.Tensor, ...] = ()  # what the graph reads
        self.loss: Any = None  # what it writes, beside the gradients

    def __call__(self, batch: Any) -> tl.Tensor:
        self.seen += 1
        if self.seen <= WARM_UP:
            return self.backward(batch)
        if self.loss is None:
            self._record(batch)
        self._hold_gradients()
        if [x.shape for x in batch] != [x.shape for x in self.batch]:
            return self.backward(batch)
        with tl.no_grad():
            for x, given in zip(self.batch, batch):
                x.copy_(given.to(x.device, non_blocking=True))
        self.graph.replay()
        return self.loss.clone()

    def _record(self, batch: Any) -> None:
        if not isinstance(batch, (tuple, list)) or not all(isinstance(x, tl.Tensor) for x in batch):
            raise UsageError("--cuda-graph: this training has micro-batches of other things than Tensors; leave it out")
        self.batch = tuple([x.to(self.device).clone() for x in batch])
        self._hold_gradients()
        try:
            with tl.cuda.graph(self.graph):
                self.loss = self.backward(self.batch).detach()
        except RuntimeError as error:
            if "cuda.graph:" not in str(error):
                raise
            raise UsageError(f"--cuda-graph: {str(error).partition('cuda.graph: ')[2].splitlines()[0]}") from error

    def _hold_gradients(self) -> None:
        """Let each parameter's gradient be the array that the graph adds to, with what has been gathered so far."""
        for p in self.parameters:
            held = self.gradients.get(p)
            if held is None:
                if p.requires_grad:
                    self.gradients[p] = tl.zeros_like(p).detach() if p.grad is None else p.grad.detach()
            elif p.grad is None:
                held.zero_()
            elif p.grad is not held:
                held.copy_(p.grad)
            if p.requires_grad:
                p.grad = self.gradients[p]
