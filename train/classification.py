"""How well a classifier of train.classify names the classes of other texts.

python -m train.evaluate classification --model runs/classify --data FILE.tsv --out DIR
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpt.options import UsageError, option, parse
from train.ask import classifier_of, encode, logits, shortened
from train.confusion import Confusion
from train.labelled import read_labelled
from train.pictures import confusion_picture


@dataclass(frozen=True)
class Config:
    model: Path | None = option(None, "folder of a run of train.classify")
    data: Path | None = option(
        None, "texts with labels: label<TAB>text in .tsv, a header in .csv, objects in .jsonl; or sms-spam"
    )
    out: Path | None = option(None, "folder for report.json, confusion.png and wrong.jsonl; none: nothing is written")
    batch_size: int = option(32, "texts that are computed at once")
    device: str = option("cpu", "where to compute: cpu, cuda or cuda:N")


def main(argv: Sequence[str]) -> None:
    """How well a classifier names the classes of texts: accuracy, precision, recall, F1."""
    config = parse(
        Config, argv, {"default": Config()}, "default", "evaluate classification", "How well a classifier answers."
    )
    if config.model is None:
        raise UsageError("--model is missing: name the folder of a run of train.classify")
    if config.data is None:
        raise UsageError("--data is missing: name a file of texts with labels, or say --data sms-spam")
    if config.batch_size < 1:
        raise UsageError(f"--batch-size is at least 1, not {config.batch_size}")
    examples = read_labelled(config.data)
    model, tokenizer, limit = classifier_of(config.model, "--model", config.device)
    for label, _, where in examples:
        if label not in model.classes:
            raise UsageError(f"{where}: the label {label!r} is none that the model knows: {', '.join(model.classes)}")
    tokens = shortened(encode(tokenizer, examples), limit, "given")
    said = logits(model, tokens, tokenizer.eot_id or 0, config.batch_size, progress=True).argmax(1)  # (N,)
    true = np.array([model.classes.index(example.label) for example in examples])
    found = Confusion.of(model.classes, true, said)
    print(f"{found.table()}\n\n{found.matrix()}\n")
    print(f"accuracy  {found.accuracy:.2%} of {len(examples):,} texts")
    for name, texts in zip(model.classes, found.counts.sum(axis=1)):
        if not texts:
            print(f"{config.data} has no text of the class {name}: its recall and F1 say nothing", file=sys.stderr)
    if (out := config.out) is None:
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "report.json").write_text(json.dumps(found.to_dict(), indent=1) + "\n", encoding="utf-8")
        wrong = [
            {"label": label, "answer": model.classes[i], "text": text}
            for (label, text, _), i in zip(examples, said)
            if label != model.classes[i]
        ]
        lines = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in wrong)
        (out / "wrong.jsonl").write_text(lines, encoding="utf-8")
        confusion_picture(found.counts, found.classes, out / "confusion.png", f"{found.accuracy:.2%} right")
    except OSError as error:
        raise UsageError(f"--out {out}: cannot be written: {error.strerror}") from None
    print(f"wrote     {out}/: report.json, confusion.png, wrong.jsonl ({len(wrong):,} texts)")
