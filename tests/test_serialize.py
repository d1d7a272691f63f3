"""save and load: what comes back, that no half file is left, and what is refused."""

import json
import math
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import tensorlite as tl
from tensorlite import nn
from tensorlite.serialize import load, peek, save
from tensorlite.stored import from_bfloat16, to_bfloat16


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


def header_and_numbers(header, numbers=b"\0" * 16, size=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if size is None else size).to_bytes(8, "little") + text + numbers


def entry(dtype="F32", shape=(4,), offsets=(0, 16)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


FORGED = {
    "header longer than the file": (header_and_numbers({"a": entry()}, size=1 << 20), "header"),
    "header of 2^63 bytes": (header_and_numbers({"a": entry()}, size=1 << 63), "header"),
    "array beyond the end": (header_and_numbers({"a": entry(shape=[8], offsets=[0, 32])}), "incomplete"),
    "array before the beginning": (header_and_numbers({"a": entry(offsets=[-16, 0])}), "invalid"),
    "offsets that overlap": (header_and_numbers({"a": entry(), "b": entry(offsets=[8, 24])}, b"0" * 24), "offset"),
    "a gap": (header_and_numbers({"a": entry(offsets=[4, 20])}, b"0" * 20), "offset"),
    "bytes that belong to nothing": (header_and_numbers({"a": entry()}, b"0" * 20), "not fully covered"),
    "a shape larger than memory": (header_and_numbers({"a": entry(shape=[2**40, 2**40])}), "overflow|nvalid"),
    "a shape that is not the size": (header_and_numbers({"a": entry(shape=[1])}), "[Ii]nvalid"),
    "a dtype that nobody has": (header_and_numbers({"a": entry("F31")}), "unknown variant"),
    "a dtype that NumPy lacks": (
        header_and_numbers({"a": entry("F8_E4M3", [16])}), "the dtype F8_E4M3, which NumPy lacks; convert it to float32"
    ),
    "one name twice": (header_and_numbers(b'{"a": %(a)s, "a": %(a)s}' % {b"a": json.dumps(entry()).encode()}), "twice"),
}  # fmt: skip


@pytest.mark.parametrize("content, reason", FORGED.values(), ids=FORGED)
def test_forged_files_are_refused_before_memory_is_taken(path, content, reason):
    path.write_bytes(content)
    tracemalloc.start()
    try:
        for read in (load, peek):
            with pytest.raises(ValueError, match=rf"load: .*state\.safetensors is broken: .*({reason})"):
                read(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


offsets = st.integers(-1, 40) | st.sampled_from([2**31, 2**63, 2**64])
entries = st.builds(
    entry,
    st.sampled_from(["F32", "F64", "I64", "U8", "BF16", "F8_E4M3", "f32", ""]),
    st.lists(st.integers(-1, 5) | st.sampled_from([2**32, 2**62]), max_size=3),
    st.lists(offsets, min_size=2, max_size=2) | st.lists(offsets, max_size=3),
)
headers = st.dictionaries(st.sampled_from(["a", "b", "__metadata__"]), entries, max_size=2)


@given(headers | st.binary(max_size=40), st.integers(0, 40), st.none() | st.integers(0, 200))
@example({"a": entry(), "b": entry("U8", [3], [16, 19])}, 19, None)
@example({"a": entry("BF16", [2, 4], [0, 16])}, 16, None)
def test_a_file_is_read_as_the_reference_implementation_does_or_refused(tmp_path_factory, header, count, size):
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = tmp_path_factory.getbasetemp() / "fuzz.safetensors"
    path.write_bytes(header_and_numbers(header, bytes(range(count)), size))
    try:
        ours = load(path)
    except ValueError as error:
        if "NumPy lacks" not in str(error) and path.read_bytes()[8:9] == b"{":
            with pytest.raises((SafetensorError, ValueError, LookupError)):
                load_file(path)
        return
    if "BF16" not in str(header):
        theirs = load_file(path)
        assert ours.keys() == theirs.keys()
        for name in theirs:
            assert ours[name].numpy().tobytes() == theirs[name].tobytes() and ours[name].shape == theirs[name].shape


# Read when asked ---------------------------------------------------------------------------------------


def test_a_mapped_file_is_not_changed_by_writing_into_its_tensors(path):
    save({"x": tl.arange(6.0).view(2, 3), "none": tl.zeros(0, 3), "step": 7}, path)
    before = path.read_bytes()
    state = load(path, mmap=True)
    assert state["x"].tolist() == [[0, 1, 2], [3, 4, 5]] and state["none"].shape == (0, 3) and state["step"] == 7
    state["x"][0, 0] = 9.0
    assert state["x"][0, 0].item() == 9 and path.read_bytes() == before


def test_mapped_and_peeked_at_nothing_is_read(path):
    save({"x": tl.zeros(1 << 20), "name": "a"}, path)
    tracemalloc.start()
    try:
        mapped, seen = load(path, mmap=True), peek(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 19  # of 4 MiB
    finally:
        tracemalloc.stop()
    assert mapped["x"].shape == seen["x"].shape == (1 << 20,) and seen["x"].dtype == "float32" and seen["name"] == "a"


def test_what_is_read_is_in_order_and_in_the_dtype_asked_for(path):
    x = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    save({"x": x, "number": tl.tensor(2.0)}, path)
    stored = peek(path)
    y = stored["x"].T.read(np.float64)
    np.testing.assert_array_equal(y, x.T.astype(np.float64), strict=True)
    assert y.flags.c_contiguous and stored["x"].T.T.read().tolist() == x.tolist()
    np.testing.assert_array_equal(stored["x"].T.map(), x.T)
    assert stored["x"].part((2,), 3).read().tolist() == [3, 4] and stored["number"].read() == 2
    for shape, start in (((4,), 3), ((1,), -1), ((-1,), 0)):
        with pytest.raises(ValueError, match=r"no part of shape|does not lie in a file"):
            stored["x"].part(shape, start)


@given(st.floats(width=32))
@example(3.3895314e38)  # rounds to infinity
def test_bfloat16_is_the_nearest(number):
    torch = pytest.importorskip("torch")
    x = np.array([number], np.float32)
    expected = torch.tensor(x).bfloat16().float().numpy()
    np.testing.assert_array_equal(from_bfloat16(to_bfloat16(x)), expected)


def test_bfloat16_comes_as_float32(path):
    bits = np.array([[0x3F80, 0xC000, 0x4049]], np.uint16)
    path.write_bytes(header_and_numbers({"a": entry("BF16", [1, 3], [0, 6])}, bits.tobytes()))
    for mmap in (True, False):
        x = load(path, mmap=mmap)["a"]
        assert x.dtype == tl.float32 and x.tolist() == [[1, -2, 3.140625]]
