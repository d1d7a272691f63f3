"""Mixed precision: products in two bytes a number, what would lose by that in float32. docs/mixed-precision.md."""

from .casting import autocast, get_autocast_dtype, is_autocast_enabled
from .grad_scaler import GradScaler

__all__ = ["GradScaler", "autocast", "get_autocast_dtype", "is_autocast_enabled"]
