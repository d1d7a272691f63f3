"""Writes api.txt: what CuPy offers, as the stand-in must. Run it where CuPy is installed; no GPU is needed.

cd tests && python -m cupy_standin.generate > cupy_standin/api.txt
"""

import inspect
import re
from collections.abc import Iterator
from typing import Any

MODULES = ("", "linalg", "random", "cuda")  # the parts of it that the engine uses
METHODS = ("at", "reduce", "accumulate", "reduceat", "outer")  # of ufuncs


def lines() -> Iterator[str]:
    """A heading for each part, below it a line for each name: with its parameters, those with a default marked by =."""
    import cupy

    yield f"# CuPy {cupy.__version__}, written by generate.py"
    yield "[ufuncs] name, inputs, outputs, methods, loops"
    for name, ufunc in members(cupy):
        if isinstance(ufunc, cupy.ufunc):
            offered = [m for m in METHODS if implemented(ufunc, m)]
            yield f"{name} {ufunc.nin} {ufunc.nout} {','.join(offered)} {' '.join(ufunc.types)}"
    for module in MODULES:
        yield f"[{'.'.join(filter(None, ('cupy', module)))}]"
        here = cupy
        for part in filter(None, module.split(".")):
            here = getattr(here, part)
        for name, x in members(here):
            if isinstance(x, type) or not callable(x):
                yield name
            elif not isinstance(x, cupy.ufunc):
                yield f"{name}({parameters(x)})"
    for kind in (cupy.ndarray, cupy.random.Generator, cupy.cuda.Device, cupy.cuda.Stream, cupy.cuda.MemoryPool):
        yield f"[{kind.__name__}]"
        for name in sorted(dir(kind)):
            x = getattr(kind, name)
            if name.startswith("__") and name.endswith("__"):
                yield name
            elif not name.startswith("_"):
                yield f"{name}({parameters(x)})" if callable(x) else name


def members(module: Any) -> list[tuple[str, Any]]:
    return [(name, getattr(module, name)) for name in sorted(dir(module)) if not name.startswith("_")]


def implemented(ufunc: Any, method: str) -> bool:
    """Whether the ufunc has more of a method than its name: else it says so before it looks at its arguments."""
    try:
        getattr(ufunc, method)(*[None] * (2 if method in ("at", "reduceat", "outer") else 1))
    except NotImplementedError:
        return False
    except Exception:
        return True
    return True


def parameters(function: Any) -> str:
    """`a axis= * out=`; "..." where CuPy does not tell."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # Cython's functions have it in their first line
        found = re.match(r"[\w.]*\((.*?)\)(?: ->|\s|$)", function.__doc__ or "", re.DOTALL)
        if found is None:
            return "..."
        given = [re.fullmatch(r"(?:\w+ )*(\**\w*)(=.*)?", p.strip()) for p in found[1].split(",")]
        words = [p[1] + ("=" if p[2] else "") for p in given if p is not None]
        return " ".join(word for word in words if word not in ("", "self"))
    words = []
    star = False
    for p in signature.parameters.values():
        if p.kind is p.KEYWORD_ONLY and not star:
            words.append("*")
            star = True
        star = star or p.kind is p.VAR_POSITIONAL
        mark = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "")
        if p.name != "self":
            words.append(mark + p.name + ("" if p.default is p.empty else "="))
    return " ".join(words)


if __name__ == "__main__":
    print("\n".join(lines()))
