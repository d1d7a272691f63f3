"""What the engine costs beside the numbers: small recorded ops against PyTorch's: `python -m benchmarks.overhead`.

Each case is a chain of 100 ops on 4 x 4 numbers, all recorded for a backward. The arithmetic of so few numbers takes
next to no time, so what is measured is the way to it: dispatch, the node, what it keeps; and backward the walk. One
thread each; see turns.py for how it is measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.turns import compare, machine, serve, write

LENGTH = 100  # ops in a chain
REPEATS = 20  # chains in a step

CHAINS: dict[str, Callable[[Any, Any, Any], Any]] = {  # (the library, x, a constant) -> x after one op more
    "add": lambda m, x, c: x + c,
    "multiply": lambda m, x, c: x * c,
    "multiply by a number": lambda m, x, c: x * 0.5,
    "tanh": lambda m, x, c: x.tanh(),
    "matmul": lambda m, x, c: x @ c,
    "transpose": lambda m, x, c: x.transpose(0, 1),
    "reshape": lambda m, x, c: x.view(4, 4),
    "softmax": lambda m, x, c: m.softmax(x, dim=-1),
    "layer_norm": lambda m, x, c: m.nn.functional.layer_norm(x, (4,)),
    "linear": lambda m, x, c: m.nn.functional.linear(x, c),
}
PARTS = ("forward", "forward + backward")
LIMIT = 2.0  # times PyTorch's


def engine(name: str) -> Any:
    if name == "torch":
        import torch

        torch.set_num_threads(1)
        return torch
    import tensorlite

    tensorlite.set_num_threads(1)
    return tensorlite


def step(m: Any, case: str, part: str) -> Callable[[], None]:
    op = partial(CHAINS[case], m)
    m.manual_seed(0)
    x = m.randn(4, 4, requires_grad=True)
    c = m.eye(4) * 0.9

    def forward() -> Any:
        y = x
        for _ in range(LENGTH):
            y = op(y, c)
        return y

    def run() -> None:
        for _ in range(REPEATS):
            y = forward()
            if part == PARTS[1]:
                y.sum().backward()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.overhead", description=__doc__, allow_abbrev=False)
    parser.add_argument("--case", choices=CHAINS, action="append", help="one of them only (may be repeated)")
    parser.add_argument("--turns", type=int, default=7, help="turns of each engine (default: 7)")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--worker", choices=("tensorlite", "torch"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    cases = given.case or list(CHAINS)
    if given.worker:
        serve(step(engine(given.worker), cases[0], given.part), warmup=3)
        return
    versions = machine()["versions"]
    print(f"microseconds per op, one thread, NumPy {versions['numpy']}, PyTorch {versions['torch']}")
    print(f"{'':<22}{PARTS[0]:^27}{PARTS[1]:^27}")
    print(f"{'':<22}" + f"{'tensorlite':>11}{'PyTorch':>9}{'x':>6} " * 2)
    results: dict[str, Any] = {}
    for case in cases:
        cells = []
        for part in PARTS:
            found = compare(
                "benchmarks.overhead", ["tensorlite", "torch"], ["--case", case, "--part", part], given.turns, 5
            )
            ours, theirs = (found[name]["median_ms"] * 1e3 / (LENGTH * REPEATS) for name in ("tensorlite", "torch"))
            results.setdefault(case, {})[part] = {
                "tensorlite_us": round(ours, 2), "torch_us": round(theirs, 2), "ratio": round(ours / theirs, 2),
            }  # fmt: skip
            cells.append(f"{ours:>11.2f}{theirs:>9.2f}{ours / theirs:>6.2f} ")
        print(f"{case:<22}" + "".join(cells), flush=True)
    worst = max(found["ratio"] for parts in results.values() for found in parts.values())
    print(f"worst: {worst:.2f} times PyTorch's time; the aim is at most {LIMIT:.1f}")
    print(f"wrote {write('overhead', {'turns': given.turns, 'cases': results})}")


if __name__ == "__main__":
    main()
