"""What bucketing and packing spare in instruction tuning: tokens that are read, and the time of an epoch.

`python -m benchmarks.packing --data instruction-data.json`. The same texts in batches of the same size, in random order
with padding, in batches of like length with padding, and end to end without any. Their steps take turns in one
process; of each batch the quickest counts, in seconds of CPU time, which other programs do not lengthen much. The model
has fresh weights, for time does not depend on them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import tensorlite as tl
from gpt.model import GPT
from gpt.template import TEMPLATES
from train.batching import LengthBuckets
from train.collate import Sample, collate, encode, fitting, pack
from train.corpus import make_tokenizer
from train.instruct import PRESETS, batch_loss
from train.instructions import read_dialogues, split

WAYS: dict[str, tuple[int, Callable[..., Any]]] = {  # batches of a pool that is sorted by length, and what fills one
    "random order, padded": (1, collate),
    "bucketed, padded": (16, collate),
    "random order, packed": (1, pack),
    "bucketed, packed": (16, pack),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.packing", description=__doc__, allow_abbrev=False)
    parser.add_argument("--data", type=Path, required=True, help="instructions, as train.instruct reads them")
    parser.add_argument("--batch-size", type=int, default=8, help="texts in a batch (default: 8)")
    parser.add_argument("--width", type=int, default=192, help="width of the model (default: 192)")
    parser.add_argument("--turns", type=int, default=2, help="times that each batch is computed (default: 2)")
    parser.add_argument("--share", type=float, default=1.0, help="of each epoch's batches to compute (default: all)")
    given = parser.parse_args()
    config = replace(PRESETS["small"], n_embd=given.width)
    template = TEMPLATES["book"]
    dialogues = split(read_dialogues(given.data), config.train_fraction, config.test_fraction)[0]
    texts = [template.question(d.turns, d.system) + template.answer(d.turns[-1]) for d in dialogues]
    tokenizer = make_tokenizer("words", "\n".join(texts), 0)
    samples = fitting((encode(d, template, tokenizer) for d in dialogues), config.context_length, "training")
    tl.manual_seed(0)
    model = GPT(config.gpt_config(tokenizer.vocab_size))
    end = tokenizer.eot_id
    assert end is not None  # words has one

    def batches(pool: int, form: Callable[..., Any]) -> list[Any]:
        lengths = [len(sample) for sample in samples]
        order = LengthBuckets(lengths, given.batch_size, tl.Generator().manual_seed(0), pool)
        some: list[list[Sample]] = [[samples[i] for i in numbers] for numbers in order]
        return [form(part, end, longest=config.context_length) for part in some[: round(given.share * len(some))]]

    epochs = {name: batches(*way) for name, way in WAYS.items()}
    best = {name: [float("inf")] * len(epoch) for name, epoch in epochs.items()}
    batch_loss(model, epochs["bucketed, padded"][0]).backward()  # so that none pays for the first pages
    for _ in range(given.turns):
        for i in range(len(epochs["bucketed, padded"])):
            for name, epoch in epochs.items():
                start = time.process_time()
                batch_loss(model, epoch[i]).backward()
                best[name][i] = min(best[name][i], time.process_time() - start)
                model.zero_grad()

    first = sum(best["random order, padded"])
    print(f"{len(samples):,} texts in batches of {given.batch_size}, {model.num_parameters():,} parameters")
    print(f"{'':22}{'tokens read':>12}{'padding':>9}{'CPU seconds':>12}{'time':>8}")
    for name, epoch in epochs.items():
        read = sum(batch[0].numel() for batch in epoch)
        real = sum(int((batch[1].numpy() != -100).sum()) for batch in epoch)
        seconds = sum(best[name])
        print(f"{name:22}{read:12,}{1 - real / read:9.1%}{seconds:12.2f}{seconds / first:8.2f}")


if __name__ == "__main__":
    main()
