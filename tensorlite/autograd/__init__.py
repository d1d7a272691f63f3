"""Automatic differentiation: the walk back through what was recorded, and what a user calls."""

from ..mode import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled
from . import functional
from .anomaly import detect_anomaly, is_anomaly_enabled, set_detect_anomaly
from .hooks import Handle
from .walk import backward, grad
