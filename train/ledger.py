"""What a long evaluation has found so far, a line each, so that it can be stopped and taken up again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gpt.options import UsageError
from train.run import replace_text


class Ledger:
    """A file of JSON lines: first what the records are about, then a record for each item by its number.

    path   the file. If it is there, its records are taken over; a line that was cut is forgotten
    about  all that the records depend on, as JSON can hold it

    UsageError where its records are about something else: those of two evaluations never mix.
    """

    def __init__(self, path: Path, about: dict[str, Any]):
        self.path = path
        self.records: dict[int, dict[str, Any]] = {}
        lines = [line for line in map(_parsed, self._read().splitlines()) if line is not None]
        about = json.loads(json.dumps(about))
        if lines[1:] and (before := lines[0].get("about")) != about:
            before = before if isinstance(before, dict) else {}
            other = [name for name in about if before.get(name) != about[name]]
            raise UsageError(
                f"{path} has the results of another evaluation, which differs in {', '.join(other) or 'everything'}; "
                "choose another --out"
            )
        for line in lines[1:]:
            self.records[line.pop("number")] = line
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            whole = [{"about": about}, *({"number": i, **record} for i, record in self.records.items())]
            replace_text(path, "".join(json.dumps(line) + "\n" for line in whole))
        except OSError as error:
            raise UsageError(f"--out {path.parent}: cannot be written: {error.strerror}") from None

    def _read(self) -> str:
        try:
            return self.path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise UsageError(f"--out {self.path.parent}: cannot be read: {error.strerror}") from None

    def add(self, number: int, **record: Any) -> None:
        """Write the record of an item down."""
        self.records[number] = record
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"number": number, **record}) + "\n")


def _parsed(line: str) -> dict[str, Any] | None:
    """A line; None if the process died while it wrote it."""
    try:
        values = json.loads(line)
    except ValueError:
        return None
    return values if isinstance(values, dict) and ("about" in values or isinstance(values.get("number"), int)) else None
