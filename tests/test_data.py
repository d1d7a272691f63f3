"""Data sets, batches, and the order of batches across a stop and resume."""

import gc
import threading
import time
from collections import namedtuple
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tensorlite as tl
from tensorlite.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    TensorDataset,
    default_collate,
    random_split,
)


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


class Numbers(Dataset):
    """Sample i is i; counts what was fetched."""

    def __init__(self, n):
        self.n, self.fetched = n, []

    def __getitem__(self, index):
        self.fetched.append(index)
        return index

    def __len__(self):
        return self.n


def batches(loader):
    return [batch.tolist() for batch in loader]


def workers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("DataLoader")]


# Data sets ---------------------------------------------------------------------------------------------


def test_a_dataset_without_methods_says_so():
    with pytest.raises(NotImplementedError, match=r"Dataset has no __getitem__\(index\)"):
        Dataset()[0]
    with pytest.raises(NotImplementedError, match=r"Dataset has no __len__\(\)"):
        len(Dataset())


def test_tensor_dataset():
    dataset = TensorDataset(tl.arange(6).view(3, 2), tl.tensor([1.0, 2.0, 3.0]))
    x, y = dataset[1]
    assert len(dataset) == 3 and x.tolist() == [2, 3] and y.item() == 2
    with pytest.raises(ValueError, match=r"must be of one length, not \[2, 3\]"):
        TensorDataset(tl.zeros(2), tl.zeros(3))


def test_subset():
    part = Subset(Numbers(10), [7, 1])
    assert len(part) == 2 and [part[0], part[1]] == [7, 1]


def test_data_sets_one_after_the_other():
    both = Numbers(3) + Numbers(2)
    assert isinstance(both, ConcatDataset) and [both[i] for i in range(5)] == [0, 1, 2, 0, 1]
    assert len(both) == 5 and both[-1] == 1 and both[-5] == 0
    assert len(ConcatDataset([Numbers(0), Numbers(2), Numbers(0)])) == 2
    with pytest.raises(IndexError, match="there is no sample 5 among 5"):
        both[5]
    with pytest.raises(IndexError):
        both[-6]
    with pytest.raises(ValueError, match="got no data sets"):
        ConcatDataset([])


@pytest.mark.parametrize("lengths, sizes", [([7, 3], [7, 3]), ([0.75, 0.25], [8, 2]), ([0.5, 0.25, 0.25], [6, 2, 2])])
def test_random_split(torch, lengths, sizes):
    parts = random_split(Numbers(10), lengths, tl.Generator().manual_seed(1))
    assert [len(part) for part in parts] == sizes
    assert [len(part) for part in torch.utils.data.random_split(range(10), lengths)] == sizes
    assert sorted(i for part in parts for i in part.indices) == list(range(10))
    again = random_split(Numbers(10), lengths, tl.Generator().manual_seed(1))
    assert [part.indices for part in parts] == [part.indices for part in again]


@pytest.mark.parametrize("lengths", [[5, 4], [0.5, 0.4], [11]])
def test_random_split_refuses_what_does_not_add_up(lengths):
    with pytest.raises(ValueError, match="neither to 1 nor to the 10 samples"):
        random_split(Numbers(10), lengths)


# Collating ---------------------------------------------------------------------------------------------

Pair = namedtuple("Pair", "a b")


@pytest.mark.parametrize("samples", [[1, 2], [1.5, 2.0], [True, False], [np.float32(1), np.float32(2)]], ids=str)
def test_numbers_are_collated_as_pytorch_does(torch, samples):
    ours, theirs = default_collate(samples), torch.utils.data.default_collate(samples)
    assert ours.tolist() == theirs.tolist() and str(theirs.dtype) == f"torch.{ours.dtype}"


def test_collate_keeps_the_structure_of_samples():
    sample = {"x": tl.ones(2), "y": (1, np.zeros(3, np.int32)), "name": "a", "pair": Pair(0.5, [True])}
    batch = default_collate([sample, sample])
    assert batch["x"].shape == (2, 2) and batch["y"][0].tolist() == [1, 1] and batch["name"] == ["a", "a"]
    assert batch["y"][1].shape == (2, 3) and batch["y"][1].dtype == tl.int32
    assert type(batch["pair"]) is Pair and batch["pair"].a.tolist() == [0.5, 0.5]
    assert batch["pair"].b[0].dtype == tl.bool


def test_collate_refuses():
    with pytest.raises(ValueError, match=r"samples of the shapes \(2,\), \(3,\) make no batch.*collate_fn"):
        default_collate([tl.ones(2), tl.ones(3)])
    with pytest.raises(TypeError, match="cannot batch object; pass a collate_fn"):
        default_collate([object()])


# Loading -----------------------------------------------------------------------------------------------


def test_batches_in_order():
    assert batches(DataLoader(Numbers(5), 2)) == [[0, 1], [2, 3], [4]]
    assert batches(DataLoader(Numbers(5), 2, drop_last=True)) == [[0, 1], [2, 3]]
    assert batches(DataLoader(Numbers(0), 2)) == []
    assert batches(DataLoader(Numbers(5), 2, sampler=[4, 4, 0])) == [[4, 4], [0]]


@pytest.mark.parametrize(
    "n, size, drop_last", [(5, 2, False), (5, 2, True), (4, 2, False), (1, 2, True), (0, 2, False)]
)
def test_len_is_the_number_of_batches(n, size, drop_last):
    loader = DataLoader(Numbers(n), size, drop_last=drop_last)
    assert len(loader) == len(batches(loader))


def test_shuffle_is_a_new_order_in_each_epoch_and_the_same_for_a_seed():
    make = lambda: DataLoader(Numbers(20), 20, shuffle=True, generator=tl.Generator().manual_seed(5))
    loader, twin = make(), make()
    epochs = [batches(loader)[0] for _ in range(3)]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs) and epochs[0] != epochs[1] != epochs[2]
    assert [batches(twin)[0] for _ in range(3)] == epochs


def test_the_order_follows_the_default_seed_but_not_what_else_draws():
    tl.manual_seed(3)
    first = DataLoader(Numbers(20), 20, shuffle=True)
    tl.manual_seed(3)
    second = DataLoader(Numbers(20), 20, shuffle=True)
    expected = batches(first)
    tl.randn(100)
    assert batches(second) == expected


def test_collate_fn():
    assert list(DataLoader(Numbers(3), 2, collate_fn=tuple)) == [(0, 1), (2,)]


def test_a_dataset_may_give_many_samples_at_once():
    class Tens(Numbers):
        def __getitems__(self, indices):
            return [10 * i for i in indices]

    assert batches(DataLoader(Tens(3), 2)) == [[0, 10], [20]]


def test_a_dataset_needs_only_getitem_and_len():
    assert batches(DataLoader([5, 6, 7], 3)) == [[5, 6, 7]]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"batch_size": 0}, "batch_size and prefetch_factor must be at least 1 .* not 0, 2 and 0"),
        ({"num_workers": -1}, "num_workers at least 0, not 1, 2 and -1"),
        ({"shuffle": True, "sampler": [0]}, "a sampler gives the order"),
        ({"batch_sampler": [[0]], "drop_last": True}, "a batch_sampler gives the batches, so leave batch_size"),
    ],
)
def test_bad_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DataLoader(Numbers(3), **options)


def test_a_stream_has_no_order_to_choose():
    with pytest.raises(ValueError, match="an IterableDataset gives the order"):
        DataLoader(Stream(3), shuffle=True)


# Samplers ----------------------------------------------------------------------------------------------


def test_samplers():
    assert list(SequentialSampler(Numbers(3))) == [0, 1, 2] and len(SequentialSampler(Numbers(3))) == 3
    sampler = RandomSampler(Numbers(10), generator=tl.Generator())
    first, second = list(sampler), list(sampler)
    assert sorted(first) == sorted(second) == list(range(10)) and first != second and len(sampler) == 10
    again = list(RandomSampler(Numbers(3), num_samples=7))
    assert sorted(again[:3]) == sorted(again[3:6]) == [0, 1, 2] and len(again) == 7
    drawn = list(RandomSampler(Numbers(3), replacement=True, num_samples=100))
    assert set(drawn) == {0, 1, 2} and len(drawn) == 100 and all(type(i) is int for i in drawn)
    assert list(RandomSampler([])) == []
    for drop_last, expected in ((False, [[0, 1], [2]]), (True, [[0, 1]])):
        batches = BatchSampler(range(3), 2, drop_last)
        assert list(batches) == expected and len(batches) == len(expected)
    with pytest.raises(ValueError, match="num_samples must be at least 1, not 0"):
        RandomSampler(Numbers(3), num_samples=0)
    with pytest.raises(NotImplementedError, match="Sampler has no __iter__"):
        iter(Sampler())


def test_a_batch_sampler_gives_the_batches():
    loader = DataLoader(Numbers(5), batch_sampler=[[4, 1], [0]])
    assert batches(loader) == batches(loader) == [[4, 1], [0]] and len(loader) == 2 and loader.batch_size is None


def test_without_batches_samples_come_as_they_are():
    loader = DataLoader([(np.ones(2), "a"), (np.zeros(2), "b")], batch_size=None)
    (x, a), (y, b) = loader
    assert x.tolist() == [1, 1] and y.tolist() == [0, 0] and (a, b) == ("a", "b") and len(loader) == 2


class Stream(IterableDataset):
    def __init__(self, n):
        self.n = n

    def __iter__(self):
        return iter(range(self.n))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_is_loaded(workers):
    loader = DataLoader(Stream(5), batch_size=2, num_workers=workers)
    assert batches(loader) == batches(loader) == [[0, 1], [2, 3], [4]]
    assert batches(DataLoader(Stream(5), 2, drop_last=True)) == [[0, 1], [2, 3]]
    assert list(DataLoader(Stream(3), batch_size=None)) == [0, 1, 2]
    with pytest.raises(TypeError):
        len(loader)
    with pytest.raises(NotImplementedError, match="IterableDataset has no __iter__"):
        iter(IterableDataset())


def test_a_stream_goes_on_where_it_was():
    loader = DataLoader(Stream(5), batch_size=2)
    iterator = iter(loader)
    next(iterator)
    resumed = DataLoader(Stream(5), batch_size=2)
    resumed.load_state_dict(loader.state_dict())
    assert batches(resumed) == [[2, 3], [4]] and batches(resumed)[0] == [0, 1]
    list(iterator)
    assert loader.state_dict()["epoch"] == 1 and loader.state_dict()["batches"] == 0


def test_arguments_of_pytorchs_loader_are_taken():
    started = []
    options = {"pin_memory": True, "timeout": 5, "persistent_workers": True, "worker_init_fn": started.append}
    assert batches(DataLoader(Numbers(3), 2, False, None, None, 1, default_collate, **options)) == [[0, 1], [2]]
    assert started == [0]


# Fetching ahead ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_workers", [1, 3])
def test_fetching_ahead_changes_nothing_but_the_time(num_workers):
    make = lambda n: DataLoader(Numbers(23), 4, shuffle=True, num_workers=n, generator=tl.Generator())
    assert [batches(make(num_workers)) for _ in range(2)] == [batches(make(0)) for _ in range(2)]
    assert not workers()


def test_only_so_many_batches_are_fetched_ahead():
    dataset = Numbers(100)
    iterator = iter(DataLoader(dataset, 1, num_workers=2, prefetch_factor=3))
    next(iterator)
    deadline = time.monotonic() + 5
    while len(dataset.fetched) < 6 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.02)
    assert dataset.fetched == list(range(6))  # 2 * 3
    iterator.close()


def test_the_thread_ends_when_the_consumer_breaks_off():
    loader = DataLoader(Numbers(100), 2, num_workers=1)
    for _ in loader:
        assert workers()
        break
    gc.collect()
    assert not workers()
    iterator = iter(loader)
    next(iterator)
    del iterator
    gc.collect()
    assert not workers()


def test_an_exception_while_fetching_ahead_reaches_the_consumer_in_its_turn():
    class Broken(Numbers):
        def __getitem__(self, index):
            if index == 5:
                raise OSError("sample 5 cannot be read")
            return index

    iterator = iter(DataLoader(Broken(10), 2, num_workers=2))
    assert [next(iterator).tolist(), next(iterator).tolist()] == [[0, 1], [2, 3]]
    with pytest.raises(OSError, match="sample 5 cannot be read"):
        next(iterator)
    assert not workers()


# Stop and resume ---------------------------------------------------------------------------------------


def stream(loader, epochs=4):
    for _ in range(epochs):
        yield from batches(loader)


@given(n=st.integers(0, 13), size=st.integers(1, 4), stop=st.integers(0, 20), workers=st.sampled_from([0, 2]))
def test_a_resumed_loader_gives_exactly_what_was_to_come(n, size, stop, workers):
    make = lambda seed: DataLoader(
        Numbers(n), size, shuffle=True, num_workers=workers, generator=tl.Generator().manual_seed(seed)
    )
    expected = list(stream(make(1)))

    loader, seen, state = make(1), [], None
    state = loader.state_dict()
    for _ in range(4):
        for batch in loader:
            if len(seen) < stop:
                seen.append(batch.tolist())
                state = loader.state_dict()

    resumed = make(2)
    resumed.load_state_dict(state)
    came = list(islice((b for _ in range(5) for b in batches(resumed)), len(expected) - len(seen)))
    assert seen + came == expected
    if n:
        assert state["epoch"] == len(seen) // len(loader) and state["batches"] == len(seen) % len(loader)


def test_the_state_can_be_saved_to_a_file(tmp_path):
    loader = DataLoader(Numbers(10), 3, shuffle=True)
    iterator = iter(loader)
    next(iterator)
    tl.save(loader.state_dict(), tmp_path / "state")
    resumed = DataLoader(Numbers(10), 3, shuffle=True)
    resumed.load_state_dict(tl.load(tmp_path / "state"))
    assert batches(resumed) == [batch.tolist() for batch in iterator]


def test_skipped_batches_are_not_fetched():
    loader = DataLoader(Numbers(10), 2)
    iterator = iter(loader)
    next(iterator), next(iterator)
    dataset = Numbers(10)
    resumed = DataLoader(dataset, 2)
    resumed.load_state_dict(loader.state_dict())
    assert batches(resumed) == [[4, 5], [6, 7], [8, 9]] and dataset.fetched == [4, 5, 6, 7, 8, 9]
    assert batches(resumed)[0] == [0, 1]  # the next epoch is whole


def test_an_epoch_given_up_does_not_disturb_the_next():
    loader = DataLoader(Numbers(6), 2)
    old = iter(loader)
    next(old)
    new = iter(loader)
    next(new), next(new)
    next(old)
    assert loader.state_dict()["epoch"] == 1 and loader.state_dict()["batches"] == 2
