"""Teach a GPT to follow instructions: `python -m train.instruct --start RUN --data FILE --out DIR`."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

import tensorlite as tl
from gpt.checkpoint import load_model, save_model
from gpt.generate import generate
from gpt.model import GPT
from gpt.options import UsageError, option, run, to_json
from gpt.sequences import evaluating
from gpt.template import Template, template_named
from gpt.tokenizer import Tokenizer
from train import checkpoint, checksum, tuning
from train.ask import tokenizer_of
from train.batching import LengthBuckets, by_length
from train.collate import IGNORED, Sample, collate, encode, fitting, pack
from train.instructions import Dialogue, OnAnswers, read_dialogues, split
from train.loop import Loop, Task
from train.pictures import loss_curve
from train.recipe import AS_IN_THE_BOOK, Recipe, check_device, configured
from train.run import Run, unused
from train.start import start

Batch = tuple[tl.Tensor, tl.Tensor] | tuple[tl.Tensor, tl.Tensor, list[int]]  # of `collate`, or of `pack`


@dataclass(frozen=True)
class Config(OnAnswers):
    data: Path | None = option(
        None, "instructions as JSON: the book's and Alpaca's form, or chats with messages; or instruct-1100"
    )
    mask_prompt: bool = option(False, "learn the answers only, not the questions")
    bucket: bool = option(True, "put texts of like length into a batch, which spares padding")
    pack: bool = option(False, "put the texts of a batch end to end, none seeing another, which needs no padding")
    max_new_tokens: int = option(128, "tokens of a response, at most")
    temperature: float = option(0.0, "how bold a response is; 0 takes the likeliest token each time")
    responses: int | None = option(None, "so many of the test part are answered at the end; none: all")

    MAY_CHANGE = Recipe.MAY_CHANGE | {"max_new_tokens", "temperature", "responses"}

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "max_new_tokens")
        self.at_least(0, "responses", "temperature")


# The book's chapter 7, which takes GPT-2 medium.
BOOK = Config(
    start="gpt2-medium",
    steps=None,
    epochs=2,
    batch_size=8,
    lr=5e-5,
    min_lr=5e-5,
    **AS_IN_THE_BOOK,
    eval_every=20,
    log_every=5,
    seed=123,
)
PRESETS = {
    "book": BOOK,
    # A small model of this machine's making, or random weights: it has more to learn.
    "small": replace(
        BOOK,
        start=None,
        n_embd=192,
        context_length=256,
        bias=True,
        qkv_bias=True,
        epochs=6,
        lr=1e-3,
        min_lr=1e-4,
        schedule="cosine",
        warmup=30,
        beta2=0.99,
        clip=1.0,
        eval_every=50,
    ),
    "lora": replace(BOOK, train="lora", lora_alpha=32.0, lr=5e-4, min_lr=5e-4),
}


def configuration(argv: Sequence[str]) -> Config:
    """What the command line asks for."""
    return configured(Config, argv, PRESETS, "small", "instruct", "Teach a GPT to follow instructions.")


def main(argv: Sequence[str]) -> None:
    config = configuration(argv)
    if config.data is None:
        raise UsageError("--data is missing: name a JSON file of instructions, or say --data instruct-1100")
    check_device(config.device)
    parts = split(read_dialogues(config.data), config.train_fraction, config.test_fraction)
    if (folder := config.resume) is None:
        tl.manual_seed(config.seed)
        template = template_named(config.template)
        texts = [template.question(d.turns, d.system) + template.answer(d.turns[-1]) for d in parts[0]]
        model, tokenizer = start(config, texts)
        end_of(tokenizer)
        tuning.prepare(model, config)
        out = Run.create(config.out or unused(Path("runs/instruct")), to_json(config))
        tokenizer.save(out.path / "tokenizer.json")
        if config.train == "lora":
            save_model(model, out.path / "base.safetensors")
        train(config, parts, model, tokenizer, out, {})
    else:
        saved, state = checkpoint.load(folder)
        tokenizer = tokenizer_of(folder, "--resume")
        model = tuning.reload(folder, saved, config, load_model)
        train(config, parts, model, tokenizer, Run.open(folder, state["step"]), state)


def train(
    config: Config,
    parts: tuple[list[Dialogue], list[Dialogue], list[Dialogue]],
    model: GPT,
    tokenizer: Tokenizer,
    out: Run,
    state: dict[str, Any],
) -> None:
    """Train `model`, from the beginning or from `state`, and let it answer the test part."""
    template, end, longest = template_named(config.template), end_of(tokenizer), model.config.context_length
    names = dict(zip(("training", "validation", "test"), parts, strict=True))
    samples = {
        name: fitting((encode(dialogue, template, tokenizer) for dialogue in part), longest, name)
        for name, part in names.items()
    }

    def batch(some: Sequence[Sample]) -> Batch:
        return collate(some, end, config.mask_prompt, longest)

    def training(some: Sequence[Sample]) -> Batch:
        return pack(some, end, config.mask_prompt, longest) if config.pack else batch(some)

    generator = tl.Generator().manual_seed(config.seed)
    lengths = [min(len(sample), longest) for sample in samples["training"]]
    pool = 16 if config.bucket else 1
    loader = tl.data.DataLoader(
        samples["training"],
        batch_sampler=LengthBuckets(lengths, config.batch_size, generator, pool),
        collate_fn=training,
        generator=generator,
    )

    def evaluate(step: int, last: bool) -> dict[str, float]:
        out.sample(step, respond(model, tokenizer, template, parts[1][0], config))
        return {"val_loss": mean_loss(model, [batch(some) for some in _batches(samples["validation"], config)])}

    task = Task(
        model,
        loader,
        loss=lambda some: batch_loss(model, some),
        count=_counting,
        evaluate=evaluate,
        write=tuning.writer(config, save_model),
        data=checksum.of_arrays(x for sample in samples["training"] for x in (sample.ids, sample.answer)),
    )
    loop = Loop(task, config, out, state)
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    real = sum(lengths)
    read = sum(pair[0].numel() for pair in map(training, _epoch(samples["training"], config, pool)))
    print(f"data      {config.data}: {', '.join(f'{len(part):,} {name}' for name, part in names.items())}")
    print(f"tokens    {real:,} to train on, and {1 - real / read:.1%} padding beside them")
    print(f"model     {config.start or 'random weights'}: {model.num_parameters():,} parameters, {learning:,} learn")
    print(f"training  {loop.steps:,} steps of {config.batch_size * config.accumulation} texts on {config.device}")
    finished = loop.train()
    tuning.finish(model, config, save_model, out.path)
    title = f"instructions: {learning:,} parameters that learn"
    loss_curve(out.metrics, out.path / "loss.png", title, math.log(model.config.vocab_size))
    if not finished:
        print(f"stopped after step {loop.step:,} of {loop.steps:,}; everything is saved in {out.path}")
        print(f"train on  python -m train.instruct --resume {out.path}")
        return
    minutes, seconds = divmod(round(loop.seconds), 60)
    print(f"done      {loop.step:,} steps in {minutes} min {seconds} s of training")
    for name in ("training", "validation", "test"):
        loss = mean_loss(model, [batch(some) for some in _batches(samples[name], config)])
        print(f"{name} loss".ljust(18), f"{loss:.4f}")
    answer_all(model, tokenizer, template, parts[2][: config.responses], config, out)


def answer_all(
    model: GPT, tokenizer: Tokenizer, template: Template, asked: Sequence[Dialogue], config: Config, out: Run
) -> None:
    """Write responses.json: what the data say of each question, and under model_response what the model says."""
    answered = [
        {**dialogue.entry, "model_response": respond(model, tokenizer, template, dialogue, config)}
        for dialogue in tqdm(asked, "answers", disable=None)
    ]
    text = json.dumps(answered, indent=4, ensure_ascii=False) + "\n"
    (out.path / "responses.json").write_text(text, encoding="utf-8")
    print(f"wrote     {out.path}/: loss.png, responses.json ({len(answered)} answers), samples.txt, checkpoints/")


def respond(model: GPT, tokenizer: Tokenizer, template: Template, dialogue: Dialogue, config: Config) -> str:
    """The model's answer to the last question of a dialogue. Its random numbers are its own."""
    question = tokenizer.encode(template.question(dialogue.turns, dialogue.system))
    ids = tl.tensor([question], dtype=tl.int64, device=config.device)
    generator = tl.Generator().manual_seed(config.seed)
    with evaluating(model):
        said = generate(
            model, ids, config.max_new_tokens, config.temperature, eos_id=end_of(tokenizer), generator=generator
        )
    new = said[0, len(question) :].tolist()
    text = tokenizer.decode(new[: new.index(end_of(tokenizer))] if end_of(tokenizer) in new else new)
    return text.removesuffix(template.end).strip()


def batch_loss(model: GPT, batch: Batch) -> tl.Tensor:
    """The mean loss of a batch, padded or packed."""
    ids, targets, *lengths = batch
    device = model.wte.weight.device
    return model.loss(ids.to(device), targets.to(device), *lengths)


@tl.no_grad()
def mean_loss(model: GPT, batches: Sequence[Batch]) -> float:
    """The loss per token that counts."""
    total, tokens = 0.0, 0
    with evaluating(model):
        for pair in batches:
            count = _counting(pair)
            total += batch_loss(model, pair).item() * count
            tokens += count
    return total / tokens


def _counting(pair: Batch) -> int:
    """How many targets count."""
    return int((pair[1].numpy() != IGNORED).sum())


def _batches(samples: Sequence[Sample], config: Config) -> list[list[Sample]]:
    numbers = by_length([len(sample) for sample in samples], config.batch_size)
    return [[samples[i] for i in some] for some in numbers]


def _epoch(samples: Sequence[Sample], config: Config, pool: int) -> list[list[Sample]]:
    """The batches of one epoch, to count padding."""
    generator = tl.Generator().manual_seed(config.seed)
    order = LengthBuckets([len(sample) for sample in samples], config.batch_size, generator, pool)
    return [[samples[i] for i in some] for some in order]


def end_of(tokenizer: Tokenizer) -> int:
    """The token that ends an answer. Raises UsageError if the tokenizer has none."""
    if tokenizer.eot_id is None:
        raise UsageError(
            f"a tokenizer of {tokenizer.kind} has no <|endoftext|>, which ends an answer; take gpt2 or words"
        )
    return tokenizer.eot_id


if __name__ == "__main__":
    run(main, "instruct")
