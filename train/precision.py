"""In which numbers a run computes: `--precision`. Its weights, and what the optimiser remembers, are float32 always."""

from __future__ import annotations

import sys
from typing import Any

import tensorlite as tl
from gpt.options import UsageError

HALF = {"bf16": "bfloat16", "fp16": "float16"}
# Gradients that are not finite with a scale below this one are no longer the scale's fault.
LEAST_SCALE = 1.0


class Precision:
    """What `fp32`, `tf32`, `bf16` or `fp16` means on a device: how ops are cast, how the loss is scaled.

    Raises UsageError if the machine cannot.
    """

    def __init__(self, name: str, device: str):
        self.half = HALF.get(name)
        try:
            self.autocast = tl.autocast(tl.device(device).type, self.half, enabled=self.half is not None)
        except RuntimeError as error:
            raise UsageError(f"--precision {name}: {error}") from None
        self.scaler = tl.amp.GradScaler(device, enabled=name == "fp16")
        tl.set_float32_matmul_precision("high" if name == "tf32" else "highest")

    @property
    def parts(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        return {"scaler": self.scaler} if self.scaler.is_enabled() else {}

    def overflowed(self) -> bool:
        """Whether a gradient that is not finite may come from the scale of the loss, which the scaler will lower."""
        return self.scaler.is_enabled() and self.scaler.get_scale() > LEAST_SCALE


def check_precision(name: str, device: str) -> None:
    """UsageError if this machine cannot compute so; says on stderr what a CPU makes of it."""
    Precision(name, device)
    if device == "cpu" and name != "fp32":
        what = "float32" if name == "tf32" else f"float32, and rounds to {HALF[name]}: for study, and slower than fp32"
        print(f"--precision {name}: a CPU computes in {what}", file=sys.stderr)
