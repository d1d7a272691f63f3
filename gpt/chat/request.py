"""What a client of OpenAI's API asks for, checked: from a JSON body to an Ask, or to an error that says what is wrong.

Source: OpenAI's API reference, *Create chat completion* and *Create completion*.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import tensorlite as tl
from gpt.chat.conversation import Answer, Chat, Conversation
from gpt.messages import turns_of
from gpt.sampling import Sampling

Fields = Mapping[str, tuple[Callable[[Any], bool], str]]

MOST_LOGPROBS = 20
MOST_CHOICES = 16


class RefusedError(Exception):
    """A request that is not answered, as OpenAI's API says it: an HTTP status, and why."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None):
        super().__init__(message)
        kinds = {429: "rate_limit_error", 500: "server_error"}
        kind = kinds.get(status, "invalid_request_error")
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


@dataclass(frozen=True)
class Limits:
    """What a server allows and assumes.

    model           the name of what it serves
    max_new_tokens  tokens of an answer, where the request does not say
    max_tokens      the most that a request may ask for, in all its answers together
    sampling        how tokens are chosen, where the request does not say
    """

    model: str
    max_new_tokens: int
    max_tokens: int
    sampling: Sampling


@dataclass(frozen=True)
class Ask:
    """conversation is None for a text that is only to be gone on with, and prompts is empty for a conversation."""

    conversation: Conversation | None
    prompts: tuple[str, ...]
    choices: int
    max_new_tokens: int
    sampling: Sampling
    seed: int
    stop: tuple[str, ...]
    logprobs: bool
    top_logprobs: int
    stream: bool
    usage: bool

    def answered_by(self, chat: Chat) -> Answer:
        """ValueError as from Chat."""
        top = max(self.top_logprobs, int(self.logprobs))
        if self.conversation is not None:
            seeds = range(self.seed, self.seed + self.choices)
            return chat.answer(
                self.conversation, self.max_new_tokens, self.sampling, seeds=seeds, stop=self.stop, top_logprobs=top
            )
        prompts = [prompt for prompt in self.prompts for _ in range(self.choices)]
        seeds = range(self.seed, self.seed + len(prompts))
        return chat.go_on(prompts, self.max_new_tokens, self.sampling, seeds, self.stop, top)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(least: int, most: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _texts(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, list) and bool(value) and all(isinstance(text, str) for text in value)
    )


_BOOL = (lambda value: isinstance(value, bool)), "true or false"
_NUMBER = _number, "a number"
_COUNT = _whole(1, 2**31), "a whole number from 1 on"

# Each parameter: whether a value is of its kind, and the kind in words. Its range is for those who use it to check.
_BOTH: Fields = {
    "model": ((lambda value: isinstance(value, str)), "text"),
    "max_tokens": _COUNT,
    "n": (_whole(1, MOST_CHOICES), f"a whole number from 1 to {MOST_CHOICES}"),
    "seed": (_whole(0, 2**62), "a whole number from 0 on, below 2**62"),
    "stop": (_texts, "text or a list of texts"),
    "stream": _BOOL,
    "stream_options": ((lambda value: isinstance(value, dict)), "an object"),
    "temperature": _NUMBER,
    "top_p": _NUMBER,
    "top_k": _COUNT,
    "min_p": _NUMBER,
    "repetition_penalty": _NUMBER,
}
_LOGPROBS = _whole(0, MOST_LOGPROBS), f"a whole number from 0 to {MOST_LOGPROBS}"
CHAT: Fields = {
    **_BOTH,
    "messages": ((lambda value: isinstance(value, list)), "a list"),
    "max_completion_tokens": _COUNT,
    "logprobs": _BOOL,
    "top_logprobs": _LOGPROBS,
}
TEXT: Fields = {
    **_BOTH,
    "prompt": (_texts, "text or a list of texts; token ids are not taken"),
    "logprobs": _LOGPROBS,
}

# Parameters of OpenAI's that change nothing here, and those that are only taken with the value that asks for nothing.
_IGNORED = {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"}
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,), "presence_penalty": (0,), "logit_bias": ({},), "best_of": (1,), "echo": (False,),
    "suffix": ("",), "tools": ([],), "functions": ([],), "tool_choice": ("none", "auto"),
    "response_format": ({"type": "text"},), "modalities": (["text"],), "parallel_tool_calls": (True, False),
}  # fmt: skip


def read(body: Any, fields: Fields, limits: Limits) -> Ask:
    """What the parsed `body` asks for; `fields` is CHAT or TEXT. RefusedError says what is wrong with it."""
    said = _checked(body, fields)
    if (name := said.get("model", limits.model)) != limits.model:
        raise RefusedError(
            404, f"the model {name!r} is not served here; {limits.model!r} is", "model", "model_not_found"
        )
    conversation: Conversation | None = None
    prompts: tuple[str, ...] = ()
    if fields is CHAT:
        conversation = _conversation(said.get("messages"))
    elif "prompt" not in said:
        raise RefusedError(400, "prompt is missing: the text to go on from", "prompt", "missing_required_parameter")
    else:
        prompts = _tuple(said["prompt"])
    choices = said.get("n", 1)
    longest = said.get("max_completion_tokens", said.get("max_tokens"))
    if (answers := choices * max(1, len(prompts))) > MOST_CHOICES:
        raise RefusedError(400, f"{answers:,} answers are asked for, and {MOST_CHOICES} are written at most", "n")
    if longest is None:
        longest = min(limits.max_new_tokens, max(1, limits.max_tokens // answers))
    if (asked := longest * answers) > limits.max_tokens:
        raise RefusedError(
            400,
            f"{asked:,} tokens are asked for in {answers:,} answer{'' if answers == 1 else 's'}, and a request may ask "
            f"for {limits.max_tokens:,}; lower max_tokens",
            "max_tokens",
            "max_tokens_exceeded",
        )
    logprobs = said.get("logprobs", False)
    if "top_logprobs" in said and not logprobs:
        raise RefusedError(400, "top_logprobs needs logprobs to be true", "top_logprobs", "invalid_value")
    return Ask(
        conversation,
        prompts,
        choices,
        longest,
        _sampling(said, limits.sampling),
        said["seed"] if "seed" in said else tl.random.default_generator().draw_seed(),
        _tuple(said.get("stop", ())),
        logprobs=logprobs is not False,
        top_logprobs=said.get("top_logprobs", 0) if fields is CHAT else int(logprobs),
        stream=said.get("stream", False),
        usage=bool(said.get("stream_options", {}).get("include_usage")),
    )


def _checked(body: Any, fields: Fields) -> dict[str, Any]:
    """The parameters that `body` gives. What is null counts as not given, as with OpenAI."""
    if not isinstance(body, dict):
        raise RefusedError(400, f"expected a JSON object, got {type(body).__name__}", code="invalid_json")
    said = {name: value for name, value in body.items() if value is not None and name not in _IGNORED}
    for name, value in list(said.items()):
        if name in _NEUTRAL:
            if value not in _NEUTRAL[name]:
                raise RefusedError(400, f"{name} is not supported here; leave it out", name, "unsupported_parameter")
            del said[name]
        elif name not in fields:
            meant = "".join(f"; did you mean {close}?" for close in get_close_matches(name, fields, n=1))
            raise RefusedError(400, f"unknown parameter {name!r}{meant}", name, "unknown_parameter")
        elif not fields[name][0](value):
            raise RefusedError(400, f"{name} expects {fields[name][1]}, got {str(value)[:60]!r}", name, "invalid_type")
    return said


def _conversation(messages: Any) -> Conversation:
    if messages is None:
        raise RefusedError(400, "messages is missing: what was said so far", "messages", "missing_required_parameter")
    try:
        return Conversation(*turns_of([_plain(message) for message in messages], answered=False))
    except ValueError as error:
        raise RefusedError(400, f"messages: {error}", "messages", "invalid_value") from None


def _plain(message: Any) -> Any:
    """A message whose content is one text, also where it is given in parts; the role developer means system."""
    if not isinstance(message, dict):
        return message
    role, content = message.get("role"), message.get("content")
    if isinstance(content, list):
        if not all(isinstance(p, dict) and p.get("type") == "text" and isinstance(p.get("text"), str) for p in content):
            raise ValueError('a content in parts may hold {"type": "text", "text": …} only')
        content = "".join(part["text"] for part in content)
    return {"role": "system" if role == "developer" else role, "content": content}


def _sampling(said: Mapping[str, Any], default: Sampling) -> Sampling:
    names = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
    values = {name: said.get(name, getattr(default, name)) for name in names}
    try:
        return Sampling(**values)
    except (OverflowError, ValueError) as error:
        name = str(error).split()[0]
        raise RefusedError(400, str(error), name if name in names else None, "invalid_value") from None


def _tuple(texts: Any) -> tuple[str, ...]:
    return (texts,) if isinstance(texts, str) else tuple(texts)
