"""Kernels in NumPy: the same formulas on blocks of rows that fit into the cache, in place, in threads."""

from . import attention, elementwise, loss, normalise, product
