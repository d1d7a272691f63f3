"""Text to shards, and shards to batches: `python -m benchmarks.corpus --mb 1000`.

Writes a text of the given size, of the words of Python's standard library, encodes it with GPT-2's tokens in 1 and 2
processes, and measures MB/s and the memory of the process that writes and of those that encode. Then trains the
shakespeare-char model for some steps, on a text in memory and on these shards, and measures how long it waits for
batches.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import tensorlite as tl
from benchmarks.tokenizer import library
from benchmarks.turns import machine, write
from gpt.model import GPT
from tensorlite.nn.utils import clip_grad_norm_
from train.corpus import TokenArray, Windows, make_tokenizer, read, split
from train.corpus.folder import open_corpus
from train.presets import PRESETS

_BUILD = """
import resource, sys
if __name__ == "__main__":
    from train.corpus.__main__ import main
    main(sys.argv[1:])
    peaks = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(*map(round, peaks))
"""


def make_text(path: Path, size: int) -> None:
    """`size` bytes of JSONL, a thousand characters or so each line, whose text does not repeat."""
    words, dice, written = library().split(), random.Random(0), 0
    with path.open("w", encoding="ascii") as file:
        while written < size:
            line = json.dumps({"text": " ".join(dice.choices(words, k=150))})
            written += file.write(line + "\n")


def build(text: Path, folder: Path, processes: int) -> dict[str, Any]:
    """Seconds and peak memory of a build; the larger of the processes that encode."""
    script = folder.parent / "build.py"
    script.write_text(_BUILD)
    flags = ["--data", text, "--out", folder, "--processes", processes, "--shard-tokens", 10_000_000]
    start = time.perf_counter()
    command = [sys.executable, str(script), *map(str, flags)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    seconds = time.perf_counter() - start
    writer, encoder = map(int, printed.split()[-2:])
    size = text.stat().st_size
    return {
        "seconds": round(seconds, 1),
        "mb_per_s": size / 1e6 / seconds,
        "writer_mib": writer,
        "encoder_mib": encoder,
    }


def waiting(tokens: TokenArray, steps: int) -> dict[str, float]:
    """The share of a training step of the shakespeare-char model that is spent in the DataLoader."""
    config = PRESETS["shakespeare-char"]
    model = GPT(config.gpt_config(65))
    optimizer = tl.optim.AdamW(model.parameter_groups(config.weight_decay), lr=config.lr)
    windows = Windows(tokens, config.context_length, 1)
    loader = tl.data.DataLoader(windows, config.batch_size, shuffle=True, drop_last=True, collate_fn=tuple)
    batches, waited, start = iter(loader), 0.0, time.perf_counter()
    for step in range(steps + 5):
        if step == 5:
            waited, start = 0.0, time.perf_counter()
        before = time.perf_counter()
        x, y = next(batches)
        waited += time.perf_counter() - before
        model.loss(x % 65, y % 65).backward()  # nanoGPT's 65 characters, whatever the tokens are
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    seconds = time.perf_counter() - start
    return {"step_ms": 1e3 * seconds / steps, "wait_us": 1e6 * waited / steps, "share": waited / seconds}


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.corpus", description=__doc__, allow_abbrev=False)
    parser.add_argument("--mb", type=int, default=100, help="MB of text (default: 100)")
    parser.add_argument("--steps", type=int, default=100, help="training steps (default: 100)")
    given = parser.parse_args()
    host = machine()
    results: dict[str, Any] = {"mb": given.mb, "build": {}}
    with tempfile.TemporaryDirectory() as name:
        text = Path(name, "text.jsonl")
        make_text(text, given.mb * 10**6)
        print(f"{host['cpu']}, {given.mb:,} MB of JSONL")
        for processes in (1, 2):
            found = build(text, Path(name, f"shards-{processes}"), processes)
            results["build"][str(processes)] = found
            print(
                f"{processes} encoding: {found['mb_per_s']:.1f} MB/s; peak {found['writer_mib']:,} MiB writing, "
                f"{found['encoder_mib']:,} MiB encoding"
            )
        text_in_memory, source = read(())
        corpora = {
            "text": split(text_in_memory, make_tokenizer("characters", text_in_memory, 0), 0.1, 64, source),
            "shards": open_corpus([Path(name, "shards-1")], "gpt2", 64),
        }
        results["waiting"] = {}
        for kind, corpus in corpora.items():
            results["waiting"][kind] = found = waiting(corpus.train, given.steps)
            print(
                f"{kind}: a step takes {found['step_ms']:.1f} ms, of which {found['wait_us']:.0f} us waiting for data: "
                f"{found['share']:.2%}"
            )
    print(f"wrote {write('corpus', results)}")


if __name__ == "__main__":
    main()
