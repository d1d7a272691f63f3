"""A conversation: what was said, as much of it as the model can look at, and the model's next answer.

chat = Chat(model, tokenizer, template)
conversation = Conversation()
answer = chat.answer(conversation.asking("Where is the cat?"), max_new_tokens=50)
for _ in answer.steps:
    ...  # answer.text.text grows
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import tensorlite as tl
from gpt.completion import Text, write_texts
from gpt.messages import Turn, messages_of, turns_of
from gpt.model import GPT
from gpt.sampling import Sampling
from gpt.template import TEMPLATES, Template, template_named
from gpt.tokenizer import Tokenizer
from gpt.writing import WhenFull
from tensorlite.serialize import replacing


@dataclass(frozen=True)
class Conversation:
    """What was said so far; the output of the last turn is "" while it waits for its answer."""

    system: str = ""
    turns: tuple[Turn, ...] = ()

    def asking(self, question: str) -> Conversation:
        return Conversation(self.system, (*self.turns, Turn(question, "", "")))

    def answered(self, answer: str) -> Conversation:
        """With an answer to the last question; where it says nothing, without the question, as if it had not been."""
        turn = self.turns[-1]._replace(output=answer.rstrip())
        return Conversation(self.system, (*self.turns[:-1], *([turn] if turn.output else [])))

    def save(self, path: Path) -> None:
        """Write the answered turns as one line of JSON, {"messages": […]}, which train.instruct reads too. OSError;
        ValueError if there is none."""
        if not self.turns:
            raise ValueError("nothing was said yet, so there is nothing to save")
        text = json.dumps({"messages": messages_of(self.system, self.turns)}, ensure_ascii=False) + "\n"
        with replacing(path) as beside:
            beside.write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Conversation:
        """What `save` wrote. OSError if there is no file, ValueError if it is no conversation."""
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        if not isinstance(content, dict) or "messages" not in content:
            raise ValueError('expected one object, {"messages": […]}, as /save writes it')
        return cls(*turns_of(content["messages"]))


class TooLongError(ValueError):
    """More tokens than the model can look at."""


class Answer(NamedTuple):
    """Texts that are being written.

    texts     as far as they are known
    steps     writes a token of each at every step
    left_out  how many turns at the beginning the model does not see, because the context is full
    """

    texts: list[Text]
    steps: Iterator[None]
    left_out: int = 0


@dataclass(frozen=True)
class Chat:
    """A model that answers. `when_full` is as in gpt/writing.py, for an answer that reaches the end of the context."""

    model: GPT
    tokenizer: Tokenizer
    template: Template
    when_full: WhenFull = "slide"

    def answer(
        self,
        conversation: Conversation,
        max_new_tokens: int,
        sampling: Sampling | None = None,
        *,
        seeds: Sequence[int] | None = None,
        stop: Sequence[str] = (),
        top_logprobs: int = 0,
    ) -> Answer:
        """Answers to the last question, one for each of `seeds`, and by default one. Errors are those of `go_on`."""
        prompt, left_out = self.fit(conversation, max_new_tokens)
        seeds = [tl.random.default_generator().draw_seed()] if seeds is None else seeds
        stop = (*self.template.stop, *stop)
        answer = self.go_on([prompt] * len(seeds), max_new_tokens, sampling, seeds, stop, top_logprobs)
        return answer._replace(left_out=left_out)

    def go_on(
        self,
        prompts: Sequence[str],
        max_new_tokens: int,
        sampling: Sampling | None,
        seeds: Sequence[int],
        stop: Sequence[str] = (),
        top_logprobs: int = 0,
    ) -> Answer:
        """What follows each prompt, without a template. TooLongError if one is longer than the context, ValueError if
        the tokenizer cannot encode it, and for arguments that make no sense."""
        texts = [Text(self.tokenizer, prompt, seed, stop) for prompt, seed in zip(prompts, seeds, strict=True)]
        for text in texts:
            self._room(len(text.row.prompt), "prompt")
        steps = write_texts(self.model, texts, max_new_tokens, sampling, self.when_full, top_logprobs=top_logprobs)
        return Answer(texts, steps)

    def fit(self, conversation: Conversation, max_new_tokens: int) -> tuple[str, int]:
        """The text of the last turns that fit in the context beside an answer, and how many turns are left out.

        An answer is given room for max_new_tokens, but no more than half the context; a last question that is longer
        than what remains takes of it. TooLongError if it does not fit in the whole context.
        """
        context, turns, system = self.model.config.context_length, conversation.turns, conversation.system
        room = min(max_new_tokens, context // 2)
        prompt = self.template.question(turns[-1:], system)
        self._room(len(self.tokenizer.encode(prompt)), "question, with its template,")
        for kept in range(2, len(turns) + 1):
            longer = self.template.question(turns[-kept:], system)
            if len(self.tokenizer.encode(longer)) > context - room:
                return prompt, len(turns) - kept + 1
            prompt = longer
        return prompt, 0

    def _room(self, length: int, what: str) -> None:
        if length > (context := self.model.config.context_length):
            raise TooLongError(f"the {what} has {length:,} tokens, and the model can look at {context:,}; shorten it")


def template_for(source: str, name: str) -> Template:
    """The template `name`; for "auto" the one that the run `source` was taught with, and plain for other models.

    UsageError if there is none.
    """
    if name != "auto":
        return template_named(name)
    try:
        described = json.loads((Path(source) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return TEMPLATES["plain"]
    taught = described.get("template") if isinstance(described, dict) else None
    return template_named(taught) if isinstance(taught, str) else TEMPLATES["plain"]
