"""Check every op on its samples: python -m tensorlite.check

Prints a line per op and a total. The exit code is 1 if something is wrong, 2 for a command line that cannot be obeyed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from ..op import OPS
from ..utils.pipe import reader_may_leave
from .page import page
from .report import DEFINITION, as_json, table, total
from .run import load, run


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="tensorlite.check", description="Check the gradients of every op on its samples.", epilog=DEFINITION
    )
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="a module or a .py file whose ops are checked too")
    parser.add_argument("--import", dest="imports", action="append", default=[], metavar="MODULE", help="the same")
    parser.add_argument(
        "--op", dest="ops", action="append", default=[], metavar="NAME", help="check this op only; may be repeated"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was found as JSON")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write it as one page for a browser")
    options = parser.parse_args(argv)

    for name in [*options.modules, *options.imports]:
        try:
            load(name)
        except Exception as error:  # whatever the user's module does when imported
            parser.exit(2, f"tensorlite.check: {name} cannot be imported: {type(error).__name__}: {error}\n")
    for name in options.ops:
        if name not in OPS:
            meant = get_close_matches(name, OPS, 1)
            parser.exit(
                2, f"tensorlite.check: there is no op {name!r}{f'; did you mean {meant[0]!r}?' if meant else ''}\n"
            )
    for path in filter(None, (options.json, options.html)):
        if not path.parent.is_dir():
            parser.exit(2, f"tensorlite.check: there is no folder {path.parent} for {path.name}\n")

    result = run(options.ops or list(OPS), _bar if sys.stderr.isatty() else iter)
    print(table(result, shutil.get_terminal_size().columns))
    for entry in result.wrong:
        print(f"\n{entry.report.problems()}")
    print(f"\n{total(result)}")
    if options.json:
        options.json.write_text(json.dumps(as_json(result), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    if options.html:
        options.html.write_text(page(result), encoding="utf-8")
    return 1 if result.wrong else 0


def _bar(names: Sequence[str]) -> Sequence[str]:
    """The loop with a progress bar, if there is tqdm to draw it."""
    try:
        from tqdm import tqdm
    except ImportError:
        return names
    return tqdm(names, desc="checking", unit="op", leave=False)


if __name__ == "__main__":
    with reader_may_leave():
        sys.exit(main())
