"""Text to token shards: `python -m train.corpus --data FOLDER --out corpora/NAME`.

Reads text, JSONL and Parquet, also packed, of any size, and writes shards that `python -m train.pretrain --data
corpora/NAME` trains on, and llm.c too. Stopped, it goes on where it was when it is called again.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gpt.options import UsageError, option, parse, run
from gpt.tokenizer import END_OF_TEXT
from tensorlite.parallel import get_num_threads
from train.corpus.build import Build, Plan
from train.corpus.sources import expand
from train.lock import hold


@dataclass(frozen=True)
class Config:
    data: tuple[str, ...] = option((), "files, folders, globs or URLs with text; - is standard input")
    val_data: tuple[str, ...] = option((), "the same, of which all documents are for validation")
    out: Path | None = option(None, "folder of the shards")
    tokenizer: str = option("gpt2", "what a token is: gpt2, a tokenizer's file or folder, characters, words or bpe")
    vocab_size: int = option(4096, "tokens that --tokenizer bpe learns from the text")
    format: Literal["auto", "text", "jsonl", "parquet"] = option("auto", "what the files are; auto: as their names say")
    text_key: str = option("text", "where the text is: a key of JSONL, a column of Parquet")
    separator: str = option(END_OF_TEXT, "what stands between the documents of a text file; '' if it is one document")
    val_fraction: float = option(0.01, "documents kept for validation, of all; which, their text decides")
    shard_tokens: int = option(100_000_000, "tokens in a shard")
    processes: int | None = option(None, "processes that encode; none: as many as there are cores")
    errors: Literal["stop", "skip"] = option("stop", "stop at a document that cannot be read, or skip and count it")
    overwrite: bool = option(False, "remove the shards that --out holds, and begin anew")

    def __post_init__(self) -> None:
        if not 0 <= self.val_fraction < 1:
            raise UsageError(f"--val-fraction is at least 0 and below 1, not {self.val_fraction}")
        if not 1 <= self.shard_tokens < 2**31:
            raise UsageError(f"--shard-tokens lies between 1 and {2**31 - 1:,}, and {self.shard_tokens:,} does not")
        if self.processes is not None and self.processes < 1:
            raise UsageError(f"--processes is at least 1, not {self.processes}")


def main(argv: Sequence[str]) -> None:
    config = parse(Config, argv, {"default": Config()}, "default", "corpus", "Text to token shards.")
    if not config.data:
        raise UsageError("--data is missing: name files or folders with text, or - for standard input")
    if config.out is None:
        raise UsageError("--out is missing: name the folder of the shards, corpora/NAME say")
    plan = Plan(
        (*expand(config.data, config.format), *expand(config.val_data, config.format, "val")),
        config.tokenizer,
        config.vocab_size,
        config.text_key,
        config.separator,
        config.val_fraction,
        config.shard_tokens,
        config.errors,
    )
    with hold(config.out):
        build = Build(config.out, plan, config.overwrite)
        _introduce(build)
        start, before = time.perf_counter(), build.count.bytes
        try:
            build.run(config.processes or get_num_threads())
        except KeyboardInterrupt:
            print("\nstopped; the same command goes on from here", file=sys.stderr)
            raise SystemExit(130) from None
    _conclude(build, config.out, time.perf_counter() - start, before)


def _introduce(build: Build) -> None:
    sources = build.plan.sources
    names = ", ".join(s.name for s in sources[:3]) + (", …" if len(sources) > 3 else "")
    print(f"sources   {len(sources):,}: {names}")
    print(f"tokens    of {build.tokenizer.kind}, {build.tokenizer.vocab_size:,} different ones")
    if build.resumed:
        print(f"going on  after {build.count.documents:,} documents, {build.count.bytes / 1e6:,.1f} MB of text")


def _conclude(build: Build, out: Path, seconds: float, before: int) -> None:
    count = build.count
    speed = (count.bytes - before) / 1e6 / seconds
    print(f"read      {count.documents:,} documents, {count.bytes / 1e6:,.1f} MB of text, {speed:,.1f} MB/s")
    if count.refused:
        print(f"left out  {count.refused:,}, of which the first:")
        for reason in count.reasons:
            print(f"          {reason}")
    for part, writer in build.writers.items():
        shards = f"{len(writer.full):,} shard" + "s" * (len(writer.full) != 1)
        print(f"{part:<9} {writer.tokens:,} tokens in {writer.documents:,} documents, {shards}")
    if not build.writers["val"].tokens:
        print("          no document was drawn for validation, and training needs some: give --val-data, a larger")
        print("          --val-fraction, or a --separator that makes more documents of a text")
    print(f"wrote     {out}/: train_*.bin, val_*.bin, index.json, tokenizer.json")
    print(f"train on  python -m train.pretrain --data {out}")


if __name__ == "__main__":
    run(main, "corpus")
