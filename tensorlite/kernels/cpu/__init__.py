"""Kernels in NumPy: the same formulas on blocks of rows that fit into the cache, in place, in threads."""

from . import activation, attention, loss, matrix, normalisation, one_query
