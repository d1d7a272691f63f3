"""Generation on a CPU against transformers and a hand-written PyTorch loop: `python -m benchmarks.generate`.

Every engine has GPT-2 124M with random weights in float32 and writes 128 tokens after a prompt of 64, the likeliest
each time: tensorlite with its cache and without; transformers' own `generate`; a loop with a preallocated cache, as one
writes it by hand for speed (torch_loop.py). turns.py says how it is measured. A ratio is the peer's time over ours.
"""

from __future__ import annotations

import argparse
import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.turns import compare, machine, serve, write
from gpt.config import PRESETS

CONFIG = PRESETS["gpt2"]
PROMPT, NEW = 64, 128  # tokens
BATCHES = (1, 8, 32)


def prompts(batch: int) -> np.ndarray:
    """(batch, PROMPT) random ids"""
    return np.random.default_rng(0).integers(0, CONFIG.vocab_size, (batch, PROMPT))


# The engines: each gives a function that writes so many tokens -------------------------------------------------


def tensorlite_engine(batch: int, use_cache: bool = True) -> Callable[[int], Any]:
    import tensorlite as tl
    from gpt.generate import generate
    from gpt.model import GPT

    tl.manual_seed(0)
    model, idx = GPT(CONFIG).eval(), tl.from_numpy(prompts(batch))
    return lambda count: generate(model, idx, count, temperature=0, use_cache=use_cache)


def transformers_engine(batch: int) -> Callable[[int], Any]:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own, on import
        from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

    torch.set_num_threads(_threads())
    model = GPT2LMHeadModel(GPT2Config()).eval()
    idx = torch.from_numpy(prompts(batch))
    mask = torch.ones_like(idx)

    def step(count: int) -> Any:
        how = GenerationConfig(max_new_tokens=count, do_sample=False, pad_token_id=0)  # without a token that ends it
        return model.generate(idx, attention_mask=mask, generation_config=how)

    model.generation_config = GenerationConfig()
    return step


def loop_engine(batch: int) -> Callable[[int], Any]:
    import torch

    from benchmarks.torch_gpt import TorchGPT
    from benchmarks.torch_loop import Loop

    torch.set_num_threads(_threads())
    loop, idx = Loop(TorchGPT(CONFIG), batch, PROMPT + NEW), torch.from_numpy(prompts(batch))
    return lambda count: loop.generate(idx, count)


ENGINES: dict[str, Callable[[int], Callable[[int], Any]]] = {
    "tensorlite": tensorlite_engine,
    "torch-loop": loop_engine,
    "transformers": transformers_engine,
    "tensorlite-uncached": lambda batch: tensorlite_engine(batch, use_cache=False),
}


def _threads() -> int:
    from tensorlite.parallel import get_num_threads

    return get_num_threads()


def bytes_per_token(new: int) -> float:
    """What a token of a single sequence needs from memory: every weight once, and the keys and values so far."""
    weights = CONFIG.parameters() - CONFIG.context_length * CONFIG.n_embd  # of wpe only a row
    return 4 * (weights + 2 * CONFIG.n_layer * CONFIG.n_embd * (PROMPT + new / 2))


# The table ------------------------------------------------------------------------------------------------------


def run(batches: list[int], engines: list[str], turns: int, new: int, ceiling: float) -> dict[str, Any]:
    print(f"{'tokens per second':<20}" + "".join(f"{name:>21}" for name in engines) + "   of memory's bandwidth")
    results = {}
    for batch in batches:
        found = compare("benchmarks.generate", engines, ["--batch", str(batch), "--tokens", str(new)], turns, 1)
        speeds = {name: batch * new / (x["median_ms"] / 1e3) for name, x in found.items() if "median_ms" in x}
        row: dict[str, Any] = {"engines": found, "tokens_per_second": {n: round(s, 1) for n, s in speeds.items()}}
        if ours := speeds.get("tensorlite"):
            row["ratio"] = {name: round(ours / speed, 3) for name, speed in speeds.items() if name != "tensorlite"}
            if batch == 1:
                row["bytes_per_second"] = ours * bytes_per_token(new)
                row["share_of_bandwidth"] = round(row["bytes_per_second"] / ceiling, 3)
        cells = ""
        for name in engines:
            ratio = f" ({row['ratio'][name]:.2f}x)" if name in row.get("ratio", {}) else ""
            cells += f"{f'{speeds[name]:,.1f}{ratio}' if name in speeds else 'failed':>21}"
        share = f"{row['share_of_bandwidth']:>10.0%}" if "share_of_bandwidth" in row else ""
        print(f"{f'batch {batch}':<20}{cells}{share}", flush=True)
        results[f"batch {batch}"] = row
    return results


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.generate", description=__doc__, allow_abbrev=False)
    parser.add_argument("--batch", type=int, action="append", help="this batch only (may be repeated)")
    parser.add_argument("--engine", choices=ENGINES, action="append", help="these only (tensorlite always is)")
    parser.add_argument(
        "--uncached",
        action="store_true",
        help="also without our cache, where a batch of 32 takes a quarter of an hour: tensorlite alone, one turn",
    )
    parser.add_argument("--tokens", type=int, default=NEW, help=f"tokens to write, for a quick look (default: {NEW})")
    parser.add_argument("--turns", type=int, default=5, help="turns of each engine (default: 5)")
    parser.add_argument("--json", metavar="FILE", help="write the results here instead of benchmarks/results/")
    parser.add_argument("--worker", choices=ENGINES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        generate = ENGINES[given.worker](given.batch[0])
        generate(2)
        serve(lambda: generate(given.tokens), warmup=0)
        return
    host = machine()
    from tensorlite.machine import ceilings

    top = ceilings()
    print(f"{host['cpu']}, {host['cores']} threads; {', '.join(f'{k} {v}' for k, v in host['versions'].items())}")
    print(f"ceiling: copying {top.bytes / 1e9:,.0f} GB/s\n")
    needs = {"tensorlite": "numpy", "torch-loop": "torch", "transformers": "transformers"}
    wanted = list(dict.fromkeys(["tensorlite", *(given.engine or needs)]))
    engines = [name for name in wanted if importlib.util.find_spec(needs.get(name, "numpy"))]
    batches = given.batch or list(BATCHES)
    results: dict[str, Any] = {"turns": given.turns, "tokens": given.tokens, "ceilings": top._asdict()}
    results["cases"] = run(batches, engines, given.turns, given.tokens, top.bytes)
    if given.uncached:
        results["uncached"] = run(batches, ["tensorlite-uncached"], 1, given.tokens, top.bytes)
    print(f"wrote {write('generate', results, given.json)}")


if __name__ == "__main__":
    main()
