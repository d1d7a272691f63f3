"""Switches that PyTorch programs set: `cuda.matmul.allow_tf32`. The others can be written and read, and that is all."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

# CuPy's numbers for how products of float32 are computed (cupy/_core/_routines_linalg.pxd).
_COMPUTE_TYPE_DEFAULT, _COMPUTE_TYPE_TF32 = 1, 7
_precision = "high" if os.environ.get("CUPY_TF32", "0") == "1" else "highest"


def set_float32_matmul_precision(precision: str) -> None:
    """How products of float32 are computed on a GPU: "highest" in float32, "high" and "medium" in TF32, whose factors
    have 10 bits behind the point instead of 23 and which is some eight times as fast. Sums are float32 in each.

    PyTorch's "medium" may use bfloat16. On a CPU it changes nothing. Raises ValueError for other words.
    """
    global _precision
    if precision not in ("highest", "high", "medium"):
        raise ValueError(f"set_float32_matmul_precision: expected 'highest', 'high' or 'medium', not {precision!r}")
    before, _precision = tf32(), precision
    if tf32() == before:
        return
    os.environ["CUPY_TF32"] = str(int(tf32()))  # CuPy reads it at its first product
    cupy = sys.modules.get("cupy")
    if cupy is not None and cupy.cuda.is_available() and hasattr(cupy, "_core"):
        cupy._core.set_compute_type("float32", _COMPUTE_TYPE_TF32 if tf32() else _COMPUTE_TYPE_DEFAULT)


def get_float32_matmul_precision() -> str:
    return _precision


def tf32() -> bool:
    """Whether products of float32 on a GPU are computed in TF32."""
    return _precision != "highest"


class _Matmul:
    """torch.backends.cuda.matmul"""

    @property
    def allow_tf32(self) -> bool:
        return tf32()

    @allow_tf32.setter
    def allow_tf32(self, value: bool) -> None:
        set_float32_matmul_precision("high" if value else "highest")


cuda = SimpleNamespace(matmul=_Matmul())
cudnn = SimpleNamespace(allow_tf32=False, benchmark=False, deterministic=True, enabled=False)
