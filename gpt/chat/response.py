"""What a client of OpenAI's API gets: answers as JSON, whole or in pieces as they are written.

Source: OpenAI's API reference, *The chat completion object*, its *chunk object*, and *The completion object*.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

from gpt.chat.conversation import Answer
from gpt.chat.request import Ask
from gpt.completion import Text
from gpt.tokenizer import Tokenizer

_FINISHED = {"stop": "stop", "length": "length", "context": "length"}

_LOWEST = -9999.0  # instead of -inf, which JSON does not have; so does OpenAI


class Answers:
    """The answers to one request. What the model does not see of a long chat is counted in `turns_left_out`."""

    def __init__(self, ask: Ask, answer: Answer, model: str, tokenizer: Tokenizer):
        self.ask, self.answer, self.tokenizer = ask, answer, tokenizer
        self.chat = ask.conversation is not None
        self.head = {
            "id": f"{'chatcmpl' if self.chat else 'cmpl'}-{uuid.uuid4().hex}",
            "object": "chat.completion" if self.chat else "text_completion",
            "created": int(time.time()),
            "model": model,
        }
        self._sent = [(0, 0) for _ in answer.texts]  # characters and tokens of each
        self._ended = [False for _ in answer.texts]

    def whole(self) -> dict[str, Any]:
        """All of it, when it is written."""
        choices = []
        for index, text in enumerate(self.answer.texts):
            said: dict[str, Any] = {"text": text.text}
            if self.chat:
                said = {"message": {"role": "assistant", "content": text.text, "refusal": None}}
            choices.append({"index": index, **said, **self._rest(index, text, (0, 0))})
        return {**self.head, **self._left_out(), "choices": choices, "usage": self.usage()}

    def first(self) -> Iterator[dict[str, Any]]:
        """The pieces before anything is written."""
        if self.chat:
            start = {"delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
            for index in range(len(self.answer.texts)):
                yield self._piece([{"index": index, **start}], **self._left_out())

    def new(self) -> Iterator[dict[str, Any]]:
        """The pieces that were written since the last call."""
        for index, text in enumerate(self.answer.texts):
            at = self._sent[index]
            if self._ended[index] or (len(text.text) == at[0] and not text.row.ended):
                continue
            self._ended[index] = text.row.ended is not None
            new = text.text[at[0] :]
            said: dict[str, Any] = {"text": new}
            if self.chat:
                said = {"delta": {"content": new} if new else {}}
            yield self._piece([{"index": index, **said, **self._rest(index, text, at)}])
            self._sent[index] = len(text.text), len(text.row.ids)

    def last(self) -> Iterator[dict[str, Any]]:
        """The pieces after all is written."""
        if self.ask.usage:
            yield self._piece([], usage=self.usage())

    def usage(self) -> dict[str, int]:
        """Tokens. A prompt counts once, however many answers it has."""
        prompts = self.answer.texts[:: self.ask.choices]
        read, written = sum(len(t.row.prompt) for t in prompts), sum(len(t.row.ids) for t in self.answer.texts)
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}

    def _piece(self, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        kind = {"object": "chat.completion.chunk"} if self.chat else {}
        return {**self.head, **kind, **more, "choices": choices}

    def _left_out(self) -> dict[str, int]:
        return {"turns_left_out": self.answer.left_out} if self.answer.left_out else {}

    def _rest(self, index: int, text: Text, at: tuple[int, int]) -> dict[str, Any]:
        """Log-probabilities of the tokens after the place `at`, and whether the text has ended."""
        logprobs = None
        if self.ask.logprobs:
            logprobs = self._of_chat(text, at[1]) if self.chat else self._of_text(text, *at)
        ended = text.row.ended
        return {"logprobs": logprobs, "finish_reason": _FINISHED[ended] if ended else None}

    def _tokens(self, text: Text, start: int) -> Iterator[tuple[int, float, list[tuple[int, float]]]]:
        """The tokens from `start` on but for the one that ends a document, their log-probabilities, and the likeliest
        at their places."""
        row = text.row
        for token, logprob, likeliest in list(zip(row.ids, row.logprobs, row.likeliest, strict=True))[start:]:
            if token != text.eot_id:
                yield token, logprob, likeliest[: self.ask.top_logprobs]

    def _of_chat(self, text: Text, start: int) -> dict[str, Any]:
        return {
            "content": [
                {**self._named(token, logprob), "top_logprobs": [self._named(*pair) for pair in likeliest]}
                for token, logprob, likeliest in self._tokens(text, start)
            ],
            "refusal": None,
        }

    def _named(self, token: int, logprob: float) -> dict[str, Any]:
        raw = list(self.tokenizer.token_bytes(token))
        return {"token": self.tokenizer.decode([token]), "logprob": max(logprob, _LOWEST), "bytes": raw}

    def _of_text(self, text: Text, characters: int, start: int) -> dict[str, Any]:
        named: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        for token, logprob, likeliest in self._tokens(text, start):
            word = self.tokenizer.decode([token])
            named["tokens"].append(word)
            named["token_logprobs"].append(max(logprob, _LOWEST))
            named["top_logprobs"].append({self.tokenizer.decode([i]): max(p, _LOWEST) for i, p in likeliest})
            named["text_offset"].append(characters)
            characters += len(word)
        return named
