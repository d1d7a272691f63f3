"""Damaged files are refused by the documented exception, or read; those with a checksum never with other data."""

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.fuzz import fuzz, kinds, outcome

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="the alarm for what hangs is POSIX's")


def test_a_thousand_damaged_files():
    counts = fuzz(1000, seed=1)
    for what, outcomes in counts.items():
        assert set(outcomes) <= {"refused", "read", "unchanged"}, (what, outcomes)
        assert outcomes["refused"] > 50, (what, outcomes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    found = kinds(tmp_path_factory.mktemp("fuzz"))
    return {what: (kind, kind.path.read_bytes(), kind.read()) for what, kind in found.items()}


@pytest.mark.parametrize("what", ["safetensors", "shard", "index", "checkpoint", "tokenizer"])
def test_hypothesis_finds_no_fault(whole, what):
    kind, content, value = whole[what]

    @given(st.data())
    def check(data):
        at = data.draw(st.integers(0, len(content)))
        end = data.draw(st.integers(at, min(len(content), at + 64)))
        damaged = content[:at] + data.draw(st.binary(max_size=64)) + content[end:]
        assert "FAULT" not in outcome(kind, damaged, content, value)

    import tracemalloc

    tracemalloc.start()
    try:
        check()
    finally:
        tracemalloc.stop()
        kind.path.write_bytes(content)
