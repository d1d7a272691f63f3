"""Pictures: a run's curves, a confusion, a histogram."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tensorlite.serialize import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRAINING, VALIDATION = "#9db8d9", "#c0392b"
PALETTE = ("#2c7fb8", "#d95f0e", "#31a354", "#756bb1")
Metrics = Sequence[dict[str, Any]]  # the lines of metrics.jsonl


@contextmanager
def drawing(path: Path, width: float, height: float) -> Iterator[Figure]:
    """Inside, a figure of so many inches; afterwards it is a PNG at `path`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no display, and no global state
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    yield figure
    with (
        replacing(path) as beside,
        warnings.catch_warnings(),
    ):  # on a busy machine it takes long to place a legend, and Matplotlib says so
        warnings.filterwarnings("ignore", "Creating legend with loc", UserWarning)
        figure.savefig(beside, format="png")


@contextmanager
def picture(path: Path, width: float = 7, height: float = 4) -> Iterator[Axes]:
    """Inside, axes to draw on; afterwards they are a PNG at `path`."""
    with drawing(path, width, height) as figure:
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        yield axes
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)


def loss_curve(
    metrics: Metrics,
    path: Path,
    title: str,
    chance: float | None = None,
    unit: str = "nats per token",
    known: str = "ln(vocabulary)",
) -> None:
    """Draw training and validation loss over the steps.

    chance   the loss of a model that knows nothing, which `known` names, drawn as a line
    """
    with picture(path) as axes:
        _line(axes, metrics, "train_loss", "training (one step)", TRAINING, linewidth=1)
        val = _line(axes, metrics, "val_loss", "validation", VALIDATION, linewidth=2, marker="o", markersize=3)
        _name_last(axes, val, ".3f", 6)
        if chance is not None:
            axes.axhline(chance, color="#999999", linewidth=1, linestyle=":", label=f"knows nothing: {known}")
        axes.set(xlabel="step", ylabel=f"loss ({unit})", title=title)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.25)


def accuracy_curve(
    metrics: Metrics,
    path: Path,
    title: str,
    chance: float,
    known: str = "guesses the most frequent class",
    names: tuple[str, str] = ("training", "validation"),
) -> None:
    """Draw the share of right answers over the steps, train_accuracy and val_accuracy by their `names`.

    chance   the share of a model that does what `known` says, drawn as a line
    """
    with picture(path) as axes:
        _line(axes, metrics, "train_accuracy", names[0], TRAINING, linewidth=2, marker="o", markersize=3)
        val = _line(axes, metrics, "val_accuracy", names[1], VALIDATION, linewidth=2, marker="o", markersize=3)
        _name_last(axes, val, ".1%", -16)
        axes.axhline(chance, color="#999999", linewidth=1, linestyle=":", label=known)
        axes.yaxis.set_major_formatter(lambda y, _: f"{y:.0%}")
        axes.set(xlabel="step", ylabel="right answers", title=title, ylim=(0, 1.02))
        axes.grid(alpha=0.25)


def curves(metrics: Metrics, path: Path, title: str, ylabel: str, names: dict[str, str]) -> None:
    """Draw the numbers of metrics.jsonl that `names` names, each with its label, over the steps."""
    with picture(path) as axes:
        for (name, label), color in zip(names.items(), PALETTE, strict=False):
            _line(axes, metrics, name, label, color, linewidth=2, marker="o", markersize=3)
        axes.axhline(0, color="#999999", linewidth=1, linestyle=":")
        axes.set(xlabel="step", ylabel=ylabel, title=title)
        axes.grid(alpha=0.25)


def confusion_picture(counts: np.ndarray, classes: Sequence[str], path: Path, title: str) -> None:
    """Draw counts (K, K), of true classes as rows and answers as columns; the colour is the share of the row."""
    size = 2.6 + 0.55 * len(classes)
    with picture(path, max(4.0, size + 0.6), max(3.4, size)) as axes:
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        places = range(len(classes))
        axes.set_xticks(places, classes, rotation=45 if len(classes) > 3 else 0)
        axes.set_yticks(places, classes)
        if len(classes) <= 20:
            for i, j in np.ndindex(*counts.shape):
                color = "white" if share[i, j] > 0.5 else "black"
                axes.text(j, i, f"{counts[i, j]:,}", ha="center", va="center", color=color)
        axes.set(xlabel="answer", ylabel="true class", title=title)


def histogram(values: Sequence[float], path: Path, title: str, xlabel: str, edges: Sequence[float]) -> None:
    """Draw how many values lie between the `edges`, the last of which belongs to the bin before it; and their mean."""
    with picture(path) as axes:
        counts, _ = np.histogram(values, list(edges))
        bars = axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=TRAINING, edgecolor="white")
        axes.bar_label(bars, [f"{count:,}" if count else "" for count in counts], color="#666666")
        mean = float(np.mean(values))
        axes.axvline(mean, color=VALIDATION, linewidth=2, label=f"mean {mean:.2f}")
        axes.set_xticks(edges)
        axes.set(xlabel=xlabel, ylabel="answers", title=title)


def _line(axes: Axes, metrics: Metrics, name: str, label: str, color: str, **style: Any) -> list[tuple[int, float]]:
    points = [(m["step"], m[name]) for m in metrics if m.get(name) is not None]
    if points:
        axes.plot(*zip(*points, strict=True), color=color, label=label, **style)
    return points


def _name_last(axes: Axes, points: Sequence[tuple[int, float]], spec: str, above: int) -> None:
    if points:
        style = {"xytext": (4, above), "textcoords": "offset points", "color": VALIDATION, "ha": "right"}
        axes.annotate(f"{points[-1][1]:{spec}}", points[-1], **style)  # type: ignore[arg-type]
