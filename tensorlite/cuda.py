"""Questions about the GPU. They answer on a machine without one, too."""

from __future__ import annotations

from typing import Any

from . import late
from .device import OutOfMemoryError as OutOfMemoryError
from .device import device as Device
from .device import library
from .dtype import bfloat16
from .graphs import CUDAGraph as CUDAGraph
from .graphs import graph as graph
from .graphs import is_current_stream_capturing as is_current_stream_capturing
from .random import default_generator
from .tensor import Tensor


def is_available() -> bool:
    """Whether Tensors can be made on a GPU here: there is one, with a driver, and CuPy is installed."""
    try:
        library("cuda")
    except RuntimeError:
        return False
    return True


def device_count() -> int:
    """The number of GPUs that can be used."""
    return library("cuda").cuda.runtime.getDeviceCount() if is_available() else 0


def _cupy(device: Any, what: str) -> tuple[Any, int]:
    """CuPy, and the number of a device: of the current one, if none is named. RuntimeError without a GPU."""
    where = Device("cuda", device) if isinstance(device, int) else Device(device or "cuda")
    if where.type != "cuda":
        raise ValueError(f"cuda.{what}: {device!r} is no GPU; use 'cuda', 'cuda:N' or N")
    cupy = library(where)
    return cupy, cupy.cuda.runtime.getDevice() if where.index is None else where.index


def current_device() -> int:
    """The number of the GPU that "cuda" means."""
    return _cupy(None, "current_device")[1]


def set_device(device: Any) -> None:
    """Make a GPU the current one."""
    cupy, index = _cupy(device, "set_device")
    cupy.cuda.Device(index).use()


def get_device_name(device: Any = None) -> str:
    cupy, index = _cupy(device, "get_device_name")
    return cupy.cuda.runtime.getDeviceProperties(index)["name"].decode()


def is_bf16_supported() -> bool:
    """Whether there is a GPU whose tensor cores multiply bfloat16 (Ampere and later), and ml_dtypes is installed."""
    if not is_available() or bfloat16 is None:
        return False
    cupy, index = _cupy(None, "is_bf16_supported")
    return cupy.cuda.runtime.getDeviceProperties(index)["major"] >= 8


def synchronize(device: Any = None) -> None:
    """Wait until the GPU has done all it was asked to, as before reading a clock.

    RuntimeError without a GPU, IndexError if an op was given an id out of range since a number last came from there.
    """
    cupy, index = _cupy(device, "synchronize")
    with cupy.cuda.Device(index):
        cupy.cuda.runtime.deviceSynchronize()
    late.settle(Device("cuda", index))


def mem_get_info(device: Any = None) -> tuple[int, int]:
    """Bytes of a GPU's memory: how many are free, and how many there are."""
    cupy, index = _cupy(device, "mem_get_info")
    with cupy.cuda.Device(index):
        return cupy.cuda.runtime.memGetInfo()


def _pool(device: Any, what: str, question: str) -> Any:
    cupy, index = _cupy(device, what)
    with cupy.cuda.Device(index):
        return getattr(cupy.get_default_memory_pool(), question)()


def memory_allocated(device: Any = None) -> int:
    """Bytes that arrays on the GPU take."""
    return _pool(device, "memory_allocated", "used_bytes")


def memory_reserved(device: Any = None) -> int:
    """Bytes that CuPy's pool has taken from the GPU: for arrays, and kept from freed ones for the next."""
    return _pool(device, "memory_reserved", "total_bytes")


def max_memory_allocated(device: Any = None) -> int:
    """The most bytes that were needed since `reset_peak_memory_stats`: `memory_reserved`, because the pool takes
    more only when it must. So it counts what lies unused between arrays, too."""
    return _pool(device, "max_memory_allocated", "total_bytes")


def memory_stats(device: Any = None) -> dict[str, int]:
    """What CuPy's pool knows, by PyTorch's names: bytes that arrays take ("allocated_bytes.all.current"), that the pool
    has taken from the GPU ("reserved_bytes.all.current"), and that it has free between arrays
    ("inactive_split_bytes.all.current", in "inactive_split.all.current" pieces).

    As long as the reserved bytes stay what they are, nothing is asked of the driver: so it is after some steps of a
    training, whose arrays find the places of those before them. RuntimeError without a GPU.
    """
    cupy, index = _cupy(device, "memory_stats")
    with cupy.cuda.Device(index):
        pool = cupy.get_default_memory_pool()
        return {
            "allocated_bytes.all.current": pool.used_bytes(),
            "reserved_bytes.all.current": pool.total_bytes(),
            "inactive_split_bytes.all.current": pool.free_bytes(),
            "inactive_split.all.current": pool.n_free_blocks(),
        }


def reset_peak_memory_stats(device: Any = None) -> None:
    """Start `max_memory_allocated` anew, by giving what is not used back to the GPU."""
    _pool(device, "reset_peak_memory_stats", "free_all_blocks")


def empty_cache() -> None:
    """Give memory that the pool keeps of freed arrays back to the GPU; does nothing without one."""
    if is_available():
        _pool(None, "empty_cache", "free_all_blocks")


# Random numbers ----------------------------------------------------------------------------------------


def manual_seed(seed: int) -> None:
    """Seed the generator of the current GPU; does nothing without one."""
    if is_available():
        default_generator("cuda").manual_seed(seed)


def manual_seed_all(seed: int) -> None:
    """Seed the generators of all GPUs; does nothing without one."""
    for index in range(device_count()):
        default_generator(f"cuda:{index}").manual_seed(seed)


def initial_seed() -> int:
    """The seed from which the generator of the current GPU last started. RuntimeError without a GPU."""
    return default_generator("cuda").initial_seed()


def get_rng_state(device: Any = "cuda") -> Tensor:
    """The state of a GPU's generator, as `tensorlite.get_rng_state` gives the CPU's. RuntimeError without a GPU."""
    return default_generator(Device("cuda", device) if isinstance(device, int) else device).get_state()


def set_rng_state(new_state: Tensor, device: Any = "cuda") -> None:
    """Let a GPU's generator go on from a state that `get_rng_state` gave."""
    default_generator(Device("cuda", device) if isinstance(device, int) else device).set_state(new_state)


def get_rng_state_all() -> list[Tensor]:
    """The states of the generators of all GPUs."""
    return [get_rng_state(index) for index in range(device_count())]


def set_rng_state_all(new_states: Any) -> None:
    """Let the generators of all GPUs go on from such a list."""
    for index, state in enumerate(new_states):
        set_rng_state(state, index)
