"""Losses, against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from compare import INF, NAN, Case, compare, functional, table, torch

import tensorlite as tl
from tensorlite.check.samples.sample import integers, normal, positive

ROWS = np.array([[1.0, -INF, 2.0], [-INF, -INF, 0.0], [1e4, 0.0, -1e4]])
FAR = np.array([-1e4, -800.0, -100.0, -20.5, -1e-9, 0.0, 1e-9, 20.5, 100.0, 800.0, 1e4])
REDUCTIONS = ("mean", "sum", "none")


def of_classes(name: str, **options: Any) -> Callable[..., Any]:
    """Of logits, targets and, if given, weights, which have no gradient."""
    return lambda m, x, t, w=None: getattr(m.nn.functional, name)(x, t, None if w is None else w.detach(), **options)


def cross_entropy(**options: Any) -> Callable[..., Any]:
    return of_classes("cross_entropy", **options)


def log_softmax(x: np.ndarray) -> np.ndarray:
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def shares(*shape: int) -> np.ndarray:
    x = positive(*shape)
    return x / x.sum(1 if x.ndim > 1 else 0, keepdims=True)


# Of classes --------------------------------------------------------------------------------------------

LOSSES: dict[str, Case] = {
    "-inf": (cross_entropy(), ROWS, np.array([0, 2, 0])),
    "impossible class": (cross_entropy(), ROWS, np.array([1, 2, 0])),
    "large logits": (cross_entropy(), np.array([[1e4, 0.0], [-1e4, 1e4]], np.float32), np.array([1, 1])),
    "float16": (cross_entropy(), normal(4, 5).astype(np.float16), integers(5, 4)),
    "target too large": (cross_entropy(), normal(1, 3), np.array([3])),
    "target too large, weights": (cross_entropy(), normal(1, 3), np.array([3]), positive(3)),
    "target too small": (cross_entropy(), normal(1, 3), np.array([-1])),
    "wrong batch": (cross_entropy(), normal(2, 3), np.array([1])),
    "wrong weights": (cross_entropy(), normal(2, 3), np.array([1, 0]), positive(4)),
    "wrong reduction": (cross_entropy(reduction="average"), normal(2, 3), np.array([1, 0])),
    "smoothing above 1": (cross_entropy(label_smoothing=1.5), normal(2, 3), np.array([1, 0])),
    "booleans": (cross_entropy(), normal(2, 3), np.array([True, False])),
    "weight with a gradient": (functional("cross_entropy"), normal(2, 3), np.array([1, 0]), positive(3)),
    "probabilities of another shape": (cross_entropy(), normal(2, 3), shares(3, 2)),
    "probabilities, ignore_index": (cross_entropy(ignore_index=1), normal(2, 3), shares(2, 3)),
    "probabilities, wrong weights": (cross_entropy(), normal(2, 3), shares(2, 3), positive(2)),
    "nll, target too large": (of_classes("nll_loss"), normal(1, 3), np.array([3])),
    "nll, target too small": (of_classes("nll_loss"), normal(1, 3), np.array([-1])),
    "nll of a float": (of_classes("nll_loss"), normal(1, 3), normal(1)),
    "nll, -inf elsewhere": (of_classes("nll_loss"), np.array([[-INF, 0.0]]), np.array([1])),
}  # fmt: skip
for _how in REDUCTIONS:
    for _name, _more in [
        ("cross_entropy", {}), ("nll_loss", {}),
        ("cross_entropy", {"label_smoothing": 0.1}), ("cross_entropy", {"label_smoothing": 1.0}),
    ]:  # fmt: skip
        for _what, _options, _target in (
            ("plain", {}, [1, 4, 0, 1]),
            ("ignored", {}, [1, -100, 0, -100]),
            ("all ignored", {}, [-100] * 4),
            ("ignoring 1", {"ignore_index": 1}, [1, 4, 0, 1]),
        ):
            _loss, _case = (
                of_classes(_name, reduction=_how, **_options, **_more),
                f"{_name} {_more or ''} {_what} {_how}",
            )
            LOSSES[_case] = (_loss, normal(4, 5), np.array(_target))
            LOSSES[f"{_case}, weights"] = (_loss, normal(4, 5), np.array(_target), positive(5))
        _loss, _case = of_classes(_name, reduction=_how, ignore_index=2, **_more), f"{_name} {_more or ''} {_how}"
        LOSSES |= {
            f"{_case} (C,)": (_loss, normal(5), np.array(3)),
            f"{_case} (N, C, d)": (_loss, normal(2, 5, 3), integers(5, 2, 3)),
            f"{_case} (N, C, d, e), weights": (_loss, normal(2, 5, 3, 2), integers(5, 2, 3, 2), positive(5)),
            f"{_case} nothing": (_loss, normal(0, 5), integers(5, 0)),
        }
    for _smoothing in (0.0, 0.2):
        _loss, _case = cross_entropy(reduction=_how, label_smoothing=_smoothing), f"probabilities, {_smoothing}, {_how}"
        LOSSES |= {
            f"{_case} (N, C)": (_loss, normal(4, 5), shares(4, 5)),
            f"{_case} (C,)": (_loss, normal(5), shares(5)),
            f"{_case} (N, C), weights": (_loss, normal(4, 5), shares(4, 5), positive(5)),
            f"{_case} (N, C, d), weights": (_loss, normal(2, 5, 3), shares(2, 5, 3), positive(5)),
            f"{_case} float32": (_loss, normal(4, 5).astype(np.float32), shares(4, 5).astype(np.float32)),
        }


@table(LOSSES)
def test_of_classes(case: Case):
    compare(*case)


# Of numbers --------------------------------------------------------------------------------------------


def weighted_bce(**options: Any) -> Callable[..., Any]:
    return lambda m, p, t, w: m.nn.functional.binary_cross_entropy(p, t, w.detach(), **options)


NUMBERS: dict[str, Case] = {
    "huber, infinitely far": (functional("huber_loss", reduction="none"), np.array([INF, -INF, 3e200]), np.zeros(3)),
    "huber, nan": (lambda m, x, y: m.nn.functional.huber_loss(x.detach(), y, "none"), np.array([NAN]), np.zeros(1)),
    "huber, delta 0": (functional("huber_loss", delta=0.0), normal(3), normal(3)),
    "huber, reduction by position": (functional("huber_loss", "sum", 0.5), normal(3), normal(3)),
    "smooth l1, beta below 0": (functional("smooth_l1_loss", beta=-1.0), normal(3), normal(3)),
    "bce, outside": (functional("binary_cross_entropy"), np.array([1.5]), np.array([1.0])),
    "bce, nan": (functional("binary_cross_entropy"), np.array([NAN]), np.array([1.0])),
    "bce, shapes": (functional("binary_cross_entropy"), shares(2, 3), shares(3)),
    "bce with logits, shapes": (functional("binary_cross_entropy_with_logits"), normal(2, 3), shares(3)),
    "mse of float32 and float64": (functional("mse_loss"), normal(3).astype(np.float32), normal(3)),
    "wrong reduction": (functional("mse_loss", reduction="average"), normal(3), normal(3)),
}
for _how in REDUCTIONS:
    for _name, _options in [
        ("mse_loss", {}), ("l1_loss", {}), ("huber_loss", {}), ("huber_loss", {"delta": 0.3}), ("smooth_l1_loss", {}),
        ("smooth_l1_loss", {"beta": 0.3}), ("smooth_l1_loss", {"beta": 0.0}), ("binary_cross_entropy_with_logits", {}),
        ("binary_cross_entropy", {}),
    ]:  # fmt: skip
        _f, _case = functional(_name, reduction=_how, **_options), f"{_name} {_options or ''} {_how}"
        _make = (lambda *shape: positive(*shape) * 0.4) if _name == "binary_cross_entropy" else normal
        NUMBERS |= {
            _case: (_f, _make(3, 4), _make(3, 4)),
            f"{_case} of numbers": (_f, np.asarray(_make()), np.asarray(_make())),
            f"{_case} of nothing": (_f, normal(0, 3), normal(0, 3)),
            f"{_case} float32": (_f, _make(30).astype(np.float32), _make(30).astype(np.float32)),
            f"{_case} float16": (_f, _make(30).astype(np.float16), _make(30).astype(np.float16)),
        }
        if _name != "binary_cross_entropy":
            NUMBERS[f"{_case} far out"] = (_f, FAR, integers(2, len(FAR)).astype(float))
            NUMBERS[f"{_case} far out, float32"] = (_f, FAR.astype(np.float32), np.zeros(len(FAR), np.float32))
    NUMBERS |= {
        f"bce, weights {_how}": (weighted_bce(reduction=_how), shares(3, 4), shares(3, 4), positive(4)),
        f"bce at the ends {_how}": (
            lambda m, p, t, how=_how: m.nn.functional.binary_cross_entropy(p, t.detach(), reduction=how),
            np.array([0, 0, 1, 1, 1e-30, 0.5], np.float32), np.array([0, 1, 0, 1, 1, 0.3], np.float32),
        ),
        f"bce with logits, weights {_how}": (
            lambda m, x, t, w, p, how=_how: m.nn.functional.binary_cross_entropy_with_logits(
                x, t, w.detach(), reduction=how, pos_weight=p.detach()
            ),
            normal(3, 4), shares(3, 4), positive(4), positive(3, 1),
        ),
    }  # fmt: skip
for _how in (*REDUCTIONS, "batchmean"):
    NUMBERS |= {
        f"kl_div {_how}": (functional("kl_div", reduction=_how), log_softmax(normal(3, 4)), shares(3, 4)),
        f"kl_div of logarithms {_how}": (
            functional("kl_div", reduction=_how, log_target=True), log_softmax(normal(3, 4)), log_softmax(normal(3, 4)),
        ),
        f"kl_div, target 0 {_how}": (
            lambda m, x, t, how=_how: m.nn.functional.kl_div(x, t.detach(), reduction=how),
            log_softmax(normal(2, 3)), np.array([[0.0, 1.0, 0.0], [0.5, 0.5, 0.0]]),
        ),
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")  # PyTorch's opinion of kl_div's default
@table(NUMBERS)
def test_of_numbers(case: Case):
    compare(*case)


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss"])
def test_shapes_that_differ_are_broadcast_with_a_warning(name: str):
    for m in (tl, torch):
        with pytest.warns(
            UserWarning, match="size" if m is torch else rf"{name}: input has shape \(2, 3\) and target \(3,\)"
        ):
            loss = getattr(m.nn.functional, name)(m.zeros(2, 3), m.ones(3), reduction="none")
        assert tuple(loss.shape) == (2, 3)


def test_binary_cross_entropy_is_exact_in_both_tails():
    x = tl.tensor([-30.0, 30.0], requires_grad=True)
    loss = tl.nn.functional.binary_cross_entropy_with_logits(x, tl.tensor([0.0, 1.0]), reduction="sum")
    loss.backward()
    np.testing.assert_allclose(loss.item(), 2 * np.exp(-30.0), rtol=1e-6)
    np.testing.assert_allclose(x.grad, [np.exp(-30.0), -np.exp(-30.0)], rtol=1e-6)


def test_the_mean_of_float16_may_come_from_a_sum_above_65504():
    logits, target = tl.tensor([[60.0, 0.0]]).half().expand(2000, 2), tl.ones(2000, dtype=tl.int64)
    assert tl.nn.functional.cross_entropy(logits, target).item() == 60
    assert tl.nn.functional.mse_loss(logits, logits * 0).item() == 1800


PROJECTED: dict[str, Case] = {
    f"{what}, {how}": (functional("linear_cross_entropy", reduction=how, **options), normal(4, 3), normal(5, 3), np.array(target))
    for how in ("mean", "sum", "none")
    for what, options, target in (
        ("plain", {}, [1, 4, 0, 1]), ("ignored", {"ignore_index": 1}, [1, 4, 0, 1]), ("-100", {}, [2, -100, 0, -100]),
        ("all ignored", {"ignore_index": 2}, [2, 2, 2, 2]), ("smoothed", {"label_smoothing": 0.1}, [1, 4, 0, 1]),
    )
}  # fmt: skip
PROJECTED |= {
    "with a bias": (
        lambda m, x, w, t, b: m.nn.functional.linear_cross_entropy(x, w, t, linear_bias=b),
        normal(4, 3), normal(5, 3), np.array([1, 4, 0, 1]), normal(5),
    ),
    "large logits": (functional("linear_cross_entropy"), normal(4, 3) * 100, normal(5, 3) * 100, np.array([1, 4, 0, 1])),
    "target too large": (functional("linear_cross_entropy"), normal(2, 3), normal(5, 3), np.array([1, 5])),
    "wrong batch": (functional("linear_cross_entropy"), normal(2, 3), normal(5, 3), np.array([1])),
    "widths": (functional("linear_cross_entropy"), normal(2, 3), normal(5, 4), np.array([1, 0])),
}  # fmt: skip


@table(PROJECTED)
def test_linear_cross_entropy(case: Case):
    compare(*case)


@pytest.mark.filterwarnings("ignore:.*non-leaf:UserWarning")
def test_linear_cross_entropy_in_parts(monkeypatch: pytest.MonkeyPatch):
    """More logits than are held at a time: the parts of the weight's gradient add up."""
    from tensorlite.kernels.cpu import loss

    monkeypatch.setattr(loss, "LOGITS", 3 * 5 * 8)
    compare(functional("linear_cross_entropy"), normal(10, 3), normal(5, 3), integers(5, 10))
