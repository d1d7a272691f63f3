"""CUDA graphs: the launches of a block of a program, recorded once and started again by one call.

A step of a model is hundreds of launches, each of which costs the program some microseconds. A graph has them all,
with the addresses that they read and write, so the arrays of the block must stay where they are: they come from a pool
of the graph's own, from which nobody else takes memory. What is computed on are Tensors that were there before, written
anew before each replay.

https://docs.nvidia.com/cuda/cuda-c-programming-guide/#cuda-graphs; names are PyTorch's.
"""

from __future__ import annotations

import gc
from contextlib import ExitStack
from typing import Any

from . import late
from .capture import state
from .device import current, library, on


class CUDAGraph:
    """What `graph` recorded. `replay()` computes it again, into the same Tensors.

    x = tl.zeros(16, 1024, device="cuda")
    for _ in range(3):
        model(x)  # what is done once only is done now: kernels compiled, the fastest products found
    g = tl.cuda.CUDAGraph()
    with tl.cuda.graph(g):
        y = model(x)
    x.copy_(batch)
    g.replay()  # y is model(batch)
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget what was recorded, and give its memory back; Tensors that the block made are not to be used then."""
        self._graph: Any = None
        self._pool: Any = None
        self._device: Any = None
        self._noted: dict[Any, list[Any]] = {}

    def replay(self) -> None:
        """Start all of it on the current stream; does not wait. RuntimeError if nothing was recorded.

        IndexError, later, for an id out of range, as from the ops themselves.
        """
        if self._graph is None:
            raise RuntimeError("CUDAGraph.replay: nothing was recorded; first run the block under cuda.graph(g)")
        with on(self._device) as cupy:
            self._graph.launch()
            late.again(self._device, self._noted, cupy)


class graph:
    """Inside the block nothing is computed: its launches go into `cuda_graph`.

    stream  on which they are recorded; by default one of its own

    Run the same block some times before. RuntimeError for what a graph cannot hold: a number that comes to the CPU, an
    array that goes to the GPU, random numbers, a parameter that is written, as by an optimiser. Then `cuda_graph` is
    empty, and the GPU as it was.
    """

    def __init__(self, cuda_graph: CUDAGraph, *, stream: Any = None):
        self.cuda_graph, self.stream = cuda_graph, stream

    def __enter__(self) -> None:
        recorded = self.cuda_graph
        if state.recording:
            raise RuntimeError("cuda.graph: a graph is being recorded already; end that block first")
        if recorded._graph is not None:
            raise RuntimeError("cuda.graph: this CUDAGraph holds something already; reset() it, or make another")
        cupy = library("cuda")
        cupy.cuda.runtime.deviceSynchronize()
        gc.collect()
        cupy.get_default_memory_pool().free_all_blocks()  # what the runs before have left makes room for the graph's
        recorded._device, recorded._pool = current("cuda"), cupy.cuda.MemoryPool()
        self.stream = self.stream or cupy.cuda.Stream(non_blocking=True)
        self.around = ExitStack()
        self.around.enter_context(self.stream)
        self.around.enter_context(cupy.cuda.using_allocator(recorded._pool.malloc))
        self.before = late.set_aside(recorded._device)
        try:
            self.stream.begin_capture()
        except BaseException:
            self._leave()
            raise
        state.recording = True

    def _leave(self) -> dict[Any, list[Any]]:
        state.recording = False
        self.around.close()
        return late.set_aside(self.cuda_graph._device, self.before)

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        recorded, made, broken = self.cuda_graph, None, None
        try:
            made = self.stream.end_capture()
        except RuntimeError as found:  # after an error within, the recording is void
            broken = found
        noted = self._leave()
        if error is None and broken is None:
            recorded._graph, recorded._noted = made, noted
            return
        recorded.reset()
        cause = error or broken
        if isinstance(cause, RuntimeError) and "apture" in str(cause) and "cuda.graph:" not in str(cause):
            raise RuntimeError(
                f"cuda.graph: the block does what a graph cannot hold, such as waiting for the GPU: {cause}"
            ) from cause
        if error is None and broken is not None:
            raise broken


def is_current_stream_capturing() -> bool:
    """Whether a graph is being recorded by this thread."""
    return state.recording
