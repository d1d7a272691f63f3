"""Automatic differentiation: the walk back through what was recorded, and what a user calls."""

from .walk import Handle, grad
