"""save and load: what comes back, that no half file is left, and what is refused."""

import math
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tensorlite as tl
from tensorlite import nn
from tensorlite.serialize import load, save


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.safetensors"


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
keys = st.text() | st.integers() | st.booleans() | st.none() | st.tuples(st.integers(), st.text())
trees = st.recursive(
    scalars,
    lambda x: st.lists(x) | st.lists(x).map(tuple) | st.dictionaries(keys, x) | st.dictionaries(st.text(), x),
    max_leaves=10,
)


@given(trees)
def test_everything_comes_back_as_it_was(tmp_path_factory, tree):
    path = tmp_path_factory.getbasetemp() / "tree"
    save(tree, path)
    assert repr(load(path)) == repr(tree)  # repr, since 1 == True == 1.0


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "int8", "int32", "int64", "uint8", "uint16", "bool"]
)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_tensors_come_back(path, dtype, shape):
    x = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    save(tl.from_numpy(x), path)
    y = load(path)
    assert type(y) is tl.Tensor and y.dtype == dtype and y.shape == shape
    np.testing.assert_array_equal(y.numpy(), x)
    y.array[...] = 0  # its memory is its own


VIEWS = {
    "transposed": lambda x: x.T,
    "every other": lambda x: x[:, ::2],
    "reversed": lambda x: x[::-1],
    "a column": lambda x: x[1:, 1],
    "broadcast": lambda x: np.broadcast_to(x[0], (3, 4)),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_memory_that_does_not_lie_in_order_is_saved_right(path, view):
    # safetensors 0.8.0 by itself writes other numbers here, without an error.
    x = view(np.arange(12.0).reshape(3, 4))
    save({"x": tl.from_numpy(x), "array": x}, path)
    np.testing.assert_array_equal(load(path)["x"].numpy(), x)
    np.testing.assert_array_equal(load(path)["array"].numpy(), x)


def test_a_training_state_comes_back(path):
    m = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    optimizer = tl.optim.AdamW(m.parameters())
    m(tl.ones(1, 2)).sum().backward()
    optimizer.step()
    save({"model": m.state_dict(), "optimizer": optimizer.state_dict(), "step": 7, "lr": np.float32(0.5)}, path)
    state = load(path)
    assert state["step"] == 7 and state["lr"] == 0.5 and list(state["optimizer"]["state"]) == [0, 1, 2, 3]
    assert state["optimizer"]["param_groups"] == optimizer.state_dict()["param_groups"]
    twin = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    twin.load_state_dict(state["model"])
    np.testing.assert_array_equal(twin[0].weight.detach(), m[0].weight.detach())


def test_a_checkpoint_as_scripts_write_them(path):
    m = nn.Linear(2, 3)
    optimizer = tl.optim.AdamW([{"params": [m.weight]}, {"params": [m.bias], "weight_decay": 0.0}])
    scheduler = tl.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    m(tl.ones(1, 2)).sum().backward()
    optimizer.step()
    checkpoint = {
        "model": m.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "iter": 3,
        "best": math.inf,
        "config": {"bias": True, "dropout": 0.0, "name": "a", "sizes": (1, [2, None]), 7: "seven"},
    }
    save(checkpoint, path)
    loaded = load(path, map_location="cpu", weights_only=True)
    assert list(loaded) == list(checkpoint)
    assert repr(loaded) == repr(checkpoint)  # numbers, their types and the order of keys
    twin = tl.optim.AdamW([{"params": [m.weight]}, {"params": [m.bias]}])
    twin.load_state_dict(loaded["optimizer"])
    assert twin.param_groups[1]["weight_decay"] == 0


def test_tensors_that_share_memory_come_back_with_equal_numbers(path):
    x = tl.arange(6.0).view(2, 3)
    save({"x": x, "same": x, "transposed": x.T, "row": x[1], "flags": x > 2, "none": x[:0], "number": x[1, 2]}, path)
    y = load(path)
    for name, expected in (("x", x), ("same", x), ("transposed", x.T), ("row", x[1]), ("flags", x > 2)):
        np.testing.assert_array_equal(y[name].numpy(), expected.numpy(), strict=True)
    assert y["none"].shape == (0, 3) and y["number"].shape == () and y["number"].item() == 5
    y["x"][0, 0] = 9.0
    assert y["same"][0, 0].item() == 0


def test_modules_and_optimisers_are_not_saved_whole(path):
    m = nn.Linear(1, 1)
    with pytest.raises(
        TypeError, match=r"save: the object is a Linear, .* save its state_dict\(\), and load that into"
    ):
        save(m, path)
    with pytest.raises(TypeError, match=r"save: optimizer is a SGD, and a file holds numbers, not code"):
        save({"optimizer": tl.optim.SGD(m.parameters())}, path)


def test_nan_and_infinity_come_back(path):
    save([math.nan, math.inf, -math.inf], path)
    assert repr(load(path)) == "[nan, inf, -inf]"


def test_names_that_meet_are_told_apart(path):
    save({"a": {"b": tl.tensor(1)}, "a.b": tl.tensor(2)}, path)
    state = load(path)
    assert state["a"]["b"].item() == 1 and state["a.b"].item() == 2


def test_a_parameter_comes_back_as_a_tensor_without_a_gradient(path):
    save({"p": nn.Parameter(tl.ones(2))}, path)
    assert type(load(path)["p"]) is tl.Tensor and not load(path)["p"].requires_grad


def test_others_can_read_a_state_dict(path):
    from safetensors.numpy import load_file

    m = nn.Linear(2, 3)
    save(m.state_dict(), path)
    arrays = load_file(path)
    assert arrays.keys() == {"weight", "bias"}
    np.testing.assert_array_equal(arrays["weight"], m.weight.detach())


def test_files_of_others_can_be_read(path):
    from safetensors.numpy import save_file

    save_file({"a": np.ones(2), "b": np.zeros(3, np.int32)}, path, metadata={"format": "pt"})
    state = load(path, map_location="cpu")
    assert state.keys() == {"a", "b"} and state["b"].dtype == tl.int32 and state["a"].tolist() == [1, 1]


# No half files -----------------------------------------------------------------------------------------


def test_a_save_that_fails_leaves_what_was_there(path, monkeypatch):
    save({"a": 1}, path)

    def fail(arrays, file, metadata):
        file.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr("safetensors.numpy.save_file", fail)
    with pytest.raises(OSError, match="No space left"):
        save({"a": 2}, path)
    assert load(path) == {"a": 1} and list(path.parent.iterdir()) == [path]


def test_what_cannot_be_saved_is_named(path):
    with pytest.raises(TypeError, match=r"save: model\.0\.lr is a function; a file can hold Tensors"):
        save({"model": [{"lr": lambda step: 0.1}]}, path)
    with pytest.raises(TypeError, match="save: the object is a set"):
        save({1}, path)
    assert not list(path.parent.iterdir())


# Refused -----------------------------------------------------------------------------------------------


def test_a_pickle_is_refused(path):
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ValueError, match=r"is a pickle, as torch\.save writes, and reading one runs whatever code"):
        load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    with pytest.raises(ValueError, match="is a pickle"):
        load(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_saves_is_refused(torch, path, zipped):
    torch.save({"a": torch.ones(2)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"is a pickle.*safetensors\.torch\.save_file"):
        load(path)


BROKEN = {
    "is broken: .*incomplete": lambda b: b[:-1],
    "is broken: .*header": lambda b: b[:30],
    "is broken: 'b'": lambda b: b.replace(b'\\"$tensor\\": \\"a', b'\\"$tensor\\": \\"b'),
    "is no safetensors file: it begins with b'.{4,20}'": lambda b: b[:5],
    "is no safetensors file: it begins with b''": lambda b: b"",
    "is no safetensors file: it begins with b'PK and no'": lambda b: b"PK and no more",
}


@pytest.mark.parametrize("message, harm", BROKEN.items(), ids=BROKEN)
def test_broken_files_are_refused(path, message, harm):
    save({"a": tl.ones(100)}, path)
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(ValueError, match=message):
        load(path)


def test_a_file_that_is_not_there(path):
    with pytest.raises(FileNotFoundError):
        load(path)


def test_a_dtype_that_numpy_lacks(torch, path):
    from safetensors.torch import save_file

    save_file({"a": torch.ones(2).bfloat16()}, path)
    with pytest.raises(ValueError, match=r"holds a dtype that NumPy lacks \(.*bfloat16.*\); convert it to float32"):
        load(path)
