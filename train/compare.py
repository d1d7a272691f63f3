"""Two models on the same prompts, side by side.

python -m train.evaluate compare --model runs/instruct --against runs/prefer --data instruct-1100 --limit 10
python -m train.evaluate compare --model gpt2 --against gpt2-medium "The dog" "Today, I"
"""

from __future__ import annotations

import shutil
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from html import escape
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from gpt.completion import complete
from gpt.datasets import find
from gpt.model import GPT
from gpt.options import UsageError, option, parse
from gpt.sampling import Sampling
from gpt.template import template_named
from gpt.tokenizer import Tokenizer
from gpt.trained import Trained, trained
from train.corpus import read_text
from train.instructions import read_dialogues


@dataclass(frozen=True)
class Config(Trained):
    against: str | None = option(None, "the other model, named in the same ways")
    prompts: tuple[str, ...] = option((), "the prompts, also without this flag, each in quotes")
    data: Path | None = option(
        None, "or a file: a prompt in each line, or instructions as .json or .jsonl, of which instruct-1100 is one"
    )
    template: str = option("book", "how an instruction is written: book, stanford, phi3 or a JSON file of your own")
    limit: int | None = option(None, "the first so many prompts; none: all")
    html: Path | None = option(None, "a page to write the comparison to")
    max_new_tokens: int = option(100, "tokens of an answer, at most")
    temperature: float = option(0.0, "how bold to be; 0 takes the likeliest token each time")
    top_k: int | None = option(None, "draw among so many likeliest tokens, or none: among all")
    top_p: float | None = option(None, "draw among the likeliest tokens that together have this probability")
    min_p: float | None = option(None, "draw among tokens with this share of the likeliest one's probability")
    repetition_penalty: float = option(1.0, "above 1, tokens that were there already become less likely")
    stop: tuple[str, ...] = option((), "texts before which to stop, each in quotes")
    seed: int = option(1337, "of the random numbers, the same for both models and each prompt")
    batch_size: int = option(8, "prompts that are gone on from at once")

    def __post_init__(self) -> None:
        for name in ("limit", "batch_size", "max_new_tokens"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UsageError(f"--{name.replace('_', '-')} is at least 1, not {value}")

    def sampling(self) -> Sampling:
        """Raises UsageError if there can be no such rules."""
        try:
            return Sampling(**{rule.name: getattr(self, rule.name) for rule in fields(Sampling)})
        except ValueError as error:
            raise UsageError(f"--{error}") from None


class Prompt(NamedTuple):
    """What the model goes on from, what of it a person wants to see, and the right answer, if one is known."""

    text: str
    shown: str
    reference: str = ""


class Answer(NamedTuple):
    """What a model wrote, in how many tokens, and their mean log-probability, in nats."""

    text: str
    tokens: int
    likelihood: float


class Column(NamedTuple):
    """A model by its name, its answers, and the seconds that they took."""

    name: str
    answers: list[Answer]
    seconds: float

    def summary(self) -> str:
        tokens = sum(answer.tokens for answer in self.answers)
        likelihood = sum(answer.likelihood * answer.tokens for answer in self.answers) / max(tokens, 1)
        return (
            f"{self.name}: {tokens / len(self.answers):.1f} tokens per answer, log-probability {likelihood:.3f} per "
            f"token, {tokens / max(self.seconds, 1e-9):,.0f} tokens/s"
        )


def read_prompts(config: Config) -> list[Prompt]:
    """Raises UsageError where there are none, or a file is not what its ending says."""
    if bool(config.prompts) == (config.data is not None):
        raise UsageError("give prompts, each in quotes, or --data FILE" + " and not both" * bool(config.prompts))
    if config.data is None:
        prompts = [Prompt(text, text) for text in config.prompts]
    elif (path := find(config.data)).suffix.lower() in (".json", ".jsonl"):
        template = template_named(config.template)
        prompts = [
            Prompt(
                template.question(dialogue.turns, dialogue.system),
                "\n".join(text for text in dialogue.turns[-1][:2] if text),
                dialogue.turns[-1].output,
            )
            for dialogue in read_dialogues(path)
        ]
    else:
        prompts = [Prompt(line, line) for line in read_text(path).split("\n") if line.strip()]
    return prompts[: config.limit]


def answers(name: str, model: GPT, tokenizer: Tokenizer, prompts: Sequence[Prompt], config: Config) -> Column:
    """What one model says. The same seed gives the same numbers to both."""
    found: list[Answer] = []
    start, sampling = time.perf_counter(), config.sampling()
    bar = tqdm(range(0, len(prompts), config.batch_size), name, unit="batch", disable=None, leave=False)
    for first in bar:
        texts = [prompt.text for prompt in prompts[first : first + config.batch_size]]
        try:
            written = complete(
                model,
                tokenizer,
                texts,
                config.max_new_tokens,
                sampling,
                stop=config.stop,
                seed=config.seed,
                logprobs=True,
            )
        except ValueError as error:
            raise UsageError(f"{name}: {error}") from None
        for text in written:
            count = len(text.row.ids)
            found.append(Answer(text.text.strip(), count, sum(text.row.logprobs) / max(count, 1)))
    return Column(name, found, time.perf_counter() - start)


def side_by_side(prompts: Sequence[Prompt], left: Column, right: Column, width: int) -> str:
    """The comparison for a terminal of `width` characters."""
    half = max((width - 3) // 2, 16)
    lines = []
    for i, (prompt, a, b) in enumerate(zip(prompts, left.answers, right.answers), 1):
        lines += [*_wrapped(f"{i}. {prompt.shown}", width)]
        if prompt.reference:
            lines += _wrapped(f"reference: {prompt.reference}", width)
        lines.append("─" * half + "─┬─" + "─" * half)
        columns = [[_cut(left.name, half), *_wrapped(a.text, half)], [_cut(right.name, half), *_wrapped(b.text, half)]]
        if a.text == b.text:
            columns[1][1:] = ["(the same)"]
        lines += [f"{x:{half}} │ {y}".rstrip() for x, y in zip_longest(*columns, fillvalue="")]
        lines.append("")
    return "\n".join(lines)


def _wrapped(text: str, width: int) -> list[str]:
    lines = [textwrap.wrap(line, width, drop_whitespace=True) or [""] for line in text.expandtabs(4).split("\n")]
    return [piece for line in lines for piece in line]


def _cut(name: str, width: int) -> str:
    return name if len(name) <= width else "…" + name[1 - width :]


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #222; }}
table {{ border-collapse: collapse; width: 100%; table-layout: fixed; }}
th, td {{ text-align: left; vertical-align: top; padding: .5rem .7rem; border-top: 1px solid #ccc; }}
td {{ white-space: pre-wrap; overflow-wrap: break-word; }}
th {{ position: sticky; top: 0; background: #fff; overflow-wrap: break-word; }}
td:first-child {{ color: #555; }}
i {{ display: block; margin-top: .5rem; color: #2a7a3b; font-style: normal; }}
.same td {{ background: #f6f6f6; }}
</style>
<h1>{title}</h1>
<p>{about}</p>
<table>
<tr><th>prompt</th><th>{left}</th><th>{right}</th></tr>
{rows}
</table>
</html>
"""


def page(prompts: Sequence[Prompt], left: Column, right: Column) -> str:
    """The comparison as one page that needs nothing else."""
    rows = []
    for prompt, a, b in zip(prompts, left.answers, right.answers):
        reference = f"<i>{escape(prompt.reference)}</i>" if prompt.reference else ""
        kind = ' class="same"' if a.text == b.text else ""
        cells = f"<td>{escape(prompt.shown)}{reference}</td><td>{escape(a.text)}</td><td>{escape(b.text)}</td>"
        rows.append(f"<tr{kind}>{cells}</tr>")
    return _PAGE.format(
        title=escape(f"{left.name} and {right.name}"),
        about="<br>".join(escape(column.summary()) for column in (left, right)),
        left=escape(left.name),
        right=escape(right.name),
        rows="\n".join(rows),
    )


def main(argv: Sequence[str]) -> None:
    """Two models on the same prompts, side by side."""
    does = "Show what two models write after the same prompts, side by side."
    config = parse(Config, argv, {"default": Config()}, "default", "evaluate compare", does, words="prompts")
    if config.model is None or config.against is None:
        raise UsageError("--model and --against name the two models: folders of runs, gpt2, or files with weights")
    prompts = read_prompts(config)
    config.sampling()
    model, tokenizer = config.load()
    left = answers(config.model, model, tokenizer, prompts, config)
    del model  # one at a time is in memory
    model, tokenizer = trained(config.against, "--against")
    right = answers(config.against, model.to(config.device), tokenizer, prompts, config)
    print(side_by_side(prompts, left, right, shutil.get_terminal_size().columns))
    print(left.summary())
    print(right.summary())
    same = sum(a.text == b.text for a, b in zip(left.answers, right.answers))
    print(f"{same:,} of {len(prompts):,} answers are the same")
    if config.html:
        try:
            config.html.write_text(page(prompts, left, right), encoding="utf-8")
        except OSError as error:
            raise UsageError(f"--html {config.html}: {error.strerror}") from None
        print(f"wrote {config.html}: open it in a browser")
