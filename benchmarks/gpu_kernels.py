"""Each CUDA kernel against what bounds it: `python -m benchmarks.gpu_kernels`, on a machine with a GPU.

A kernel that moves bytes is held against a copy of 1 GiB on the same GPU, attention against the operations it must do.
The shapes are those of a step of GPT-2 124M with 16 sequences of 1,024 tokens.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import tensorlite as tl
from tensorlite import OPS
from tensorlite.device import library
from tensorlite.kernels.cuda import matrix, module, normalisation, optim
from tensorlite.optim.adamw import Numbers


class Work(NamedTuple):
    """Something to time, and what it must at least do."""

    name: str
    run: Callable[[], Any]
    bytes: int = 0
    flops: int = 0


class Made:
    """Random arrays of a dtype, made by the array library `xp`; and kernels that take them."""

    def __init__(self, xp: Any, dtype: Any):
        self.xp, self.dtype = xp, np.dtype(dtype)

    def __call__(self, *shape: int) -> Any:
        return self.xp.random.standard_normal(shape).astype(self.dtype)

    @staticmethod
    def forward(op: str, *inputs: Any, **attributes: Any) -> Any:
        return OPS[op].kernels["cuda"].forward(*inputs, **attributes)


def works(
    xp: Any, dtype: Any, batch: int = 16, t: int = 1024, heads: int = 12, d: int = 64, v: int = 50304
) -> Iterator[Work]:
    """All kernels. What one needs is made when it is asked for, and let go of before the next."""
    make, n, c = Made(xp, dtype), batch * t, heads * d
    yield from _of_rows(make, n, c, v)
    yield from _of_logits(make, n, v)
    yield from _of_parameters(make, c, v)
    yield from _of_attention(make, batch, t, heads, d)


def _of_rows(make: Made, n: int, c: int, v: int) -> Iterator[Work]:
    x, g, weight, bias, wide = make(n, c), make(n, c), make(c), make(c), make(n, 4 * c)
    y, total, mean, rstd = normalisation.normalise(x, g, weight, bias, 1, 1e-5, True)
    both = (True, True)
    yield Work("layer_norm", lambda: make.forward("layer_norm", x, weight, bias, dims=1, eps=1e-5), 2 * x.nbytes)
    yield Work("layer_norm of a sum", lambda: normalisation.normalise(x, g, weight, bias, 1, 1e-5, True), 4 * x.nbytes)
    yield Work(
        "layer_norm backward",
        lambda: normalisation.normalise_backward(g, total, weight, mean, rstd, y, 1, both),
        4 * x.nbytes,
    )
    slope = OPS["gelu"].kernels["cuda"].rows["x"]
    yield Work("gelu", lambda: make.forward("gelu", wide, approximate="tanh"), 2 * wide.nbytes)
    yield Work("gelu backward", lambda: slope(wide, wide, "tanh"), 3 * wide.nbytes)
    yield Work("silu", lambda: make.forward("silu", wide), 2 * wide.nbytes)
    slopes = OPS["swiglu"].kernels["cuda"].joint
    yield Work("swiglu", lambda: make.forward("swiglu", wide, wide), 3 * wide.nbytes)
    yield Work("swiglu backward", lambda: slopes(wide, wide, wide), 5 * wide.nbytes)
    yield Work("bias gradient", lambda: matrix.column_sum(wide), wide.nbytes)
    yield Work("dropout", lambda: make.forward("seeded_dropout", x, p=0.1, seed=3), 2 * x.nbytes)
    ids = make.xp.asarray(np.random.default_rng(0).integers(0, v, n))
    moved = 2 * x.nbytes + v * c * x.itemsize  # read, written, zeroed
    yield Work("embedding backward", lambda: make.forward("embedding_grad", x, ids, count=v), moved)


def _of_logits(make: Made, n: int, v: int) -> Iterator[Work]:
    logits, losses = make(n, v), make.xp.empty(n, np.float32)
    ids, share = make.xp.asarray(np.random.default_rng(0).integers(0, v, n)), make.xp.full(n, 1 / n, np.float32)
    arrays = (logits, ids, share, losses, np.int32(v), np.int32(1))
    in_place = ("loss", "cross_entropy_in_place", logits, (n,), (512,))
    yield Work("cross_entropy", lambda: make.forward("cross_entropy", logits, ids, None), logits.nbytes)
    yield Work("cross_entropy, gradient in place", lambda: module.launch(*in_place, *arrays), 2 * logits.nbytes)
    yield Work("softmax", lambda: make.forward("softmax", logits, dim=-1), 2 * logits.nbytes)


def _of_parameters(make: Made, c: int, v: int) -> Iterator[Work]:
    shapes = [(v, c), (1024, c), *[shape for _ in range(12) for shape in ((3 * c, c), (c, c), (4 * c, c), (c, 4 * c))]]
    params, gradients = ([make(*shape) for shape in shapes] for _ in range(2))
    averages, squares, wide = ([make.xp.zeros(shape, np.float32) for shape in shapes] for _ in range(3))
    count, size = sum(p.size for p in params), make.dtype.itemsize
    nothing = [None] * len(params)
    originals = wide if size == 2 else nothing
    state = (averages, squares, nothing, originals, None)
    numbers = Numbers(0.9, 0.95, eps=1e-8, step=1e-4, shrink=1 - 1e-5, decay=0.0, sign=1.0)
    factor = make.xp.full((), 0.999, np.float32)
    yield Work("norm of all gradients", lambda: optim.norm(gradients), count * size)
    yield Work("scale of all gradients", lambda: optim.scale_all(gradients, factor), 2 * count * size)
    moved = 24 + (3 * size if size == 2 else size)
    yield Work("adamw", lambda: optim.adam(params, gradients, *state, numbers), count * moved)


def _of_attention(make: Made, batch: int, t: int, heads: int, d: int) -> Iterator[Work]:
    q, k, v = (make(batch, t, heads, d).transpose(0, 2, 1, 3) for _ in range(3))
    options: dict[str, Any] = {"is_causal": True, "scale": d**-0.5, "dropout_p": 0.0, "seed": 0}
    y, logsumexp = make.forward("attention", q, k, v, None, **options)
    backward: Any = OPS["attention"].kernels["cuda"].joint
    product = batch * heads * t * t * d  # operations, of which the mask spares half
    yield Work("attention", lambda: make.forward("attention", q, k, v, None, **options), flops=2 * product)
    yield Work("attention backward", lambda: backward(q, q, k, v, y, logsumexp, *options.values()), flops=5 * product)


def _seconds(run: Callable[[], Any]) -> float:
    """Of the fastest of 20 runs, by the GPU's own clock."""
    from cupyx.profiler import benchmark

    return float(benchmark(run, n_repeat=20, n_warmup=5).gpu_times.min())


def _copying(xp: Any) -> float:
    """Bytes per second that a copy reads and writes."""
    source = xp.empty(1 << 30, np.uint8)
    target = xp.empty_like(source)
    return 2 * source.nbytes / _seconds(lambda: xp.copyto(target, source))


def run(out: Path | None = None) -> list[dict[str, Any]]:
    """Time every kernel for every dtype. A row for each; all of them also as JSON in the folder `out`.

    Raises RuntimeError where there is no GPU.
    """
    xp = library("cuda")
    import ml_dtypes

    copying = _copying(xp)
    rows: list[dict[str, Any]] = []
    for dtype in (ml_dtypes.bfloat16, np.float16, np.float32):
        for work in works(xp, dtype):
            seconds = _seconds(work.run)
            row = {"kernel": work.name, "dtype": np.dtype(dtype).name, "microseconds": 1e6 * seconds}
            if work.bytes:
                row |= {"gb_per_second": work.bytes / seconds / 1e9, "share_of_copy": work.bytes / seconds / copying}
            else:
                row |= {"tflops_per_second": work.flops / seconds / 1e12}
            rows.append(row)
        xp.get_default_memory_pool().free_all_blocks()
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(
            {"gpu": tl.cuda.get_device_name(), "copy_gb_per_second": copying / 1e9, "rows": rows}, indent=1
        )
        (out / "gpu_kernels.json").write_text(text + "\n")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.gpu_kernels", description=__doc__, allow_abbrev=False)
    parser.add_argument("--out", type=Path, help="a folder for the rows as JSON")
    given = parser.parse_args()
    try:
        rows = run(given.out)
    except RuntimeError as error:
        parser.exit(2, f"benchmarks.gpu_kernels: {error}\n")
    for row in rows:
        share = f"{row['share_of_copy']:7.0%} of a copy" if "share_of_copy" in row else ""
        speed = f"{row.get('gb_per_second', 0):8.0f} GB/s" if share else f"{row['tflops_per_second']:6.0f} TFLOP/s"
        print(f"{row['kernel']:<40}{row['dtype']:<10}{row['microseconds']:>9.0f} us {speed}{share}")


if __name__ == "__main__":
    main()
