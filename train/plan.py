"""What a run will take, before it begins: `python -m train.plan --model gpt2-xl --batch 4`.

Parameters, memory at each micro-batch, operations, the tokens that such a model deserves, and the time on this machine;
for a model by name, a preset of train.pretrain, or any shape that its options describe.

Source: Hoffmann et al., *Training Compute-Optimal Large Language Models* (2022): for a given compute, parameters and
tokens should grow alike, to some 20 tokens for each parameter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

from gpt.config import PRESETS as MODELS
from gpt.config import GPTConfig
from gpt.options import UsageError, option, parse, run
from tensorlite import cuda, machine
from train import pace, presets
from train.corpus import make_tokenizer, read
from train.corpus.folder import is_shards, open_corpus
from train.footprint import Footprint, footprint
from train.recipe import Shape

TOKENS_PER_PARAMETER = 20


@dataclass(frozen=True)
class Config(presets.Config):
    """What pretraining has, and what only a plan asks."""

    model: str | None = option(None, f"a model by its name: {', '.join(MODELS)}; none: the preset's")
    batch: tuple[int, ...] = option((), "sequences in a micro-batch, in the place of --batch-size; of several, all")
    memory: str | None = option(None, "memory of the device, 24GB say; none: what this machine has")
    peak_flops: float | None = option(None, "operations a second in products of float32; none: measured")
    share_of_peak: float = option(1.0, "of --peak-flops, what training reaches; 1: the least time that it can take")
    measure_speed: bool = option(True, "time a block and a head here; no: the least time, at the peak")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model is not None and self.model not in MODELS:
            raise UsageError(f"--model {self.model}: there is no such model; the models are {', '.join(MODELS)}")
        if min(self.batch, default=1) < 1:
            raise UsageError(f"--batch is at least 1, not {min(self.batch)}")
        if not 0 < self.share_of_peak <= 1:
            raise UsageError(f"--share-of-peak lies above 0, up to 1, and {self.share_of_peak} does not")
        if self.peak_flops is not None and self.peak_flops <= 0:
            raise UsageError(f"--peak-flops is above 0, not {self.peak_flops}")
        if self.memory is not None:
            in_bytes(self.memory)

    @property
    def micro_batch(self) -> int:
        return max(self.batch, default=self.batch_size)

    @property
    def tokens_per_step(self) -> int:
        return self.micro_batch * self.accumulation * self.context_length

    def times(self, batch: int) -> int:
        """The micro-batches that the step has if they are of so many sequences."""
        return -(-self.micro_batch * self.accumulation // batch)


def main(argv: Sequence[str]) -> None:
    config = asked(argv)
    program = machine.resident_memory()
    here = config.device == "cpu" or cuda.is_available()
    if not here and not (config.memory and config.peak_flops):
        raise UsageError(
            "--device cuda: there is no GPU here to measure; say what yours has: --memory 80GB --peak-flops 67e12 "
            "--share-of-peak 0.4"
        )
    gpt = config.gpt_config(vocabulary(config))
    room = in_bytes(config.memory) if config.memory else machine.total_memory(config.device)
    describe(config, gpt)
    fitting = memory(config, gpt, program, room)
    speed(config, gpt, fitting)


def asked(argv: Sequence[str]) -> Config:
    """What the command line asks for. The shape of --model stands in the place of the preset's, below the flags."""
    named = {name: Config(**vars(preset)) for name, preset in presets.PRESETS.items()}
    config = _parsed(argv, named)
    if config.model is None:
        return config
    shape = {f.name: getattr(MODELS[config.model], f.name) for f in fields(Shape)}
    return _parsed(argv, {name: replace(preset, **shape) for name, preset in named.items()})


def _parsed(argv: Sequence[str], named: Mapping[str, Config]) -> Config:
    return parse(Config, argv, named, "python-docs", "plan", "What a run will take, before it begins.")


def vocabulary(config: Config) -> int:
    """How many tokens the model will know, from its name, its tokenizer, or its text."""
    if config.model is not None:
        return MODELS[config.model].vocab_size
    if is_shards(config.data):
        return open_corpus(config.data, config.tokenizer, config.context_length, verify=False).tokenizer.vocab_size
    if config.tokenizer == "gpt2":
        return MODELS["gpt2"].vocab_size
    if config.tokenizer == "bpe":
        return config.vocab_size
    text = read(config.data)[0] if config.tokenizer in ("characters", "words") else ""
    return make_tokenizer(config.tokenizer, text, config.vocab_size).vocab_size


def describe(config: Config, gpt: GPTConfig) -> None:
    """The model, what computing it takes, and how long it should be trained."""
    parameters, flops = gpt.parameters(), gpt.flops_per_token()
    tokens, optimal = config.tokens_per_step, TOKENS_PER_PARAMETER * parameters
    shape = f"{gpt.n_layer} blocks, {gpt.n_head} heads, {gpt.n_embd} wide, context {gpt.context_length:,}"
    print(f"model    {parameters:,} parameters: {shape}, {gpt.vocab_size:,} different tokens")
    micro = f"{config.micro_batch} x {gpt.context_length:,} tokens"
    print(f"step     {tokens:,} tokens: {config.accumulation} micro-batch{'es' * (config.accumulation > 1)} of {micro}")
    print(f"compute  {flops:.3g} operations a token, {flops * tokens:.3g} a step")
    print(
        f"optimal  {optimal:.3g} tokens, {TOKENS_PER_PARAMETER} for each parameter (Hoffmann et al., 2022): "
        f"{-(-optimal // tokens):,} steps, {flops * optimal:.3g} operations"
    )


# Memory -------------------------------------------------------------------------------------------------


def memory(config: Config, gpt: GPTConfig, program: int, room: int) -> int:
    """Print what it takes to compute the step in each micro-batch; the largest of them that fits, 0 if none does."""
    sizes = sorted({2**k for k in range(config.micro_batch.bit_length())} | {*config.batch, config.micro_batch})
    rows = {batch: footprint(gpt, batch, config.times(batch), config.device) for batch in sizes}
    one = rows[config.micro_batch]
    where = ", in the machine's memory" if config.device == "cuda" else ""
    print(f"memory   weights {gib(one.weights)}, gradients {gib(one.gradients)}, optimiser {gib(one.optimizer)}")
    print(f"         the copy that a checkpoint is written from {gib(one.copy)}{where}, the program {gib(program)}")
    if config.measure_peak:
        print(f"         at the start {gib(machine.TAKEN)}, in which the machine's peak is measured")
    print(f"         {'the step as':>16}{'activations':>14}{'logits':>11}{'in all':>11}   of {gib(room)}")
    fitting = 0
    for batch, row in rows.items():
        needed = total(row, config, program)
        fits = needed <= room
        fitting = batch if fits else fitting
        cells = (
            f"{f'{config.times(batch)} x {batch}':>16}{gib(row.activations):>14}{gib(row.logits):>11}{gib(needed):>11}"
        )
        print(f"         {cells}   {f'{needed / room:.0%}' if fits else 'does not fit'}")
    if not fitting:
        print("         not even one sequence fits; take a smaller model, a shorter --context-length or more memory")
    elif fitting < config.micro_batch:
        print(f"         the same step where it fits: --batch-size {fitting} --accumulation {config.times(fitting)}")
    return fitting


def total(row: Footprint, config: Config, program: int) -> int:
    """Bytes that a run takes on its device at most."""
    if config.device == "cuda":
        return row.peak
    before = row.weights + (machine.TAKEN if config.measure_peak else 0)
    saving = row.weights + row.optimizer + row.copy  # at the end, which no step follows
    step = row.peak if config.checkpoint_every is None else row.peak + row.copy
    return program + max(before, step, saving)


# Time ---------------------------------------------------------------------------------------------------


def speed(config: Config, gpt: GPTConfig, fitting: int) -> None:
    """Print how fast it is with micro-batches of `fitting` sequences, and how long the run and a compute-optimal one
    take; without any that fit, or if nothing shall be measured here, at the peak."""
    flops = gpt.flops_per_token()
    peak = config.peak_flops or machine.ceilings(config.device).flops
    if config.peak_flops is None and config.measure_speed and fitting:
        seconds = pace.measure(gpt, fitting, config.device).step(gpt.n_layer, config.times(fitting))
        per_second = fitting * config.times(fitting) * gpt.context_length / seconds
        share, word = flops * per_second / peak, "time"
        print(f"speed    {duration(seconds)} a step, {per_second:,.0f} tokens/s, as a block and a head were timed here")
    else:
        share, word = config.share_of_peak, "at least" if config.share_of_peak == 1 else "time"
        per_second = share * peak / flops
        print(f"speed    {duration(config.tokens_per_step / per_second)} a step, {per_second:,.0f} tokens/s")
    print(f"         which is {share:.0%} of {peak / 1e9:,.0f} GFLOP/s, the peak in products of float32")
    if config.steps is not None:
        seconds = config.steps * config.tokens_per_step / per_second
        print(f"{word:<9}{duration(seconds)} for {config.steps:,} steps, without validation and samples")
    optimal = TOKENS_PER_PARAMETER * gpt.parameters() / per_second
    print(f"{word:<9}{duration(optimal)} for a compute-optimal run")


# For people ---------------------------------------------------------------------------------------------


def in_bytes(text: str) -> int:
    """What a text says: 24GB are 24e9 bytes, 24GiB 24 x 2**30. UsageError if it says nothing that can be understood.

    >>> in_bytes("80GB"), in_bytes("1.5 GiB")
    (80000000000, 1610612736)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", text.strip(), re.IGNORECASE)
    if found is None or not float(found[1]):
        raise UsageError(f"--memory is a size, 24GB or 24GiB say, not {text!r}")
    return round(float(found[1]) * (1024 if found[3] else 1000) ** "BKMGT".index((found[2] or "B").upper()))


def gib(size: float) -> str:
    """
    >>> gib(3 * 2**30), gib(5 * 2**20)
    ('3.0 GiB', '5 MiB')
    """
    return f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{size / 2**20:,.0f} MiB"


def duration(seconds: float) -> str:
    """In the unit that fits.

    >>> duration(0.088), duration(300), duration(4e6)
    ('88 ms', '5.0 min', '46.3 days')
    """
    for limit, unit, name in ((1, 1e-3, "ms"), (120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.{0 if name == 'ms' else 1}f} {name}"
    days = seconds / 86400
    return f"{days:,.1f} days" if days < 730 else f"{days / 365.25:,.0f} years"


if __name__ == "__main__":
    run(main, "plan")
