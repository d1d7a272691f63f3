"""Training in float16, which loses what is below 6e-8: the loss is multiplied by a scale, and so are all gradients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ..device import follow, on, wandering, xp
from ..dtype import HALVES
from ..many import Many
from ..mode import no_grad
from ..tensor import Tensor, written


@Many
def unscale(gradients: list[Any], inverse: Any) -> Any:
    """Multiply gradients by an array without dimensions: whether one of them is inf or nan, in such an array too."""
    found = xp(inverse).zeros((), bool)
    for g in gradients:
        g *= inverse
        found = found | ~xp(g).isfinite(g).all()
    return found


class GradScaler:
    """Scales the loss up, the gradients back down, and skips steps whose gradient is not finite.

        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)                 # only if something looks at the gradients before the step: clipping
        scaler.step(optimizer)
        scaler.update()

    device           "cuda" or "cpu": where the scale is
    init_scale       the first scale
    growth_factor    what the scale is multiplied by after growth_interval steps without inf or nan
    backoff_factor   what it is multiplied by after a step that was skipped
    enabled          False: everything passes through

    No step waits for the GPU to finish it. What is found in the gradients stays there, and the optimiser keeps its old
    numbers by it (`Optimizer.found_inf`); that a step did not count is read back in the next one.

    bfloat16 reaches as far as float32, and needs no scaler.

    Micikevicius et al., Mixed precision training, 2018.
    """

    def __init__(
        self,
        device: str = "cuda",
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ):
        if growth_factor <= 1 or not 0 < backoff_factor < 1 or growth_interval < 1 or init_scale <= 0:
            raise ValueError(
                "GradScaler: growth_factor is above 1, backoff_factor between 0 and 1, growth_interval at least 1 and "
                f"init_scale above 0; given are {growth_factor}, {backoff_factor}, {growth_interval} and {init_scale}"
            )
        self._device, self._enabled = device, bool(enabled)
        self._late = False  # True treats a CPU as a GPU, which cannot be asked without waiting for it
        self._growth_factor, self._backoff_factor, self._growth_interval = (
            growth_factor,
            backoff_factor,
            growth_interval,
        )
        self._numbers: tuple[Any, Any] | None = None  # scale and growth tracker, arrays without dimensions
        self._start = (float(init_scale), 0)
        # Since the last update(): of each optimiser whether inf or nan was found, and whether it has stepped.
        self._found: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
        self._stepped: set[int] = set()
        self._before: WeakKeyDictionary[Any, Late] = WeakKeyDictionary()  # what was found for the last step

    # Before the first use they are numbers, so that a scaler for a GPU can be made, saved and loaded without one.
    def _arrays(self) -> tuple[Any, Any]:
        if self._numbers is None:
            with on(self._device) as where:
                self._numbers = where.asarray(self._start[0], np.float32), where.asarray(self._start[1], np.int32)
        return self._numbers

    @contextmanager
    def _there(self) -> Iterator[None]:
        """With the GPU of the scale as the current one."""
        with wandering():
            follow(self._arrays()[0])
            yield

    def scale(self, outputs: Any) -> Any:
        """A Tensor, or each of several, times the scale."""
        if not self._enabled:
            return outputs
        if isinstance(outputs, Tensor):
            return outputs * Tensor._of(self._arrays()[0])
        if isinstance(outputs, Iterable):
            kind = type(outputs) if isinstance(outputs, (list, tuple)) else list
            return kind([self.scale(x) for x in outputs])
        raise TypeError(f"GradScaler.scale: expected a Tensor or several, not {type(outputs).__name__}")

    @no_grad()
    def unscale_(self, optimizer: Any) -> None:
        """Divide the gradients of an optimiser's parameters by the scale, and note whether they are finite.

        Raises RuntimeError if that was done since the last update(), ValueError for gradients of two bytes a number.
        """
        if not self._enabled:
            return
        if optimizer in self._found:
            raise RuntimeError("GradScaler.unscale_: called twice since the last update(); once per step is enough")
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        for g in gradients:
            if g.dtype in HALVES:
                raise ValueError(
                    f"GradScaler.unscale_: a gradient is {g.dtype}; parameters stay float32 under autocast, "
                    "leave out model.half()"
                )
            written(g)
        with self._there():
            self._found[optimizer] = unscale([g.array for g in gradients], 1 / self._arrays()[0])

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """optimizer.step(*args), unless a gradient is inf or nan; unscales first, if that was not done."""
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs or args:
            raise RuntimeError("GradScaler.step: a closure would compute gradients that are not scaled; leave it out")
        if id(optimizer) in self._stepped:
            raise RuntimeError("GradScaler.step: called twice since the last update()")
        if optimizer not in self._found:
            self.unscale_(optimizer)
        self._stepped.add(id(optimizer))
        found = self._found[optimizer]
        if xp(found) is np and not self._late:
            return None if found else optimizer.step()
        return self._step_later(optimizer, found)

    def _step_later(self, optimizer: Any, found: Any) -> Any:
        """A step of which only the device knows whether it counts."""
        if (before := self._before.get(optimizer)) is not None and before.read():
            for state in optimizer.state.values():
                if "step" in state:
                    state["step"] -= 1
        with self._there():
            self._before[optimizer] = Late(found)
        optimizer.found_inf = found
        try:
            return optimizer.step()
        finally:
            optimizer.found_inf = None

    def update(self, new_scale: float | Tensor | None = None) -> None:
        """Set the scale for the next step: `new_scale`, or what the steps since the last update() say."""
        if not self._enabled:
            return
        with self._there():
            self._numbers = self._next(new_scale)
        self._found.clear()
        self._stepped.clear()

    def _next(self, new_scale: float | Tensor | None) -> tuple[Any, Any]:
        scale, tracker = self._arrays()
        library = xp(scale)
        if new_scale is not None:
            value = new_scale.item() if isinstance(new_scale, Tensor) else new_scale
            return library.asarray(value, np.float32), tracker
        if not self._found:
            raise RuntimeError("GradScaler.update: nothing was unscaled; call step(optimizer) before")
        found = library.asarray(False)
        for each in self._found.values():
            found = found | each
        grows = ~found & (tracker + 1 >= self._growth_interval)
        grown = scale * np.float32(self._growth_factor)
        grown = library.where(library.isfinite(grown), grown, scale)
        smaller = scale * np.float32(self._backoff_factor)
        scale = library.where(found, smaller, library.where(grows, grown, scale))
        tracker = library.where(found | grows, 0, tracker + 1)
        return scale.astype(np.float32), tracker.astype(np.int32)

    def get_scale(self) -> float:
        """The scale, for which a GPU is waited for."""
        return self.state_dict()["scale"] if self._enabled else 1.0

    def is_enabled(self) -> bool:
        return self._enabled

    def get_growth_factor(self) -> float:
        return self._growth_factor

    def get_backoff_factor(self) -> float:
        return self._backoff_factor

    def get_growth_interval(self) -> int:
        return self._growth_interval

    def state_dict(self) -> dict[str, Any]:
        """PyTorch's names; empty if not enabled. Waits for a GPU."""
        if not self._enabled:
            return {}
        scale, tracker = self._numbers or self._start
        return {
            "scale": float(scale),
            "growth_factor": self._growth_factor,
            "backoff_factor": self._backoff_factor,
            "growth_interval": self._growth_interval,
            "_growth_tracker": int(tracker),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave. Raises RuntimeError for that of a scaler that was not enabled."""
        if not self._enabled:
            return
        if not state_dict:
            raise RuntimeError("GradScaler.load_state_dict: the state is that of a scaler that was not enabled")
        self._growth_factor, self._backoff_factor = state_dict["growth_factor"], state_dict["backoff_factor"]
        self._growth_interval = state_dict["growth_interval"]
        self._numbers, self._start = None, (float(state_dict["scale"]), int(state_dict["_growth_tracker"]))


class Late:
    """The value of an array without dimensions, which is on its way from a GPU while the host goes on."""

    def __init__(self, array: Any):
        self.value, self.arrived = array, None
        if (library := xp(array)) is not np:
            memory = library.cuda.alloc_pinned_memory(array.nbytes)
            self.value = np.frombuffer(memory, array.dtype, 1).reshape(())
            array.get(out=self.value, blocking=False)
            self.arrived = library.cuda.Event(disable_timing=True)
            self.arrived.record()

    def read(self) -> Any:
        if self.arrived is not None:
            self.arrived.synchronize()
        return self.value
