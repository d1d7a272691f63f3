"""What a GPT does inside with a text: where each head looks, and what each layer would say next.

    python -m gpt.inside --model runs/NAME --prompt "To be, or not to be"

writes a page with the attention of every layer and head, and the logit lens: the head's guess of the next token from
the stream as it is after each block, when the last layers have not spoken yet.

Sources: nostalgebraist, *interpreting GPT: the logit lens* (2020); Vig, *A Multiscale Visualization of Attention in the
Transformer Model* (2019), for the grid of heads.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

import tensorlite as tl
from gpt.model import GPT
from gpt.options import UsageError, option, parse, run
from gpt.sequences import evaluating
from gpt.tokenizer import Tokenizer
from gpt.trained import Trained
from tensorlite import Tensor
from tensorlite.lens.attention import attention_maps
from tensorlite.nn import functional as F


def attention_of(model: GPT, idx: Tensor) -> np.ndarray:
    """Per layer and head, how much each token takes of each: (B, T) ids -> (n_layer, B, nh, T, T), rows sum to 1."""
    with evaluating(model), attention_maps() as maps:
        model.hidden(idx)
    return np.stack(maps.weights)


def logit_lens(model: GPT, idx: Tensor) -> Tensor:
    """Probabilities of the next token, by the stream before the first block and after each: (B, T) ids ->
    (n_layer + 1, B, T, V). The last is what the model says."""
    streams: list[Tensor] = []
    hooks = [model.h[0].register_forward_pre_hook(lambda block, args: streams.append(args[0]))]
    hooks += [block.register_forward_hook(lambda block, args, out: streams.append(out)) for block in model.h]
    try:
        with evaluating(model):
            model.hidden(idx)
            found = [F.softmax(model.lm_head(model.ln_f(x)), dim=-1) for x in streams]  # (B, T, V) each
    finally:
        for hook in hooks:
            hook.remove()
    return tl.stack(found)


def table(probabilities: Tensor, tokenizer: Tokenizer, top: int = 4) -> str:
    """A line per layer: the likeliest next tokens after the last position, in percent. Of (n_layer + 1, T, V)."""
    lines = []
    for layer, row in enumerate(probabilities[:, -1]):
        likeliest, ids = row.topk(min(top, row.shape[-1]))
        said = "  ".join(
            f"{_shown(tokenizer, i):>10} {100 * p:4.1f}%" for p, i in zip(likeliest.tolist(), ids.tolist())
        )
        lines.append(f"{'before block 0' if layer == 0 else f'after block {layer - 1}':<16}{said}")
    return "\n".join(lines)


def _shown(tokenizer: Tokenizer, token: int) -> str:
    return repr(tokenizer.decode([token]))[1:-1].replace(" ", "␣")


def page(model: GPT, tokenizer: Tokenizer, idx: Tensor) -> str:
    """Both as one HTML page that needs nothing else, for a single sequence (1, T)."""
    weights, guesses = attention_of(model, idx)[:, 0], logit_lens(model, idx)[:, 0]
    tokens = [_shown(tokenizer, token) for token in idx[0].tolist()]
    likeliest, ids = guesses.max(dim=-1)
    said = [
        [[_shown(tokenizer, i), round(p, 4)] for i, p in zip(*row)] for row in zip(ids.tolist(), likeliest.tolist())
    ]
    data = {"tokens": tokens, "said": said, "weights": np.round(weights.astype(float), 3).tolist()}
    text = json.dumps(data, separators=(",", ":")).replace("</", "<\\/")
    return _PAGE.replace("@TITLE@", escape("".join(tokens)[:60])).replace("@DATA@", text)


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Inside a GPT</title>
<style>
:root { color-scheme: light dark; --text: #1b1f24; --back: #fff; --soft: #5c6670; --line: #d8dee4; --ink: 11 99 206; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e9ec; --back: #14171a; --soft: #9aa4ae; --line: #343b42; --ink: 108 176 255; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back); margin: 1.5rem; }
h1 { font-size: 1.3rem; } h2 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; }
.soft { color: var(--soft); max-width: 55rem; }
.scroll { overflow-x: auto; }
table { border-collapse: separate; border-spacing: 2px; font: 12px/1.5 ui-monospace, Menlo, Consolas, monospace; }
td, th { padding: .1rem .4rem; border-radius: 3px; text-align: center; white-space: nowrap; font-weight: 400; }
th { color: var(--soft); text-align: right; }
.heads { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: .8rem; max-width: 75rem; }
figure { margin: 0; } figcaption { font-size: 12px; color: var(--soft); }
canvas { width: 100%; image-rendering: pixelated; border: 1px solid var(--line); border-radius: 4px; }
#said { position: sticky; bottom: 0; background: var(--back); border-top: 1px solid var(--line); padding: .4rem 0;
        min-height: 2.2rem; }
</style>
</head>
<body>
<h1>Inside a GPT: <code>@TITLE@</code></h1>
<h2>What each layer would say next</h2>
<p class="soft">The head's likeliest next token from the stream before the first block and after each; the stronger the
colour, the surer. The last row is what the model says.</p>
<div class="scroll"><table id="lens"></table></div>
<h2>Where each head looks</h2>
<p class="soft">A row per token, a column per token that it can see; the rows sum to 1. Point at a square.</p>
<div class="heads" id="heads"></div>
<p id="said" aria-live="polite"></p>
<script type="application/json" id="data">@DATA@</script>
<script>
"use strict";
const data = JSON.parse(document.getElementById("data").textContent), tokens = data.tokens;
const make = (tag, text = "") => Object.assign(document.createElement(tag), { textContent: text });
const ink = share => `rgb(${getComputedStyle(document.documentElement).getPropertyValue("--ink")} / ${share})`;
const lens = document.getElementById("lens"), first = make("tr");
first.append(make("th", "token"), ...tokens.map(t => make("td", t)));
lens.append(first);
data.said.forEach((row, k) => {
  const line = make("tr");
  line.append(make("th", k ? `after block ${k - 1}` : "before block 0"));
  for (const [token, p] of row) {
    const cell = make("td", token);
    cell.title = `${(100 * p).toFixed(1)}%`;
    cell.style.background = ink(0.75 * p);
    line.append(cell);
  }
  lens.append(line);
});
data.weights.forEach((heads, layer) => heads.forEach((rows, head) => {
  const figure = make("figure"), canvas = make("canvas"), n = tokens.length;
  canvas.width = canvas.height = n;
  const pen = canvas.getContext("2d");
  rows.forEach((row, r) => row.forEach((w, c) => { pen.fillStyle = ink(w); pen.fillRect(c, r, 1, 1); }));
  canvas.onmousemove = event => {
    const r = Math.floor(event.offsetY / canvas.clientHeight * n);
    const c = Math.floor(event.offsetX / canvas.clientWidth * n);
    if (rows[r]?.[c] === undefined) return;
    const share = (100 * rows[r][c]).toFixed(1);
    document.getElementById("said").textContent =
      `block ${layer}, head ${head}: “${tokens[r]}” (${r}) takes ${share}% of “${tokens[c]}” (${c})`;
  };
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `attention of block ${layer}, head ${head}`);
  figure.append(canvas, make("figcaption", `block ${layer}, head ${head}`));
  document.getElementById("heads").append(figure);
}));
</script>
</body>
</html>
"""


# The command line --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Config(Trained):
    prompt: str = option("The end of the", "the text that it reads")
    out: Path = option(Path("inside.html"), "where to write the page")


def main(argv: Sequence[str]) -> None:
    config = parse(Config, argv, {"page": Config()}, "page", "inside", "Show what a trained GPT does with a text.")
    model, tokenizer = config.load()
    try:
        prompt = tokenizer.encode(config.prompt)[-model.config.context_length :]
        if not prompt:
            raise UsageError("--prompt: there is no token in it; give some text to read")
        idx = tl.tensor([prompt], device=config.device)  # (1, T)
        print(table(logit_lens(model, idx)[:, 0], tokenizer))
        config.out.write_text(page(model, tokenizer, idx), encoding="utf-8")
    except (OSError, RuntimeError, ValueError, IndexError) as error:
        raise UsageError(str(error)) from error
    print(f"wrote {config.out}")


if __name__ == "__main__":
    run(main, "inside")
