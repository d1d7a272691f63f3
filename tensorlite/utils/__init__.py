"""PyTorch's names for things that stand elsewhere, and checkpoint."""

from . import checkpoint, data
