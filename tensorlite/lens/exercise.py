"""An exercise from a program: the forward with every intermediate named, and blanks to fill for the backward."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..tensor import Tensor
from .answers import Answers, check_level
from .compare import Comparison, compare
from .emit import Emission, head
from .tape import Tape, tape_of, writable_folder

if TYPE_CHECKING:
    from types import EllipsisType

_latest: Answers | None = None  # those that `lens.compare` looks into


def exercise(loss: Tensor, path: str | Path, help: int = 0) -> Path:
    """Write an exercise: a Python file, and beside it the data and the answers (.npz).

    The file has the forward of `loss` in NumPy, with every intermediate named, and then, in the order of the backward,
    a blank for the gradient of each: `dlogits = ...`. Fill them in and run the file: each is compared as you go.

    help  what stands beside a blank: 0 nothing, 1 the shape, 2 also whose rule it is, 3 also the rule, 4 the answer

    A file that was written before is written anew, unless somebody has changed it, as by filling it in.

    Raises RuntimeError if loss was not recorded, FileExistsError for a file that has been changed or is no exercise,
    FileNotFoundError if there is no such folder, ValueError for another level of help or a name that ends in .npz.
    """
    return write(tape_of(loss, "exercise"), Path(path), help)


def write(tape: Tape, path: Path, help: int = 0) -> Path:
    check_level(help)
    answers, emission = Answers.of(tape), Emission(tape)
    file = path.with_suffix(".npz")
    _spare(path, file)
    names = ", ".join(answers.given)
    lines = [
        '"""Backprop by hand. Put an expression in the place of each `...` and run this file: it compares as it goes.',
        "",
        'A blank may take several lines. compare(name, mine, help=1) gives a hint; 2, 3 and 4 give more."""',
        "",
        *head(emission),
        "from tensorlite import lens",
        "",
        f"given = lens.open_exercise(__file__, {file.name!r})",
        f"{names} = (given[name] for name in {names!r}.split(', '))" if "," in names else f"{names} = given[{names!r}]",
        "compare = lens.compare",
        "",
        "# Forward",
        *(line for each in emission.forward.values() for line in each),
        "",
        "# Backward",
    ]
    lines += [line for starts in emission.starts.values() for line in starts]
    for answer in answers.answers.values():
        lines += ["", *(f"# {each}" for each in (answer.help(min(help, 3))))]
        lines += answer.lines if help >= 4 else [f"{answer.name} = ..."]
        lines.append(f'print(compare("{answer.name}", {answer.name}))')
    text = "\n".join([*lines, ""])
    answers.digest = _digest(text)
    answers.save(file)
    path.write_text(text, encoding="utf-8")
    return path


def _spare(path: Path, file: Path) -> None:
    """Raise rather than write over what is not ours, or no longer."""
    if path == file:
        raise ValueError(f"lens.exercise: the exercise is a Python file, and {path.name} is for its answers: use .py")
    writable_folder(path, "exercise")
    if path.exists():
        try:
            ours = Answers.load(file).digest == _digest(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            ours = False
        if not ours:
            raise FileExistsError(
                f"lens.exercise: {path} is there already and has been changed, or was not written by lens.exercise; "
                "so that no answers are lost, give another name, or remove it"
            )
    elif file.exists():
        try:
            Answers.load(file)
        except ValueError:
            raise FileExistsError(
                f"lens.exercise: {file} is there already and holds no answers; give another name"
            ) from None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def open_exercise(path: str, answers: str) -> dict[str, Any]:
    """What an exercise starts with, by name; `compare` looks into its answers from now on."""
    global _latest
    _latest = Answers.load(Path(path).with_name(answers))
    return _latest.given


def compare_latest(
    name: str, mine: Any | EllipsisType, *, of: Tape | Tensor | None = None, help: int = 0
) -> Comparison:
    """Is `mine` the gradient called `name` ("dlogits")? Exact, close or wrong, and why.

    of    the tape, or the Tensor that the backward started from; default: the exercise that was opened, or what was
          compared with last
    help  1 tells the shape, 2 also whose rule it is, 3 also the rule, 4 the answer

    Raises KeyError for a name that nothing has, RuntimeError if there is nothing to compare with.
    """
    global _latest
    if of is not None:
        tape = of if isinstance(of, Tape) else tape_of(of, "compare")
        _latest = vars(tape).setdefault("_answers", None) or Answers.of(tape, "compare")
        vars(tape)["_answers"] = _latest
    if _latest is None:
        raise RuntimeError("lens.compare: nothing to compare with; name it: lens.compare(name, mine, of=loss)")
    return compare(_latest[name], mine, help)
