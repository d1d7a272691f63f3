"""The two ceilings of this machine: `python -m benchmarks.machine`."""

from __future__ import annotations

import argparse

from benchmarks.turns import machine
from tensorlite import cuda
from tensorlite.machine import ceilings


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.machine", description=__doc__, allow_abbrev=False)
    parser.add_argument("--times", type=int, default=3, help="measure so often (default: 3)")
    given = parser.parse_args()
    host = machine()
    print(f"{host['cpu']}, {host['cores']} threads, NumPy {host['versions']['numpy']}")
    for where in ("cpu", *(["cuda"] if cuda.is_available() else [])):
        for _ in range(given.times):
            top = ceilings.__wrapped__(where)
            print(f"{where}: products of float32 {top.flops / 1e9:,.0f} GFLOP/s, copying {top.bytes / 1e9:,.1f} GB/s")


if __name__ == "__main__":
    main()
