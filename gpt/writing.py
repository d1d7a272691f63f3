"""Writing: choose the next token of each row, append it, until every row has ended.

generate.py makes it a function of Tensors, completion.py one of texts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

import tensorlite as tl
from gpt.model import GPT
from gpt.sampling import Sampling, log_softmax
from gpt.sequences import Sequences

Ended = Literal["stop", "length", "context"]
WhenFull = Literal["slide", "stop"]


@dataclass
class Row:
    """One sequence that is being written.

    seed       where its random numbers start: the same seed draws the same tokens, whatever else is in the batch
    ids        the tokens written so far
    logprobs   the model's log-probability of each of them, before any rule of sampling changed it
    likeliest  the tokens that were likeliest at each place, and their log-probabilities
    ended      why it has ended: at a stop token or string, at max_new_tokens, at the end of the context; None: not yet
    """

    prompt: list[int]
    seed: int
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    likeliest: list[list[tuple[int, float]]] = field(default_factory=list)
    ended: Ended | None = None


def write(
    model: GPT,
    rows: Sequence[Row],
    max_new_tokens: int,
    sampling: Sampling | None = None,
    stop_ids: Collection[int] = (),
    when_full: WhenFull = "slide",
    use_cache: bool = True,
    logprobs: bool = False,
    top_logprobs: int = 0,
) -> Iterator[None]:
    """Go on with all rows, a token each at every step, until each has ended. Whoever iterates may end a row as well, by
    setting `row.ended`.

    stop_ids      the tokens that end a row, of which they are the last
    when_full     when a row is longer than the model's context_length: "slide" goes on with the last that fit, "stop"
                  ends the row, and refuses prompts that do not fit
    use_cache     whether keys and values of earlier tokens are kept (gpt/cache.py)
    logprobs      whether `row.logprobs` is wanted
    top_logprobs  how many tokens `row.likeliest` holds at each place; with 0 it stays empty

    ValueError at once for arguments that make no sense.
    """
    sampling = sampling or Sampling()
    longest, vocab_size = model.config.context_length, model.config.vocab_size
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens expects a number from 0 on, got {max_new_tokens}")
    if top_logprobs < 0:
        raise ValueError(f"top_logprobs expects a number from 0 on, got {top_logprobs}")
    if outside := [i for i in stop_ids if not 0 <= i < vocab_size]:
        raise ValueError(f"eos_id expects an id of the vocabulary, from 0 to {vocab_size - 1}, got {outside[0]}")
    if when_full not in ("slide", "stop"):
        raise ValueError(f"when_full expects 'slide' or 'stop', got {when_full!r}")
    if when_full == "stop" and (long := max((len(row.prompt) for row in rows), default=0)) > longest:
        raise ValueError(
            f"a prompt has {long} tokens and the model's context_length is {longest}; shorten it, or let the context "
            "slide (when_full='slide'), which forgets its beginning"
        )
    sequences = Sequences(model, [row.prompt for row in rows], max_new_tokens, use_cache)
    generators = [tl.Generator().manual_seed(row.seed) for row in rows]

    def step(going: list[int]) -> list[int]:
        logits = sequences.logits()  # (B, V)
        tokens = []
        for i, (n, scores) in enumerate(zip(going, logits)):
            number = generators[n].numbers.random() if sampling.temperature else 0.0
            seen = sequences.row(i).tolist() if sampling.repetition_penalty != 1 else ()
            tokens.append(sampling.draw(scores, number, seen))
            rows[n].ids.append(tokens[-1])
            if logprobs or top_logprobs:
                chances = log_softmax(scores)
                rows[n].logprobs.append(float(chances[tokens[-1]]))
            if top_logprobs:
                first = np.argsort(-chances, kind="stable")[:top_logprobs]
                rows[n].likeliest.append([(int(i), float(chances[i])) for i in first])
        return tokens

    def steps() -> Iterator[None]:
        going = list(range(len(rows)))
        if not max_new_tokens:
            for row in rows:
                row.ended = "length"
        for _ in range(max_new_tokens):
            tokens = step(going)
            for n, token in zip(going, tokens):
                row = rows[n]
                if token in stop_ids:
                    row.ended = "stop"
                elif len(row.ids) == max_new_tokens:
                    row.ended = "length"
                elif when_full == "stop" and len(row.prompt) + len(row.ids) > longest:
                    row.ended = "context"
            yield
            sequences.append(tokens)
            stay = [i for i, n in enumerate(going) if rows[n].ended is None]
            if not stay:
                return
            if len(stay) < len(going):
                sequences.select(stay)
                going = [going[i] for i in stay]

    return steps()
