"""The results of a run as one HTML page that needs nothing else: no script, no font, no network."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from html import escape

from . import source
from .report import DEFINITION, total, verdict
from .run import METHODS, Entry, Run

_STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --back: #ffffff; --soft: #5c6670; --line: #d8dee4; --code: #f4f6f8;
        --right: #1a7f37; --wrong: #c5221f; --kink: #9a6700; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e9ec; --back: #14171a; --soft: #9aa4ae; --line: #343b42; --code: #1e2328;
          --right: #57c06d; --wrong: #ff7b72; --kink: #d9a730; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back); max-width: 76rem;
       margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; }
p { max-width: 60rem; }
.soft { color: var(--soft); }
.right { color: var(--right); } .wrong { color: var(--wrong); font-weight: 600; } .kink { color: var(--kink); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
td.n, th.n { text-align: right; white-space: nowrap; }
code, pre { font: 13px/1.45 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
pre { background: var(--code); padding: .6rem .8rem; overflow-x: auto; border-radius: 4px; margin: .4rem 0; }
pre.words { white-space: pre-wrap; }
section { border-top: 1px solid var(--line); margin-top: 1.5rem; padding-top: .4rem; }
h2 { font-size: 1.1rem; margin: .4rem 0; }
.scroll { overflow-x: auto; }
a { color: inherit; }
summary { cursor: pointer; }
"""


def page(run: Run) -> str:
    """The whole page: the total, a table of all ops, then each op with its rows, its rules and its samples."""
    wrong = "".join(f"<pre class='words wrong'>{escape(e.report.problems())}</pre>" for e in run.wrong)
    heads = "".join(
        f"<th class=n scope=col>{name}</th>" for name in ("samples", "complex step", "differences", "second order")
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>tensorlite: every derivative, checked</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>Every derivative, checked</h1>
<p class="{"wrong" if run.wrong else "right"}">{escape(total(run))}</p>
<p class="soft">{escape(DEFINITION)}</p>
{wrong}
<div class="scroll"><table>
<thead><tr><th scope=col>op</th>{heads}<th scope=col>verdict</th></tr></thead>
<tbody>
{"".join(map(_line, run.entries))}</tbody>
</table></div>
{"".join(map(_section, run.entries))}</body>
</html>
"""


def _line(e: Entry) -> str:
    errors = "".join(f"<td class=n>{_error(e.report.worst(*which))}</td>" for which in METHODS)
    name = escape(e.op.name)
    return (
        f'<tr><td><a href="#{name}"><code>{name}</code></a></td><td class=n>{len(e.report.reports)}</td>{errors}'
        f"<td>{_verdict(e)}</td></tr>\n"
    )


def _verdict(e: Entry) -> str:
    colour = {"right": "right", "kink": "kink", "no derivative": "soft"}.get(e.report.verdict, "wrong")
    return f'<span class="{colour}">{escape(verdict(e))}</span>'


def _section(e: Entry) -> str:
    return f"""<section id="{escape(e.op.name)}">
<h2><code>{escape(e.op.name)}</code> {_verdict(e)}</h2>
{"".join(_sources(e))}{"".join(_samples(e))}</section>
"""


def _sources(e: Entry) -> Iterator[str]:
    """The rows of the op and of its kernels, its rules and its reference, with what they say about themselves."""
    statements = [source.row(e.op), *(source.kernel(e.op, device) for device in e.op.kernels)]
    for statement in filter(None, statements):
        yield f'<div class="soft">{escape(statement.where())}</div>\n<pre>{escape(statement.text)}</pre>\n'
    for kind, function in [*(("rule", f) for f in source.rules(e.op)), ("reference", e.op.reference)]:
        if function is not None and function.__doc__:
            name = f"{kind} <code>{escape(function.__name__)}</code>"
            yield f"<details><summary>{name}</summary>{_doc(function)}</details>\n"


def _doc(function: Callable) -> str:
    return f"<pre class=words>{escape(inspect.getdoc(function) or '')}</pre>"


def _samples(e: Entry) -> Iterator[str]:
    if not e.report.reports:
        return
    opened = "" if e.report.ok else " open"
    yield f"<details{opened}><summary>{len(e.report.reports)} samples</summary>\n<div class=scroll><table>\n"
    yield "<thead><tr><th>sample</th><th>gradient of</th><th>order</th><th>method</th><th class=n>error</th><th></th>"
    yield "</tr></thead>\n"
    for r in e.report.reports:
        span = f" rowspan={max(len(r.findings), 1)}"
        words = "<br>".join(escape(text) for text in (*r.complaints, *r.notes))
        first = f"<td{span}><code>{escape(r.given)}</code>{'<br>' if words else ''}{words}</td>"
        for f in r.findings:
            yield (
                f"<tr>{first}<td>{escape(f.input)}</td><td>{f.order}</td><td>{f.method}</td>"
                f'<td class=n>{f.error:.1e}</td><td class="{f.verdict}">{f.verdict}</td></tr>\n'
            )
            first = ""
        if not r.findings:
            yield f"<tr>{first}<td colspan=4 class=soft></td><td>{escape(r.verdict)}</td></tr>\n"
    yield "</table></div></details>\n"


def _error(error: float | None) -> str:
    return "" if error is None else f"{error:.1e}"
