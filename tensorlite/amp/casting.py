"""Which dtype each op computes in, where a program leaves that to `autocast`.

The lists are PyTorch's (https://docs.pytorch.org/docs/stable/amp.html, "op-specific behavior"). What is in neither runs
in the dtype of its inputs, and where these differ in the widest, as always (dtype.py).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import mode
from ..device import device_of
from ..dtype import HALVES, bfloat16, float16, float32
from ..ops.shape import to
from ..tensor import Tensor

# Products: they cost most, gain most, and add up in float32 whatever they are given.
LOW = frozenset(["matmul", "linear", "addmm", "baddbmm", "scaled_dot_product_attention"])
_LOSSES = "cross_entropy nll_loss mse_loss l1_loss smooth_l1_loss huber_loss binary_cross_entropy_with_logits kl_div"
# Sums, what overflows, and what is small differences of large numbers.
WIDE = {
    "cpu": frozenset(f"binary_cross_entropy prod {_LOSSES}".split()),
    "cuda": frozenset(
        "exp expm1 log log10 log2 log1p pow reciprocal rsqrt softplus softmax log_softmax logsumexp sum prod cumsum "
        f"norm layer_norm rms_norm cosine_similarity {_LOSSES}".split()
    ),
}
_DEFAULT = {"cpu": bfloat16, "cuda": float16}


class autocast:
    """Inside, each op chooses its dtype: a `with` block or a decorator.

        with tl.autocast("cuda", dtype=tl.bfloat16):
            loss = model(x, y)
        loss.backward()

    device_type    "cuda" or "cpu": ops there are cast; or the dtype alone, "bfloat16" or "float16", for both
    dtype          of products: bfloat16 or float16; by default float16 on "cuda" and bfloat16 on "cpu"
    enabled        False: inside, nothing is cast
    cache_enabled  whether a parameter is cast once for the whole block, however often it is used

    Parameters stay float32, and so do their gradients. Call backward() outside of the block. float16 ends at 65504 and
    loses what is below 6e-8, so train in it with a `GradScaler`. On a CPU the numbers are rounded as on a GPU, but each
    op computes in float32: to study what mixed precision does to a model, and slower than float32.

    Raises ValueError for another device or dtype, RuntimeError for bfloat16 without ml_dtypes. Micikevicius et al.,
    Mixed precision training, 2018.
    """

    def __init__(self, device_type: str, dtype: Any = None, enabled: bool = True, cache_enabled: bool | None = None):
        if device_type in ("bfloat16", "float16"):
            if dtype is not None:
                raise ValueError(f"autocast: {device_type!r} is a dtype already; the device_type is 'cuda' or 'cpu'")
            places, dtype = list(_DEFAULT), device_type
        elif device_type in _DEFAULT:
            places, dtype = [device_type], _DEFAULT[device_type] if dtype is None else dtype
        else:
            raise ValueError(
                f"autocast: device_type is 'cuda' or 'cpu', or the dtype, 'bfloat16' say; not {device_type!r}"
            )
        if dtype in (None, "bfloat16") and bfloat16 is None:
            if enabled:
                raise RuntimeError("autocast: bfloat16 needs ml_dtypes: pip install 'tensorlite[bf16]'")
            dtype = float16
        if enabled and np.dtype(dtype) not in HALVES:
            raise ValueError(f"autocast: dtype is bfloat16 or float16, not {dtype}")
        self.device_type, self.dtype, self.enabled = device_type, np.dtype(dtype), bool(enabled)
        self.given = dict.fromkeys(places, self.dtype if enabled else None)
        self.cache_enabled = cache_enabled
        self.before: list[Casting | None] = []  # a stack, because one object may be entered twice

    def __enter__(self) -> autocast:
        outer = mode.state.autocast
        self.before.append(outer)
        dtypes = {**(outer.dtypes if outer else {}), **self.given}
        if not any(dtypes.values()):
            mode.state.autocast = None
            return self
        cache = outer.cache if outer else {}
        caching = self.cache_enabled if self.cache_enabled is not None else outer.caching if outer else True
        mode.state.autocast = Casting(dtypes, cache, caching)
        return self

    def __exit__(self, *_: Any) -> None:
        mode.state.autocast = self.before.pop()

    def __call__(self, function: Callable) -> Callable:
        @functools.wraps(function)
        def cast(*args: Any, **options: Any) -> Any:
            with self:
                return function(*args, **options)

        return cast


class Casting:
    """What is in force in a thread (`mode.state.autocast`): a dtype for each kind of device, and casts made so far."""

    def __init__(self, dtypes: dict[str, Any], cache: dict[Any, Any], caching: bool):
        self.dtypes, self.cache, self.caching = dtypes, cache, caching

    def dtype(self, name: str, inputs: Sequence[Any]) -> Any:
        """In which an op or a function computes; None if its inputs decide."""
        where = next((device_of(x.array).type for x in inputs if isinstance(x, Tensor)), "nowhere")
        low = self.dtypes.get(where)
        return None if low is None else low if name in LOW else float32 if name in WIDE[where] else None

    def cast(self, name: str, inputs: Sequence[Any]) -> Sequence[Any]:
        dtype = self.dtype(name, inputs)
        if dtype is None:
            return inputs
        return [self._to(x, dtype) if isinstance(x, Tensor) else x for x in inputs]

    def _to(self, x: Tensor, dtype: np.dtype) -> Tensor:
        if x.dtype == dtype or (x.dtype != float32 and x.dtype not in HALVES):
            return x
        if not (self.caching and x._requires_grad and x.node is None and x.dtype == float32):
            return to(x, dtype)
        key = (id(x), dtype, x._version, mode.state.recording)
        if key not in self.cache:
            self.cache[key] = (x, to(x, dtype))  # x too: as long as it lives, nothing else has its id
        return self.cache[key][1]


def is_autocast_enabled(device_type: str = "cuda") -> bool:
    """Whether ops on such a device are cast now."""
    casting = mode.state.autocast
    return casting is not None and casting.dtypes.get(device_type) is not None


def get_autocast_dtype(device_type: str) -> Any:
    """The dtype in which products on such a device are computed, in a block of autocast."""
    casting = mode.state.autocast
    return (casting and casting.dtypes.get(device_type)) or _DEFAULT[device_type]
