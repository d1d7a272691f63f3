"""Work shared by threads: every piece once, errors come through, and no way to wait for ever."""

import os
import subprocess
import sys

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import parallel


@pytest.fixture
def two_threads():
    before = tl.get_num_threads()
    tl.set_num_threads(2)
    yield
    tl.set_num_threads(before)


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_share_runs_each_piece_once(two_threads, count):
    done = []
    parallel.share(done.append, count)
    assert sorted(done) == list(range(count))


@pytest.mark.parametrize(("count", "row_bytes"), [(0, 8), (1, 8), (5, 1 << 24), (1000, 1 << 14), (10**6, 16)])
def test_rows_cover_everything_once(two_threads, count, row_bytes):
    seen = np.zeros(count, int)

    def block(start, stop):
        seen[start:stop] += 1

    parallel.rows(block, count, row_bytes)
    assert (seen == 1).all()


def test_sums_of_blocks_are_added_in_order(two_threads):
    starts, nothing = parallel.sum_of_blocks(lambda start, stop: ([start], None), 8, 1 << 24)
    assert starts == list(range(8))
    assert nothing is None


def test_an_error_in_a_thread_reaches_the_caller(two_threads):
    def piece(i):
        if i == 1:
            raise ValueError("piece 1")

    with pytest.raises(ValueError, match="piece 1"):
        parallel.share(piece, 4)
    test_share_runs_each_piece_once(None, 4)  # and the pool still works


def test_sharing_inside_shared_work_does_not_wait_for_itself(two_threads):
    done = []
    parallel.share(lambda i: parallel.share(done.append, 3), 4)
    assert sorted(done) == sorted([0, 1, 2] * 4)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_makes_threads_of_its_own(two_threads):
    parallel.share(lambda i: None, 4)
    child = os.fork()
    if child == 0:
        done = []
        parallel.share(done.append, 4)
        os._exit(0 if sorted(done) == [0, 1, 2, 3] else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_products_keep_the_users_number_of_threads(two_threads):
    before = [lib.num_threads for lib in parallel._blas()]
    parallel.share(lambda i: None, 4)
    assert [lib.num_threads for lib in parallel._blas()] == before


def test_the_number_of_threads_is_at_least_one():
    with pytest.raises(ValueError, match="at least 1, not 0"):
        tl.set_num_threads(0)


def test_the_bits_do_not_depend_on_the_run(two_threads):
    x = tl.randn(3, 4, 64, 32)
    first, second = (tl.nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True).numpy() for _ in range(2))
    assert np.array_equal(first, second)


def test_openblas_is_told_before_numpy_is_loaded():
    """Its threads shall not spin for long beside ours; what the user has set stays."""
    program = "import os, tensorlite; print(os.environ['OPENBLAS_THREAD_TIMEOUT'])"
    for given, expected in (({}, "20"), ({"OPENBLAS_THREAD_TIMEOUT": "26"}, "26")):
        environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_THREAD_TIMEOUT"} | given
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == expected


def test_infinities_are_silent():
    """log(0) and 0/0 say nothing, forward or backward, as in PyTorch."""
    program = (
        "import tensorlite as tl; x = tl.tensor([0.0, 1.0], requires_grad=True)\n"
        "for f in (tl.log, lambda x: x / x, lambda x: tl.exp(x + 1000), lambda x: x.sqrt()): f(x).sum().backward()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == ""
