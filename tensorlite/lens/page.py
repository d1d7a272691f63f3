"""The page: one HTML file with everything in it, that steps backwards through a program."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from .emit import Emission, leading_to
from .picture import Arrays, cards, graph

if TYPE_CHECKING:
    from .tape import Tape

_PARTS = Path(__file__).parent / "web"


def page(tape: Tape, title: str) -> str:
    walk = tape.last_walk("html")
    arrays = Arrays()
    calls = leading_to(walk, tape)
    emission = Emission(tape) if all(y.array is not None for c in calls for y in c.outputs) else None
    drawn = graph(calls)
    number = drawn.pop("number")
    data = drawn | {"cards": list(cards(tape, emission, number, arrays)), "title": title}
    data["arrays"] = arrays.data()
    text = json.dumps(data, separators=(",", ":"), allow_nan=False, ensure_ascii=False).replace("</", "<\\/")
    parts = {name: (_PARTS / name).read_text(encoding="utf-8") for name in ("page.html", "page.css")}
    script = "\n".join((_PARTS / f"{name}.js").read_text(encoding="utf-8") for name in ("arrays", "graph", "cards"))
    found = parts["page.html"]
    for key, value in (("TITLE", escape(title)), ("STYLE", parts["page.css"]), ("SCRIPT", script), ("DATA", text)):
        found = found.replace(f"@{key}@", value)
    return found
