"""Text from a GPT: draw the next token, append it, ask again.

    generate(model, idx, max_new_tokens=100, temperature=0.8, top_k=50)  # (B, T) -> (B, T + 100)

    python -m gpt.generate --run runs/NAME --prompt "ROMEO:"

Sources: Karpathy's nanoGPT for the function; Fan et al., *Hierarchical Neural Story Generation* (2018), for top-k.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, takewhile
from pathlib import Path

import tensorlite as tl
from gpt.checkpoint import latest_weights, load_model
from gpt.model import GPT
from gpt.options import UsageError, option, parse, run
from gpt.tokenizer import Tokenizer, load_tokenizer
from tensorlite import Tensor, nn
from tensorlite.nn import functional as F


def generate(
    model: GPT,
    idx: Tensor,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    eos_id: int | None = None,
    generator: tl.Generator | None = None,
) -> Tensor:
    """`idx` and what the model says comes after it: (B, T) token ids -> (B, T + n), n at most max_new_tokens.

    temperature  divides the logits: below 1 likely tokens become likelier, above 1 less so; 0 takes the likeliest
    top_k        draw among the k likeliest tokens only
    eos_id       the token that ends a sequence: the rest of its row repeats it, and when all rows have ended, so has
                 the generation
    generator    where the random numbers come from

    The model looks at the last context_length tokens. Its mode, training or evaluation, is afterwards what it was.
    ValueError for an argument that makes no sense.
    """
    return tl.cat([idx, *stream(model, idx, max_new_tokens, temperature, top_k, eos_id, generator)], dim=1)


def stream(
    model: GPT,
    idx: Tensor,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    eos_id: int | None = None,
    generator: tl.Generator | None = None,
) -> Iterator[Tensor]:
    """As `generate`, but gives the new tokens step by step, (B, 1) each, as soon as they are drawn."""
    vocab_size = model.config.vocab_size
    if idx.ndim != 2 or not idx.numel():
        raise ValueError(f"generate expects token ids of shape (B, T), at least one in each row, got {idx.shape}")
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens expects a number from 0 on, got {max_new_tokens}")
    if not (math.isfinite(temperature) and temperature >= 0):
        raise ValueError(f"temperature expects a finite number from 0 on, got {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k expects a number from 1 on, or None to draw among all tokens, got {top_k}")
    if eos_id is not None and not 0 <= eos_id < vocab_size:
        raise ValueError(f"eos_id expects an id of the vocabulary, from 0 to {vocab_size - 1}, got {eos_id}")

    def steps(idx: Tensor) -> Iterator[Tensor]:
        ended = tl.zeros(len(idx), 1, device=idx.device).bool()  # (B, 1)
        for _ in range(max_new_tokens):
            with evaluating(model):
                logits, _ = model(idx[:, -model.config.context_length :])  # (B, 1, V)
            token = sample(logits[:, -1], temperature, top_k, generator)  # (B, 1)
            if eos_id is not None:
                token = token.masked_fill(ended, eos_id)
                ended = token == eos_id
            yield token
            if ended.all():
                return
            idx = tl.cat([idx, token], dim=1)  # (B, T + 1)

    return steps(idx)


def sample(
    logits: Tensor, temperature: float = 1.0, top_k: int | None = None, generator: tl.Generator | None = None
) -> Tensor:
    """A token for each row of logits, drawn as `generate` says: (B, V) -> (B, 1)."""
    if temperature == 0:
        return logits.argmax(dim=-1, keepdim=True)
    if top_k is None:
        return tl.multinomial(F.softmax(logits / temperature, dim=-1), 1, generator=generator)
    likeliest, ids = logits.topk(min(top_k, logits.shape[-1]))  # (B, k) each
    drawn = tl.multinomial(F.softmax(likeliest / temperature, dim=-1), 1, generator=generator)  # (B, 1), places in ids
    return ids.gather(1, drawn)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside, `model` drops nothing and nothing is recorded; afterwards its mode is what it was."""
    training = model.training
    model.eval()
    try:
        with tl.no_grad():
            yield
    finally:
        model.train(training)


def pieces(tokenizer: Tokenizer, ids: Iterable[int]) -> Iterator[str]:
    """The text of `ids`, piece by piece as they come. A character waits until all its bytes are there."""
    seen: list[int] = []
    text, shown = "", 0
    for token in ids:
        seen.append(token)
        text = tokenizer.decode(seen)
        ready = len(text.rstrip("\ufffd"))  # as which half a character reads
        if ready > shown:
            yield text[shown:ready]
            shown = ready
    if text[shown:]:
        yield text[shown:]


# The command line --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Config:
    run: Path | None = option(None, "folder of the training run whose model shall write, runs/NAME")
    prompt: str = option("\n", "text to go on from, a line break if not given")
    max_new_tokens: int = option(500, "tokens to write, at most")
    temperature: float = option(0.8, "how bold to be; 0 takes the likeliest token each time")
    top_k: int | None = option(200, "draw among so many likeliest tokens, or none: among all")
    seed: int = option(1337, "the same seed writes the same text")
    device: str = option("cpu", "where to compute: cpu, cuda or cuda:N")


def main(argv: Sequence[str]) -> None:
    presets = {"varied": Config(), "greedy": Config(temperature=0.0)}
    config = parse(Config, argv, presets, "varied", "generate", "Let a trained GPT go on from a prompt.")
    if config.run is None:
        raise UsageError("--run is missing: name the folder of a training run, --run runs/NAME")
    try:
        weights = latest_weights(config.run)
        tokenizer = load_tokenizer(config.run / "tokenizer.json")
        prompt = tokenizer.encode(config.prompt)
        if not prompt:
            raise UsageError("--prompt: there is no token in it; give some text to go on from")
        idx = tl.tensor([prompt], device=config.device)  # (1, T)
        model = load_model(weights).to(idx.device)
        if tokenizer.vocab_size > model.config.vocab_size:
            raise UsageError(
                f"--run {config.run}: tokenizer.json has {tokenizer.vocab_size:,} tokens and the model "
                f"{model.config.vocab_size:,}, so some are outside its vocabulary; one of the two is another run's"
            )
        generator = tl.Generator().manual_seed(config.seed)
        tokens = stream(
            model, idx, config.max_new_tokens, config.temperature, config.top_k, tokenizer.eot_id, generator
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageError(str(error)) from error
    written = takewhile(lambda token: token != tokenizer.eot_id, (token.item() for token in tokens))
    with suppress(KeyboardInterrupt):  # enough was read
        for piece in pieces(tokenizer, chain(prompt, written)):
            print(piece, end="", flush=True)
    print()


if __name__ == "__main__":
    run(main, "generate")
