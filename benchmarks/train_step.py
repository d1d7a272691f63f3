"""One training step (forward, backward, clip, AdamW) against PyTorch's: `python -m benchmarks.train_step`.

The same model, the same shapes, the same threads, float32; see turns.py for how it is measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from benchmarks.turns import compare, machine, serve, write
from gpt.config import PRESETS

CASES = {  # name: preset, batch, tokens, steps in a turn
    "gpt2-124m-4x256": ("gpt2", 4, 256, 2),
    "shakespeare-char-12x64": ("shakespeare-char", 12, 64, 50),
}
LR, BETAS, DECAY, CLIP = 1e-3, (0.9, 0.99), 0.1, 1.0


def tensorlite_step(case: str) -> Callable[[], object]:
    import tensorlite as tl
    from gpt.model import GPT

    preset, batch, length, _ = CASES[case]
    config = PRESETS[preset]
    tl.manual_seed(0)
    model = GPT(config)
    optimizer = tl.optim.AdamW(model.parameter_groups(DECAY), lr=LR, betas=BETAS)
    x, y = (tl.from_numpy(ids) for ids in _tokens(config.vocab_size, batch, length))

    def step() -> float:
        loss = model.loss(x, y)
        loss.backward()
        tl.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def torch_step(case: str) -> Callable[[], object]:
    import torch

    from benchmarks.torch_gpt import TorchGPT
    from tensorlite.parallel import get_num_threads

    preset, batch, length, _ = CASES[case]
    config = PRESETS[preset]
    torch.set_num_threads(get_num_threads())
    torch.manual_seed(0)
    model = TorchGPT(config)
    groups = [
        {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": DECAY},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=BETAS, fused=True)
    x, y = (torch.from_numpy(ids) for ids in _tokens(config.vocab_size, batch, length))

    def step() -> float:
        loss = model.loss(x, y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


ENGINES = {"tensorlite": tensorlite_step, "torch": torch_step}


def _tokens(vocab_size: int, batch: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    window = np.random.default_rng(0).integers(0, vocab_size, (batch, length + 1))
    return window[:, :-1].copy(), window[:, 1:].copy()


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.train_step", description=__doc__, allow_abbrev=False)
    parser.add_argument("--case", choices=CASES, action="append", help="one of them only (may be repeated)")
    parser.add_argument("--turns", type=int, default=7, help="turns of each engine (default: 7)")
    parser.add_argument("--worker", choices=ENGINES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    cases = given.case or list(CASES)
    if given.worker:
        serve(ENGINES[given.worker](cases[0]), warmup=2)
        return
    host = machine()
    versions = host["versions"]
    print(f"{host['cpu']}, {host['cores']} threads, NumPy {versions['numpy']}, PyTorch {versions['torch']}")
    print(f"{'case':<24}{'tensorlite':>14}{'PyTorch':>14}{'ratio':>8}   tokens/s  peak MiB (ours, theirs)")
    results = {}
    for case in cases:
        _, batch, length, steps = CASES[case]
        found = compare("benchmarks.train_step", list(ENGINES), ["--case", case], given.turns, steps)
        ours, theirs = found["tensorlite"], found["torch"]
        ratio = theirs["median_ms"] / ours["median_ms"]
        rate = batch * length / ours["median_ms"] * 1e3
        results[case] = {**found, "ratio": round(ratio, 3), "tokens_per_second": round(rate)}
        print(
            f"{case:<24}{ours['median_ms']:>11.1f} ms{theirs['median_ms']:>11.1f} ms{ratio:>8.2f}"
            f"{rate:>11,.0f}  {ours['peak_mib']:,}, {theirs['peak_mib']:,}",
            flush=True,
        )
    print(f"wrote {write('train_step', {'turns': given.turns, 'cases': results})}")


if __name__ == "__main__":
    main()
