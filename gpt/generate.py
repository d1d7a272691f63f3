"""Text from a GPT: choose the next token, append it, ask again.

    generate(model, idx, max_new_tokens=100, temperature=0.8, top_k=50)  # (B, T) -> (B, T + 100)

    python -m gpt.generate --model runs/NAME --prompt "ROMEO:"

sampling.py has the rules by which a token is chosen, sequences.py asks the model, writing.py decides when a row has
ended, completion.py makes text of tokens, and beam.py looks for likely sequences instead of drawing.

Source: Karpathy's nanoGPT for the function.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import tensorlite as tl
from gpt.beam import beam_search
from gpt.completion import Text, encoded, write_texts
from gpt.model import GPT
from gpt.options import UsageError, option, parse, run
from gpt.sampling import Sampling, SamplingOptions
from gpt.tokenizer import Tokenizer
from gpt.trained import Trained
from gpt.writing import Row, WhenFull, write
from tensorlite import Tensor


def generate(
    model: GPT,
    idx: Tensor,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    eos_id: int | None = None,
    generator: tl.Generator | None = None,
    *,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    seeds: Sequence[int] | None = None,
    when_full: WhenFull = "slide",
    use_cache: bool = True,
) -> Tensor:
    """`idx` and what the model says comes after it: (B, T) token ids -> (B, T + n), n at most max_new_tokens.

    temperature, top_k, top_p, min_p, repetition_penalty
                 how tokens are chosen: see gpt/sampling.py. temperature=0 takes the likeliest
    eos_id       the token that ends a sequence: the rest of its row repeats it, and when all rows have ended, so has
                 the generation
    generator    where the random numbers come from; or
    seeds        one for each row, which then is the same in any batch
    when_full    "slide": the model looks at the last context_length tokens; "stop": no more than it can look at
    use_cache    whether keys and values of earlier tokens are kept (gpt/cache.py)

    The model's mode, training or evaluation, is afterwards what it was. ValueError for an argument that makes no sense.
    """
    new = stream(
        model, idx, max_new_tokens, temperature, top_k, eos_id, generator, top_p=top_p, min_p=min_p,
        repetition_penalty=repetition_penalty, seeds=seeds, when_full=when_full, use_cache=use_cache,
    )  # fmt: skip
    return tl.cat([idx, *new], dim=1)


def stream(
    model: GPT,
    idx: Tensor,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    eos_id: int | None = None,
    generator: tl.Generator | None = None,
    *,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    seeds: Sequence[int] | None = None,
    when_full: WhenFull = "slide",
    use_cache: bool = True,
) -> Iterator[Tensor]:
    """As `generate`, but gives the new tokens step by step, (B, 1) each, as soon as they are chosen."""
    if idx.ndim != 2 or not idx.numel():
        raise ValueError(f"generate expects token ids of shape (B, T), at least one in each row, got {idx.shape}")
    sampling = Sampling(temperature, top_k, top_p, min_p, repetition_penalty)
    if seeds is None:
        source = generator or tl.random.default_generator()
        seeds = [source.draw_seed() for _ in range(len(idx))] if temperature else [0] * len(idx)
    elif len(seeds) != len(idx):
        raise ValueError(f"seeds expects one for each of the {len(idx)} rows, got {len(seeds)}")
    rows = [Row(prompt, seed) for prompt, seed in zip(idx.tolist(), seeds)]
    stop_ids = () if eos_id is None else (eos_id,)
    steps = write(model, rows, max_new_tokens, sampling, stop_ids, when_full, use_cache)

    def tokens() -> Iterator[Tensor]:
        for n, _ in enumerate(steps):
            column = [row.ids[n] if n < len(row.ids) else eos_id for row in rows]
            yield tl.tensor(column, device=idx.device).unsqueeze(1)  # (B, 1)

    return tokens()


# The command line --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Config(SamplingOptions, Trained):
    prompt: tuple[str, ...] = option(("\n",), "text to go on from, or several texts, each in quotes")
    samples: int = option(1, "how many times to go on from each prompt")
    max_new_tokens: int = option(500, "tokens to write, at most")
    beams: int | None = option(None, "instead of drawing, search for likely sequences with so many beams")
    length_penalty: float = option(1.0, "of beams: above 0 favours long sequences, below 0 short ones")
    stop: tuple[str, ...] = option((), "texts before which to stop, each in quotes")
    when_full: Literal["slide", "stop"] = option("slide", "what to do when the model's context is full")
    logprobs: bool = option(False, "show each token with its log-probability, a line each")
    seed: int = option(1337, "the same seed writes the same text; a further sample has the next number")
    cache: bool = option(True, "keep keys and values of earlier tokens, instead of computing them again")

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise UsageError(f"--samples expects a number from 1 on, got {self.samples}")
        if self.beams is not None and self.beams < 1:
            raise UsageError(f"--beams expects a number from 1 on, or none, got {self.beams}")
        if self.beams is not None and self.samples > 1:
            raise UsageError("--beams finds the same text each time, so --samples cannot be more than 1")
        if self.beams is not None and self.logprobs:
            raise UsageError("--beams judges whole sequences, so --logprobs has nothing to show; leave one of them out")


def main(argv: Sequence[str]) -> None:
    presets = {"varied": Config(), "greedy": Config(temperature=0.0)}
    config = parse(Config, argv, presets, "varied", "generate", "Let a trained GPT go on from a prompt.")
    model, tokenizer = config.load()
    try:
        with suppress(KeyboardInterrupt):  # enough was read
            (write_beams if config.beams is not None else write_samples)(config, model, tokenizer)
    except (RuntimeError, ValueError) as error:
        raise UsageError(str(error)) from error


def write_samples(config: Config, model: GPT, tokenizer: Tokenizer) -> None:
    """Each text as it is written; where there are several, one after the other, under a line that says which."""
    c = config
    seeds = range(c.seed, c.seed + c.samples)
    texts = [Text(tokenizer, prompt, seed, c.stop) for prompt in c.prompt for seed in seeds]
    steps = write_texts(model, texts, c.max_new_tokens, c.sampling(), c.when_full, c.cache, c.logprobs)
    show = Show(tokenizer, len(texts) > 1, c.logprobs)
    waiting = list(texts)
    try:
        show.start(waiting[0])
        for _ in chain(steps, [None]):  # and once more, for texts to which nothing is added
            show.go_on(waiting[0])
            while waiting[0].row.ended and len(waiting) > 1:
                waiting.pop(0)
                show.start(waiting[0])
                show.go_on(waiting[0])
    finally:
        print(end="" if c.logprobs else "\n", flush=True)
    for text in texts:
        if text.row.ended == "context":
            print(
                f"generate: the context of {model.config.context_length} tokens is full after {len(text.row.ids)} new "
                "ones; --when-full slide goes on",
                file=sys.stderr,
            )


class Show:
    """Puts a text on the terminal as far as it is known: its prompt and what was written, or a line for each token."""

    def __init__(self, tokenizer: Tokenizer, titles: bool, logprobs: bool):
        self.tokenizer, self.titles, self.logprobs = tokenizer, titles, logprobs
        self.shown = 0  # characters, or tokens, of the current text
        self.between = ""

    def start(self, text: Text) -> None:
        if self.titles:
            print(f"{self.between}--- {text.prompt!r}, seed {text.row.seed} ---")
        self.between, self.shown = "\n" if self.logprobs else "\n\n", 0
        print(text.prompt, end="\n" if self.logprobs else "", flush=True)

    def go_on(self, text: Text) -> None:
        if self.logprobs:
            for token, logprob in list(zip(text.row.ids, text.row.logprobs))[self.shown :]:
                print(f"{logprob:9.4f}  {self.tokenizer.decode([token])!r}", flush=True)
            self.shown = len(text.row.ids)
        else:
            print(text.text[self.shown :], end="", flush=True)
            self.shown = len(text.text)


def write_beams(config: Config, model: GPT, tokenizer: Tokenizer) -> None:
    """The best sequences that were found for each prompt, each under a line with its score."""
    for prompt in config.prompt:
        ids = encoded(tokenizer, prompt)
        beams = beam_search(
            model, ids, config.max_new_tokens, config.beams or 1, tokenizer.eot_id, config.length_penalty,
            use_cache=config.cache,
        )  # fmt: skip
        for place, beam in enumerate(beams, 1):
            kept = [i for i in beam.ids if i != tokenizer.eot_id]
            print(f"--- {prompt!r}, place {place}, score {beam.score:.4f}, log-probability {beam.logprob:.4f} ---")
            print(tokenizer.decode([*ids, *kept]))


if __name__ == "__main__":
    run(main, "generate")
