"""Tables for a terminal, and numbers as people read them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence

NOTHING = "–"
_GAP = "  "
_LONGEST = 32  # characters of a setting that are shown, the last ones: of a path they say most


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Columns as wide as they must be, the first `left` of them aligned on the left, and the others on the right.

    >>> print(table(["run", "loss"], [["a", "1.5"], ["large", "0.25"]]))
    run    loss
    a       1.5
    large  0.25
    """
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = (
        _GAP.join(f"{cell:{'<' if i < left else '>'}{width}}" for i, (cell, width) in enumerate(zip(row, widths)))
        for row in (header, *rows)
    )
    return "\n".join(line.rstrip() for line in lines)


def beside(header: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None) -> str:
    """A table whose first column names the rows; where it is wider than `width`, by default the terminal's, its other
    columns stand below each other in parts, each with the first column again."""
    room = width or shutil.get_terminal_size((120, 24)).columns
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return "\n\n".join(
        table([header[i] for i in some], [[row[i] for i in some] for row in rows]) for some in _fitting(widths, room)
    )


def _fitting(widths: Sequence[int], room: int) -> Iterator[list[int]]:
    """The numbers of columns that fit side by side, the first always among them; each part has at least one more."""
    part, used = [0], widths[0]
    for i, width in list(enumerate(widths))[1:]:
        if len(part) > 1 and used + len(_GAP) + width > room:
            yield part
            part, used = [0], widths[0]
        part.append(i)
        used += len(_GAP) + width
    yield part


def shown(value: object) -> str:
    """A setting, as short as it can be.

    >>> shown(0.00030000000000000003), shown(None), shown(True), shown(["a", "b"]), shown("\\n")
    ('0.0003', 'none', 'yes', 'a b', "'\\\\n'")
    """
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.6g}"
        case list() | tuple():
            return " ".join(map(shown, value)) or "none"
    text = str(value) if str(value).isprintable() and str(value).strip() else repr(value)
    return text if len(text) <= _LONGEST else f"…{text[1 - _LONGEST :]}"


def duration(seconds: float) -> str:
    """
    >>> duration(7.4), duration(107), duration(36_000)
    ('7 s', '1 min 47 s', '10 h 0 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest} s"
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
