"""Schedulers step by step, Muon, and states that go from one library to the other."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from compare import torch

import tensorlite as tl

pytestmark = pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*")  # schedulers alone, without training


def optimizer(m: Any, name: str = "SGD", **options: Any) -> Any:
    """Of two groups with different rates."""
    groups = [{"params": [m.nn.Parameter(m.zeros(1))]}, {"params": [m.nn.Parameter(m.zeros(1))], "lr": 0.03}]
    return getattr(m.optim, name)(groups, lr=0.5, **options)


SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "step": ("StepLR", {"step_size": 7}),
    "step, slowly": ("StepLR", {"step_size": 1, "gamma": 0.9}),
    "milestones": ("MultiStepLR", {"milestones": [30, 3, 3, 17], "gamma": 0.5}),
    "no milestones": ("MultiStepLR", {"milestones": []}),
    "constant": ("ConstantLR", {}),
    "constant for long": ("ConstantLR", {"factor": 0.25, "total_iters": 20}),
    "linear": ("LinearLR", {}),
    "linear, down": ("LinearLR", {"start_factor": 1.0, "end_factor": 0.1, "total_iters": 33}),
    "exponential": ("ExponentialLR", {"gamma": 0.93}),
    "cosine": ("CosineAnnealingLR", {"T_max": 20}),
    "cosine to a floor": ("CosineAnnealingLR", {"T_max": 60, "eta_min": 0.01}),
    "cosine of one step": ("CosineAnnealingLR", {"T_max": 1}),
    "restarts": ("CosineAnnealingWarmRestarts", {"T_0": 6, "eta_min": 0.001}),
    "longer restarts": ("CosineAnnealingWarmRestarts", {"T_0": 5, "T_mult": 2}),
    "lambdas": ("LambdaLR", {"lr_lambda": [lambda step: 0.9**step, lambda step: 1 / (step + 1)]}),
    "one cycle": ("OneCycleLR", {"max_lr": 0.7, "total_steps": 50}),
    "one cycle in epochs": (
        "OneCycleLR",
        {"max_lr": [0.7, 0.1], "epochs": 10, "steps_per_epoch": 5, "pct_start": 0.25},
    ),
    "one cycle on lines": ("OneCycleLR", {"max_lr": 0.7, "total_steps": 77, "anneal_strategy": "linear"}),
    "three phases": (
        "OneCycleLR",
        {"max_lr": 0.7, "total_steps": 50, "three_phase": True, "base_momentum": [0.7, 0.8]},
    ),
    "never rising": ("OneCycleLR", {"max_lr": 0.7, "total_steps": 50, "pct_start": 0.0, "div_factor": 3.0}),
}


def rates(o: Any) -> list[list[float]]:
    """What a scheduler may change."""
    return [[g["lr"], g.get("momentum", 0), *g.get("betas", ())] for g in o.param_groups]


def followed(o: Any, scheduler: Any, steps: int = 50) -> list[Any]:
    found = [rates(o)]
    for _ in range(steps):
        scheduler.step()
        assert scheduler.get_last_lr() == [g["lr"] for g in o.param_groups]
        found.append(rates(o))
    return found


@pytest.mark.parametrize("kind", [("SGD", {"momentum": 0.9}), ("AdamW", {})], ids=["SGD", "AdamW"])
@pytest.mark.parametrize("case", SCHEDULERS)
def test_fifty_steps(case: str, kind: tuple[str, dict[str, Any]]) -> None:
    name, options = SCHEDULERS[case]
    found = []
    for m in (tl, torch):
        o = optimizer(m, kind[0], **kind[1])
        found.append(followed(o, getattr(m.optim.lr_scheduler, name)(o, **options)))
    np.testing.assert_allclose(*found, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("case", SCHEDULERS)
def test_going_on_where_another_was(case: str) -> None:
    name, options = SCHEDULERS[case]
    o = optimizer(tl, momentum=0.9)
    scheduler = getattr(tl.optim.lr_scheduler, name)(o, **options)
    followed(o, scheduler, 20)
    states = copy.deepcopy((o.state_dict(), scheduler.state_dict()))
    expected = followed(o, scheduler, 30)

    o = optimizer(tl, momentum=0.9)
    scheduler = getattr(tl.optim.lr_scheduler, name)(o, **options)
    o.load_state_dict(states[0])
    scheduler.load_state_dict(states[1])
    assert followed(o, scheduler, 30) == expected

    o = optimizer(tl, momentum=0.9)  # by last_epoch, from the groups of the optimiser; step 21 is the next
    o.load_state_dict(states[0])
    scheduler = getattr(tl.optim.lr_scheduler, name)(o, **options, last_epoch=20)
    assert followed(o, scheduler, 29) == expected[1:]


def sequences(m: Any, o: Any) -> dict[str, Callable[[], Any]]:
    s = m.optim.lr_scheduler
    return {
        "warmup and cosine": lambda: s.SequentialLR(
            o, [s.LinearLR(o, 0.01, total_iters=10), s.CosineAnnealingLR(o, T_max=30, eta_min=0.001)], [10]
        ),
        "three": lambda: s.SequentialLR(
            o, [s.ConstantLR(o, 0.1, 3), s.ExponentialLR(o, 0.9), s.StepLR(o, 5)], milestones=[4, 20]
        ),
        "lambdas": lambda: s.SequentialLR(o, [s.LambdaLR(o, lambda i: i / 10), s.LambdaLR(o, lambda i: 0.9**i)], [10]),
        "from the first step on": lambda: s.SequentialLR(o, [s.ConstantLR(o, 0.1), s.ExponentialLR(o, 0.9)], [0]),
    }


@pytest.mark.parametrize("case", sequences(tl, None))
def test_sequences(case: str) -> None:
    found = []
    for m in (tl, torch):
        o = optimizer(m)
        found.append(followed(o, sequences(m, o)[case]()))
    np.testing.assert_allclose(*found, rtol=1e-9, atol=1e-15)
    o = optimizer(tl)
    scheduler = sequences(tl, o)[case]()
    followed(o, scheduler, 20)
    state = copy.deepcopy(scheduler.state_dict())
    o = optimizer(tl)
    scheduler = sequences(tl, o)[case]()
    scheduler.load_state_dict(state)
    np.testing.assert_allclose(followed(o, scheduler, 30), found[1][20:], rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize(
    "options",
    [
        {"patience": 2},
        {"mode": "max", "patience": 0, "factor": 0.5, "cooldown": 3},
        {"threshold_mode": "abs", "threshold": 0.1, "patience": 1},
        {"mode": "max", "threshold_mode": "abs", "threshold": 0.1, "min_lr": [0.01, 0.001], "patience": 1},
        {"patience": 0, "eps": 0.02},
    ],
    ids=str,
)
def test_reduce_on_plateau(options: dict[str, Any]) -> None:
    metrics = np.random.default_rng(0).standard_normal(60) + np.linspace(2, -2, 60)
    found = []
    for m in (tl, torch):
        o = optimizer(m)
        scheduler = m.optim.lr_scheduler.ReduceLROnPlateau(o, **options)
        found.append([])
        for i, metric in enumerate(metrics):
            if i == 30 and m is tl:
                state = scheduler.state_dict()
                scheduler = m.optim.lr_scheduler.ReduceLROnPlateau(o, **options)
                scheduler.load_state_dict(state)
            scheduler.step(m.tensor(metric))
            found[-1].append(rates(o))
    np.testing.assert_allclose(*found, rtol=1e-12)


def test_fractions_of_an_epoch() -> None:
    found: list[list[float]] = []
    for m in (tl, torch):
        o = optimizer(m)
        scheduler = m.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=3, T_mult=2)
        found.append([])
        for i in range(40):
            scheduler.step(i / 4)
            found[-1] += scheduler.get_last_lr()
    np.testing.assert_allclose(*found, rtol=1e-9, atol=1e-15)


REFUSED: dict[str, Callable[[Any, Any], Any]] = {
    "factor must be between 0 and 1, not 2": lambda s, o: s.ConstantLR(o, 2),
    "start_factor must be above 0": lambda s, o: s.LinearLR(o, 0.0),
    "step_size must be at least 1, not 0": lambda s, o: s.StepLR(o, 0).step(),
    "T_max must be at least 1, not 0": lambda s, o: s.CosineAnnealingLR(o, 0).step(),
    "T_0 and T_mult must be at least 1, not 0 and 1": lambda s, o: s.CosineAnnealingWarmRestarts(o, 0),
    "give total_steps, or epochs and steps_per_epoch": lambda s, o: s.OneCycleLR(o, 0.1),
    "anneal_strategy 'cos' or 'linear'; got 0.3 and 'x'": lambda s, o: s.OneCycleLR(o, 0.1, 9, anneal_strategy="x"),
    "got 1 max_lr for 2 parameter groups": lambda s, o: s.OneCycleLR(o, [0.1], 9),
    "this is step 10, and it was made for 9": lambda s, o: beyond_the_end(s.OneCycleLR(o, 0.1, 9)),
    "2 schedulers need 1 milestones, not 0": lambda s, o: s.SequentialLR(o, [s.StepLR(o, 2), s.StepLR(o, 2)], []),
    "expected schedulers of this optimiser": lambda s, o: s.SequentialLR(o, [s.ReduceLROnPlateau(o)], []),
    "factor must be below 1, not 1": lambda s, o: s.ReduceLROnPlateau(o, factor=1),
    "mode is 'min' or 'max' and": lambda s, o: s.ReduceLROnPlateau(o, mode="least"),
    "got 1 min_lr for 2 parameter groups": lambda s, o: s.ReduceLROnPlateau(o, min_lr=[0.1]),
    "group 0 has no 'initial_lr'": lambda s, o: s.StepLR(o, 2, last_epoch=3),
    "expected an Optimizer, not float": lambda s, o: s.StepLR(0.1, 2),
}


def beyond_the_end(scheduler: Any) -> None:
    for _ in range(10):
        scheduler.step()


@pytest.mark.parametrize("message", REFUSED)
def test_both_refuse(message: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError), match=message):
        REFUSED[message](tl.optim.lr_scheduler, optimizer(tl, momentum=0.9))
    with pytest.raises((ValueError, KeyError, TypeError, ZeroDivisionError)):
        REFUSED[message](torch.optim.lr_scheduler, optimizer(torch, momentum=0.9))


# Optimisers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"nesterov": False}, {"adjust_lr_fn": "match_rms_adamw"}], ids=str)
@pytest.mark.parametrize("shape", [(6, 4), (4, 6)])
def test_muon_within_what_bfloat16_rounds(shape: tuple[int, int], options: dict[str, Any]) -> None:
    start = np.random.default_rng(9).standard_normal(shape).astype(np.float32)
    ours, theirs = tl.nn.Parameter(tl.tensor(start)), torch.nn.Parameter(torch.tensor(start))
    a, b = tl.optim.Muon([ours], lr=0.1, **options), torch.optim.Muon([theirs], lr=0.1, **options)
    for step in range(5):
        g = np.random.default_rng(step).standard_normal(shape).astype(np.float32)
        ours.grad, theirs.grad = tl.tensor(g), torch.tensor(g)
        a.step(), b.step()
    np.testing.assert_allclose(ours.detach(), theirs.detach(), atol=0.02)
    np.testing.assert_allclose(a.state[ours]["momentum_buffer"], b.state[theirs]["momentum_buffer"], atol=1e-6)
    assert a.param_groups[0].keys() - {"params"} <= b.param_groups[0].keys()


OPTIMIZERS = {
    "AdamW": {},
    "Adam": {"amsgrad": True, "weight_decay": 0.1},
    "SGD": {"momentum": 0.9, "nesterov": True},
    "Muon": {},
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_state_goes_from_one_library_to_the_other(name: str) -> None:
    draw = np.random.default_rng(0).standard_normal
    start = [draw((3, 4)), draw((2, 2))]

    def make(m: Any) -> tuple[list[Any], Any]:
        ps = [m.nn.Parameter(m.tensor(x)) for x in start]
        return ps, getattr(m.optim, name)([{"params": ps[:1], "lr": 0.1}, {"params": ps[1:]}], **OPTIMIZERS[name])

    def train(m: Any, ps: list[Any], o: Any) -> None:
        for p in ps:
            p.grad = m.tensor(np.ones(tuple(p.shape)))
        o.step()

    def converted(state: Any, m: Any) -> Any:
        if isinstance(state, dict):
            return {key: converted(x, m) for key, x in state.items()}
        if isinstance(state, list):
            return [converted(x, m) for x in state]
        return m.tensor(state.detach().numpy()) if isinstance(state, (tl.Tensor, torch.Tensor)) else state

    for source, target in ((tl, torch), (torch, tl)):
        ps, o = make(source)
        train(source, ps, o)
        qs, other = make(target)
        train(target, qs, other)
        other.load_state_dict(converted(o.state_dict(), target))
        train(source, ps, o), train(target, qs, other)
        for p, q in zip(ps, qs):
            np.testing.assert_allclose(p.detach(), q.detach(), atol=1e-2 if name == "Muon" else 1e-7)
            for key, x in o.state[p].items():
                np.testing.assert_allclose(np.asarray(x, float), np.asarray(other.state[q][key], float), rtol=1e-6)
