"""The devices of the stand-in: which is current, what memory is used, and how often the host had to wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from .capture import Graph
from .pool import MemoryPointer, MemoryPool, OutOfMemoryError


@dataclass
class Machine:
    """GPUs with `memory` bytes each.

    reserved          bytes that pools have taken from each device
    mallocs           bytes of each segment that a pool asked the driver for
    synchronisations  why the host waited, each time
    uploads           bytes of each copy of an array from the host
    """

    devices: int = 1
    memory: int = 1 << 40
    current: int = 0
    reserved: list[int] = field(default_factory=list)
    mallocs: list[int] = field(default_factory=list)
    addresses: int = 1 << 40  # where the next segment lies
    capture: Any = None  # the graph that is being recorded
    synchronisations: list[str] = field(default_factory=list)
    uploads: list[int] = field(default_factory=list)
    clock: float = 0.0  # milliseconds: the time of all devices' work so far

    def __post_init__(self) -> None:
        self.reserved = [0] * self.devices
        self.default_pool = MemoryPool()
        self.allocators = [self.default_pool.malloc]  # the last one is asked


here = Machine()


@contextmanager
def machine(devices: int, memory: int) -> Iterator[Machine]:
    """Another machine, meanwhile."""
    global here
    before, here = here, Machine(devices, memory)
    try:
        yield here
    finally:
        here = before


def not_captured(why: str) -> None:
    """Raise if a graph is being recorded, as CUDA does."""
    if here.capture is not None:
        raise RuntimeError(
            f"cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing ({why})"
        )


def waits(why: str) -> None:
    not_captured(why)
    here.synchronisations.append(why)


def uploads(nbytes: int) -> None:
    not_captured("a copy from the host")
    here.uploads.append(nbytes)


def allocate(nbytes: int) -> MemoryPointer:
    """Memory of the current device."""
    return here.allocators[-1](nbytes)


@contextmanager
def using_allocator(allocator: Any = None) -> Iterator[None]:
    """cupy.cuda.using_allocator"""
    here.allocators.append(allocator)
    try:
        yield
    finally:
        here.allocators.pop()


class Device:
    """cupy.cuda.Device"""

    def __init__(self, device: int | Device | None = None):
        self.id = here.current if device is None else int(device)
        self._before: list[int] = []

    def use(self) -> Device:
        if not 0 <= self.id < here.devices:
            raise RuntimeError(f"cudaErrorInvalidDevice: invalid device ordinal {self.id}")
        here.current = self.id
        return self

    def __enter__(self) -> Device:
        self._before.append(here.current)
        return self.use()

    def __exit__(self, *error: object) -> None:
        here.current = self._before.pop()

    def synchronize(self) -> None:
        waits("Device.synchronize")

    attributes = property(lambda self: {"MaxSharedMemoryPerBlockOptin": 227 * 1024})

    @property
    def mem_info(self) -> tuple[int, int]:
        return here.memory - here.reserved[self.id], here.memory

    def __int__(self) -> int:
        return self.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self.id == other.id

    def __hash__(self) -> int:
        return self.id

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"


def works(nbytes: int) -> None:
    """The devices' clock goes on by a microsecond for each byte of an array that is made."""
    here.clock += nbytes / 1e3


class Event:
    """cupy.cuda.Event: everything is done at once, so it has always happened; but when, may be asked only after a
    wait."""

    done = True

    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False):
        self.device, self.timed = here.current, not disable_timing
        self.time = self.waited = -1.0

    def record(self, stream: Any = None) -> None:
        if self.device != here.current:
            raise RuntimeError("cudaErrorInvalidResourceHandle: invalid resource handle")
        self.time, self.waited = here.clock, len(here.synchronisations)

    def synchronize(self) -> None:
        waits("Event.synchronize")


def get_elapsed_time(start_event: Event, end_event: Event) -> float:
    """Milliseconds from one event to another."""
    if start_event.device != end_event.device or not (start_event.timed and end_event.timed):
        raise RuntimeError("cudaErrorInvalidResourceHandle: invalid resource handle")
    if min(start_event.time, end_event.time) < 0 or end_event.waited == len(here.synchronisations):
        raise RuntimeError("cudaErrorNotReady: device not ready")
    return end_event.time - start_event.time


class Stream:
    """cupy.cuda.Stream"""

    null: Stream

    def __init__(self, null: bool = False, non_blocking: bool = False, ptds: bool = False, priority: int | None = None):
        self.is_non_blocking = non_blocking
        self.ptr = 0

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def use(self) -> Stream:
        return self

    def begin_capture(self, mode: int | None = None) -> None:
        if self is Stream.null:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        here.capture = Graph()

    def end_capture(self) -> Graph:
        graph, here.capture = here.capture, None
        graph.end()
        return graph

    def is_capturing(self) -> bool:
        return here.capture is not None

    def synchronize(self) -> None:
        waits("Stream.synchronize")

    def record(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        pass


Stream.null = Stream(null=True)


class PinnedMemoryPointer(bytearray):
    """Memory of the host from which the device can read."""


def alloc_pinned_memory(size: int) -> PinnedMemoryPointer:
    return PinnedMemoryPointer(max(size, 1))


runtime = SimpleNamespace(
    getDeviceCount=lambda: here.devices,
    getDevice=lambda: here.current,
    getDeviceProperties=lambda device: {"name": b"a stand-in", "multiProcessorCount": 132},
    deviceSynchronize=lambda: waits("deviceSynchronize"),
    memGetInfo=lambda: Device().mem_info,
)

OFFERED: dict[str, Any] = {
    "Device": Device,
    "Event": Event,
    "MemoryPool": MemoryPool,
    "PinnedMemoryPointer": PinnedMemoryPointer,
    "Stream": Stream,
    "alloc_pinned_memory": alloc_pinned_memory,
    "get_current_stream": lambda device_id=None: Stream.null,
    "using_allocator": using_allocator,
    "get_device_id": lambda: here.current,
    "get_elapsed_time": get_elapsed_time,
    "is_available": lambda: here.devices > 0,
    "memory": SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
    "runtime": runtime,
}


def is_number(x: Any) -> bool:
    """What CuPy takes for a scalar."""
    return isinstance(x, (bool, int, float, complex, np.generic))
