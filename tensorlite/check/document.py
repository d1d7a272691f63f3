"""docs/ops.md, written from the registry of ops: python -m tensorlite.check.document > docs/ops.md"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from ..op import OPS, Op
from . import source

COMMAND = "python -m tensorlite.check.document > docs/ops.md"

_HEAD = f"""# The ops

Every op of tensorlite: its row as it stands in the source, and how the row is derived. `g` is the gradient that arrives
from above, `y` the result; the other names are inputs, attributes and residuals, and what a row names is what is kept
for it. [tensorlite/op.py](../tensorlite/op.py) explains rows, [checking.md](checking.md) how each of them is checked.

Written by `{COMMAND}`; do not edit by hand.
"""


def document() -> str:
    """The page: the ops a family at a time, in the order in which they are declared."""
    families: dict[str, list[Op]] = {}
    for op in OPS.values():
        if op.__module__.startswith("tensorlite."):
            families.setdefault(op.__module__, []).append(op)
    names = [(_title(module), module) for module in families]
    contents = "\n".join(f"- [{title}](#{title.lower()}): " + ", ".join(f"`{op.name}`" for op in families[module])
                         for title, module in names)  # fmt: skip
    parts = [_HEAD, contents + "\n"]
    for title, module in names:
        words = inspect.getdoc(sys.modules[module]) or ""
        file = Path(inspect.getfile(sys.modules[module]))
        parts += [f"## {title}\n", f"{words}\n", f"{_link(file)}\n"]
        parts += [_entry(op) for op in families[module]]
    return "\n".join(parts)


def _title(module: str) -> str:
    return module.rpartition(".")[2].capitalize()


def _link(file: Path) -> str:
    return f"[{source.short(file)}](../{source.short(file)})"


def _entry(op: Op) -> str:
    row = source.row(op)
    lines = [f"### {op.name}\n"]
    if row is not None:
        lines.append(f"```python\n{row.text}\n```\n")
    lines += [f"- {fact}" for fact in _facts(op)]
    for function in [*source.rules(op), *filter(None, [op.reference])]:
        lines += ["", *_quote(function)]
    return "\n".join([*lines, ""])


def _facts(op: Op) -> Iterator[str]:
    inputs = [f"*{name}" if name == op.variadic else name for name in op.inputs]
    yield f"Inputs: {_code(inputs)}" + (f"; attributes: {_code(op.attributes)}" if op.attributes else "")
    constant = [name for i, name in enumerate(op.inputs) if not op.plain.differentiable(i)]
    if constant == list(op.inputs):
        yield "No derivative"
    elif constant:
        yield f"No derivative by {_code(constant)}"
    if op.plain.joint:
        yield "One joint rule for all inputs, which need not all have a derivative"
    if op.plain.residual:
        yield f"The forward also gives {_code(op.plain.residual)}, for the rules"
    if op.view:
        yield f"The result may be a view of `{op.inputs[0]}`"
    if op.several:
        yield "Several results"
    if op.expects:
        yield f"Expects {op.expects}"
    levels = ["plain", *(["reference"] if op.reference else []), *(f"kernel for {device}" for device in op.kernels)]
    if len(levels) > 1:
        yield f"Levels: {', '.join(levels)}"
    if op.reference:
        file = Path(inspect.getfile(op.reference))
        yield f"Reference: `{op.reference.__name__}` in {_link(file)}"
    for device in op.kernels:
        kernel = source.kernel(op, device)
        if kernel is not None:
            yield f"Kernel: {_link(kernel.file)}"


def _code(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _quote(function: Callable) -> list[str]:
    """The docstring of a rule, as it is laid out."""
    words = (inspect.getdoc(function) or "").splitlines()
    return [f"`{function.__name__}`", "", "```text", *words, "```"] if words else []


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    sys.stdout.write(document())
