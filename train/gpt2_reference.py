"""Is it GPT-2? What its weights are known to compute, beside what they compute here.

    python -m train.evaluate gpt2-reference --model gpt2 --data FOLDER

Sources: transformers' tests, picoGPT and nanoGPT's users for the greedy texts; Raschka, *Build a Large Language Model
(From Scratch)*, chapter 5, for the losses on the-verdict; nanoGPT's README for those on OpenWebText; llm.c's
test_gpt2.c for its ten training steps.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import tensorlite as tl
from gpt.config import PRESETS
from gpt.generate import generate
from gpt.model import GPT
from gpt.options import UsageError, option, parse
from gpt.sequences import evaluating
from gpt.tokenizer import Tokenizer
from gpt.trained import Trained
from gpt.weights.download import REPOSITORIES
from tensorlite.nn.utils import clip_grad_norm_
from train.corpus import Windows, read_text, split

# What is published ------------------------------------------------------------------------------------

# Of the smallest model: the first numbers of the embedding of token 0.
EMBEDDING = (-0.11010301, -0.03926672, 0.03310751)
# What it says after a prompt, taking the likeliest token each time.
GREEDY = {
    "The dog": " was found in a field near the intersection of West and West Streets.\n\nThe dog",
    "Hello, my dog is a little": " bit of a mess. I'm not sure if he's going",
    "Today, I": "'m going to be doing a lot of research on this. I",
    "Every effort moves you": " forward.\n\nThe first step is to understand the importance of your work",
    "Alan Turing theorized that computers would one day become": (
        " the most powerful machines on the planet.\n\nThe computer is a machine that can perform complex "
        "calculations, and it can perform these calculations in a way that is very similar to the human brain."
    ),
}
# Its loss per token on the first nine tenths of the-verdict.txt and on the rest, in windows of 256.
VERDICT = {"the first nine tenths": 3.7547, "the last tenth": 3.5596}
# Its losses in ten steps of AdamW on the first 4 x 64 tokens of llm.c's tinyshakespeare.
LLMC = (5.270009, 4.060681, 3.320085, 2.717550, 2.181066, 1.653923, 1.168050, 0.736873, 0.401021, 0.187493)
# The loss per token on OpenWebText, of all sizes.
OPENWEBTEXT = {"gpt2": 3.12, "gpt2-medium": 2.84, "gpt2-large": 2.67, "gpt2-xl": 2.54}

# How far from a published figure is still the same: its own rounding, another order of additions, another sample.
TOLERANCE = {"embedding": 1e-7, "the-verdict": 1e-3, "llm.c": 2e-3, "OpenWebText": 0.05}


@dataclass(frozen=True)
class Row:
    """One published figure beside ours: numbers, or texts. Without ours, `note` says why."""

    what: str
    published: float | str
    ours: float | str | None = None
    tolerance: float = 0.0
    note: str = ""

    def agrees(self) -> bool:
        if isinstance(self.published, str) or isinstance(self.ours, str) or self.ours is None:
            return self.published == self.ours
        return abs(self.ours - self.published) <= self.tolerance

    def __str__(self) -> str:
        if self.ours is None:
            return f"{self.what:<36}  {self.published!s:>12}  not compared: {self.note}"
        verdict = "agrees" if self.agrees() else "DIFFERS"
        if isinstance(self.published, str) or isinstance(self.ours, str):
            ours = "" if self.agrees() else f"\n      ours       {self.ours!r}"
            return f"{self.what}\n      published  {self.published!r}{ours}\n      {verdict}"
        difference = self.ours - self.published
        return f"{self.what:<36}  {self.published:>12.8g}  {self.ours:>12.8g}  {difference:>+12.2e}  {verdict}"


def report(
    model: GPT, tokenizer: Tokenizer, data: Path | None, openwebtext: Path | None = None, windows: int = 100
) -> Iterator[Row]:
    """The published figures of `model`'s size beside its own, each as soon as it is computed.

    data         a folder with the-verdict.txt and tinyshakespeare.txt
    openwebtext  nanoGPT's val.bin, of which so many `windows` of 1024 tokens are read

    The model is afterwards what it was. UsageError for a file that cannot be read.
    """
    size = {(c.n_layer, c.n_embd): name for name, c in PRESETS.items() if name in REPOSITORIES}
    name = size.get((model.config.n_layer, model.config.n_embd), "gpt2")
    if name == "gpt2":
        yield from _embedding(model)
        yield from _greedy(model, tokenizer)
        yield from _verdict(model, tokenizer, data)
        yield from llmc_steps(model, tokenizer, data)
    yield _openwebtext(model, OPENWEBTEXT[name], openwebtext, windows)


def _embedding(model: GPT) -> Iterator[Row]:
    for i, published in enumerate(EMBEDDING):
        ours = model.wte.weight[0, i].item()
        yield Row(f"wte[0][{i}]", published, ours, TOLERANCE["embedding"])


def _greedy(model: GPT, tokenizer: Tokenizer) -> Iterator[Row]:
    for prompt, published in GREEDY.items():
        idx = tl.tensor([tokenizer.encode(prompt)], device=model.wte.weight.device)  # (1, T)
        ids = generate(model, idx, len(tokenizer.encode(published)), temperature=0)[0, idx.shape[1] :].tolist()
        yield Row(f"after {prompt!r}", published, tokenizer.decode(ids))


def _verdict(model: GPT, tokenizer: Tokenizer, data: Path | None) -> Iterator[Row]:
    names = [f"the-verdict, loss on {part}" for part in VERDICT]
    if data is None or not (path := data / "the-verdict.txt").is_file():
        for what, published in zip(names, VERDICT.values()):
            yield Row(what, published, note="the-verdict.txt is not in the folder of --data")
        return
    corpus = split(read_text(path), tokenizer, 0.1, 256, str(path))
    for what, published, tokens in zip(names, VERDICT.values(), (corpus.train, corpus.val)):
        yield Row(what, published, mean_loss(model, Windows(tokens, 256, 256)), TOLERANCE["the-verdict"])


def mean_loss(model: GPT, windows: Windows, count: int | None = None) -> float:
    """The loss per token over the windows, or over `count` of them, evenly spread."""
    chosen = np.linspace(0, len(windows) - 1, min(count or len(windows), len(windows))).astype(int)
    total = 0.0
    with evaluating(model):
        for i in chosen:
            x, y = (ids.to(model.wte.weight.device) for ids in windows.__getitems__([i]))
            total += model.loss(x, y).item()
    return total / len(chosen)


def llmc_steps(model: GPT, tokenizer: Tokenizer, data: Path | None) -> Iterator[Row]:
    """llm.c's ten steps of training, on a copy of the model."""
    if data is None or not (path := data / "tinyshakespeare.txt").is_file():
        for step, published in enumerate(LLMC, 1):
            note = "tinyshakespeare.txt is not in the folder of --data"
            yield Row(f"llm.c, training loss of step {step}", published, note=note)
        return
    ids = tl.tensor(llmc_tokens(read_text(path), tokenizer, 257), device=model.wte.weight.device)
    x, y = ids[:-1].view(4, 64), ids[1:].view(4, 64)
    model = copy.deepcopy(model).eval()
    optimizer = tl.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.0)
    for step, published in enumerate(LLMC, 1):
        loss = model.loss(x, y)
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        yield Row(f"llm.c, training loss of step {step}", published, loss.item(), TOLERANCE["llm.c"])


def llmc_tokens(text: str, tokenizer: Tokenizer, count: int) -> list[int]:
    """The first tokens of llm.c's tinyshakespeare: sections between blank lines, <|endoftext|> before each."""
    assert tokenizer.eot_id is not None
    tokens: list[int] = []
    sections = text.split("\n\n")
    for i, section in enumerate(sections):
        tokens.append(tokenizer.eot_id)
        tokens += tokenizer.encode(section + "\n\n" * (i < len(sections) - 1))
        if len(tokens) >= count:
            return tokens[:count]
    raise UsageError(f"the text of {len(tokens)} tokens is too short; {count} are needed")


def _openwebtext(model: GPT, published: float, path: Path | None, windows: int) -> Row:
    what = "OpenWebText, loss"
    if path is None:
        return Row(what, published, note="--openwebtext names no file; it is nanoGPT's data/openwebtext/val.bin")
    length = min(1024, model.config.context_length)
    try:
        tokens = np.memmap(path, "<u2", mode="r")
    except (OSError, ValueError) as error:
        raise UsageError(f"--openwebtext {path}: {error}") from error
    if len(tokens) <= length:
        raise UsageError(f"--openwebtext {path}: has {len(tokens):,} tokens, and a window needs {length + 1:,}")
    if (largest := int(tokens.max())) >= model.config.vocab_size:
        raise UsageError(
            f"--openwebtext {path}: has the token {largest}, which GPT-2 has not; it expects uint16 numbers"
        )
    return Row(what, published, mean_loss(model, Windows(tokens, length, length), windows), TOLERANCE["OpenWebText"])


# The command line --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Config(Trained):
    data: Path | None = option(None, "folder with the-verdict.txt and tinyshakespeare.txt")
    openwebtext: Path | None = option(None, "nanoGPT's data/openwebtext/val.bin: token ids, uint16")
    windows: int = option(100, "windows of 1024 tokens to read of it, evenly spread")


def main(argv: Sequence[str]) -> None:
    """Hold GPT-2's weights against what is published of them: texts, losses, ten steps of training."""
    description = "Hold GPT-2's weights against what is published of them."
    config = parse(Config, argv, {"gpt2": Config("gpt2")}, "gpt2", "evaluate gpt2-reference", description)
    if config.windows < 1:
        raise UsageError(f"--windows expects a number from 1 on, got {config.windows}")
    model, tokenizer = config.load()
    print(f"{config.model}: {model.num_parameters():,} parameters")
    print(f"{'':<36}  {'published':>12}  {'ours':>12}  {'difference':>12}")
    rows = []
    for row in report(model, tokenizer, config.data, config.openwebtext, config.windows):
        print(row, flush=True)
        rows.append(row)
    compared = [row for row in rows if row.ours is not None]
    left = f"; {len(rows) - len(compared)} were not compared" if len(rows) > len(compared) else ""
    if differing := [row for row in compared if not row.agrees()]:
        raise UsageError(
            f"{len(differing)} of {len(compared)} figures differ{left}: these are not GPT-2's weights, or something "
            "computes wrongly"
        )
    print(f"all {len(compared)} figures agree{left}")
