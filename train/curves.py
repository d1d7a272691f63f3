"""Several runs in one picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from train.pictures import drawing
from train.record import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

X = Literal["step", "tokens", "time"]
_FIELDS = {"step": "step", "tokens": "tokens", "time": "seconds"}  # of metrics.jsonl
_TIMES = (("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0))
DISTINCT = 10  # runs that have colours which one can tell apart, and a line of the legend each


class Panel(NamedTuple):
    """What stands on one pair of axes: a number of the training steps, and one of the validations."""

    title: str
    train: str | None = None
    val: str | None = None

    def drawn(self, records: Sequence[Record], over: str) -> bool:
        return any(record.points(name, over) for record in records for name in (self.train, self.val) if name)


LOSS = Panel("loss", "train_loss", "val_loss")
_PANELS = (
    LOSS,
    Panel("right answers", "train_accuracy", "val_accuracy"),
    Panel("learning rate", "lr"),
    Panel("norm of the gradient, before clipping", "grad_norm"),
    Panel("tokens per second", "tokens_per_second"),
)


def side_by_side(records: Sequence[Record], names: Sequence[str], path: Path, x: X = "step") -> None:
    """Draw loss, learning rate, gradient norm and tokens per second of runs, and their right answers where one counts
    them, over the steps, the tokens or the time of training."""
    over = _FIELDS[x]
    palette, panels = colors(len(records)), [panel for panel in _PANELS if panel.drawn(records, over)]
    with _grid(path, len(panels), names, palette) as all_axes:
        for axes, panel in zip(all_axes, panels, strict=True):
            plot(axes, panel, records, palette, x)


@contextmanager
def _grid(path: Path, count: int, names: Sequence[str], palette: Sequence[str]) -> Iterator[list[Axes]]:
    """Inside, so many axes in rows of two or three; afterwards they are a PNG, with what the colours stand for."""
    columns = 3 if count == 3 or count > 4 else min(count, 2)
    rows = -(-count // columns)
    with drawing(path, 1.5 + 4.5 * columns, 0.7 + 3.2 * rows) as figure:
        yield [figure.add_subplot(rows, columns, number + 1) for number in range(count)]
        _legend(figure, names, palette)


def plot(axes: Axes, panel: Panel, records: Sequence[Record], palette: Sequence[str], x: X = "step") -> None:
    """Draw a panel's curves, of training thin and of validation thick, each run in its colour of the `palette`."""
    over = _FIELDS[x]
    label, unit = _unit(records) if x == "time" else (x, 1.0)
    for record, color in zip(records, palette, strict=True):
        thin = {"linewidth": 1, "alpha": 0.4 if panel.val and record.points(panel.val, over) else 0.9}
        thick = {"linewidth": 2, "marker": "o", "markersize": 3}
        for name, style in ((panel.train, thin), (panel.val, thick)):
            if name and (points := record.points(name, over)):
                xs, ys = zip(*points, strict=True)
                axes.plot([place / unit for place in xs], ys, color=color, **style)
    _dress(axes, panel.title, label)
    if panel.train and panel.val:
        axes.set_title("thin: training, thick: validation", loc="right", fontsize=8, color="#777777")
    if panel.title == "tokens per second":
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(lambda y, _: f"{y:,.0f}")
    if panel.title == "right answers":
        axes.yaxis.set_major_formatter(lambda y, _: f"{y:.0%}")
    if panel.val == LOSS.val:
        _cut_beginning(axes)
    if x != "time":
        axes.xaxis.set_major_formatter(lambda place, _: _short(place))


def search_picture(
    found: Sequence[tuple[Mapping[str, str], Record, float]], labels: Sequence[str], by: str, path: Path
) -> None:
    """Draw what a search has found: the runs' curves, and over each option that was searched the best of each run.

    found  the settings, the run and the best of its numbers `by`; the best run first
    """
    trials, records, best = zip(*found, strict=True)
    palette, words = colors(len(found)), by.replace("_", " ")
    names = [name for name in trials[0] if len({trial[name] for trial in trials}) > 1]
    with _grid(path, 1 + len(names), labels, palette) as (curves, *others):
        plot(curves, Panel(words, None, by), records, palette)
        for axes, name in zip(others, names, strict=True):
            _over_option(axes, [trial[name] for trial in trials], best, palette)
            _dress(axes, f"best {words}", name)


def _over_option(axes: Axes, values: Sequence[str], best: Sequence[float], palette: Sequence[str]) -> None:
    """Draw the best of each run, the best run first, over its value of an option; a line joins the best of each."""
    places = _places(values)
    if places is None:
        kinds = sorted(set(values))
        places = [float(kinds.index(value)) for value in values]
        axes.set_xticks(range(len(kinds)), kinds)
        axes.set_xlim(-0.5, len(kinds) - 0.5)
    else:
        if _geometric(places):
            axes.set_xscale("log")
        if len(set(places)) <= DISTINCT and len(set(places)) < len(places):
            axes.set_xticks(sorted(set(places)), [f"{place:g}" for place in sorted(set(places))])
            axes.set_xticks([], minor=True)
    if len(set(places)) <= len(places) / 2:
        first = dict(zip(reversed(places), reversed(best), strict=True))  # of equal places, the first stays
        axes.plot(sorted(first), [first[place] for place in sorted(first)], color="#bbbbbb", linestyle="--", zorder=1)
    axes.scatter(places, best, c=list(palette), s=45, zorder=2)
    axes.scatter(places[:1], best[:1], s=170, facecolors="none", edgecolors="#333333", zorder=3)


def _geometric(places: Sequence[float]) -> bool:
    """Whether places lie far apart, and rather as powers do than in equal steps."""
    low, high, middle = min(places), max(places), float(np.median(places))
    return 0 < 8 * low <= high and abs(middle - np.sqrt(low * high)) < abs(middle - (low + high) / 2)


def _places(values: Sequence[str]) -> list[float] | None:
    """Where values stand on an axis of numbers; None if they are no numbers."""
    try:
        return [float(value) for value in values]
    except ValueError:
        return None


def _cut_beginning(axes: Axes) -> None:
    """Let the loss begin where the first twentieth of the way is over: what comes before would leave no room."""
    x, y = np.concatenate([line.get_xydata() for line in axes.lines] or [np.empty((0, 2))]).T
    later = y[x >= x.max(initial=0) / 20]
    if later.size and (room := 0.05 * np.ptp(later)):
        axes.set_ylim(later.min() - room, later.max() + room)


def _dress(axes: Axes, title: str, xlabel: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel(xlabel)
    axes.grid(alpha=0.25)


def colors(count: int) -> list[str]:
    """So many colours: of a few, ones that are easy to tell apart; of many, ones in the order of a rainbow."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    if count <= DISTINCT:
        return [to_hex(color) for color in colormaps["tab10"].colors[:count]]  # type: ignore[attr-defined]
    return [to_hex(colormaps["viridis"](i / (count - 1) * 0.92)) for i in range(count)]


def _legend(figure: Figure, names: Sequence[str], palette: Sequence[str]) -> None:
    """Above all axes, what the colours stand for; of many runs, the first and the last."""
    from matplotlib.lines import Line2D

    said = list(zip(names, palette, strict=True))
    if len(said) > DISTINCT:
        said = [said[0], (f"… {len(said) - 2} others …", palette[len(palette) // 2]), said[-1]]
    lines = [Line2D([], [], color=color, linewidth=3) for _, color in said]
    room = int(10 * figure.get_figwidth())  # in letters
    columns = max(1, min(len(said), room // (max(len(name) for name, _ in said) + 6)))
    figure.legend(lines, [name for name, _ in said], loc="outside upper left", ncols=columns, frameon=False)


def _unit(records: Sequence[Record]) -> tuple[str, float]:
    """Hours, minutes or seconds, and how many seconds one has: the longest run has at least three of them."""
    longest = max((record.last.get("seconds", 0.0) for record in records), default=0.0)
    name, length = next((unit for unit in _TIMES if longest >= 3 * unit[1]), _TIMES[-1])
    return f"{name} of training", length


def _short(number: float) -> str:
    """2,000; 20K; 1.5M"""
    for letter, size, least in (("G", 1e9, 1e9), ("M", 1e6, 1e6), ("K", 1e3, 1e4)):
        if abs(number) >= least:
            return f"{number / size:g}{letter}"
    return f"{number:,.0f}"
