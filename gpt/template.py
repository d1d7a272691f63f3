"""Templates: how a question and its answer become one text, from which the model learns where an answer begins.

Sources: Raschka, *Build a Large Language Model (From Scratch)*, section 7.2, for `book`; Taori et al., *Stanford
Alpaca* (2023), train.py, for `stanford`; Abdin et al., *Phi-3 Technical Report* (2024), for `phi3`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from gpt.messages import Turn
from gpt.options import UsageError


@dataclass(frozen=True)
class Template:
    """{instruction}, {input} and {system} stand for what the data say.

    prompt              one question, up to where the answer begins; prompt_with_input where there is an input
    opening             stands before the first question; opening_with_input where that has an input
    system              takes the place of the opening where the data have a system message
    end                 follows an answer
    between             stands between an answer and the next question of a chat
    """

    prompt: str
    prompt_with_input: str
    opening: str = ""
    opening_with_input: str = ""
    system: str = "{system}\n\n"
    end: str = ""
    between: str = "\n\n"

    def __post_init__(self) -> None:
        for name in ("prompt", "prompt_with_input"):
            for word in ["instruction", "input"][: 1 + (name == "prompt_with_input")]:
                if "{" + word + "}" not in getattr(self, name):
                    raise ValueError(f"{name} does not contain {{{word}}}: {getattr(self, name)!r}")

    def question(self, turns: Sequence[Turn], system: str = "") -> str:
        """All up to where the answer of the last turn begins."""
        text = self._opening(turns[0], system)
        for turn in turns[:-1]:
            text += self._prompt(turn) + turn.output + self.end + self.between
        return text + self._prompt(turns[-1])

    def answer(self, turn: Turn) -> str:
        """The answer, with what ends it."""
        return turn.output + self.end

    @property
    def stop(self) -> tuple[str, ...]:
        """Texts at which an answer is over: what ends it, or the next question, which a model may go on to ask."""
        ends = self.end.strip(), self.prompt.partition("{")[0].strip()
        return tuple(text for text in ends if text)

    def _opening(self, turn: Turn, system: str) -> str:
        if system:
            return filled(self.system, system=system)
        return self.opening_with_input if turn.input else self.opening

    def _prompt(self, turn: Turn) -> str:
        form = self.prompt_with_input if turn.input else self.prompt
        return filled(form, instruction=turn.instruction, input=turn.input)


def filled(form: str, **values: str) -> str:
    """All at once, so that braces in the values are left alone."""
    return re.sub("|".join(f"{{{name}}}" for name in values), lambda match: values[match[0][1:-1]], form)


_TASK = "Below is an instruction that describes a task"
_REQUEST = "Write a response that appropriately completes the request.\n\n"

TEMPLATES = {
    "book": Template(
        opening=f"{_TASK}. {_REQUEST}",
        opening_with_input=f"{_TASK}. {_REQUEST}",
        prompt="### Instruction:\n{instruction}\n\n### Response:\n",
        prompt_with_input="### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n",
    ),
    # Its answers begin right after the colon.
    "stanford": Template(
        opening=f"{_TASK}. {_REQUEST}",
        opening_with_input=f"{_TASK}, paired with an input that provides further context. {_REQUEST}",
        prompt="### Instruction:\n{instruction}\n\n### Response:",
        prompt_with_input="### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:",
    ),
    "phi3": Template(
        prompt="<|user|>\n{instruction}<|end|>\n<|assistant|>\n",
        prompt_with_input="<|user|>\n{instruction}\n{input}<|end|>\n<|assistant|>\n",
        system="<|system|>\n{system}<|end|>\n",
        end="<|end|>",
        between="\n",
    ),
    # For a model that was not taught to answer: what is said is one text, with which it goes on.
    "plain": Template(prompt="{instruction}", prompt_with_input="{instruction}\n{input}", between="\n"),
}


def template_named(name: str) -> Template:
    """One of TEMPLATES, or that of a JSON file with Template's fields as keys. Raises UsageError if there is none."""
    if name in TEMPLATES:
        return TEMPLATES[name]
    if not Path(name).is_file():
        raise UsageError(f"--template {name}: expected {', '.join(TEMPLATES)} or a JSON file of your own")
    known = [f.name for f in fields(Template)]
    try:
        described = json.loads(Path(name).read_text(encoding="utf-8-sig"))
        if not isinstance(described, dict) or not all(isinstance(text, str) for text in described.values()):
            raise ValueError("expected an object of texts")
        if unknown := sorted(described.keys() - set(known)):
            raise ValueError(f"unknown key {unknown[0]!r}; the keys are {', '.join(known)}")
        return Template(**described)
    except (OSError, TypeError, ValueError) as error:
        raise UsageError(f"--template {name}: {error}") from None
