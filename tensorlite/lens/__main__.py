"""A complete small example, in the terminal and as a page: python -m tensorlite.lens

A learner's two layers with batch normalisation and cross-entropy, all written out (example.py): its text, its memory,
a wrong answer diagnosed, and the page, lens.html. With `--exercise FILE` it also writes the exercise.
"""

from __future__ import annotations

import argparse
import inspect
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from ..utils.pipe import reader_may_leave
from . import compare, example, exercise, record


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tensorlite.lens", description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("lens.html"), metavar="FILE", help="the page (lens.html)")
    parser.add_argument("--exercise", type=Path, metavar="FILE", help="also write the exercise, a .py file")
    parser.add_argument("--help-level", type=int, choices=range(5), default=1, help="of the exercise (1)")
    options = parser.parse_args(argv)
    for path in filter(None, (options.out, options.exercise)):
        if not path.parent.is_dir():
            parser.exit(2, f"tensorlite.lens: there is no folder {path.parent} for {path.name}\n")

    given = example.data()
    with record() as tape:
        loss = example.forward(**given)
        loss.backward()
    width = shutil.get_terminal_size().columns
    _part("The program", inspect.getsource(example.forward).rstrip())
    _part("Its backward, a line per step: print(tape)", tape.text(width if sys.stdout.isatty() else None))
    _part("The same by hand: tape.as_numpy()", tape.as_numpy().rstrip())
    _part("What is kept for the backward: tape.memory()", str(tape.memory()))
    forgotten = tape["bndiff"].contributions[0].result
    _part('A wrong answer: lens.compare("dbndiff", mine)', str(compare("dbndiff", forgotten, of=tape, help=2)))
    if options.exercise:
        try:
            exercise(loss, options.exercise, options.help_level)
        except (OSError, ValueError) as error:
            parser.exit(2, f"\ntensorlite.lens: {error}\n")
        print(f"\nwrote {options.exercise}: fill in the blanks and run it")
    print(f"\nwrote {tape.html(options.out, 'Two layers, backwards')}: open it in a browser")
    return 0


def _part(title: str, text: str) -> None:
    print(f"\n{title}\n{'─' * len(title)}\n{text}")


if __name__ == "__main__":
    with reader_may_leave():
        sys.exit(main())
