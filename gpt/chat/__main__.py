"""`python -m gpt.chat --model runs/NAME`: a chat in the terminal; with --serve as a page, and as OpenAI's API."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import tensorlite as tl
from gpt.chat.conversation import Chat, Conversation, template_for
from gpt.chat.terminal import Terminal
from gpt.options import UsageError, option, parse, run
from gpt.sampling import SamplingOptions
from gpt.trained import Trained


@dataclass(frozen=True)
class Config(SamplingOptions, Trained):
    template: str = option(
        "auto",
        "how a chat becomes text: book, stanford, phi3, plain or a JSON file of your own; auto: as the run was taught, "
        "plain where it was not",
    )
    system: str = option("", "what the model is told before the chat")
    history: Path | None = option(None, "a chat to go on with, which /save wrote")
    max_new_tokens: int = option(256, "tokens of an answer, at most")
    when_full: Literal["slide", "stop"] = option("slide", "what to do when an answer fills the model's context")
    seed: int | None = option(None, "the same seed and questions give the same answers; none: others each time")
    serve: bool = option(False, "open a page and OpenAI's API on 127.0.0.1 instead")
    port: int = option(8000, "where, with --serve; 0: a free one")
    max_in_flight: int = option(4, "requests that are answered at once, with --serve; more are refused")
    max_tokens: int = option(4096, "tokens that a request may ask for, with --serve, in all its answers together")

    def __post_init__(self) -> None:
        for name, least in (("max_new_tokens", 1), ("max_in_flight", 1), ("max_tokens", 1), ("port", 0)):
            if getattr(self, name) < least:
                flag = name.replace("_", "-")
                raise UsageError(f"--{flag} expects a number from {least} on, got {getattr(self, name)}")
        if self.port > 65535:
            raise UsageError(f"--port expects a number up to 65535, got {self.port}")
        if self.serve and self.history:
            raise UsageError("--history is for the terminal; a page begins with an empty chat")
        if self.serve and self.system:
            raise UsageError("--system is for the terminal; the page has a field for it")
        try:
            self.sampling()
        except ValueError as error:
            raise UsageError(str(error)) from error


def main(argv: Sequence[str]) -> None:
    config = parse(Config, argv, {"chat": Config()}, "chat", "chat", "Talk with a trained GPT.")
    model, tokenizer = config.load()
    tl.random.seed() if config.seed is None else tl.manual_seed(config.seed)
    chat = Chat(model.eval(), tokenizer, template_for(config.model or "", config.template), config.when_full)
    if config.serve:
        try:
            from gpt.chat.server import serve
        except ImportError as error:
            raise UsageError(
                f"--serve needs a library for servers: pip install 'tensorlite[serve]' ({error})"
            ) from error

        serve(chat, config)
        return
    conversation = Conversation(config.system)
    if config.history:
        try:
            loaded = Conversation.load(config.history)
            conversation = replace(loaded, system=config.system or loaded.system)
        except (OSError, ValueError) as error:
            raise UsageError(f"--history {config.history}: {error}") from error
    Terminal(chat, config.sampling(), config.max_new_tokens, conversation).talk()


if __name__ == "__main__":
    run(main, "chat")
