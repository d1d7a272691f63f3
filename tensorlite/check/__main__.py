"""Check every op on its samples: python -m tensorlite.check

Prints a line per op and a total. With --device cuda the ops run there, and are held against the CPU's.
The exit code is 1 if something is wrong, 2 for a command line that cannot be obeyed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from ..creation import tensor
from ..op import OPS
from ..utils.pipe import reader_may_leave
from .on_device import TOLERANCE, compare
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
    parser.add_argument(
        "--device", default="cpu", metavar="NAME", help="compare the ops on this device, cuda say, with the CPU instead"
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

    if options.device != "cpu":
        if options.json or options.html:
            parser.exit(
                2, "tensorlite.check: --json and --html are for the CPU, where gradients are held against slopes\n"
            )
        try:
            tensor(0.0, device=options.device)
        except (RuntimeError, ValueError) as error:
            parser.exit(2, f"tensorlite.check: --{error}\n")
        return _on_device(options.ops or list(OPS), options.device)
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


def _on_device(names: Sequence[str], device: str) -> int:
    """A line for each op and dtype with its largest errors, and a line for each mistake."""
    print(f"{'op':<24}{'dtype':<9}{'samples':>8}  {'values':>9}{'gradient':>10}{'second':>9}   off from the CPU")
    wrong = []
    for name in _bar(names) if sys.stderr.isatty() else names:
        for dtype in TOLERANCE:
            found = list(compare([name], device, [dtype]))
            wrong += [c for c in found if not c.ok]
            if found:
                worst = [max(getattr(c, part) for c in found) for part in ("values", "gradients", "second")]
                errors = "".join(f"{error:>{width}.1e}" for error, width in zip(worst, (9, 10, 9), strict=True))
                print(f"{name:<24}{dtype:<9}{len(found):>8}  {errors}   {'' if all(c.ok for c in found) else 'WRONG'}")
    for c in wrong:
        print(f"\n{c.op}, sample {c.number}, {c.level}, {c.dtype}: {c.problem or 'too far from what the CPU computes'}")
    print(f"\n{len(names)} ops on {device}, {len(wrong)} samples wrong")
    return 1 if wrong else 0


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
