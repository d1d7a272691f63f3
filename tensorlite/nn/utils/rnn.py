"""Sequences of different lengths as one batch."""

from __future__ import annotations

from collections.abc import Sequence

from ...creation import full
from ...ops.joining import cat, stack
from ...tensor import Tensor


def pad_sequence(
    sequences: Sequence[Tensor], batch_first: bool = False, padding_value: float = 0.0, padding_side: str = "right"
) -> Tensor:
    """Sequences (L, …) of different L as one Tensor (T, B, …), or (B, T, …) with batch_first, where T is the longest.

    padding_value  what stands behind the shorter ones, before them with padding_side="left"

    Raises ValueError if there is no sequence, or if they differ in more than L.
    """
    if padding_side not in ("left", "right"):
        raise ValueError(f"pad_sequence: padding_side is 'left' or 'right', not {padding_side!r}")
    sequences = list(sequences)
    if not sequences or any(not x.ndim or x.shape[1:] != sequences[0].shape[1:] for x in sequences):
        raise ValueError(
            "pad_sequence: expected one sequence at least, all of one shape but for the first dimension, not "
            f"{[x.shape for x in sequences]}"
        )
    longest = max(len(x) for x in sequences)
    padded = []
    for x in sequences:
        missing = full((longest - len(x), *x.shape[1:]), padding_value, dtype=x.dtype, device=x.device)
        padded.append(cat([x, missing] if padding_side == "right" else [missing, x]))
    return stack(padded, 0 if batch_first else 1)
