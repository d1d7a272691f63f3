"""Calls of every op that has a kernel in CUDA, for tests on the host and on a GPU, and what they must give."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

import tensorlite as tl
from tensorlite.device import move

try:
    from ml_dtypes import bfloat16
except ImportError:
    bfloat16 = None

DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": bfloat16}
# What a result may be away from the float64 one, as a share of its largest element: some roundings of the dtype.
CLOSE = {"float32": 4e-6, "float16": 1.5e-3, "bfloat16": 1.2e-2}


@dataclass(frozen=True)
class Case:
    """op(*inputs, **attributes) with float64 inputs; `wrt`: which of them are differentiated."""

    op: str
    inputs: tuple[Any, ...]
    wrt: tuple[int, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    note: str = ""

    def __str__(self) -> str:
        return f"{self.op}-{'x'.join(map(str, np.shape(self.inputs[0])))}{self.note and '-'}{self.note}"


rng = np.random.default_rng(9)


def normal(*shape: int, mean: float = 0.0, size: float = 1.0) -> np.ndarray:
    return np.asarray(rng.standard_normal(shape) * size + mean)


def _norms() -> list[Case]:
    cases = []
    for shape in [(3, 5, 64), (1, 1), (7, 257), (70, 24), (2, 768)]:
        width = shape[-1]
        x, weight, bias = normal(*shape, mean=1.0), normal(width, mean=1.0), normal(width)
        layer, rms = {"dims": 1, "eps": 1e-5}, {"dims": 1, "eps": 1e-6}
        cases += [
            Case("layer_norm", (x, weight, bias), (0, 1, 2), layer),
            Case("rms_norm", (x, weight), (0, 1), rms),
        ]
    x = normal(5, 6, 7, mean=2.0)
    cases += [
        Case("layer_norm", (x, None, None), (0,), {"dims": 2, "eps": 1e-5}, "no-weight"),
        Case("layer_norm", (x, normal(6, 7), None), (1,), {"dims": 2, "eps": 1e-3}, "weight-alone"),
        Case("rms_norm", (x, None), (0,), {"dims": 2, "eps": 1e-5}, "no-weight"),
        Case("layer_norm", (normal(2, 9001), normal(9001), normal(9001)), (0, 1, 2), {"dims": 1, "eps": 1e-5}, "long"),
    ]
    return cases


def _activations() -> list[Case]:
    cases = []
    for shape in [(1,), (4, 7), (3, 5, 64), (2049,)]:
        x = normal(*shape, size=3.0)
        cases += [Case("gelu", (x,), (0,), {"approximate": form}, form) for form in ("tanh", "none")]
        cases += [Case("silu", (x,), (0,)), Case("swiglu", (x, normal(*shape)), (0, 1))]
    edges = np.array([0.0, -0.0, 1e-4, -12.0, 50.0, -50.0, 3000.0, -3000.0])
    cases += [Case("gelu", (edges,), (0,), {"approximate": form}, f"{form}-edges") for form in ("tanh", "none")]
    cases.append(Case("silu", (edges,), (0,), note="edges"))
    cases.append(Case("swiglu", (edges, normal(8)), (0, 1), note="edges"))
    for shape in [(1, 1), (3, 4, 33), (2, 4001)]:
        x = normal(*shape, size=2.0)
        cases += [Case(op, (x,), (0,), {"dim": -1}) for op in ("softmax", "log_softmax")]
    return cases


def _losses() -> list[Case]:
    cases = []
    for n, classes in [(1, 1), (5, 7), (3, 50257), (9, 4104)]:
        logits, target = normal(n, classes, size=2.0), rng.integers(0, classes, n)
        weight = rng.uniform(0, 2, n) * (np.arange(n) != 1)
        cases += [
            Case("cross_entropy", (logits, target, None), (0,)),
            Case("cross_entropy", (logits, target.astype(np.int32), weight), (0,), note="weighted"),
        ]
    for n, width, classes in [(6, 5, 11), (10, 16, 301)]:
        x, weight, target = normal(n, width), normal(classes, width), rng.integers(0, classes, n)
        share = rng.uniform(0.5, 1, n) * (np.arange(n) != 2) / 8
        for slopes in [(True, True), (True, False), (False, True)]:
            wrt = tuple(np.flatnonzero(slopes).tolist())
            cases.append(Case("linear_cross_entropy", (x, weight, target, share), wrt, {"slopes": slopes}, str(wrt)))
    return cases


def _others() -> list[Case]:
    cases = []
    for n, width in [(1, 1), (3, 40), (1000, 17), (130, 768)]:
        x = normal(2, n, 3)
        cases.append(Case("linear", (x, normal(width, 3), normal(width)), (2,), note=f"bias-{n}x{width}"))
    for n, count, width in [(1, 3, 1), (31, 2, 5), (64, 1, 8), (400, 9, 20), (333, 4000, 1030)]:
        ids = rng.integers(0, count, n)
        ids[n // 4 : n // 2] = count - 1  # a token that comes often, over several parts
        cases.append(Case("embedding_grad", (normal(n, width), ids), (0,), {"count": count}, f"of-{count}"))
    return cases


def _attentions() -> list[Case]:
    cases = []
    for b, h, t, s, d in [
        (1, 1, 1, 1, 1),
        (2, 3, 70, 70, 16),
        (1, 2, 65, 130, 64),
        (1, 2, 130, 40, 7),
        (1, 1, 33, 20, 100),
    ]:
        # As an attention layer makes them: heads side by side in memory.
        q, k, v = (normal(b, n, h, d).transpose(0, 2, 1, 3) for n in (t, s, s))
        for causal, p in [(True, 0.0), (False, 0.0), (True, 0.4)][: 3 if t > 1 else 2]:
            attributes = {"is_causal": causal, "scale": d**-0.5, "dropout_p": p, "seed": 77 << 30}
            note = f"of-{s}{'-causal' * causal}{'-dropout' * bool(p)}"
            cases.append(Case("attention", (q, k, v, None), (0, 1, 2), attributes, note))
    return cases


CASES = [*_norms(), *_attentions(), *_activations(), *_losses(), *_others()]


def rounded(case: Case, dtype: str) -> list[Any]:
    """The inputs of a case in a dtype: floats rounded to it, all else as it is."""
    return [
        x.astype(DTYPES[dtype], order="K") if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x
        for x in case.inputs
    ]


def right(case: Case, inputs: list[Any], g: Any) -> list[np.ndarray]:
    """The op and its gradients, composed of simple ops in float64, of the inputs as they were rounded."""
    op = tl.OPS[case.op]
    wide = [x.astype(np.float64) if hasattr(x, "dtype") and x.dtype.kind not in "iub" else x for x in inputs]
    tensors = [tl.tensor(x, requires_grad=i in case.wrt) if i in case.wrt else x for i, x in enumerate(wide)]
    with tl.using("reference" if op.reference else "plain"):
        y = op(*tensors, **case.attributes)
    y.backward(tl.tensor(g.astype(np.float64)))
    return [y.detach().numpy(), *[tensors[i].grad.numpy() for i in case.wrt]]


def by_kernel(case: Case, inputs: list[Any], g: Any, where: str = "cpu") -> list[np.ndarray]:
    """The same by the kernel for CUDA, whatever the device of the arrays."""
    kernel = tl.OPS[case.op].kernels["cuda"]
    arrays = [move(x, where) if isinstance(x, np.ndarray) else x for x in inputs]
    found = kernel.forward(*arrays, **case.attributes)
    assert found is not NotImplemented, f"{case}: the kernel declines"
    outputs = found if kernel.residual else (found,)
    plan = kernel.plan(tuple(i in case.wrt for i in range(len(arrays))))
    kept = [get(arrays, case.attributes, outputs) for get in plan.getters]
    gradients = plan.run(move(g, where), kept)
    results = [outputs[0], *[gradients[i] for i in case.wrt]]
    if tl.OPS[case.op].sums:  # in float32, and so are the gradients until they are rounded to the inputs' dtype
        results = [x.astype(g.dtype) for x in results]
    return [np.asarray(move(x, "cpu")) for x in results]


def gradient(case: Case, inputs: list[Any], dtype: str) -> np.ndarray:
    """What arrives at the output of a case: the same for everyone."""
    with tl.using("reference" if tl.OPS[case.op].reference else "plain"):
        shape = np.shape(tl.OPS[case.op](*case.inputs, **case.attributes))
    return np.asarray(np.random.default_rng(5).standard_normal(shape)).astype(DTYPES[dtype])


def close(found: list[np.ndarray], expected: list[np.ndarray], dtype: str) -> None:
    for i, (mine, exact) in enumerate(zip(found, expected)):
        assert mine.dtype == DTYPES[dtype] and mine.shape == exact.shape, (i, mine.dtype, mine.shape, exact.shape)
        away = np.abs(mine.astype(np.float64) - exact).max()
        assert away <= CLOSE[dtype] * max(1.0, np.abs(exact).max()), f"result {i} is {away} away"
