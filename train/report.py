"""Pictures of a run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def loss_curve(metrics: Sequence[dict[str, Any]], path: Path, title: str, uniform: float | None = None) -> None:
    """Draw training and validation loss over the steps of `metrics` (the lines of metrics.jsonl) into a PNG.

    uniform   the loss of a model that knows nothing, ln(vocabulary), drawn as a line
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no display, and no global state
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    train = [(m["step"], m["train_loss"]) for m in metrics if m.get("train_loss") is not None]
    val = [(m["step"], m["val_loss"]) for m in metrics if m.get("val_loss") is not None]
    if train:
        axes.plot(*zip(*train, strict=True), color="#9db8d9", linewidth=1, label="training (one step)")
    if val:
        axes.plot(*zip(*val, strict=True), color="#c0392b", linewidth=2, marker="o", markersize=3, label="validation")
        axes.annotate(
            f"{val[-1][1]:.3f}", val[-1], xytext=(4, 6), textcoords="offset points", color="#c0392b", ha="right"
        )
    if uniform is not None:
        axes.axhline(uniform, color="#999999", linewidth=1, linestyle=":", label="knows nothing: ln(vocabulary)")
    axes.set(xlabel="step", ylabel="loss (nats per token)", title=title)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if train or val:
        axes.legend(frameon=False)
    partial = path.with_suffix(".part.png")
    figure.savefig(partial)
    os.replace(partial, path)
