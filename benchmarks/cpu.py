"""Training on a CPU against PyTorch and JAX: `python -m benchmarks.cpu`.

Each engine trains the same model on the same shapes with the same threads in float32, at its best: PyTorch with
scaled_dot_product_attention and fused AdamW, eager and compiled; JAX jitted as a whole. tensorlite runs twice, with its
kernels' loops compiled by Numba, where that is installed, and in NumPy alone. turns.py says how it is measured. The
ratio is the fastest peer's time over ours.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np

from benchmarks.turns import compare, machine, serve, write
from gpt.config import PRESETS, GPTConfig

HEADS, HEAD = 12, 64  # of attention alone
LR, BETAS, DECAY, CLIP = 1e-3, (0.9, 0.99), 0.1, 1.0


@dataclass(frozen=True)
class Case:
    """What a step computes. A model: forward, backward, clipping, AdamW. No model: attention forward and backward."""

    batch: int
    length: int
    steps: int  # in a turn
    model: str | None = None
    optimize: bool = True

    def config(self) -> GPTConfig:
        assert self.model is not None
        config = PRESETS[self.model] if self.model in PRESETS else replace(PRESETS["gpt2"], n_layer=1)
        return replace(config, context_length=max(config.context_length, self.length))

    def tokens(self) -> tuple[np.ndarray, np.ndarray]:
        window = np.random.default_rng(0).integers(0, self.config().vocab_size, (self.batch, self.length + 1))
        return window[:, :-1].copy(), window[:, 1:].copy()

    def qkv(self) -> list[np.ndarray]:
        rng = np.random.default_rng(0)
        return [rng.standard_normal((self.batch, HEADS, self.length, HEAD), np.float32) for _ in range(3)]


CASES = {
    "gpt2-124m 4x256": Case(4, 256, 2, "gpt2"),
    "gpt2-124m 1x1024": Case(1, 1024, 2, "gpt2"),
    "6x384 16x256": Case(16, 256, 3, "shakespeare-char-gpu"),
    "4x128 12x64": Case(12, 64, 50, "shakespeare-char"),
    "attention 256": Case(8, 256, 10),
    "attention 1024": Case(2, 1024, 5),
    "attention 4096": Case(1, 4096, 2),
}
GROWTH = {
    **{f"{b}x256": Case(b, 256, 3, "shakespeare-char-gpu", optimize=False) for b in (1, 2, 4, 8, 16)},
    **{f"1 layer, 1x{2**k}": Case(1, 2**k, 2, "one-layer", optimize=False) for k in range(8, 14)},
}


# The engines -----------------------------------------------------------------------------------------------


def tensorlite_step(case: Case) -> Callable[[], Any]:
    import tensorlite as tl
    from gpt.model import GPT

    if case.model is None:
        q, k, v = (tl.from_numpy(x).requires_grad_() for x in case.qkv())
        return lambda: attend(tl.nn.functional.scaled_dot_product_attention, q, k, v)
    tl.manual_seed(0)
    model = GPT(case.config())
    optimizer = tl.optim.AdamW(model.parameter_groups(DECAY), lr=LR, betas=BETAS)
    x, y = (tl.from_numpy(ids) for ids in case.tokens())
    return lambda: train(case, model.loss, x, y, optimizer, tl.nn.utils.clip_grad_norm_, list(model.parameters()))


def numpy_step(case: Case) -> Callable[[], Any]:
    """tensorlite without Numba."""
    from tensorlite import levels

    levels.current = "kernel"
    return tensorlite_step(case)


def torch_step(case: Case, compiled: bool = False) -> Callable[[], Any]:
    import torch

    from benchmarks.torch_gpt import TorchGPT

    torch.set_num_threads(_threads())
    if case.model is None:
        q, k, v = (torch.from_numpy(x).requires_grad_() for x in case.qkv())
        attention = torch.nn.functional.scaled_dot_product_attention
        return lambda: attend(torch.compile(attention) if compiled else attention, q, k, v)
    torch.manual_seed(0)
    model = TorchGPT(case.config())
    groups = [
        {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": DECAY},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=BETAS, fused=True)
    x, y = (torch.from_numpy(ids) for ids in case.tokens())
    loss = torch.compile(model.loss) if compiled else model.loss
    return lambda: train(case, loss, x, y, optimizer, torch.nn.utils.clip_grad_norm_, list(model.parameters()))


def jax_step(case: Case) -> Callable[[], Any]:
    from benchmarks.jax_gpt import attention_step, train_step

    if case.model is None:
        return attention_step(*case.qkv())
    return train_step(case.config(), *case.tokens(), LR, BETAS, DECAY, CLIP, case.optimize)


def train(case: Case, loss: Any, x: Any, y: Any, optimizer: Any, clip: Any, parameters: list[Any]) -> float:
    """One step, the same in tensorlite and PyTorch."""
    value = loss(x, y)
    value.backward()
    if case.optimize:
        clip(parameters, CLIP)
        optimizer.step()
    optimizer.zero_grad()
    return value.item()


def attend(attention: Any, q: Any, k: Any, v: Any) -> None:
    attention(q, k, v, is_causal=True).sum().backward()
    for x in (q, k, v):
        x.grad = None


ENGINES: dict[str, Callable[[Case], Callable[[], Any]]] = {
    "tensorlite": tensorlite_step,
    "tensorlite-numpy": numpy_step,
    "torch": torch_step,
    "torch-compiled": lambda case: torch_step(case, compiled=True),
    "jax": jax_step,
}


def _threads() -> int:
    from tensorlite.parallel import get_num_threads

    return get_num_threads()


def installed(wanted: list[str]) -> list[str]:
    return [name for name in wanted if importlib.util.find_spec(name.split("-")[0])]


# Start-up --------------------------------------------------------------------------------------------------

STARTS = {
    "import": {"tensorlite": "import tensorlite", "torch": "import torch", "jax": "import jax"},
    "first step": {
        name: f"from benchmarks.cpu import *; ENGINES[{name!r}](CASES['4x128 12x64'])()" for name in ENGINES
    },
}


def start_up(engines: list[str], turns: int) -> dict[str, dict[str, float]]:
    """Seconds from the start of a process until it has imported the engine, or made its first training step."""
    seconds: dict[str, dict[str, list[float]]] = {}
    # Compiled once, as an installed package is.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    for _ in range(turns):
        for what, programs in STARTS.items():
            for name in engines:
                if name in programs:
                    start = time.perf_counter()
                    subprocess.run([sys.executable, "-c", programs[name]], check=True, env=environment)
                    seconds.setdefault(what, {}).setdefault(name, []).append(time.perf_counter() - start)
    return {what: {name: round(median(times), 3) for name, times in found.items()} for what, found in seconds.items()}


# The table -------------------------------------------------------------------------------------------------


def flops(case: Case) -> float:
    """Of a step's products. Attention counts the half that a causal mask leaves."""
    if case.model is None:
        return 3.5 * 2 * case.batch * HEADS * case.length**2 * HEAD
    c, tokens = case.config(), case.batch * case.length
    weights = c.parameters() - c.context_length * c.n_embd - (0 if c.tied else c.vocab_size * c.n_embd)
    return 6 * weights * tokens + 6 * c.n_layer * c.n_embd * case.length * tokens


def run(cases: dict[str, Case], engines: list[str], turns: int, ceiling: float) -> dict[str, Any]:
    width = max(len(name) for name in cases) + 2
    print(f"{'ms per step':<{width}}" + "".join(f"{name:>18}" for name in engines), end="")
    print(f"{'ratio':>8}{'tokens/s':>12}{'of peak':>9}   peak memory, MiB")
    results = {}
    for name, case in cases.items():
        found = compare("benchmarks.cpu", engines, ["--case", name], turns, case.steps)
        ours = found["tensorlite"]["median_ms"]
        others = [engine for engine in engines if not engine.startswith("tensorlite")]
        peers = [found[engine]["median_ms"] for engine in others if "median_ms" in found[engine]]
        results[name] = {
            "engines": found,
            "ratio": round(min(peers) / ours, 3) if peers else None,
            "tokens_per_second": round(case.batch * case.length / ours * 1e3),
            "share_of_peak": round(flops(case) / (ours / 1e3) / ceiling, 3),
        }
        row = results[name]
        cells = [
            f"{found[engine]['median_ms']:>18,.1f}" if "median_ms" in found[engine] else f"{'failed':>18}"
            for engine in engines
        ]
        memory = ", ".join(str(found[engine].get("peak_mib", "failed")) for engine in engines)
        ratio = f"{row['ratio']:>8.2f}" if peers else f"{'':>8}"
        speed = f"{row['tokens_per_second']:>12,}{row['share_of_peak']:>9.0%}"
        print(f"{name:<{width}}{''.join(cells)}{ratio}{speed}   {memory}", flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.cpu", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--case", choices={**CASES, **GROWTH}, action="append", help="one of them only (may be repeated)"
    )
    parser.add_argument("--growth", action="store_true", help="how time and memory grow with the batch and the context")
    parser.add_argument("--engine", choices=ENGINES, action="append", help="these only (tensorlite always is)")
    parser.add_argument("--turns", type=int, default=7, help="turns of each engine (default: 7)")
    parser.add_argument("--json", metavar="FILE", help="write the results here instead of benchmarks/results/")
    parser.add_argument("--worker", choices=ENGINES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        serve(ENGINES[given.worker]({**CASES, **GROWTH}[given.case[0]]), warmup=2)
        return
    host = machine()
    from tensorlite.machine import ceilings

    top = ceilings()
    engines = installed(list(dict.fromkeys(["tensorlite", *(given.engine or ENGINES)])))
    print(f"{host['cpu']}, {host['cores']} threads; {', '.join(f'{k} {v}' for k, v in host['versions'].items())}")
    print(f"ceilings: products {top.flops / 1e9:,.0f} GFLOP/s, copying {top.bytes / 1e9:,.0f} GB/s\n")
    cases = {name: {**CASES, **GROWTH}[name] for name in given.case or (GROWTH if given.growth else CASES)}
    results: dict[str, Any] = {"turns": given.turns, "ceilings": top._asdict()}
    results["cases"] = run(cases, ["tensorlite"] if given.growth else engines, given.turns, top.flops)
    if not given.case and not given.growth:
        results["start_up_seconds"] = start_up(engines, given.turns)
        for what, found in results["start_up_seconds"].items():
            print(f"{what}: " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in found.items()))
    print(f"wrote {write('cpu-growth' if given.growth else 'cpu', results, given.json)}")


if __name__ == "__main__":
    main()
