"""Optimisers and learning-rate schedules."""

import math
import tracemalloc

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import nn
from tensorlite.optim import SGD, Adam, AdamW, Lion, Muon, Optimizer
from tensorlite.optim.lr_scheduler import LambdaLR, warmup_constant, warmup_cosine, warmup_linear

SHAPES = [(3, 4), (66_000,), (), (0, 2)]  # less and more than a block, one number, none


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def parameters(dtype=tl.float64):
    return [
        nn.Parameter(tl.tensor(np.random.default_rng(i).standard_normal(s), dtype=dtype)) for i, s in enumerate(SHAPES)
    ]


def set_gradients(params, step):
    """A different gradient at each step; none for the first parameter at every third."""
    for i, p in enumerate(params):
        g = np.random.default_rng([step, i]).standard_normal(p.shape)
        p.grad = None if i == 0 and step % 3 == 2 else tl.tensor(g, dtype=p.dtype)


def train(params, optimizer, steps, scheduler=None):
    for step in steps:
        set_gradients(params, step)
        optimizer.step()
        if scheduler is not None:
            scheduler.step()


# Against PyTorch ---------------------------------------------------------------------------------------

CASES = [
    ("AdamW", {}),
    ("AdamW", {"lr": 0.1, "betas": (0.5, 0.9), "eps": 0.1, "weight_decay": 0.3}),
    ("AdamW", {"lr": 0.1, "weight_decay": 0}),
    ("AdamW", {"lr": 0.1, "amsgrad": True, "betas": (0.5, 0.6)}),
    ("AdamW", {"lr": 0.1, "maximize": True}),
    ("Adam", {}),
    ("Adam", {"lr": 0.1, "weight_decay": 0.3}),
    ("Adam", {"lr": 0.1, "weight_decay": 0.3, "maximize": True, "amsgrad": True}),
    ("Adam", {"lr": 0.1, "maximize": True}),
    ("Adam", {"lr": 0.1, "weight_decay": 0.3, "decoupled_weight_decay": True}),
    ("SGD", {}),
    ("SGD", {"lr": 0.1, "maximize": True}),
    ("SGD", {"lr": 0.1, "maximize": True, "weight_decay": 0.3, "momentum": 0.9, "dampening": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.3}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.4, "weight_decay": 0.3}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.3}),
]


@pytest.mark.parametrize("name, options", CASES, ids=lambda x: str(x))
def test_twenty_steps_are_pytorchs(torch, name, options):
    ours = parameters()
    theirs = [torch.nn.Parameter(torch.tensor(p.detach().numpy())) for p in ours]
    common = {"foreach": None, "fused": None}  # taken, since they change no number
    options = options | common
    a, b = getattr(tl.optim, name)(ours, **options), getattr(torch.optim, name)(theirs, **options)
    for step in range(20):
        set_gradients(ours, step)
        for p, q in zip(ours, theirs, strict=True):
            q.grad = None if p.grad is None else torch.tensor(p.grad.numpy())
        a.step(), b.step()
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.detach(), q.detach(), rtol=1e-12, atol=1e-12)
        for key, value in b.state[q].items():
            if key != "step":
                np.testing.assert_allclose(a.state[p][key], value, rtol=1e-12, atol=1e-12)
            else:
                assert a.state[p][key] == value


def test_adamw_is_the_formula_of_its_docstring():
    lr, beta1, beta2, eps, decay = 0.1, 0.8, 0.9, 0.01, 0.2
    params = parameters()
    optimizer = AdamW(params, lr, (beta1, beta2), eps, decay)
    p, m, v = params[1].detach().clone().numpy(), 0.0, 0.0
    for t in range(1, 11):
        set_gradients(params, t)
        g = params[1].grad.numpy()
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        p = p - lr * decay * p - lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)
        optimizer.step()
    np.testing.assert_allclose(params[1].detach(), p, rtol=1e-12, atol=1e-12)


def test_lion_is_the_formula_of_its_docstring():
    lr, beta1, beta2, decay = 0.1, 0.8, 0.9, 0.2
    params = parameters()
    optimizer = Lion(params, lr, (beta1, beta2), decay)
    p, m = params[1].detach().clone().numpy(), 0.0
    for t in range(10):
        set_gradients(params, t)
        g = params[1].grad.numpy()
        p = p - lr * decay * p - lr * np.sign(beta1 * m + (1 - beta1) * g)
        m = beta2 * m + (1 - beta2) * g
        optimizer.step()
    np.testing.assert_allclose(params[1].detach(), p, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(4, 7), (7, 4), (3, 3), (1, 5)])
@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("adjust", [None, "original", "match_rms_adamw"])
def test_muon_is_the_formula_of_its_docstring(shape, nesterov, adjust):
    lr, decay, momentum, (a, b, c) = 0.1, 0.2, 0.9, (3.4445, -4.7750, 2.0315)
    w = nn.Parameter(tl.tensor(np.random.default_rng(0).standard_normal(shape)))
    optimizer = Muon([w], lr, decay, momentum, nesterov, adjust_lr_fn=adjust)
    p, m, (rows, columns) = w.detach().clone().numpy(), 0.0, shape
    ratio = 0.2 * math.sqrt(max(shape)) if adjust == "match_rms_adamw" else math.sqrt(max(1, rows / columns))
    for t in range(4):
        g = np.random.default_rng(t).standard_normal(shape)
        w.grad = tl.tensor(g)
        optimizer.step()
        m = momentum * m + (1 - momentum) * g
        u, s, v = np.linalg.svd(momentum * m + (1 - momentum) * g if nesterov else m, full_matrices=False)
        s = s / np.linalg.norm(s)
        for _ in range(5):
            s = a * s + b * s**3 + c * s**5
        p = p - lr * decay * p - lr * ratio * (u * s) @ v
    np.testing.assert_allclose(w.detach(), p, rtol=1e-10, atol=1e-10)


def test_muon_of_nothing_and_in_float16():
    empty, half, still = (nn.Parameter(tl.ones(*s, dtype=tl.float16)) for s in ((0, 3), (2, 3), (2, 2)))
    for p in (empty, half, still):
        p.grad = p.detach().clone()
    still.grad.zero_()
    Muon([empty, half, still], lr=0.1, weight_decay=0).step()
    assert half.dtype == tl.float16 and (half < 1).all() and (still == 1).all()


def test_a_state_of_pytorchs_can_be_loaded(torch):
    p, q = nn.Parameter(tl.ones(3)), torch.nn.Parameter(torch.ones(3))
    theirs = torch.optim.AdamW([q], lr=0.5)
    q.grad = torch.ones(3)
    theirs.step()
    state = theirs.state_dict()
    state["state"] = {i: {k: tl.tensor(v.numpy()) for k, v in s.items()} for i, s in state["state"].items()}
    ours = AdamW([p])
    ours.load_state_dict(state)
    assert ours.param_groups[0]["lr"] == 0.5 and ours.state[p]["step"] == 1
    np.testing.assert_allclose(ours.state[p]["exp_avg"], theirs.state[q]["exp_avg"])


# How it is done ----------------------------------------------------------------------------------------

MAKES = {
    "AdamW": AdamW,
    "Adam": lambda p: Adam(p, weight_decay=0.1, amsgrad=True),
    "Lion": Lion,
    "SGD": lambda p: SGD(p, momentum=0.9, nesterov=True),
}
EVERY = pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)


@EVERY
def test_a_step_writes_in_place_and_takes_no_memory(make):
    p = nn.Parameter(tl.zeros(1_000_000))
    p.grad = tl.ones(1_000_000)
    optimizer, array = make([p]), p.array
    optimizer.step()
    arrays = lambda: [x.array for x in optimizer.state[p].values() if isinstance(x, tl.Tensor)]
    states = arrays()
    tracemalloc.start()
    optimizer.step()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 600_000  # bytes; the parameter has 4,000,000
    assert p.array is array and all(x is y for x, y in zip(arrays(), states, strict=True))
    assert (p.grad == 1).all()


@EVERY
def test_memory_that_does_not_lie_in_order_is_updated_too(make):
    x = np.random.default_rng(0).standard_normal((300, 400))
    straight, transposed = nn.Parameter(tl.tensor(x)), nn.Parameter(tl.from_numpy(x.T.copy().T))
    sliced = nn.Parameter(tl.from_numpy(np.repeat(x, 2, axis=1)[:, ::2]))
    optimizer = make([straight, transposed, sliced])
    for step in range(3):
        for p in (straight, transposed, sliced):
            p.grad = tl.tensor(np.random.default_rng(step).standard_normal(x.shape))
        optimizer.step()
    np.testing.assert_array_equal(transposed.detach(), straight.detach())
    np.testing.assert_array_equal(sliced.detach(), straight.detach())
    assert not (straight.detach().array == x).any()


def test_a_step_between_forward_and_backward_is_noticed():
    p = nn.Parameter(tl.ones(2))
    loss = (p * p).sum()
    p.grad = tl.ones(2)
    AdamW([p]).step()
    with pytest.raises(RuntimeError, match="mul"):
        loss.backward()


def test_what_has_no_gradient_stays():
    p, q = nn.Parameter(tl.ones(2)), nn.Parameter(tl.ones(2))
    q.grad = tl.ones(2)
    optimizer = AdamW([p, q])
    optimizer.step()
    assert p.tolist() == [1.0, 1.0] and q.tolist() != [1.0, 1.0]
    assert p not in optimizer.state and list(optimizer.state_dict()["state"]) == [1]


def test_closure_is_computed_with_gradients():
    p = nn.Parameter(tl.tensor([3.0]))
    optimizer = SGD([p], lr=0.5)

    def closure():
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with tl.no_grad():
        assert optimizer.step(closure).item() == 9
    assert p.item() == 0


def test_zero_grad():
    p = nn.Parameter(tl.ones(2))
    p.grad = tl.ones(2)
    optimizer, kept = SGD([p]), p.grad.array
    optimizer.zero_grad(set_to_none=False)
    assert p.grad.array is kept and not kept.any()
    optimizer.zero_grad()
    assert p.grad is None


# Groups and settings -----------------------------------------------------------------------------------


def test_groups_have_their_own_settings():
    p, q, r = (nn.Parameter(tl.ones(1)) for _ in range(3))
    optimizer = AdamW([{"params": [p], "weight_decay": 0.0}, {"params": q}], lr=0.1)
    optimizer.add_param_group({"params": [r], "lr": 0.0})
    assert [(g["lr"], g["weight_decay"]) for g in optimizer.param_groups] == [(0.1, 0), (0.1, 0.01), (0, 0.01)]
    for x in (p, q, r):
        x.grad = tl.zeros(1)
    optimizer.step()
    assert p.item() == 1 and q.item() == pytest.approx(0.999) and r.item() == 1
    assert repr(optimizer).startswith("AdamW(1 parameters: lr=0.1, betas=(0.9, 0.999)")


REFUSED = {
    "AdamW: lr must be at least 0, not -1.0": lambda p: AdamW([p], lr=-1.0),
    "AdamW: lr must be at least 0, not nan": lambda p: AdamW([p], lr=math.nan),
    "AdamW: lr must be at least 0, not -2": lambda p: AdamW([{"params": [p], "lr": -2}]),
    "AdamW: eps must be at least 0, not -1e-08": lambda p: AdamW([p], eps=-1e-8),
    "AdamW: weight_decay must be at least 0, not -0.1": lambda p: AdamW([p], weight_decay=-0.1),
    r"AdamW: betas\[0\] must be at least 0 and less than 1, not 1.0": lambda p: AdamW([p], betas=(1.0, 0.9)),
    r"AdamW: betas\[1\] must be at least 0 and less than 1, not -1": lambda p: AdamW([p], betas=(0.9, -1)),
    "AdamW: got an empty parameter list": lambda p: AdamW([]),
    r"AdamW: a parameter of shape \(2,\) appears twice": lambda p: AdamW([p, p]),
    "appears twice; give each once": lambda p: AdamW([{"params": [p]}, {"params": [p]}]),
    "AdamW: cannot optimise the result of multiply, only leaves": lambda p: AdamW([p * 2]),
    "Adam: eps must be at least 0, not -1": lambda p: Adam([p], eps=-1),
    "Lion: lr must be at least 0, not -1": lambda p: Lion([p], lr=-1),
    r"Lion: betas\[1\] must be at least 0 and less than 1, not 2": lambda p: Lion([p], betas=(0.9, 2)),
    "Muon: momentum must be at least 0, not -1": lambda p: Muon([p], momentum=-1),
    r"Muon: a parameter has shape \(2,\), and only matrices": lambda p: Muon([p]),
    "Muon: expected three ns_coefficients and ns_steps": lambda p: Muon([nn.Parameter(tl.ones(2, 2))], ns_steps=100),
    "Muon: adjust_lr_fn is None, 'original' or": lambda p: Muon([nn.Parameter(tl.ones(2, 2))], adjust_lr_fn="x"),
    "SGD: lr must be at least 0, not -1": lambda p: SGD([p], lr=-1),
    "SGD: momentum must be at least 0, not -1": lambda p: SGD([p], momentum=-1),
    "SGD: nesterov needs a momentum above 0 and no dampening, not momentum=0": lambda p: SGD([p], nesterov=True),
}


@pytest.mark.parametrize("message, make", REFUSED.items(), ids=REFUSED)
def test_bad_settings_are_refused(message, make):
    with pytest.raises(ValueError, match=message):
        make(nn.Parameter(tl.ones(2)))


def test_what_is_no_parameter_is_refused():
    with pytest.raises(TypeError, match=r"expected an iterable of Tensors or dicts; for one Tensor give \[x\]"):
        AdamW(nn.Parameter(tl.ones(2)))
    with pytest.raises(TypeError, match="can optimise only Tensors, not float"):
        SGD([1.0])
    with pytest.raises(NotImplementedError, match="AdamW: differentiable=True is not supported"):
        AdamW([nn.Parameter(tl.ones(2))], differentiable=True)
    p = nn.Parameter(tl.ones(2))
    p.grad = tl.ones(2)
    with pytest.raises(NotImplementedError, match="Optimizer has no update"):
        Optimizer([p], {}).step()


class Plain(Optimizer):
    """Written as for PyTorch: a step of its own, over the groups."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    @tl.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                state["step"] = state.get("step", 0) + 1
                p.data.add_(p.grad, alpha=-group["lr"])


def test_an_optimiser_written_for_pytorch_works():
    p = nn.Parameter(tl.ones(2))
    optimizer = Plain([p], lr=0.5)
    p.grad = tl.ones(2)
    optimizer.step()
    assert p.tolist() == [0.5, 0.5] and optimizer.state_dict()["state"] == {0: {"step": 1}}


# State -------------------------------------------------------------------------------------------------


@EVERY
def test_training_goes_on_with_the_same_bits_after_save_and_load(make, tmp_path):
    straight = parameters()
    train(straight, make(straight), range(10))

    first = parameters()
    optimizer = make(first)
    train(first, optimizer, range(5))
    tl.save({"params": first, "optimizer": optimizer.state_dict()}, tmp_path / "state")

    saved = tl.load(tmp_path / "state")
    second = [nn.Parameter(x) for x in saved["params"]]
    optimizer = make(second)
    optimizer.load_state_dict(saved["optimizer"])
    train(second, optimizer, range(5, 10))
    for p, q in zip(straight, second, strict=True):
        np.testing.assert_array_equal(p.detach(), q.detach())


def test_state_dict_has_pytorchs_form(torch):
    ours, theirs = parameters(), [torch.nn.Parameter(torch.zeros(s)) for s in SHAPES]
    a, b = AdamW(ours), torch.optim.AdamW(theirs)
    train(ours, a, [0])
    for q in theirs:
        q.grad = torch.zeros_like(q)
    b.step()
    a, b = a.state_dict(), b.state_dict()
    assert a.keys() == b.keys() and a["state"].keys() == b["state"].keys()
    assert a["state"][0].keys() == b["state"][0].keys()
    assert a["param_groups"][0]["params"] == b["param_groups"][0]["params"] == [0, 1, 2, 3]
    assert a["param_groups"][0].items() <= b["param_groups"][0].items()


def test_loaded_state_is_a_copy_in_the_parameters_dtype():
    p, q = nn.Parameter(tl.ones(2)), nn.Parameter(tl.ones(2, dtype=tl.float64))
    a, b = AdamW([p]), AdamW([q])
    p.grad = tl.ones(2)
    a.step()
    b.load_state_dict(a.state_dict())
    assert b.state[q]["exp_avg"].dtype == tl.float64
    a.step()
    assert a.state[p]["step"] == 2 and b.state[q]["step"] == 1
    np.testing.assert_allclose(b.state[q]["exp_avg"], [0.1, 0.1])


def test_a_state_that_does_not_fit_is_refused():
    p = nn.Parameter(tl.ones(2))
    p.grad = tl.ones(2)
    optimizer = AdamW([p])
    optimizer.step()
    with pytest.raises(ValueError, match=r"the saved groups have \[1\] parameters, this optimiser's have \[2\]"):
        AdamW([nn.Parameter(tl.ones(2)), nn.Parameter(tl.ones(2))]).load_state_dict(optimizer.state_dict())
    with pytest.raises(ValueError, match=r"exp_avg has shape \(2,\), its parameter \(3,\)"):
        AdamW([nn.Parameter(tl.ones(3))]).load_state_dict(optimizer.state_dict())


# Learning rates ----------------------------------------------------------------------------------------


def test_lambda_lr_is_pytorchs(torch):
    def rates(library, parameter):
        groups = [{"params": [parameter]}, {"params": [parameter * 1], "lr": 0.2}]
        groups[1]["params"] = [groups[1]["params"][0].detach()]
        optimizer = library.optim.SGD(groups, lr=0.1)
        scheduler = library.optim.lr_scheduler.LambdaLR(optimizer, [lambda i: 0.5**i, lambda i: 1 / (i + 1)])
        seen = [scheduler.get_last_lr()]
        for _ in range(3):
            optimizer.step()
            scheduler.step()
            seen.append([group["lr"] for group in optimizer.param_groups])
        return seen

    assert rates(tl, nn.Parameter(tl.ones(1))) == rates(torch, torch.nn.Parameter(torch.ones(1)))


def test_a_schedule_goes_on_where_it_was():
    schedule = warmup_cosine(warmup=3, total=10, floor=0.1)
    optimizer = SGD([nn.Parameter(tl.ones(1))], lr=0.5)
    scheduler = LambdaLR(optimizer, schedule)
    for _ in range(4):
        scheduler.step()
    state, groups = scheduler.state_dict(), optimizer.state_dict()

    optimizer = SGD([nn.Parameter(tl.ones(1))], lr=0.123)
    optimizer.load_state_dict(groups)
    again = LambdaLR(optimizer, schedule)
    again.load_state_dict(state)
    scheduler.step(), again.step()
    assert again.get_last_lr() == scheduler.get_last_lr() == [0.5 * schedule(5)]


def test_schedulers_refuse_what_does_not_fit():
    optimizer = SGD([nn.Parameter(tl.ones(1))])
    with pytest.raises(ValueError, match="got 2 functions for 1 parameter groups"):
        LambdaLR(optimizer, [warmup_constant(0), warmup_constant(0)])
    scheduler = LambdaLR(optimizer, warmup_constant(0))
    with pytest.raises(ValueError, match="the saved scheduler is for 2 parameter groups, and this one for 1"):
        scheduler.load_state_dict({"last_epoch": 0, "base_lrs": [0.1, 0.2]})


def test_schedules():
    assert [warmup_constant(3)(step) for step in (0, 1, 2, 3, 99)] == [0.25, 0.5, 0.75, 1, 1]
    assert warmup_constant(0)(0) == warmup_linear(0, 10)(0) == warmup_cosine(0, 10)(0) == 1
    for schedule in (warmup_linear(3, 11, 0.2), warmup_cosine(3, 11, 0.2)):
        assert [schedule(step) for step in (0, 1, 2, 3)] == [0.25, 0.5, 0.75, 1]
        assert schedule(7) == pytest.approx(0.6)  # half way down
        assert schedule(11) == schedule(500) == pytest.approx(0.2)
        assert all(schedule(step) > schedule(step + 1) for step in range(3, 11))
    assert warmup_cosine(5, 5)(5) == warmup_linear(5, 5)(5) == 1  # never divides by 0
