"""A rule as mathematics: MathML, made from the expression in the source, so that the two cannot differ.

Where a rule calls a function, its formula stands there (formulas.py).
"""

from __future__ import annotations

import ast
from html import escape

from .formulas import formula, inlined
from .rows import Rule

_OPERATORS = {
    ast.Add: "+", ast.Sub: "−", ast.Mult: "⊙", ast.BitAnd: "∧", ast.BitOr: "∨", ast.Lt: "<", ast.LtE: "≤", ast.Gt: ">",
    ast.GtE: "≥", ast.Eq: "=", ast.NotEq: "≠", ast.USub: "−", ast.Invert: "¬", ast.Mod: "mod",
}  # fmt: skip
_RANKS = {
    ast.Add: 1,
    ast.Sub: 1,
    ast.BitAnd: 1,
    ast.BitOr: 1,
    ast.Mult: 2,
    ast.MatMult: 2,
    ast.Mod: 2,
    ast.USub: 2,
    ast.Invert: 3,
}
_OPEN, _CLOSE = '<mo stretchy="false">(</mo>', '<mo stretchy="false">)</mo>'
_GREEK = {"eps": "ε", "alpha": "α", "beta": "β", "mean": "μ", "rstd": "σ⁻¹", "logsumexp": "lse"}
_COMPARED = {"eq": "=", "ne": "≠", "lt": "<", "le": "≤", "gt": ">", "ge": "≥"}
_WORDS = {"_setitem": "scatter", "_getitem": "pick", "_put": "scatter", "_take": "pick", "_add_rows": "sum rows by id"}


def derivative(rule: Rule, name: str) -> str:
    """`∂L/∂x = g ⊙ (1 − y ⊙ y)` of a derivative's rule by the input `name`; an empty text without its source."""
    if rule.body is None:
        return ""
    left = f"<mfrac><mrow><mi>∂</mi><mi>L</mi></mrow><mrow><mi>∂</mi>{_name(name)}</mrow></mfrac>"
    *defined, (_, last) = formula(rule.body, rule.left, name)
    lines = [f"{left}<mo>=</mo>{_write(last)}"]
    for k, (this, x) in enumerate(defined):
        lines.append(f"<mtext>{'and' if k else 'with'}&#xA0;</mtext>{_name(this)}<mo>=</mo>{_write(x)}")
    rows = "".join(f"<mtr><mtd><mrow>{line}</mrow></mtd></mtr>" for line in lines)
    inside = f'<mtable displaystyle="true">{rows}</mtable>' if defined else f"<mrow>{lines[0]}</mrow>"
    return f'<math displaystyle="true">{inside}</math>'


def forward(rule: Rule) -> str:
    """The same of a forward."""
    if rule.body is None:
        return ""
    return f'<math displaystyle="true"><mrow><mi>y</mi><mo>=</mo>{_write(rule.body)}</mrow></math>'


def _write(x: ast.expr, above: int = 0) -> str:
    text, rank = _ranked(x)
    if rank >= above:
        return f"<mrow>{text}</mrow>"
    tall = "<mo>(</mo>", "<mo>)</mo>"
    before, after = tall if "<mfrac>" in text else (_OPEN, _CLOSE)
    return f"<mrow>{before}{text}{after}</mrow>"


def _ranked(x: ast.expr) -> tuple[str, int]:
    """MathML, and how tightly its outermost operator binds."""
    if isinstance(x, ast.BinOp):
        return _binary(x)
    if isinstance(x, ast.UnaryOp):
        sign = _OPERATORS.get(type(x.op), "")
        return f"<mo>{sign}</mo>{_write(x.operand, 2)}", _RANKS.get(type(x.op), 2)
    if isinstance(x, ast.Compare):
        sign = _OPERATORS.get(type(x.ops[0]), "?")
        return f"{_write(x.left, 1)}<mo>{escape(sign)}</mo>{_write(x.comparators[0], 1)}", 0
    if isinstance(x, ast.Constant):
        return f"<mn>{x.value!r}</mn>" if isinstance(
            x.value, (int, float)
        ) else f"<mtext>{escape(str(x.value))}</mtext>", 9
    if isinstance(x, ast.Name):
        return _name(x.id), 9
    if isinstance(x, ast.Attribute):
        if x.attr in ("mT", "T"):
            return f"<msup>{_write(x.value, 9)}<mi>⊤</mi></msup>", 9
        if x.attr == "pi":
            return "<mi>π</mi>", 9
        return f"<mi>{escape(x.attr)}</mi><mo>&#x2061;</mo>{_write(x.value, 9)}", 8
    if isinstance(x, ast.Call):
        return _call(x)
    if isinstance(x, ast.IfExp):
        return _cases(x.test, x.body, x.orelse), 9
    return f"<mtext>{escape(ast.unparse(x))}</mtext>", 9


def _binary(x: ast.BinOp) -> tuple[str, int]:
    if isinstance(x.op, ast.Div):
        return f"<mfrac>{_write(x.left)}{_write(x.right)}</mfrac>", 3
    if isinstance(x.op, ast.Pow):
        return f"<msup>{_write(x.left, 9)}{_write(x.right)}</msup>", 4
    if isinstance(x.op, ast.MatMult):
        return _product(x.left, x.right), 2
    rank = _RANKS.get(type(x.op), 1)
    sign = _OPERATORS.get(type(x.op), "?")
    if isinstance(x.op, ast.Mult) and any(isinstance(each, ast.Constant) for each in (x.left, x.right)):
        sign = "·"
    return f"{_write(x.left, rank)}<mo>{sign}</mo>{_write(x.right, rank + isinstance(x.op, ast.Sub))}", rank


def _product(a: ast.expr, b: ast.expr) -> str:
    return f'{_write(a, 2)}<mspace width="0.25em"/>{_write(b, 2)}'


def _cases(test: ast.expr, yes: ast.expr, no: ast.expr) -> str:
    rows = f"<mtr><mtd>{_write(yes)}</mtd><mtd><mtext>where </mtext>{_write(test)}</mtd></mtr>"
    rows += f"<mtr><mtd>{_write(no)}</mtd><mtd><mtext>elsewhere</mtext></mtd></mtr>"
    return f"<mo>{{</mo><mtable>{rows}</mtable>"


def _call(x: ast.Call) -> tuple[str, int]:
    name = x.func.id if isinstance(x.func, ast.Name) else x.func.attr if isinstance(x.func, ast.Attribute) else "?"
    args = list(x.args)
    if isinstance(x.func, ast.Attribute) and name in ("reshape", "sum", "astype", "transpose", "swapaxes"):
        args.insert(0, x.func.value)
    first = args[0] if args else None
    if name == "matmul" and len(args) == 2:
        return _product(*args), 2
    if name == "exp" and first is not None:
        return f"<msup><mi>e</mi>{_write(first)}</msup>", 4
    if name == "sqrt" and first is not None:
        return f"<msqrt>{_write(first)}</msqrt>", 9
    if name in ("sum", "mean") and first is not None:
        sign = "<mo>∑</mo>" if name == "sum" else "<mi>mean</mi>"
        below = _write(args[1]) if len(args) > 1 else ""
        return f"<munder>{sign}<mrow>{below}</mrow></munder>{_write(first, 2)}", 2
    if name == "masked" and len(args) == 2:
        return f"{_write(args[0], 2)}<mo>·</mo><mo>[</mo>{_write(args[1])}<mo>]</mo>", 2
    if name == "where" and len(args) == 3:
        return _cases(*args), 9
    if name in _COMPARED and len(args) == 2:
        return f"{_write(args[0], 1)}<mo>{escape(_COMPARED[name])}</mo>{_write(args[1], 1)}", 0
    if name == "count":
        return "<mi>n</mi>", 9
    if (known := inlined(x)) is not None:
        return _ranked(known)
    inside = "<mo>,</mo>".join(_write(a) for a in args[: 1 if name in ("spread", "reshape") else None])
    label = _WORDS.get(name, name.strip("_").replace("_", " "))
    return f'<mi mathvariant="normal">{escape(label)}</mi>{_OPEN}{inside}{_CLOSE}', 8


def _name(name: str) -> str:
    if name.endswith("_shape"):
        return f"<mrow><mtext>shape of&#xA0;</mtext>{_name(name.removesuffix('_shape'))}</mrow>"
    return f"<mi>{escape(_GREEK.get(name, name))}</mi>"
