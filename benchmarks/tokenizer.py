"""Byte-pair encoding, our own and tiktoken's: `python -m benchmarks.tokenizer --data the-verdict.txt`.

Encodes the first 4 MB of Python's standard library, and the files of --data, with GPT-2's vocabulary, on one thread, in
turns (turns.py); learns 4,096 tokens from the 4 MB; encodes one word of a megabyte.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.turns import compare, machine, serve, write
from gpt.tokenizer import BPETokenizer, GPT2Tokenizer

ENGINES = {
    "tiktoken": "tiktoken's encode_to_numpy",
    "encode_array": "encode_array, which calls it",
    "python": "our own code, words remembered",
    "afresh": "our own code, no word remembered",
}
# Raschka's measurement of the two on the-verdict, *Build a Large Language Model (From Scratch)*, chapter 2's bonus.
PUBLISHED_MS = {"tiktoken": 0.90, "OpenAI's encoder.py": 3.84}
LIBRARY = "standard library"
SIZE = 4_000_000


def library() -> str:
    """4 MB of Python code and prose, which every Python has."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    return "".join(path.read_text(encoding="utf-8", errors="replace") for path in files)[:SIZE]


def text_of(case: str) -> str:
    return library() if case == LIBRARY else Path(case).read_text(encoding="utf-8")


def step(engine: str, text: str) -> Callable[[], Any]:
    ours = GPT2Tokenizer()
    if engine == "tiktoken":
        theirs = ours.bpe.to_tiktoken()
        return lambda: theirs.encode_to_numpy(text, disallowed_special=())
    if engine == "encode_array":
        return lambda: ours.encode_array(text)
    if engine == "python":
        return lambda: ours.bpe.encode_here(text)

    def afresh() -> None:
        ours.bpe._memory.clear()
        ours.bpe.encode_here(text)

    return afresh


def seconds(function: Callable[[], Any], times: int = 3) -> float:
    """The median of the processor's seconds."""
    taken = []
    for _ in range(times):
        start = time.process_time()
        function()
        taken.append(time.process_time() - start)
    return statistics.median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.tokenizer", description=__doc__, allow_abbrev=False)
    parser.add_argument("--data", nargs="+", default=[], help="text files to encode too; the-verdict.txt has a past")
    parser.add_argument("--turns", type=int, default=5, help="turns of each engine (default: 5)")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--worker", choices=ENGINES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        serve(step(given.worker, text_of(given.case)), warmup=1)
        return
    host = machine()
    print(f"{host['cpu']}, one thread, GPT-2's vocabulary, medians of {given.turns} turns")
    results: dict[str, Any] = {}
    for case in (LIBRARY, *given.data):
        text = text_of(case)
        size = len(text.encode())
        steps = max(1, 400_000 // size)
        found = compare("benchmarks.tokenizer", list(ENGINES), ["--case", case], given.turns, steps)
        print(f"\n{Path(case).name}, {size:,} bytes")
        for engine, meaning in ENGINES.items():
            if found[engine]:
                ms = found[engine]["median_ms"]
                print(f"  {meaning:<36}{ms:>10.2f} ms {size / ms / 1e3:>7.1f} MB/s")
        if Path(case).name == "the-verdict.txt":
            for name, ms in PUBLISHED_MS.items():
                print(f"  {'published: ' + name:<36}{ms:>10.2f} ms {size / ms / 1e3:>7.1f} MB/s, on another machine")
        results[Path(case).name] = {"bytes": size, **found}

    text = library()
    tokenizer = BPETokenizer.train(text, 4096)
    learning = seconds(lambda: BPETokenizer.train(text, 4096), 1)
    word = "".join(random.Random(0).choices("etaoinshrdlu", k=10**6))
    long = {n: seconds(lambda n=n: tokenizer.encode_here(word[:n])) for n in (10**4, 10**5, 10**6)}  # type: ignore[misc]
    print(f"\nlearning {tokenizer.vocab_size:,} tokens from {len(text.encode()):,} bytes: {learning:.1f} s")
    print("one word of " + ", ".join(f"{n:,} bytes: {t:.3f} s" for n, t in long.items()))
    results |= {"learning_s": round(learning, 2), "one_word_s": {str(n): round(t, 4) for n, t in long.items()}}
    print(f"wrote {write('tokenizer', {'turns': given.turns, 'published_ms': PUBLISHED_MS, 'cases': results})}")


if __name__ == "__main__":
    main()
