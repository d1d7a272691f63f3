"""A chat in the terminal: answers appear as they are written, and Ctrl-C ends one without ending the chat."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from gpt.chat.conversation import Chat, Conversation
from gpt.sampling import Sampling


@dataclass
class Terminal:
    """What the person has set, and what was said."""

    chat: Chat
    sampling: Sampling
    max_new_tokens: int
    conversation: Conversation

    def talk(self) -> None:
        """Until /quit or the end of the input."""
        with suppress(ImportError):
            import readline  # noqa: F401  the arrow keys edit a line, and bring back earlier ones
        print("/help lists what else can be said here; Ctrl-C ends an answer, Ctrl-D the chat.")
        while True:
            try:
                line = input("\n> ").strip()
            except KeyboardInterrupt:
                print("\n(/quit ends the chat)")
            except EOFError:
                print()
                return
            else:
                if line == "/quit":
                    return
                self.take(line)

    def take(self, line: str) -> None:
        """A line of the person: a command, or a question, which is answered. What is wrong with it is said."""
        try:
            if line.startswith("/"):
                name, _, argument = line[1:].partition(" ")
                if name not in COMMANDS:
                    raise ValueError(f"there is no /{name}; /help lists what there is")
                print(COMMANDS[name](self, argument.strip()))
            elif line:
                self.answer(line)
        except (OSError, ValueError) as error:
            print(error)

    def answer(self, question: str) -> None:
        """Answer on the terminal. The conversation goes on with what was written, also where Ctrl-C ended it."""
        asked = self.conversation.asking(question)
        with interrupts() as interrupted:
            answer = self.chat.answer(asked, self.max_new_tokens, self.sampling)
            if answer.left_out:
                print(f"(the first {_count(answer.left_out, 'turn')} no longer fit in the context)", flush=True)
            (text,) = answer.texts
            shown = 0
            for _ in answer.steps:
                print(text.text[shown:], end="", flush=True)
                shown = len(text.text)
                if interrupted():
                    break
        self.conversation = asked.answered(text.text)
        if not text.text.strip():
            print("(no answer; the question is forgotten)")
        elif text.row.ended is None:
            print(" (stopped)")
        elif text.row.ended == "context":
            print(" (the context is full)")
        else:
            print()

    # Each command takes what stands behind its name and returns what is to be said.

    def reset(self, argument: str) -> str:
        """forget what was said, but not the system message"""
        self.conversation = Conversation(self.conversation.system)
        return "Forgotten."

    def save(self, argument: str) -> str:
        """FILE: write the chat as JSON; without FILE to chat.json"""
        path = Path(argument or "chat.json")
        self.conversation.save(path)
        return f"Wrote {_count(len(self.conversation.turns), 'turn')} to {path}."

    def load(self, argument: str) -> str:
        """FILE: go on with a chat that /save wrote"""
        path = Path(argument or "chat.json")
        try:
            self.conversation = Conversation.load(path)
        except ValueError as error:
            raise ValueError(f"{path} is not a chat that can be read: {error}") from error
        return f"Read {_count(len(self.conversation.turns), 'turn')} from {path}."

    def temperature(self, argument: str) -> str:
        """X: how bold to be from now on; without X, says how bold"""
        if argument:
            try:
                number = float(argument)
            except ValueError:
                raise ValueError(f"/temperature expects a number from 0 on, got {argument!r}") from None
            self.sampling = replace(self.sampling, temperature=number)
        return f"The temperature is {self.sampling.temperature:g}."

    def system(self, argument: str) -> str:
        """TEXT: what the model is told before the chat; without TEXT, nothing"""
        self.conversation = replace(self.conversation, system=argument)
        return "The system message is set." if argument else "There is no system message."

    def help(self, argument: str) -> str:
        """what can be said here"""
        return "\n".join(f"/{name:<12} {command.__doc__}" for name, command in COMMANDS.items())

    def quit(self, argument: str) -> str:
        """end the chat; so does Ctrl-D"""
        raise ValueError("/quit stands alone on its line")


COMMANDS: dict[str, Callable[[Terminal, str], str]] = {
    command.__name__: command
    for command in (
        Terminal.reset, Terminal.save, Terminal.load, Terminal.temperature, Terminal.system, Terminal.help,
        Terminal.quit,
    )
}  # fmt: skip


@contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """Inside, Ctrl-C is only noted, so that no step of the model is cut in two; the function given says whether it
    was. A second Ctrl-C is a KeyboardInterrupt as ever."""
    noted: list[bool] = []

    def note(number: int, frame: FrameType | None) -> None:
        noted.append(True)
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(noted)
    except KeyboardInterrupt:
        print(file=sys.stdout)
    finally:
        signal.signal(signal.SIGINT, before)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
