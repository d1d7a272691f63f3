"""Teach a GPT to name the class of a text: `python -m train.classify --data FILE --out DIR`.

Without --start a small model learns from random weights, in minutes. Afterwards
`python -m train.classify predict --run DIR "text"` asks it.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import tensorlite as tl
from gpt.classifier import GPTClassifier, Pooling, load_classifier, save_classifier
from gpt.options import UsageError, option, run, to_json
from gpt.tokenizer import Tokenizer
from tensorlite.nn import functional as F
from train import checkpoint, checksum, tuning
from train.ask import encode, logits, predict, shortened, tokenizer_of
from train.batching import LengthBuckets, pad
from train.confusion import Confusion
from train.labelled import Parts, balanced, classes_of, read_labelled, split
from train.loop import Loop, Task
from train.pictures import accuracy_curve, confusion_picture, loss_curve
from train.recipe import AS_IN_THE_BOOK, Recipe, check_device, configured
from train.run import Run, unused
from train.start import Start, start
from train.tuning import Tuning


@dataclass(frozen=True)
class Config(Tuning, Start, Recipe):
    data: Path | None = option(
        None, "texts with labels: label<TAB>text in .tsv, a header in .csv, objects in .jsonl; or sms-spam"
    )
    val_data: Path | None = option(None, "a file of its own for validation, with --test-data")
    test_data: Path | None = option(None, "a file of its own for the test; then --data is not split")
    balance: bool = option(True, "take only as many texts of each class as the rarest has")
    train_fraction: float = option(0.7, "share of the texts to train on")
    val_fraction: float = option(0.1, "share of the texts to validate with; the rest is the test")
    split_seed: int = option(123, "where the draw for balance and split comes from; 123 is the book's")
    pooling: Pooling = option("last", "what the head reads: the text's last token, or the mean of all")
    max_length: int | None = option(None, "tokens of a text that are read; none: of the longest training text")

    MAY_CHANGE = Recipe.MAY_CHANGE

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "max_length", "last_blocks")
        self.lora()
        if (self.val_data is None) != (self.test_data is None):
            raise UsageError("--val-data and --test-data come together; without them --data is split in three")
        if not (self.train_fraction > 0 and self.val_fraction > 0 and self.train_fraction + self.val_fraction < 1):
            raise UsageError(
                f"--train-fraction {self.train_fraction} and --val-fraction {self.val_fraction} are above 0 and leave "
                "something for the test"
            )


SCRATCH = Config(
    n_layer=2,
    n_head=4,
    n_embd=64,
    dropout=0.2,
    bias=True,
    qkv_bias=True,
    init_std=0.07,
    steps=None,
    epochs=4,
    lr=1e-3,
    min_lr=1e-4,
    warmup=30,
    beta2=0.99,
    eval_every=25,
    seed=123,
)
# The book's chapter 6: the last block, the final norm and the head of GPT-2 small.
FINETUNE = replace(
    SCRATCH,
    start="gpt2",
    train="last",
    dropout=0.0,
    epochs=5,
    batch_size=8,
    lr=5e-5,
    min_lr=5e-5,
    **AS_IN_THE_BOOK,
)
PRESETS = {
    "scratch": SCRATCH,
    "finetune": FINETUNE,
    # The book's appendix E, whose alpha of 16 is not divided by the rank of 16.
    "lora": replace(FINETUNE, train="lora", lora_alpha=256.0, lr=8e-4, min_lr=8e-4),
}


def configuration(argv: Sequence[str]) -> Config:
    """What the command line asks for."""
    default = "finetune" if any(word.partition("=")[0] == "--start" for word in argv) else "scratch"
    return configured(Config, argv, PRESETS, default, "classify", "Train a GPT to name the class of a text.")


def main(argv: Sequence[str]) -> None:
    if argv[:1] == ["predict"]:
        predict(argv[1:])
        return
    config = configuration(argv)
    if config.data is None:
        raise UsageError("--data is missing: name a file of texts with labels, or say --data sms-spam")
    check_device(config.device)
    parts = read_parts(config, config.data)
    classes = classes_of(parts)
    if config.resume is None:
        begin(config, parts, classes)
    else:
        resume(config, config.resume, parts, classes)


def read_parts(config: Config, data: Path) -> Parts:
    """The texts to train, validate and test on, as the configuration says."""
    examples = read_labelled(data)
    if config.balance:
        examples = balanced(examples, config.split_seed)
    if config.val_data is None or config.test_data is None:
        return split(examples, config.train_fraction, config.val_fraction, config.split_seed)
    return Parts(examples, read_labelled(config.val_data), read_labelled(config.test_data))


def begin(config: Config, parts: Parts, classes: tuple[str, ...]) -> None:
    """A new run."""
    tl.manual_seed(config.seed)
    gpt, tokenizer = start(config, [text for _, text, _ in parts.train])
    longest = max(map(len, encode(tokenizer, parts.train)))
    length = min(config.max_length or longest, gpt.config.context_length)
    model = GPTClassifier(gpt, classes, config.pooling)
    tuning.prepare(model, config)
    config = replace(config, max_length=length)
    out = Run.create(config.out or unused(Path("runs/classify")), to_json(config))
    tokenizer.save(out.path / "tokenizer.json")
    if config.train == "lora":
        save_classifier(model, out.path / "base.safetensors")
    train(config, parts, model, tokenizer, out, {})


def resume(config: Config, folder: Path, parts: Parts, classes: tuple[str, ...]) -> None:
    """Go on with a run, with the same bits as if it had never stopped."""
    saved, state = checkpoint.load(folder)
    tokenizer = tokenizer_of(folder, "--resume")
    model = tuning.reload(folder, saved, config, load_classifier)
    if model.classes != classes:
        raise UsageError(
            f"--resume {folder}: {config.data} has the classes {', '.join(classes)}, and the model "
            f"{', '.join(model.classes)}; the file is another one than before"
        )
    train(config, parts, model, tokenizer, Run.open(folder, state["step"]), state)


def train(
    config: Config, parts: Parts, model: GPTClassifier, tokenizer: Tokenizer, out: Run, state: dict[str, Any]
) -> None:
    """Train `model`, from the beginning or from `state`, and say how well it answers."""
    limit = config.max_length or model.config.context_length
    names = {"training": parts.train, "validation": parts.val, "test": parts.test}
    tokens = {name: shortened(encode(tokenizer, part), limit, name) for name, part in names.items()}
    labels = {name: np.array([model.classes.index(e.label) for e in part]) for name, part in names.items()}
    pad_id = tokenizer.eot_id or 0
    generator = tl.Generator().manual_seed(config.seed)
    lengths = [len(ids) for ids in tokens["training"]]

    def collate(numbers: Sequence[int]) -> tuple[tl.Tensor, tl.Tensor, tl.Tensor]:
        rows = [tokens["training"][i] for i in numbers]
        ids, size = pad(rows, pad_id), np.array([len(row) for row in rows])  # (B, T), (B,)
        return tl.from_numpy(ids), tl.from_numpy(size), tl.from_numpy(labels["training"][numbers])

    loader = tl.data.DataLoader(
        range(len(lengths)),
        batch_sampler=LengthBuckets(lengths, config.batch_size, generator),
        collate_fn=collate,
        generator=generator,
    )

    def loss(batch: tuple[tl.Tensor, ...]) -> tl.Tensor:
        ids, size, label = (x.to(config.device) for x in batch)
        return F.cross_entropy(model(ids, size), label)

    def evaluate(step: int, last: bool) -> dict[str, float]:
        some = len(labels["validation"])  # of the training texts as many, for comparison
        seen = logits(model, tokens["training"][:some], pad_id)
        held = logits(model, tokens["validation"], pad_id)  # (N, K)
        return {
            "val_loss": F.cross_entropy(tl.from_numpy(held), tl.from_numpy(labels["validation"])).item(),
            "train_accuracy": float((seen.argmax(1) == labels["training"][:some]).mean()),
            "val_accuracy": float((held.argmax(1) == labels["validation"]).mean()),
        }

    write = tuning.writer(config, save_classifier)
    data = checksum.of_arrays([*tokens["training"], labels["training"]])
    task = Task(model, loader, loss, lambda batch: int(batch[1].sum()), evaluate, write, data)
    loop = Loop(task, config, out, state)
    _introduce(config, parts, model, tokenizer, limit, loop.steps)
    finished = loop.train()
    tuning.finish(model, config, save_classifier, out.path)
    most = max(Counter(labels["validation"].tolist()).values()) / len(labels["validation"])
    title = f"{len(model.classes)} classes, {_learning(model):,} parameters that learn"
    chance = math.log(len(model.classes))
    loss_curve(out.metrics, out.path / "loss.png", title, chance, "nats per text", "ln(classes)")
    accuracy_curve(out.metrics, out.path / "accuracy.png", title, most)
    if finished:
        found = {
            name: Confusion.of(model.classes, labels[name], logits(model, ids, pad_id).argmax(1))
            for name, ids in tokens.items()
        }
        _conclude(found, out, loop)
    else:
        print(f"stopped after step {loop.step:,} of {loop.steps:,}; everything is saved in {out.path}")
        print(f"train on  python -m train.classify --resume {out.path}")


def _learning(model: GPTClassifier) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _introduce(
    config: Config, parts: Parts, model: GPTClassifier, tokenizer: Tokenizer, limit: int, steps: int
) -> None:
    counts = Counter(example.label for example in (*parts.train, *parts.val, *parts.test))
    print(f"texts     {config.data}: {', '.join(f'{counts[name]:,} {name}' for name in model.classes)}")
    print(f"          {len(parts.train):,} to train on, {len(parts.val):,} to validate, {len(parts.test):,} to test")
    print(f"tokens    {tokenizer.kind}, {tokenizer.vocab_size:,} different; up to {limit} of a text are read")
    every = sum(p.numel() for p in model.parameters())
    print(f"model     {config.start or 'random weights'}: {every:,} parameters, of which {_learning(model):,} learn")
    print(f"training  {steps:,} steps of {config.batch_size * config.accumulation} texts on {config.device}")


def _conclude(found: dict[str, Confusion], out: Run, loop: Loop) -> None:
    test = found["test"]
    (out.path / "report.json").write_text(
        json.dumps({name: confusion.to_dict() for name, confusion in found.items()}, indent=1) + "\n", encoding="utf-8"
    )
    confusion_picture(test.counts, test.classes, out.path / "confusion.png", f"test: {test.accuracy:.2%} right")
    minutes, seconds = divmod(round(loop.seconds), 60)
    print(f"done      {loop.step:,} steps in {minutes} min {seconds} s of training")
    print(f"wrote     {out.path}/: loss.png, accuracy.png, confusion.png, report.json, metrics.jsonl, checkpoints/")
    print(f'ask it    python -m train.classify predict --run {out.path} "a text"')
    print(f"\n{test.table()}\n")
    for name, confusion in found.items():
        print(f"{name + ' accuracy':20} {confusion.accuracy:7.2%}  of {confusion.counts.sum():,} texts")


if __name__ == "__main__":
    run(main, "classify")
