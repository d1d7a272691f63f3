"""Files that are damaged, and what becomes of them: `python -m benchmarks.fuzz --cases 100000`.

Takes a whole file of each kind that is read here, changes it at random, and reads it. It may be refused by the
exception that is documented, or read; where it has a checksum, what is read must be what was written. A case that takes
longer than SECONDS, or memory beyond the file's size and BOUND, is a fault.
"""

from __future__ import annotations

import argparse
import random
import signal
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import tensorlite as tl
from benchmarks.turns import write
from gpt.checkpoint import load_model, save_model
from gpt.config import GPTConfig
from gpt.model import GPT
from gpt.tokenizer import BPETokenizer, load_tokenizer
from train.corpus.folder import TOKENIZER, digest, open_part, read_index, write_index
from train.corpus.shards import ShardError
from train.corpus.writer import ShardWriter

SECONDS = 10
BOUND = 32 * 2**20  # bytes
TEXT = "a text that is read, and read again; " * 30


@dataclass(frozen=True)
class Kind:
    """A kind of file: `read` what is at its path, or refuse it with `error`. checksum: what is read must be `whole`."""

    path: Path
    read: Callable[[], Any]
    error: type[Exception]
    checksum: bool = False


def kinds(folder: Path) -> dict[str, Kind]:
    """One whole file of each kind, in `folder`."""
    tokenizer = BPETokenizer.train(TEXT, 270)
    tokenizer.save(folder / TOKENIZER)
    writer = ShardWriter(folder, "train", tokenizer.vocab_size, digest(folder / TOKENIZER), 10**6)
    writer.write(tokenizer.encode_array(TEXT), np.array([0]))
    shards = writer.finish()
    write_index(folder, tokenizer, {"train": shards, "val": []}, {})
    tl.save({"a": tl.arange(12).reshape(3, 4), "b": [1, (2.5, None)], "c": {1: "x"}}, folder / "a.safetensors")
    save_model(GPT(GPTConfig(vocab_size=7, context_length=4, n_layer=1, n_head=1, n_embd=4)), folder / "m.safetensors")
    index = read_index(folder)

    def shard() -> bytes:
        (found,) = open_part(folder, index, "train")
        found.check(tokenizer.vocab_size)
        return found.map().tobytes()

    tokenizer.save(folder / "t.json")
    return {
        "safetensors": Kind(folder / "a.safetensors", lambda: tl.load(folder / "a.safetensors"), ValueError),
        "shard": Kind(shards[0].path, shard, ShardError, checksum=True),
        "index": Kind(folder / "index.json", lambda: read_index(folder), ShardError, checksum=True),
        "checkpoint": Kind(folder / "m.safetensors", lambda: load_model(folder / "m.safetensors"), ValueError),
        "tokenizer": Kind(folder / "t.json", lambda: load_tokenizer(folder / "t.json"), ValueError),
    }


def mutated(whole: bytes, dice: random.Random) -> bytes:
    """`whole` with one to four changes: bits, bytes, numbers at their limits, pieces cut out, doubled, moved, and marks
    and numbers of JSON. Half of them fall into the first bytes, where headers are."""
    data = bytearray(whole)
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        at = dice.randrange(len(data) or 1) if dice.random() < 0.5 else dice.randrange(min(len(data), 400) or 1)
        size = dice.choice((1, 2, 4, 8, 64))
        match dice.randrange(8):
            case 0:
                data[at : at + 1] = bytes([(data[at] if data else 0) ^ 1 << dice.randrange(8)])
            case 1:
                data[at : at + size] = dice.randbytes(size)
            case 2:
                data[at : at + 8] = dice.choice((0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)).to_bytes(8, "little")
            case 3:
                del data[at : at + size]
            case 4:
                data[at:at] = data[at : at + size]
            case 5:
                del data[at:]
            case 6:
                data[at : at + size] = data[: len(data[at : at + size])]
            case 7:
                data[at : at + 1] = dice.choice((b"{", b"}", b"[", b'"', b"9", b"-1", b"1e999", b"null", b"[" * 3000))
    return bytes(data)


def outcome(kind: Kind, damaged: bytes, whole: bytes, value: Any) -> str:
    """refused, read, or what is wrong."""
    if damaged == whole:
        return "unchanged"
    kind.path.unlink()  # a new file, so that what maps the old one is not changed
    kind.path.write_bytes(damaged)
    tracemalloc.reset_peak()
    before, start = tracemalloc.get_traced_memory()[0], time.perf_counter()
    try:
        found = kind.read()
    except kind.error:
        result = "refused"
    except TimeoutError:
        return "FAULT: hangs"
    except Exception as error:
        return f"FAULT: {type(error).__name__}: {error}"[:200]
    else:
        result = "FAULT: wrong data read" if kind.checksum and found != value else "read"
    if time.perf_counter() - start > SECONDS:
        return "FAULT: slow"
    return "FAULT: memory" if tracemalloc.get_traced_memory()[1] - before > len(damaged) + BOUND else result


def fuzz(cases: int, seed: int = 0) -> dict[str, Counter[str]]:
    """Counts of the outcomes for each kind, of `cases` files in all."""

    def late(signum: int, frame: Any) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    tracemalloc.start()
    try:
        with tempfile.TemporaryDirectory() as name, np.errstate(all="ignore"):
            found = kinds(Path(name))
            counts: dict[str, Counter[str]] = {what: Counter() for what in found}
            for what, kind in found.items():
                dice, whole, value = random.Random(f"{what} {seed}"), kind.path.read_bytes(), kind.read()
                for _ in range(-(-cases // len(found))):
                    signal.alarm(2 * SECONDS)
                    counts[what][outcome(kind, mutated(whole, dice), whole, value)] += 1
                signal.alarm(0)
                kind.path.write_bytes(whole)
        return counts
    finally:
        tracemalloc.stop()
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.fuzz", description=__doc__, allow_abbrev=False)
    parser.add_argument("--cases", type=int, default=100_000, help="files in all (default: 100,000)")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    start = time.perf_counter()
    counts = fuzz(given.cases, given.seed)
    for what, outcomes in counts.items():
        print(f"{what:<12} " + ", ".join(f"{n:,} {outcome}" for outcome, n in outcomes.most_common()))
    seconds = time.perf_counter() - start
    print(f"{sum(c.total() for c in counts.values()):,} files in {seconds:,.0f} s")
    if any(outcome.startswith("FAULT") for c in counts.values() for outcome in c):
        raise SystemExit(1)
    print(f"wrote {write('fuzz', {'seed': given.seed, 'seconds': round(seconds), 'counts': counts})}")


if __name__ == "__main__":
    main()
