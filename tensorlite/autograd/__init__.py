"""Automatic differentiation: the walk back through what was recorded, and what a user calls."""

from .hooks import Handle
from .walk import backward, grad
