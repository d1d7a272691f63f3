"""The norm of all gradients, a factor for them, and Adam on all parameters: a launch each for all that have one dtype,
without waiting for the GPU."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ...amp.grad_scaler import unscale
from ...device import xp
from ...dtype import HALVES
from ...nn.utils import norm_of, scale
from ...optim.adamw import Adam, Numbers, begin
from ...optim.optimizer import Optimizer, master_of, one_by_one
from ...tensor import Tensor, written
from .module import launch, supported

CHUNK = 16384  # elements to a block: as in optim.cu
THREADS = 256

NUMBERS = np.dtype(
    [(name, np.float32) for name in ("rest1", "beta2", "rest2", "eps", "step", "shrink", "decay", "sign")]
)


@lru_cache(maxsize=64)  # a training step asks for the same few
def _addresses_on(library: Any, device: int, addresses: tuple[int, ...]) -> Any:
    return library.asarray(np.array(addresses, np.uint64))


@lru_cache(maxsize=64)
def _layout(library: Any, device: int, sizes: tuple[int, ...]) -> tuple[Any, Any, int]:
    """Of arrays of these sizes, on the device: the sizes; which array and which part of it each block works on; and the
    number of blocks."""
    chunks = [(i, part) for i, size in enumerate(sizes) for part in range(-(-size // CHUNK))]
    return library.asarray(np.array(sizes, np.int64)), library.asarray(np.array(chunks, np.int32)), len(chunks)


def _addresses(arrays: Sequence[Any | None]) -> list[int]:
    return [0 if x is None else x.data.ptr for x in arrays]


def _tables(*lists: Sequence[Any | None]) -> tuple[Any, Any, Any, int]:
    """What a kernel is told of arrays, all on one device: a row of addresses per place in the lists; sizes and chunks
    as in `_layout`, of the first list; and the number of blocks. Copied there once, while they stay the same."""
    first: Any = lists[0]
    library, device = xp(first[0]), getattr(first[0].device, "id", 0)
    rows = zip(*map(_addresses, lists), strict=True)
    table = _addresses_on(library, device, tuple([address for row in rows for address in row]))
    return table, *_layout(library, device, tuple([x.size for x in first]))


def _alike(arrays: Iterable[Any]) -> list[list[Any]]:
    """The arrays of each dtype."""
    found = defaultdict(list)
    for x in arrays:
        found[x.dtype].append(x)
    return list(found.values())


def norm(gradients: Sequence[Any]) -> Any:
    """The norm of all gradients as one vector: an array of float32 without dimensions."""
    gradients = [xp(g).ascontiguousarray(g) for g in gradients]
    if not all(map(supported, gradients)):
        return NotImplemented
    like = gradients[0]
    work = [(arrays[0], _tables(arrays)) for arrays in _alike(gradients)]
    parts = xp(like).empty(sum(count for _, (*_, count) in work), np.float32)
    done = 0
    for arrays, (addresses, sizes, chunks, count) in work:
        part = parts[done : done + count]
        launch("optim", "norm_parts", arrays, (count,), (THREADS,), addresses, sizes, chunks, part)
        done += count
    result = xp(like).empty((), np.float32)
    launch("optim", "norm_total", like, (1,), (1024,), parts, np.int32(len(parts)), result)
    return result


def scale_all(gradients: Sequence[Any], factor: Any, found: Any = None) -> Any:
    """Multiply gradients by an array of one number; `found` becomes true if a product is not finite."""
    gradients = [g for g in gradients if g.size]
    if not all(map(supported, gradients)):
        return NotImplemented
    factor = xp(gradients[0]).asarray(factor, np.float32) if gradients else None
    for arrays in _alike(gradients):
        *tables, count = _tables(arrays)
        launch("optim", "scale", arrays[0], (count,), (THREADS,), *tables, factor, found)
    return None


def unscale_all(gradients: Sequence[Any], inverse: Any) -> Any:
    """Multiply gradients by an array of one number: whether a product is not finite, on their device."""
    found = xp(gradients[0]).zeros((), bool)
    return NotImplemented if scale_all(gradients, inverse, found) is NotImplemented else found


def adam(
    params: Sequence[Any],
    gradients: Sequence[Any],
    averages: Sequence[Any],
    squares: Sequence[Any],
    largest: Sequence[Any | None],
    originals: Sequence[Any | None],
    skip: Any,
    numbers: Numbers,
) -> None:
    """A step of Adam, written into all but the gradients.

    params, gradients           contiguous, of one dtype
    averages, squares, largest  float32, in the shapes of the parameters; None for `largest` without amsgrad
    originals                   float32 parameters, from which those of two bytes are rounded; None for float32 ones
    skip                        an array of one bool on the GPU: if it is true, nothing is done; or None
    """
    *tables, count = _tables(params, gradients, averages, squares, largest, originals)
    beta1, beta2, *others = numbers
    by = np.array((1 - beta1, beta2, 1 - beta2, *others), NUMBERS)
    launch("optim", "adam", params[0], (count,), (THREADS,), *tables, skip, by)


def _takes(p: Tensor, state: dict[str, Any]) -> bool:
    """Whether the kernel does what `Adam.update` would."""
    held = [x.array for x in state.values() if isinstance(x, Tensor) and x.ndim == p.ndim]
    fits = supported(p.array) and p.grad is not None and p.grad.dtype == p.dtype
    return fits and all(x.dtype == np.float32 and x.flags.c_contiguous for x in held)


def _move(params: Sequence[Tensor], optimizer: Optimizer, group: dict[str, Any]) -> Any:
    """Adam's step for parameters on one device, in a launch for all that have one dtype and have made as many steps."""
    if type(optimizer).update is not Adam.update:  # somebody's own
        return NotImplemented
    alike = defaultdict(list)
    for p in params:
        state = optimizer.state[p]
        alike[(p.dtype, int(state.get("step", 0))) if _takes(p, state) else None].append(p)
    one_by_one(alike.pop(None, []), optimizer, group)
    for together in alike.values():
        rows = []
        for p in together:
            state, g = optimizer.state[p], p.grad.array  # type: ignore[union-attr]
            original = master_of(p, state).array if p.dtype in HALVES else None
            (m, v, *largest), numbers = begin(p.array if original is None else original, group, state)
            if original is not None and "master" not in state:
                state["master"] = Tensor._of(original)
            rows.append((p.array, xp(g).ascontiguousarray(g), m, v, *(largest or [None]), original))
        adam(*zip(*rows), optimizer.found_inf, numbers)  # type: ignore[call-arg, arg-type]
        for p in together:
            written(p)
    return None


norm_of.kernel("cuda", norm)
scale.kernel("cuda", scale_all)
unscale.kernel("cuda", unscale_all)
Adam.together.kernel("cuda", _move)
