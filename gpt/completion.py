"""Text in, text out: what a model writes after a prompt, up to a stop string, and as it comes.

first, second = complete(model, tokenizer, ["ROMEO:", "JULIET:"], max_new_tokens=100, stop=["\n\n"])
first.text, first.row.ended  # "…", "stop"
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import tensorlite as tl
from gpt.model import GPT
from gpt.sampling import Sampling
from gpt.tokenizer import Tokenizer
from gpt.writing import Row, WhenFull, write


def complete(
    model: GPT,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    max_new_tokens: int,
    sampling: Sampling | None = None,
    *,
    samples: int = 1,
    stop: Sequence[str] = (),
    seed: int | None = None,
    when_full: WhenFull = "slide",
    use_cache: bool = True,
    logprobs: bool = False,
) -> list[Text]:
    """What the model writes after each of the prompts, `samples` times each: a prompt's samples follow one another.

    stop  texts before which a row ends; so does `<|endoftext|>`
    seed  of each prompt's first sample, the next has the next number; without it, they are drawn

    The rest is as in `gpt.writing.write`. ValueError for arguments that make no sense, and for a prompt that the
    tokenizer cannot encode.
    """
    if isinstance(prompts, str) or isinstance(stop, str):
        raise ValueError("complete expects lists of prompts and of stop strings; write [text] for a single one")
    source = tl.random.default_generator()
    texts = [
        Text(tokenizer, prompt, source.draw_seed() if seed is None else seed + n, stop)
        for prompt in prompts
        for n in range(samples)
    ]
    for _ in write_texts(model, texts, max_new_tokens, sampling, when_full, use_cache, logprobs):
        pass
    return texts


def write_texts(
    model: GPT,
    texts: Sequence[Text],
    max_new_tokens: int,
    sampling: Sampling | None = None,
    when_full: WhenFull = "slide",
    use_cache: bool = True,
    logprobs: bool = False,
    top_logprobs: int = 0,
) -> Iterator[None]:
    """Go on with all texts, a token each at every step, until each has ended."""
    stop_ids = {text.eot_id for text in texts if text.eot_id is not None}
    rows = [text.row for text in texts]
    steps = write(model, rows, max_new_tokens, sampling, stop_ids, when_full, use_cache, logprobs, top_logprobs)

    def follow() -> Iterator[None]:
        for _ in steps:
            for text in texts:
                text.follow()
            yield

    return follow()


class Text:
    """The text of one row, as far as it is certain.

    prompt  what stands before it
    text    what was written. A character waits until all its bytes are there, and what may be the beginning of a stop
            string until it is clear that it is not. Stop strings and `<|endoftext|>` are not in it
    row     its tokens, their log-probabilities, and why it ended

    ValueError if there is no token in the prompt, or a stop string is empty.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: str, seed: int, stop: Sequence[str] = ()):
        if "" in stop:
            raise ValueError("an empty stop string stands everywhere; leave it out")
        self.prompt, self.stop = prompt, tuple(stop)
        self.text = ""
        self.row = Row(encoded(tokenizer, prompt), seed)
        self.eot_id = tokenizer.eot_id
        self._tokenizer = tokenizer
        self._complete = False
        self._before = len(tokenizer.decode(self.row.prompt))  # characters

    def follow(self) -> None:
        """Take in the tokens that were added to the row, and end it at a stop string."""
        if self._complete:
            return
        self._complete = self.row.ended is not None
        ids = self.row.ids
        if ids and ids[-1] == self.eot_id:
            ids = ids[:-1]
        text = self._tokenizer.decode([*self.row.prompt, *ids])[self._before :]
        if found := [at for stop in self.stop if (at := text.find(stop)) >= 0]:
            self.row.ended = "stop"
            self._complete = True
            self.text = text[: min(found)]
        elif self._complete:
            self.text = text
        else:
            text = text.rstrip("\ufffd")  # as which half a character reads
            text = text[: len(text) - _begun(text, self.stop)]
            if len(text) > len(self.text):
                self.text = text


def encoded(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """The ids of a prompt. ValueError if there is none."""
    ids = tokenizer.encode(prompt)
    if not ids:
        raise ValueError("the prompt: there is no token in it; give some text to go on from")
    return ids


def _begun(text: str, stop: Sequence[str]) -> int:
    """How many characters at the end of `text` are the beginning of a stop string."""
    longest = max((len(s) - 1 for s in stop), default=0)
    return next((n for n in range(min(longest, len(text)), 0, -1) if any(s.startswith(text[-n:]) for s in stop)), 0)
