"""Modules, layers, initial values and the utilities over parameters."""

import copy
import math
import pickle

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import nn
from tensorlite.nn import functional as F


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


class Tied(nn.Module):
    """Two layers with one weight, a mask and a scale: every kind of member."""

    def __init__(self):
        super().__init__()
        self.wte = nn.Embedding(4, 3)
        self.scale = nn.Parameter(tl.ones(3))
        self.register_buffer("mask", tl.ones(2, 2).tril().bool())
        self.register_buffer("cache", tl.zeros(3), persistent=False)
        self.head = nn.Linear(3, 4, bias=False)
        self.head.weight = self.wte.weight

    def forward(self, ids):
        return self.head(self.wte(ids) * self.scale)


def names(pairs):
    return [name for name, _ in pairs]


# Parameters and members --------------------------------------------------------------------------------


def test_parameter_shares_the_memory_of_a_tensor_and_requires_a_gradient():
    x = tl.zeros(2)
    p = nn.Parameter(x)
    x[0] = 5.0
    assert p.requires_grad and p.is_leaf and p.tolist() == [5.0, 0.0]
    assert not nn.Parameter(x, requires_grad=False).requires_grad
    assert nn.Parameter([1.0, 2.0]).dtype == tl.float32
    assert repr(nn.Parameter([1.0])) == "Parameter containing:\ntensor([1.], requires_grad=True)"
    assert type(p + 1) is tl.Tensor


def test_parameter_of_integers_is_refused():
    with pytest.raises(RuntimeError, match=r"only floating-point Tensors can have a gradient.*int64"):
        nn.Parameter(tl.arange(3))


def test_members_are_found_in_pytorchs_order(torch):
    ours = Tied()

    class Theirs(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.wte = torch.nn.Embedding(4, 3)
            self.scale = torch.nn.Parameter(torch.ones(3))
            self.register_buffer("mask", torch.ones(2, 2))
            self.register_buffer("cache", torch.zeros(3), persistent=False)
            self.head = torch.nn.Linear(3, 4, bias=False)
            self.head.weight = self.wte.weight

    theirs = Theirs()
    for method in ("named_parameters", "named_buffers", "named_modules", "named_children"):
        assert names(getattr(ours, method)()) == names(getattr(theirs, method)())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    every = {"remove_duplicate": False}
    assert names(ours.named_parameters(**every)) == names(theirs.named_parameters(**every))
    assert names(ours.named_parameters(prefix="a")) == names(theirs.named_parameters(prefix="a"))
    assert names(ours.named_parameters(recurse=False)) == names(theirs.named_parameters(recurse=False))


def test_members():
    m = Tied()
    assert names(m.named_parameters()) == ["scale", "wte.weight"]
    assert names(m.named_parameters(remove_duplicate=False)) == ["scale", "wte.weight", "head.weight"]
    assert names(m.named_buffers()) == ["mask", "cache"]
    assert names(m.named_modules()) == ["", "wte", "head"]
    assert [p is q for p, q in zip(m.parameters(), (m.scale, m.wte.weight), strict=True)] == [True, True]
    assert list(m.children()) == [m.wte, m.head]


def test_a_module_in_two_places_is_one_module():
    layer = nn.Linear(2, 2)
    m = nn.Sequential(layer, nn.ReLU(), layer)
    assert len(list(m.parameters())) == 2
    assert names(m.named_modules()) == ["", "0", "1"]
    assert names(m.named_modules(remove_duplicate=False)) == ["", "0", "1", "2"]
    assert list(m.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_assigning_replaces_and_deleting_removes():
    m = nn.Linear(2, 3)
    m.bias = None
    assert names(m.named_parameters()) == ["weight"]
    m.bias = nn.Parameter(tl.zeros(3))
    del m.weight
    assert names(m.named_parameters()) == ["bias"]
    m.register_parameter("extra", None)
    assert m.extra is None
    m.extra = nn.Parameter(tl.zeros(1))
    assert names(m.named_parameters()) == ["bias", "extra"]


def test_a_buffer_stays_one_when_it_is_assigned():
    m = Tied()
    m.mask = tl.zeros(2, 2).bool()
    m.register_buffer("empty", None)
    assert names(m.named_buffers()) == ["mask", "cache"]
    m.empty = tl.ones(1)
    assert names(m.named_buffers()) == ["mask", "cache", "empty"]
    assert names(Tied().named_buffers()) == ["mask", "cache"]  # the class was not changed


class Forgetful(nn.Module):
    def __init__(self, assign):
        self.count = 1  # what is no part may come first
        assign(self)


@pytest.mark.parametrize(
    "assign",
    [
        lambda m: setattr(m, "layer", nn.Linear(2, 2)),
        lambda m: setattr(m, "p", nn.Parameter(tl.ones(2))),
        lambda m: m.register_buffer("mask", tl.ones(2)),
    ],
    ids=["module", "parameter", "buffer"],
)
def test_forgetting_super_init_is_said(assign):
    with pytest.raises(AttributeError, match=r"Forgetful: super\(\).__init__\(\) must be called before"):
        Forgetful(assign)


def test_what_is_a_part_cannot_become_something_else():
    m = Tied()
    with pytest.raises(TypeError, match=r"'weight' of Linear is a Parameter, and cannot become a Tensor; assign Param"):
        m.head.weight = tl.ones(4, 3)
    with pytest.raises(TypeError, match=r"'mask' of Tied is a buffer, and cannot become a int; assign a Tensor, or No"):
        m.mask = 3
    with pytest.raises(TypeError, match=r"'wte' of Tied is a Module, and cannot become a function; assign a Module"):
        m.wte = lambda ids: ids
    assert names(m.named_parameters()) == ["scale", "wte.weight"] and names(m.named_buffers()) == ["mask", "cache"]
    m.scale = None
    with pytest.raises(TypeError, match="'scale' of Tied is a Parameter"):
        m.scale = tl.ones(3)


def test_an_attribute_that_is_missing():
    with pytest.raises(AttributeError, match=r"^'Tied' object has no attribute 'x'$"):
        Tied().x


def assignments(m, library):
    """What assigning does to the order of parts."""
    nn = library.nn
    m.late = None
    m.a = nn.Parameter(library.ones(1))
    m.b = nn.Parameter(library.ones(1))
    m.late = nn.Parameter(library.ones(1))
    m.register_parameter("kept", None)
    m.c = nn.Parameter(library.ones(1))
    m.kept = nn.Parameter(library.ones(1))
    m.a = None
    m.a = nn.Parameter(library.ones(1))
    m.register_buffer("mask", library.ones(1))
    m.register_buffer("other", library.ones(1))
    m.mask = nn.Parameter(library.ones(1))
    del m.b
    m.b = nn.Linear(1, 1)
    return names(m.named_parameters()), names(m.named_buffers()), names(m.named_modules()), list(m.state_dict())


def test_parts_are_in_pytorchs_order_whatever_is_assigned(torch):
    assert assignments(nn.Module(), tl) == assignments(torch.nn.Module(), torch)


@pytest.mark.parametrize("register", ["register_parameter", "register_buffer", "register_module"])
def test_registering_under_a_bad_name_or_of_a_bad_kind_is_refused(register):
    m = nn.Linear(2, 2)
    with pytest.raises(KeyError, match="a name is not empty and has no dot"):
        getattr(m, register)("a.b", None)
    with pytest.raises(KeyError, match="Linear already has an attribute 'forward'"):
        getattr(m, register)("forward", None)
    with pytest.raises(TypeError, match=r"'x' of Linear must be a (Parameter|Tensor|Module), not float"):
        getattr(m, register)("x", 1.0)


def test_get_by_path():
    m = nn.ModuleDict({"h": nn.ModuleList([Tied()])})
    assert m.get_submodule("") is m
    assert m.get_submodule("h.0.wte") is m["h"][0].wte
    assert m.get_parameter("h.0.wte.weight") is m["h"][0].wte.weight
    assert m.get_buffer("h.0.mask") is m["h"][0].mask
    with pytest.raises(AttributeError, match=r"ModuleList has no '1', looked for in 'h.1.wte'"):
        m.get_submodule("h.1.wte")
    with pytest.raises(AttributeError, match=r"'h.0' is a Tied, not a Parameter"):
        m.get_parameter("h.0")


# Calling -----------------------------------------------------------------------------------------------


def test_a_module_without_forward_says_so():
    with pytest.raises(NotImplementedError, match=r"Module has no forward\(\)"):
        nn.Module()(1)


def test_forward_hooks_see_and_replace():
    m, seen = nn.Identity(), []
    before = m.register_forward_pre_hook(lambda module, inputs: (inputs[0] + 1,))
    after = m.register_forward_hook(lambda module, inputs, output: seen.append((inputs, output)) or output * 10)
    assert m(1) == 20 and seen == [((2,), 2)]
    before.remove()
    assert m(1) == 10
    after.remove()
    assert m(1) == 1
    m.register_forward_pre_hook(lambda module, inputs: 7)  # not a tuple: the one input
    assert m(1) == 7 and nn.Identity()(1) == 1


def test_a_hook_may_remove_itself():
    m, calls = nn.Identity(), []

    def once(module, inputs, output):
        calls.append(output)
        handle.remove()

    handle = m.register_forward_hook(once)
    m.register_forward_hook(lambda module, inputs, output: calls.append(-output))
    m(1), m(2)
    assert calls == [1, -1, -2]


def test_hooks_may_see_keyword_arguments_and_stand_in_front():
    class Scale(nn.Module):
        def forward(self, x, by=1):
            return x * by

    m, order = Scale(), []
    m.register_forward_pre_hook(lambda module, args: order.append("second"))
    m.register_forward_pre_hook(
        lambda module, args, kwargs: order.append("first") or (args, {"by": 5}), prepend=True, with_kwargs=True
    )
    m.register_forward_hook(lambda module, args, kwargs, output: (output, kwargs["by"]), with_kwargs=True)
    assert m(2, by=3) == (10, 5) and order == ["first", "second"]


class TwoIn(nn.Module):
    def forward(self, x, ids, y):
        return x * y, x + y


def test_backward_hooks_see_and_replace_the_gradients():
    m, seen = TwoIn(), []
    handle = m.register_full_backward_hook(lambda module, gi, go: seen.append((gi, go)) or (gi[0] * 10, None, gi[2]))
    x, y = tl.tensor([2.0, 3.0], requires_grad=True), tl.tensor([5.0, 7.0], requires_grad=True)
    product, total = m(x * 1, tl.arange(2), y)
    (product * 2 + total).sum().backward()
    (gi, go) = seen[0]
    assert [None if g is None else g.tolist() for g in gi] == [[11.0, 15.0], None, [5.0, 7.0]]
    assert [g.tolist() for g in go] == [[2.0, 2.0], [1.0, 1.0]]
    assert x.grad.tolist() == [110.0, 150.0] and y.grad.tolist() == [5.0, 7.0]
    handle.remove()
    m(x, None, y)[0].sum().backward()
    assert len(seen) == 1


def backward_hooks(library, numbers):
    """Gradients and what hooks saw, in a network with a layer whose input needs no gradient."""
    m = library.nn.Sequential(library.nn.Linear(3, 4), library.nn.Tanh(), library.nn.Linear(4, 2)).double()
    m.load_state_dict({name: library.tensor(x) for name, x in numbers.items()})
    seen = []
    for layer in m:
        layer.register_full_backward_hook(lambda module, gi, go: seen.extend([*gi, *go]))
    m[1].register_full_backward_hook(lambda module, gi, go: (gi[0] * 2,))
    m(library.tensor(np.linspace(-1, 1, 6).reshape(2, 3))).sum().backward()
    return [None if x is None else x.detach().numpy() for x in (*seen, *(p.grad for p in m.parameters()))]


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
def test_backward_hooks_are_pytorchs(torch):
    m = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    numbers = {name: x.numpy() for name, x in m.state_dict().items()}
    ours, theirs = backward_hooks(tl, numbers), backward_hooks(torch, numbers)
    for a, b in zip(ours, theirs, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_allclose(a, b, atol=1e-12)


def test_backward_hooks_are_called_when_the_gradient_is_differentiated_again():
    m, seen = nn.Tanh(), []
    m.register_full_backward_hook(lambda module, gi, go: seen.append(gi[0]))
    x = tl.tensor([0.3], dtype=tl.float64, requires_grad=True)
    (g,) = tl.grad(m(x).sum(), x, create_graph=True)
    (second,) = tl.grad(g.sum(), x)
    assert seen[0].item() == pytest.approx(1 - math.tanh(0.3) ** 2)
    assert second.item() == pytest.approx(-2 * math.tanh(0.3) * (1 - math.tanh(0.3) ** 2))


def test_a_backward_hook_refuses():
    m = nn.Identity()
    m.register_full_backward_hook(lambda module, gi, go: (tl.ones(7),))
    y = m(tl.ones(2, requires_grad=True))
    shapes = r"gave gradients of the shapes \[\(7,\)\]; expected \[\(2,\)\], those of the inputs"
    with pytest.raises(RuntimeError, match=f"the hook of Identity {shapes}"):
        y.sum().backward()
    with pytest.raises(TypeError, match="output must be a Tensor or a tuple of Tensors, not dict"):
        m({"a": 1})


def test_a_write_through_a_watched_tensor_is_noticed():
    m = nn.Identity()
    m.register_full_backward_hook(lambda module, gi, go: None)
    x, y = tl.ones(2, requires_grad=True), tl.ones(2, requires_grad=True)
    a = m(x)
    loss = (a * a * y).sum()
    with tl.no_grad():
        x.fill_(3.0)
    with pytest.raises(RuntimeError, match="written in place"):
        loss.backward()


def test_train_and_eval_reach_all_modules():
    m = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.Dropout(0.5)))
    assert all(x.training for x in m.modules())
    x = tl.ones(100)
    assert m.eval()(x) is x and not m[1][0].training
    assert m.train() is m and m[1][0].training and (m(x) == 0).any()


def test_a_module_may_refuse_to_train():
    class Frozen(nn.Dropout):
        def train(self, mode=True):
            return super().train(False)

    m = nn.Sequential(nn.Dropout(0.5), Frozen(0.5)).train()
    assert m[0].training and not m[1].training


def test_apply_visits_the_inside_first():
    m, seen = nn.Sequential(nn.Linear(1, 1), nn.Sequential(nn.ReLU())), []
    assert m.apply(lambda x: seen.append(type(x).__name__)) is m
    assert seen == ["Linear", "ReLU", "Sequential", "Sequential"]


def test_freezing_and_forgetting_gradients():
    m = nn.Linear(2, 1).requires_grad_(False)
    assert not any(p.requires_grad for p in m.parameters())
    m.requires_grad_()
    m(tl.ones(1, 2)).sum().backward()
    kept = m.weight.grad.array
    m.zero_grad(set_to_none=False)
    assert m.weight.grad.array is kept and not kept.any()
    m.zero_grad()
    assert m.weight.grad is None and m.bias.grad is None


# Moving ------------------------------------------------------------------------------------------------


def test_converting_keeps_the_parameter_objects():
    m = Tied()
    before = list(m.parameters())
    m(tl.tensor([0, 1])).sum().backward()
    assert m.double() is m
    assert [p is q for p, q in zip(before, m.parameters(), strict=True)] == [True, True]
    assert m.head.weight is m.wte.weight
    assert {p.dtype for p in m.parameters()} == {p.grad.dtype for p in m.parameters()} == {tl.float64}
    assert m.cache.dtype == tl.float64 and m.mask.dtype == tl.bool
    assert m.half().scale.dtype == tl.float16 and m.float().scale.dtype == tl.float32
    assert m.to("cpu", tl.float64).cpu().scale.dtype == tl.float64


def test_a_module_is_not_made_of_integers():
    with pytest.raises(TypeError, match="a module's numbers are floating; it cannot be turned into int64"):
        nn.Linear(2, 2).to(dtype=tl.int64)


def test_converting_between_forward_and_backward_is_noticed():
    m = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    loss = m(tl.ones(1, 2)).sum()
    m.double()
    with pytest.raises(RuntimeError, match="linear"):
        loss.backward()


# State -------------------------------------------------------------------------------------------------


def test_state_dict_shares_memory_and_names_tied_parameters_twice():
    m = Tied()
    state = m.state_dict()
    assert list(state) == ["scale", "mask", "wte.weight", "head.weight"]
    assert type(state) is dict and not any(x.requires_grad for x in state.values())
    assert np.shares_memory(state["head.weight"].array, m.wte.weight.array)
    assert next(iter(m.state_dict(prefix="model."))) == "model.scale"


def test_load_state_dict_copies_into_the_arrays_that_are_there():
    m, source = Tied(), Tied().double()
    arrays = [p.array for p in m.parameters()]
    assert m.load_state_dict(source.state_dict()) == ([], [])
    assert all(p.array is a for p, a in zip(m.parameters(), arrays, strict=True))
    np.testing.assert_allclose(m.wte.weight.detach(), source.wte.weight.detach(), rtol=1e-6)
    assert m.head.weight is m.wte.weight
    m.load_state_dict({name: np.zeros(x.shape) for name, x in m.state_dict().items()})
    assert not m.scale.array.any()


def test_load_state_dict_lists_everything_that_does_not_fit_and_loads_nothing():
    m = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    state = m.state_dict()
    state["1.weight"] = tl.zeros(1, 4)
    state["2.weight"] = tl.zeros(1)
    state["0.bias"] = tl.full((3,), 9.0)
    del state["0.weight"]
    with pytest.raises(RuntimeError) as error:
        m.load_state_dict(state)
    assert str(error.value).splitlines() == [
        "load_state_dict: this does not fit Sequential; nothing was loaded",
        "only in the module:",
        "    0.weight",
        "only in the state_dict:",
        "    2.weight",
        "of another shape:",
        "    1.weight: (1, 4) in the state_dict, (1, 3) in the module",
    ]
    assert not (m[0].bias == 9).any()
    with pytest.raises(RuntimeError, match="of another shape") as error:
        m.load_state_dict(state, strict=False)
    assert "only in" not in str(error.value)
    del state["1.weight"]
    loose = m.load_state_dict(state, strict=False)
    assert loose.missing_keys == ["0.weight", "1.weight"] and loose.unexpected_keys == ["2.weight"]
    assert (m[0].bias == 9).all()


def test_loading_between_forward_and_backward_is_noticed():
    m = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    loss = m(tl.ones(1, 2)).sum()
    m.load_state_dict(m.state_dict())
    with pytest.raises(RuntimeError, match="linear"):
        loss.backward()


def test_state_dict_into_a_dictionary_and_with_the_parameters_themselves():
    m, into = nn.Linear(1, 1), {"a": 1}
    assert m.state_dict(destination=into, prefix="b.") is into and list(into) == ["a", "b.weight", "b.bias"]
    assert m.state_dict(keep_vars=True)["weight"] is m.weight


def test_load_state_dict_may_take_over_the_tensors():
    m, state = Tied(), Tied().double().state_dict()
    weight = m.wte.weight
    loss = m(tl.tensor([0])).sum()
    assert m.load_state_dict(state, assign=True) == ([], [])
    assert m.wte.weight is weight and weight.dtype == tl.float64 and weight.requires_grad
    assert weight.array is state["head.weight"].array
    with pytest.raises(RuntimeError, match="written in place"):
        loss.backward()


def test_modules_are_not_pickled():
    with pytest.raises(TypeError, match=r"a Linear is not pickled: save its numbers, save\(module\.state_dict"):
        pickle.dumps(nn.Linear(1, 1))
    with pytest.raises(TypeError, match="a Linear is not pickled"):
        copy.copy(nn.Linear(1, 1))


def test_deepcopy_keeps_ties_and_cuts_from_the_original():
    m = Tied()
    twin = copy.deepcopy(m)
    assert twin.head.weight is twin.wte.weight is not m.wte.weight
    assert type(twin.scale) is nn.Parameter and names(twin.named_buffers()) == names(m.named_buffers())
    with tl.no_grad():
        twin.scale.fill_(3.0)
    assert m.scale.tolist() == [1.0, 1.0, 1.0]


# Containers --------------------------------------------------------------------------------------------


def test_sequential():
    a, b, c = nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)
    m = nn.Sequential(a, b).append(c)
    x = tl.randn(4, 2)
    np.testing.assert_array_equal(m(x).detach(), c(b(a(x))).detach())
    assert len(m) == 3 and list(m) == [a, b, c] and m[-1] is c and m[1:][0] is b and type(m[1:]) is nn.Sequential
    named = nn.Sequential({"up": a, "down": c})
    assert next(iter(named.state_dict())) == "up.weight" and named.up is a and named[1] is c


def test_module_list():
    a, b, c, d = (nn.Identity() for _ in range(4))
    m = nn.ModuleList([a, b])
    m.extend([c])
    m.insert(1, d)
    assert list(m) == [a, d, b, c] and names(m.named_children()) == ["0", "1", "2", "3"]
    m[-1] = a
    del m[0]
    assert list(m) == [d, b, a] and list(m[::2]) == [d, a] and type(m[1:]) is nn.ModuleList
    with pytest.raises(IndexError):
        m[3]
    with pytest.raises(IndexError):
        m[3] = a
    with pytest.raises(TypeError, match="'3' of ModuleList must be a Module, not int"):
        m.append(1)


def build(nn):
    """What lists do, told by the names of parameters: the same in both libraries."""
    layer = lambda *shape: nn.Linear(*shape, bias=False)
    row, several = nn.Sequential(layer(1, 2), layer(2, 3), layer(3, 4)), nn.ModuleList([layer(1, 1)])
    seen = [list(row[1:].state_dict()), list(row[-1:].state_dict())]
    row.insert(1, layer(2, 2))
    row.extend([layer(4, 5)])
    row[0] = layer(1, 7)
    seen.append([(name, tuple(x.shape)) for name, x in row.state_dict().items()])
    seen.append(tuple(row.pop(-1).weight.shape))
    del row[1]
    seen.append(list((row + nn.Sequential(layer(1, 1))).state_dict()))
    several += [layer(2, 2), layer(3, 3)]
    seen.append([(name, tuple(x.shape)) for name, x in several[1:].state_dict().items()])
    seen.append([(name, tuple(x.shape)) for name, x in (several + nn.ModuleList([layer(9, 9)])).state_dict().items()])
    return [*seen, tuple(several.pop(0).weight.shape), list(several.state_dict()), len(several), len(row)]


def test_lists_are_pytorchs(torch):
    assert build(nn) == build(torch.nn)


def test_parameters_in_lists_and_dictionaries():
    m = nn.Module()
    m.several = nn.ParameterList([tl.ones(2), nn.Parameter(tl.ones(3))])
    m.several.append(tl.ones(4))
    m.named = nn.ParameterDict({"left": tl.ones(5)})
    m.named["right"] = nn.Parameter(tl.ones(6))
    expected = {"several.0": 2, "several.1": 3, "several.2": 4, "named.left": 5, "named.right": 6}
    assert {name: len(p) for name, p in m.named_parameters()} == expected
    assert [len(p) for p in m.several[1:]] == [3, 4] and m.several[-1] is m.several[2] and len(m.several) == 3
    m.several[0] = tl.ones(7)
    assert len(m.several[0]) == 7 and type(m.several[0]) is nn.Parameter
    assert "left" in m.named and list(m.named) == ["left", "right"] and len(m.named.pop("left")) == 5
    assert m.named.get("left") is None and list(m.named.keys()) == ["right"]
    with pytest.raises(TypeError, match="'3' of ParameterList must be a Parameter, not int"):
        m.several.append(1)


def test_module_dict():
    a, b = nn.Linear(1, 1), nn.ReLU()
    m = nn.ModuleDict({"a": a})
    m["b"] = b
    assert list(m) == list(m.keys()) == ["a", "b"] and list(m.values()) == [a, b] and len(m) == 2 and "b" in m
    assert list(m.state_dict()) == ["a.weight", "a.bias"]
    assert m.pop("a") is a and "a" not in m and list(m.items()) == [("b", b)]
    with pytest.raises(KeyError, match="already has an attribute 'forward'"):
        m["forward"] = a
    with pytest.raises(KeyError):
        m["c"]


def modules_to_show(nn, library):
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.ln = nn.LayerNorm(4)
            self.gain = nn.Parameter(library.ones(4))
            self.register_module("nothing", None)

        def extra_repr(self):
            return "width=4"

    return [
        nn.ModuleDict({"h": nn.ModuleList(Block() for _ in range(3)), "drop": nn.Identity()}),
        nn.ModuleList([nn.ReLU(), nn.Tanh(), nn.Tanh()]),
        nn.Sequential(nn.ReLU(), nn.ReLU()),
        nn.ModuleList(),
        nn.Sequential(),
        nn.Module(),
    ]


def test_repr(torch):
    assert list(map(repr, modules_to_show(nn, tl))) == list(map(repr, modules_to_show(torch.nn, torch)))
    lines = ["ParameterList(", "  (0): Parameter containing: [float32 of size 2x3]", ")"]
    assert repr(nn.ParameterList([tl.ones(2, 3)])).splitlines() == lines


# Layers ------------------------------------------------------------------------------------------------


def test_dropout_scales_what_it_keeps():
    tl.manual_seed(0)
    y = nn.Dropout(0.2)(tl.ones(10_000))
    assert set(np.unique(y.numpy())) == {0.0, 1.25} and abs(y.mean().item() - 1) < 0.02
    with pytest.raises(ValueError, match=r"p is a probability, and 1\.5"):
        nn.Dropout(1.5)


def test_layers_are_made_in_a_dtype():
    for layer in (
        nn.Linear(2, 3, dtype=tl.float64),
        nn.LayerNorm(2, dtype=tl.float64),
        nn.Embedding(2, 3, dtype=tl.float64),
    ):
        assert {p.dtype for p in layer.parameters()} == {tl.float64}


# Initial values ----------------------------------------------------------------------------------------

FILLS = [
    ("normal_", {"mean": 1.0, "std": 0.5}),
    ("uniform_", {"a": -1.0, "b": 3.0}),
    ("trunc_normal_", {"mean": 0.2, "std": 1.0, "a": -0.5, "b": 1.0}),
    ("constant_", {"val": 2.5}),
    ("zeros_", {}),
    ("ones_", {}),
    ("xavier_uniform_", {"gain": 2.0}),
    ("xavier_normal_", {}),
    ("kaiming_uniform_", {"a": math.sqrt(5)}),
    ("kaiming_normal_", {"mode": "fan_out", "nonlinearity": "relu"}),
]


@pytest.mark.parametrize("name, options", FILLS, ids=lambda x: str(x))
def test_initial_values_are_distributed_as_pytorchs(torch, name, options):
    tl.manual_seed(0), torch.manual_seed(0)
    ours, theirs = nn.Parameter(tl.empty(400, 300)), torch.empty(400, 300)
    assert getattr(nn.init, name)(ours, **options) is ours
    getattr(torch.nn.init, name)(theirs, **options)
    x, y = ours.detach().numpy(), theirs.numpy()
    assert ours.requires_grad and ours.is_leaf
    np.testing.assert_allclose(
        np.quantile(x, np.linspace(0.1, 0.9, 9)), np.quantile(y, np.linspace(0.1, 0.9, 9)), atol=0.02
    )
    np.testing.assert_allclose(x.std(), y.std(), rtol=0.01)


@pytest.mark.parametrize("layer, bound", [(nn.Linear(100, 300), 0.1), (nn.Linear(10, 300), math.sqrt(0.1))])
def test_linear_starts_uniform(layer, bound):
    for p in layer.parameters():
        assert 0.95 * bound < abs(p.detach().array).max() <= bound


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4), (2, 3, 2)])
def test_orthogonal(shape):
    w = nn.init.orthogonal_(nn.Parameter(tl.empty(shape, dtype=tl.float64)), gain=3).detach().numpy()
    w = w.reshape(shape[0], -1)
    product = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(product, 9 * np.eye(len(product)), atol=1e-12)


def test_orthogonal_favours_no_sign():
    assert nn.init.orthogonal_(tl.empty(0, 3)).shape == (0, 3)
    draws = [nn.init.orthogonal_(tl.empty(2, 2)).numpy()[0, 0] for _ in range(400)]
    assert 120 < sum(x > 0 for x in draws) < 280


def test_eye():
    p = nn.Parameter(tl.zeros(2, 3))
    assert nn.init.eye_(p) is p and p.tolist() == [[1, 0, 0], [0, 1, 0]] and p.requires_grad
    for fill in (nn.init.eye_, nn.init.orthogonal_):
        with pytest.raises(ValueError, match=r"^(eye_|orthogonal_): expected .* not shape \(3,\)"):
            fill(tl.zeros(3))


def test_initial_values_come_from_the_generator():
    draw = lambda: nn.init.trunc_normal_(tl.empty(100), generator=tl.Generator().manual_seed(3)).tolist()
    assert draw() == draw()


def test_gains_are_pytorchs(torch):
    for name in ("linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu"):
        assert nn.init.calculate_gain(name) == pytest.approx(torch.nn.init.calculate_gain(name))
    assert nn.init.calculate_gain("leaky_relu", 0.3) == pytest.approx(torch.nn.init.calculate_gain("leaky_relu", 0.3))


def test_init_refuses():
    with pytest.raises(ValueError, match="'softplus' is not one of linear, conv1d"):
        nn.init.calculate_gain("softplus")
    with pytest.raises(ValueError, match=r"need a weight of shape \(out, in, …\), not \(3,\)"):
        nn.init.xavier_normal_(tl.empty(3))
    with pytest.raises(ValueError, match="mode is 'fan_in' or 'fan_out', not 'fan'"):
        nn.init.kaiming_normal_(tl.empty(3, 3), mode="fan")
    with pytest.raises(ValueError, match=r"only 0.00% of the numbers lie between a=8.0 and b=9.0"):
        nn.init.trunc_normal_(tl.empty(3), a=8.0, b=9.0)


# Utilities ---------------------------------------------------------------------------------------------


def with_gradients(arrays):
    parameters = [nn.Parameter(tl.zeros(a.shape, dtype=tl.float64)) for a in arrays]
    for p, a in zip(parameters, arrays, strict=True):
        p.grad = tl.tensor(a)
    return parameters


ARRAYS = [np.random.default_rng(0).standard_normal(shape) for shape in ((3, 4), (70_000,), ())]


@pytest.mark.parametrize("p", [1, 2, 3, math.inf])
@pytest.mark.parametrize("max_norm", [0.5, 1e9])
def test_clip_grad_norm_is_pytorchs(torch, p, max_norm):
    ours = with_gradients(ARRAYS)
    theirs = [torch.nn.Parameter(torch.zeros(a.shape, dtype=torch.float64)) for a in ARRAYS]
    for q, a in zip(theirs, ARRAYS, strict=True):
        q.grad = torch.tensor(a)
    norm = nn.utils.clip_grad_norm_(ours, max_norm, p)
    expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm, p)
    assert isinstance(norm, tl.Tensor) and norm.shape == () and norm.dtype == tl.float64
    np.testing.assert_allclose(norm, expected, rtol=1e-12)
    for x, y in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(x.grad, y.grad, rtol=1e-12)


def test_clip_grad_norm_of_what_has_no_gradient():
    assert nn.utils.clip_grad_norm_([nn.Parameter(tl.ones(2))], 1.0).item() == 0
    one = with_gradients([np.array([3.0, 4.0])])[0]
    assert nn.utils.clip_grad_norm_(one, 1.0).item() == 5
    np.testing.assert_allclose(one.grad, [0.6, 0.8], rtol=1e-6)


def test_a_norm_that_is_not_finite_can_be_an_error():
    parameters = with_gradients([np.array([1.0, np.nan])])
    with pytest.raises(RuntimeError, match="the norm of the gradients is nan"):
        nn.utils.clip_grad_norm_(parameters, 1.0, error_if_nonfinite=True)
    assert parameters[0].grad[0].item() == 1
    assert math.isnan(nn.utils.clip_grad_norm_(parameters, 1.0).item())
    assert np.isnan(parameters[0].grad.array).all()
    parameters = with_gradients([np.array([1.0, np.inf])])
    assert nn.utils.clip_grad_norm_(parameters, 1.0).item() == math.inf
    np.testing.assert_array_equal(parameters[0].grad, [0, np.nan])  # as in PyTorch


def test_norms_of_float16_are_in_float32():
    p = nn.Parameter(tl.zeros(70_000, dtype=tl.float16))
    p.grad = tl.full((70_000,), 300.0, dtype=tl.float16)  # its square is more than float16 holds
    norm = nn.utils.clip_grad_norm_([p], 1.0)
    assert norm.dtype == tl.float32 and norm.item() == pytest.approx(300 * math.sqrt(70_000), rel=1e-5)
    assert p.grad.dtype == tl.float16 and p.grad[0].item() == pytest.approx(70_000**-0.5, rel=3e-3)


def test_norm_and_clipping_by_themselves(torch):
    ours, theirs = with_gradients(ARRAYS), [torch.nn.Parameter(torch.zeros(a.shape).double()) for a in ARRAYS]
    for q, a in zip(theirs, ARRAYS, strict=True):
        q.grad = torch.tensor(a)
    a, b = (library.nn.utils.get_total_norm([p.grad for p in ps], 3) for library, ps in ((tl, ours), (torch, theirs)))
    np.testing.assert_allclose(a, b, rtol=1e-12)
    nn.utils.clip_grads_with_norm_(ours, 0.5, a), torch.nn.utils.clip_grads_with_norm_(theirs, 0.5, b)
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.grad, q.grad, rtol=1e-12)


@pytest.mark.parametrize(
    "options", [{}, {"batch_first": True}, {"padding_side": "left", "padding_value": -1.0}], ids=str
)
@pytest.mark.parametrize("shapes", [[(2,), (4,), (1,)], [(0, 3), (2, 3)], [(3, 2, 2)]], ids=str)
def test_pad_sequence_is_pytorchs(torch, options, shapes):
    arrays = [np.random.default_rng(0).standard_normal(shape) for shape in shapes]
    ours = [tl.tensor(x, requires_grad=True) for x in arrays]
    theirs = [torch.tensor(x, requires_grad=True) for x in arrays]
    a = nn.utils.rnn.pad_sequence(ours, **options)
    b = torch.nn.utils.rnn.pad_sequence(theirs, **options)
    np.testing.assert_array_equal(a.detach(), b.detach())
    (a * a).sum().backward(), (b * b).sum().backward()
    for x, y in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(x.grad, y.grad)
    ids = nn.utils.rnn.pad_sequence([tl.arange(2), tl.arange(3)], padding_value=-100)
    assert ids.dtype == tl.int64 and ids.tolist() == [[0, 0], [1, 1], [-100, 2]]


def test_pad_sequence_refuses():
    with pytest.raises(ValueError, match=r"all of one shape but for the first dimension, not \[\(2,\), \(2, 3\)\]"):
        nn.utils.rnn.pad_sequence([tl.ones(2), tl.ones(2, 3)])
    with pytest.raises(ValueError, match="expected one sequence at least"):
        nn.utils.rnn.pad_sequence([])
    with pytest.raises(ValueError, match="padding_side is 'left' or 'right', not 'both'"):
        nn.utils.rnn.pad_sequence([tl.ones(2)], padding_side="both")


def test_skip_init():
    before = tl.get_rng_state()
    model = nn.utils.skip_init(nn.Sequential, nn.Linear(2, 3), nn.utils.skip_init(nn.Linear, 3, 4, bias=False))
    assert model[1].weight.shape == (4, 3) and (model[0].bias != 0).any()
    tl.set_rng_state(before)
    nn.utils.skip_init(nn.Embedding, 1 << 14, 1 << 10)
    assert tl.get_rng_state().tolist() == before.tolist()  # nothing was drawn
    with nn.init.skipped():
        x = nn.init.orthogonal_(nn.init.normal_(nn.init.ones_(tl.zeros(2, 2))))
    assert x.tolist() == [[0, 0], [0, 0]] and nn.init.ones_(x).tolist() == [[1, 1], [1, 1]]


def test_clip_grad_value():
    parameters = with_gradients([np.array([-3.0, 0.5, 3.0])])
    nn.utils.clip_grad_value_(parameters, 1.0)
    assert parameters[0].grad.tolist() == [-1.0, 0.5, 1.0]


def test_parameters_as_one_vector():
    m, twin = nn.Linear(2, 3), nn.Linear(2, 3)
    vector = nn.utils.parameters_to_vector(m.parameters())
    assert vector.shape == (9,)
    nn.utils.vector_to_parameters(vector, twin.parameters())
    np.testing.assert_array_equal(twin.weight.detach(), m.weight.detach())
    with pytest.raises(ValueError, match=r"expected a vector of 9 elements, got shape \(8,\)"):
        nn.utils.vector_to_parameters(vector[:8], twin.parameters())


def test_a_network_learns():
    tl.manual_seed(0)
    m = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = tl.optim.AdamW(m.parameters(), lr=0.05)
    x = tl.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y = tl.tensor([[0.0], [1.0], [1.0], [0.0]])
    for _ in range(200):
        loss = F.mse_loss(m(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.01
