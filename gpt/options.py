"""One frozen dataclass is a script's configuration, its `--help` and its `config.json`.

    @dataclass(frozen=True)
    class Config:
        data: tuple[Path, ...] = option((), "text files to train on")
        lr: float = option(1e-3, "peak learning rate")
        decay: Literal["cosine", "none"] = option("cosine", "how the learning rate falls")
        clip: float | None = option(1.0, "largest gradient norm")
        resume: bool = option(False, "go on from the last checkpoint")

    def main(argv: Sequence[str]) -> None:
        config = parse(Config, argv, {"short": Config(), "long": Config(lr=3e-4)}, "short", "pretrain", "Train a GPT.")

    if __name__ == "__main__":
        run(main, "pretrain")

A field is a bool, or an int, float, str, Path or Literal, or one of those five or None, or a tuple[one of those, ...].
"""

import json
import math
import re
import shlex
import sys
from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError, BooleanOptionalAction
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from difflib import get_close_matches
from os import fspath
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from tensorlite.utils.pipe import reader_may_leave

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

C = TypeVar("C", bound="DataclassInstance")
T = TypeVar("T")


class UsageError(Exception):
    """A script cannot do what it was asked to; the message says why, to the person who asked.

    Raise it anywhere under `run`, also in a configuration's `__post_init__` for values that do not fit together.
    """


def run(main: Callable[[Sequence[str]], object], prog: str) -> None:
    """Call `main` with the command line; a UsageError becomes the line `prog: message` on stderr and exit code 2.

    Where another program reads the output and stops, as `| head` does, it ends without a traceback."""
    try:
        with reader_may_leave():
            main(sys.argv[1:])
    except UsageError as error:
        _stop(prog, str(error))


def command(
    argv: Sequence[str], commands: Mapping[str, Callable[[Sequence[str]], object]], prog: str, description: str
) -> None:
    """Call the one of `commands` that the first word of `argv` names, with the other words.

    The first lines of their docstrings are the help. A mistake ends the program as in `parse`.
    """
    parser = _Parser(prog=prog, description=description, usage="%(prog)s COMMAND [--FLAG VALUE ...]", add_help=False)
    name = argv[0] if argv else ""
    if name in ("-h", "--help"):
        parser.print_help()
        width = max(map(len, commands))
        print("\ncommands, each with a --help of its own:")
        for each, function in commands.items():
            print(f"  {each:<{width}}  {(function.__doc__ or '').partition(chr(10))[0]}")
        return
    if name not in commands:
        what = f"unknown command {name!r}" if name else "a command is missing"
        parser.error(f"{what}; the commands are {', '.join(commands)}{_meant(name, commands)}")
    commands[name](argv[1:])


def option(default: T, meaning: str) -> T:
    """A field of a configuration: its default, and in a few words what it means and in which unit."""
    return field(default=default, metadata={"help": meaning})


def parse(
    config: type[C],
    argv: Sequence[str],
    presets: Mapping[str, C],
    default: str,
    prog: str,
    description: str,
    words: str | None = None,
) -> C:
    """The configuration that the command line `argv` asks for.

    `--preset NAME` chooses where to start, the preset named `default` if it is not given; each field has a flag that
    replaces its value, `--n-layer` for `n_layer`. A mistake prints the line `prog: message` on stderr and ends the
    program with exit code 2.

    words   the field, a tuple[str, ...], that takes what comes without a flag, and all that comes after `--`
    """
    argv, after = _cut(argv) if words else (argv, ())
    first = _Parser(prog=prog, add_help=False, allow_abbrev=False)
    first.add_argument("--preset", default=default)
    preset, names = first.parse_known_args(argv)[0].preset, ", ".join(presets)
    if preset not in presets:
        first.error(f"unknown preset {preset!r}; the presets are {names}{_meant(preset, presets)}")

    parser = _Parser(prog=prog, description=description, allow_abbrev=False, argument_default=SUPPRESS)
    parser.usage = "%(prog)s [--preset NAME] [--FLAG VALUE ...]"
    parser.add_argument("--preset", metavar="NAME", help=f"start from the values of: {names} (default: {default})")
    flags = _add_flags(parser, config, presets[preset])
    given, rest = parser.parse_known_args(argv)
    bare = [word for word in rest if not word.startswith("-")] if words else []
    for word in rest:
        if word in bare:
            continue
        if not word.startswith("-"):
            parser.error(f"unexpected argument {word!r}; a value comes after its flag")
        flag = word.partition("=")[0]
        parser.error(f"unknown option {flag}{_meant(flag, flags) or '; --help lists them'}")
    changes = {name: tuple(value) if isinstance(value, list) else value for name, value in vars(given).items()}
    changes.pop("preset", None)
    if words and (bare or after):
        changes[words] = (*changes.get(words, ()), *bare, *after)
    return replace(presets[preset], **changes)


def _cut(argv: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """What stands before `--`, and what after it."""
    at = argv.index("--") if "--" in argv else len(argv)
    return argv[:at], argv[at + 1 :]


def to_json(config: "DataclassInstance") -> str:
    """`config` as the text of a `config.json`, from which `from_json` makes its equal. Its floats must be finite."""
    return json.dumps(asdict(config), indent=2, default=fspath, allow_nan=False) + "\n"


def from_json(config: type[C], text: str, source: str = "config.json", optional: Collection[str] = ()) -> C:
    """The configuration in `text`, as `to_json` wrote it, which came from the file `source`.

    optional  keys that may be missing, as an older version did not know them; their fields have their defaults

    UsageError names the file and the key that is unknown, missing or has a wrong value.
    """
    try:
        content = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{source} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{source} expects a JSON object, got {content!r}")
    kinds = _kinds(config)
    for key in content:
        if key not in kinds:
            raise UsageError(f"{source}: unknown key {key!r}{_meant(key, kinds)}")
    for key in kinds:
        if key not in content and key not in optional:
            raise UsageError(f"{source}: the key {key!r} is missing")
    values = {}
    for key in content:
        kind = kinds[key]
        try:
            values[key] = _strict(kind.from_json, kind.expects)(content[key])
        except ArgumentTypeError as error:
            raise UsageError(f"{source}: {key!r} {error}") from error
    return config(**values)


@dataclass(frozen=True)
class _Kind:
    """How the values of one type are written. Both readers raise ValueError, TypeError or KeyError."""

    metavar: str
    expects: str
    from_text: Callable[[str], Any]
    from_json: Callable[[Any], Any]
    nargs: Literal["+"] | None = None


def _only(make: Callable[[Any], Any], *written: type) -> Callable[[Any], Any]:
    """`make` for what JSON writes as one of the types `written`. In JSON, unlike Python, true is not a number."""

    def read(value: Any) -> Any:
        if type(value) not in written:
            raise TypeError
        return make(value)

    return read


def _finite(value: str | float) -> float:
    if not math.isfinite(number := float(value)):
        raise ValueError  # JSON has no infinity
    return number


_BOOL = _Kind("", "true or false", bool, _only(bool, bool))
_SCALARS = {
    int: _Kind("N", "a whole number", int, _only(int, int)),
    float: _Kind("X", "a finite number", _finite, _only(_finite, float, int)),
    str: _Kind("TEXT", "text", str, _only(str, str)),
    Path: _Kind("PATH", "a path", Path, _only(Path, str)),
}


def _kind(hint: Any) -> _Kind:
    """The kind of the annotation `hint`; TypeError if a configuration cannot hold it."""
    if hint is bool:
        return _BOOL
    if get_origin(hint) is tuple and get_args(hint)[1:] == (...,):
        item = _item_kind(get_args(hint)[0])  # of which the command line reads one at a time
        from_json = _only(lambda items: tuple(map(item.from_json, items)), list)
        return replace(item, expects=f"a list, each item {item.expects}", from_json=from_json, nargs="+")
    return _item_kind(hint)


def _item_kind(hint: Any) -> _Kind:
    origin, args = get_origin(hint), get_args(hint)
    if hint in _SCALARS:
        return _SCALARS[hint]
    if origin is Literal:
        named = {str(choice): choice for choice in args}
        expects = "one of " + ", ".join(named)
        return _Kind(f"{{{','.join(named)}}}", expects, named.__getitem__, lambda value: args[args.index(value)])
    if origin in (Union, UnionType) and len(args) == 2 and NoneType in args:
        some = _item_kind(args[args[0] is NoneType])
        return replace(
            some,
            expects=f"{some.expects}, or none",
            from_text=lambda text: None if text == "none" else some.from_text(text),
            from_json=lambda value: None if value is None else some.from_json(value),
        )
    raise TypeError(f"a configuration cannot hold {hint}; see the top of {__name__}")


def _kinds(config: "type[DataclassInstance]") -> dict[str, _Kind]:
    hints = get_type_hints(config)
    return {f.name: _kind(hints[f.name]) for f in fields(config)}


def _strict(read: Callable[[Any], Any], expects: str) -> Callable[[Any], Any]:
    """`read`, but it says in words what it cannot read."""

    def checked(value: Any) -> Any:
        try:
            return read(value)
        except (ValueError, TypeError, KeyError) as error:
            raise ArgumentTypeError(f"expects {expects}, got {value!r}") from error

    return checked


def _add_flags(parser: ArgumentParser, config: "type[DataclassInstance]", base: "DataclassInstance") -> list[str]:
    """Give `parser` a flag for each field of `config`, with the value in `base` shown as default; return the flags."""
    meaning = {f.name: f.metadata.get("help", "") for f in fields(config)}
    flags: list[str] = []
    for name, kind in _kinds(config).items():
        read = {"metavar": kind.metavar, "nargs": kind.nargs, "type": _strict(kind.from_text, kind.expects)}
        how: dict[str, Any] = {"action": BooleanOptionalAction} if kind is _BOOL else read
        help = f"{meaning[name]} (default: {_shown(getattr(base, name))})".lstrip().replace("%", "%%")
        flags += parser.add_argument("--" + name.replace("_", "-"), dest=name, help=help, **how).option_strings
    return flags


def _shown(value: object) -> str:
    """`value` as `--help` shows it."""
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return shlex.join(map(str, value if isinstance(value, tuple) else (value,)))


class _Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        _stop(self.prog, re.sub(r"^argument (\S+):", r"\1", message))


def _stop(prog: str, message: str) -> NoReturn:
    print(f"{prog}: {message}", file=sys.stderr)
    raise SystemExit(2)


def _meant(word: str, known: Iterable[str]) -> str:
    """Which of `known` was probably meant by `word`, as the end of a message; nothing where none is like it."""
    return "".join(f"; did you mean {close}?" for close in get_close_matches(word, known, n=1))
