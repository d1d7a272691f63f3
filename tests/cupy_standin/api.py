"""What api.txt says of CuPy: names, parameters, and the loops of ufuncs."""

from functools import cache
from inspect import Parameter, Signature
from pathlib import Path
from typing import NamedTuple

import numpy as np

try:
    import ml_dtypes  # gives the type E, bfloat16

    BFLOAT16 = [np.dtype(ml_dtypes.bfloat16)]
except ImportError:
    BFLOAT16 = []

FILE = Path(__file__).with_name("api.txt")


class Loops(NamedTuple):
    """A ufunc: how many inputs and outputs it has, its methods, and the types it computes in, in CuPy's order."""

    inputs: int
    outputs: int
    methods: frozenset[str]
    types: tuple[tuple[tuple[np.dtype, ...], tuple[np.dtype, ...]], ...]


@cache
def parts() -> dict[str, dict[str, str]]:
    """Per heading of api.txt: names, and the rest of their lines."""
    found: dict[str, dict[str, str]] = {}
    for line in FILE.read_text(encoding="utf-8").splitlines()[1:]:
        if line.startswith("["):
            here = found.setdefault(line[1 : line.index("]")], {})
            continue
        end = min([line.index(c) for c in " (" if c in line] or [len(line)])
        here[line[:end]] = line[end:].strip()
    return found


@cache
def loops(name: str) -> Loops:
    inputs, outputs, methods, *types = parts()["ufuncs"][name].split(" ")
    read = []
    for text in types:
        given, made = text.split("->")
        if BFLOAT16 or "E" not in text:
            read.append((_dtypes(given), _dtypes(made)))
    return Loops(int(inputs), int(outputs), frozenset(methods.split(",")), tuple(read))


def _dtypes(characters: str) -> tuple[np.dtype, ...]:
    return tuple([BFLOAT16[0] if c == "E" else np.dtype(c) for c in characters])


@cache
def signature(part: str, name: str) -> Signature | None:
    """The parameters of a function of CuPy's; None if it is none, or does not tell."""
    text = parts()[part][name]
    if not text.startswith("(") or text == "(...)":
        return None
    parameters = []
    keyword_only = False
    for word in text[1:-1].split():
        if word == "*":
            keyword_only = True
            continue
        kind = Parameter.KEYWORD_ONLY if keyword_only else Parameter.POSITIONAL_OR_KEYWORD
        if word.startswith("**"):
            kind = Parameter.VAR_KEYWORD
        elif word.startswith("*"):
            kind, keyword_only = Parameter.VAR_POSITIONAL, True
        default = None if word.endswith("=") else Parameter.empty
        parameters.append(Parameter(word.strip("*="), kind, default=default))
    return Signature(parameters)


def check_call(part: str, name: str, args: tuple, kwargs: dict) -> None:
    """Raise TypeError for arguments that CuPy's function does not take."""
    known = signature(part, name)
    if known is not None:
        try:
            known.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{part}.{name}{known}: {error}") from None
