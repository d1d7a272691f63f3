"""Random numbers: seeded generators, one for each device, whose state can be saved and restored.

Same seed, same machine, same numbers. They are NumPy's, or on a GPU Philox's (philox.py), not PyTorch's: equal seeds
give other numbers than PyTorch does, and on a GPU other numbers than on the CPU.
"""

from __future__ import annotations

import json
import secrets
from typing import Any

import numpy as np

from .device import current, on, xp
from .device import device as Device
from .dtype import get_default_dtype
from .philox import Philox
from .tensor import Tensor, array_of

DEFAULT_SEED = 0


class Generator:
    """A source of random numbers on one device."""

    def __init__(self, device: Any = "cpu"):
        self.device = current(device)
        self.manual_seed(DEFAULT_SEED)

    def manual_seed(self, seed: int) -> Generator:
        """Start anew from a seed, any integer. Returns itself."""
        self._seed = int(seed)
        words = [self._seed & 0xFFFFFFFF, (self._seed >> 32) & 0xFFFFFFFF]
        if self.device.type == "cpu":
            # SFC64: the fastest of NumPy's generators that pass PractRand and BigCrush.
            self.numbers: Any = np.random.Generator(np.random.SFC64(np.random.SeedSequence(words)))
        else:
            self.numbers = Philox(self.device, self._seed)
        return self

    def initial_seed(self) -> int:
        """The seed from which it last started."""
        return self._seed

    def seed(self) -> int:
        """Start anew from a seed that the operating system draws. Returns the seed."""
        return self.manual_seed(secrets.randbits(64))._seed

    def get_state(self) -> Tensor:
        """Everything the next number depends on, as a uint8 Tensor (JSON inside) that can be saved."""
        if self.device.type == "cpu":
            state: Any = {"seed": self._seed, "state": self.numbers.bit_generator.state}
        else:
            state = {"seed": self._seed, "offset": self.numbers.offset}
        text = json.dumps(state, default=lambda x: x.tolist())
        return Tensor._of(np.frombuffer(text.encode(), dtype=np.uint8).copy())

    def set_state(self, state: Tensor) -> Generator:
        """Go on from a state that `get_state` gave. Raises ValueError for anything else."""
        try:
            saved = json.loads(bytes(array_of(state)))
            if self.device.type == "cpu":
                restored = saved["state"]
                restored["state"]["state"] = np.array(restored["state"]["state"], dtype=np.uint64)
                self.numbers.bit_generator.state = restored
                self._seed = saved["seed"]
            else:
                self._seed, offset = int(saved["seed"]), int(saved["offset"])
                self.numbers = Philox(self.device, self._seed, offset)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"set_state: this is not a state that get_state() of a generator on {self.device} gave ({error!r})"
            ) from None
        return self

    def draw_seed(self) -> int:
        """A seed drawn from this generator, for something that has to draw the same numbers twice."""
        if self.device.type == "cpu":
            return int(self.numbers.integers(0, 2**62))
        return self.numbers.draw_seed()


_generators: dict[Device, Generator] = {}
_seed = DEFAULT_SEED  # what a generator starts from that is made later


def default_generator(device: Any = None) -> Generator:
    """The generator that draws for a device when none is given."""
    where = current(device or "cpu")
    if where not in _generators:
        _generators[where] = Generator(where).manual_seed(_seed)
    return _generators[where]


def source(generator: Generator | None, device: Any) -> Generator:
    """The generator that draws on a device: the one given, or the default one. RuntimeError if it is of another."""
    if generator is None:
        return default_generator(device)
    if generator.device != (where := current(device or "cpu")):
        raise RuntimeError(
            f"the generator draws on {generator.device}, but the numbers are wanted on {where}; "
            f"use Generator({str(where)!r})"
        )
    return generator


def manual_seed(seed: int) -> Generator:
    """Seed the default generators of all devices; returns the CPU's."""
    global _seed
    _seed = seed
    cpu = default_generator()
    for generator in _generators.values():
        generator.manual_seed(seed)
    return cpu


def seed() -> int:
    """Seed the default generators of all devices with a number that the operating system draws. Returns it."""
    return manual_seed(secrets.randbits(64)).initial_seed()


def initial_seed() -> int:
    """The seed from which the CPU's default generator last started."""
    return default_generator().initial_seed()


def get_rng_state() -> Tensor:
    return default_generator().get_state()


def set_rng_state(state: Tensor) -> None:
    default_generator().set_state(state)


def keep_mask(shape: tuple[int, ...], p: float, generator: Generator) -> Any:
    """Booleans, each False with probability p: what dropout keeps."""
    with on(generator.device):
        return generator.numbers.random(shape, dtype=np.float32) >= p


def attention_kept(p: float, seed: int, heads: Any, rows: slice, columns: slice) -> Any:
    """What dropout keeps of a tile of the attention weights of some heads, given by their numbers.

    Returns (len(heads), R, C) booleans. Each depends on the seed and its place alone, so that the backward
    draws again what the forward drew, in blocks of any size, instead of keeping it.
    """
    library = xp(heads)
    low, high = words(seed)
    head = _mix(heads.astype(np.uint32) ^ low)[:, None]
    row = _mix((head + library.arange(rows.start, rows.stop, dtype=np.uint32)) ^ high)[:, :, None]
    column = library.arange(columns.start, columns.stop, dtype=np.uint32) * GOLDEN
    return _mix(row + column) >= threshold(p)


def words(seed: int) -> tuple[Any, Any]:
    """The two halves of a seed."""
    return np.uint32(seed & 0xFFFFFFFF), np.uint32((seed >> 32) & 0xFFFFFFFF)


def threshold(p: float) -> Any:
    """Below which a random uint32 is with probability p."""
    return np.uint32(min(round(p * 2**32), 2**32 - 1))


GOLDEN, MIX_1, MIX_2 = np.uint32(0x9E3779B9), np.uint32(0x7FEB352D), np.uint32(0x846CA68B)


def _mix(x: Any) -> Any:
    """Each uint32 turned into one that looks random, in place. The constants are those that Wellons found to mix best
    (Hash Function Prospector, 2018)."""
    library = xp(x)
    shifted = library.right_shift(x, 16)
    x ^= shifted
    x *= MIX_1
    x ^= library.right_shift(x, 15, out=shifted)
    x *= MIX_2
    x ^= library.right_shift(x, 16, out=shifted)
    return x


def _dtypes(dtype: Any) -> tuple[np.dtype, np.dtype]:
    """The dtype asked for, and the one in which its numbers are drawn. Raises TypeError for integers."""
    dtype = np.dtype(dtype or get_default_dtype())
    if dtype.kind != "f":
        raise TypeError(f"random numbers from a continuous distribution cannot be {dtype}; use float32, or randint")
    return dtype, dtype if dtype in (np.float32, np.float64) else np.dtype(np.float32)


def normal(shape: tuple[int, ...], mean: float, std: float, dtype: Any, generator: Generator) -> Any:
    """Normally distributed numbers, as an array."""
    dtype, wide = _dtypes(dtype)
    with on(generator.device):
        x = generator.numbers.standard_normal(shape, dtype=wide)
        x *= wide.type(std)
        x += wide.type(mean)
        return x.astype(dtype, copy=False)


def uniform(shape: tuple[int, ...], low: float, high: float, dtype: Any, generator: Generator) -> Any:
    """Numbers from [low, high), all equally likely, as an array."""
    dtype, wide = _dtypes(dtype)
    with on(generator.device) as library:
        x = generator.numbers.random(shape, dtype=wide)
        x *= wide.type(high - low)
        x += wide.type(low)
        x = x.astype(dtype, copy=False)
        if low < high:  # rounding may have made it `high`
            library.minimum(x, np.nextafter(dtype.type(high), dtype.type(low)), out=x)
        return x
