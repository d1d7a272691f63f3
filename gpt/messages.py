"""A chat as messages, {"role": …, "content": …}, and as turns: what was asked, and what was answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class Turn(NamedTuple):
    """What was asked, on what, and what was answered."""

    instruction: str
    input: str
    output: str


def turns_of(messages: Any, answered: bool = True) -> tuple[str, tuple[Turn, ...]]:
    """The system message, "" if there is none, and the turns.

    answered  whether the last message is an answer; else it is a question, whose turn has the output ""

    ValueError, which says what was found, unless user and assistant speak in turns and none of them says nothing.
    """
    if not isinstance(messages, list) or not all(
        isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str) for m in messages
    ):
        raise ValueError("messages expects a list of objects with the texts role and content")
    roles, said = [m["role"] for m in messages], [m["content"] for m in messages]
    system = ""
    if roles[:1] == ["system"]:
        roles, system, said = roles[1:], said[0], said[1:]
    speakers = ["user", "assistant"] * (len(roles) // 2) + ([] if answered else ["user"])
    if not roles or roles != speakers:
        raise ValueError(
            f"expected user and assistant in turns, from the user to the {'assistant' if answered else 'user'}, after "
            f"a system message or none; found {', '.join(m['role'] for m in messages) or 'no message'}"
        )
    if empty := [i for i, content in enumerate(said, 1) if not content.strip()]:
        raise ValueError(f"message {empty[0]} is empty")
    said += [] if answered else [""]
    return system, tuple(Turn(asked, "", answer) for asked, answer in zip(said[::2], said[1::2], strict=True))


def messages_of(system: str, turns: Sequence[Turn]) -> list[dict[str, str]]:
    """The messages that `turns_of` reads."""
    messages = [{"role": "system", "content": system}] if system else []
    for turn in turns:
        messages.append({"role": "user", "content": turn.instruction})
        messages.append({"role": "assistant", "content": turn.output})
    return messages
