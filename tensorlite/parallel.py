"""Work in blocks that fit into the cache, on several threads.

NumPy releases the interpreter's lock inside its loops and products, so Python threads share the work. A whole-array
formula reads and writes main memory once per operation; on a block that stays in a cache it does so once.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from threadpoolctl import ThreadpoolController

# Bytes below which one thread works alone. Between two of NumPy's operations a thread needs the interpreter's lock, and
# waiting for it costs some 30 us, so threads gain only where each has many operations that take longer than that.
SMALL = 2 << 20
ONE_PASS = 8 << 20  # the same for a single pass, which waits for no lock; waking a thread costs some 150 us


def _machine_threads() -> int:
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted):
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_threads = _machine_threads()
_pool: ThreadPoolExecutor | None = None


def get_num_threads() -> int:
    return _threads


def set_num_threads(count: int) -> None:
    """How many threads kernels and products use; default: the cores this process may use, or OMP_NUM_THREADS."""
    global _threads
    if count < 1:
        raise ValueError(f"set_num_threads: the number of threads is at least 1, not {count}")
    _threads = count
    _forget_pool()
    for lib in _blas():
        lib.set_num_threads(count)


def _forget_pool() -> None:
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):  # threads do not survive a fork; the child makes its own
    os.register_at_fork(after_in_child=_forget_pool)

_thread = threading.local()  # .helps: whether this is a thread of the pool


def _start_helping() -> None:
    _thread.helps = True


@cache
def _blas() -> list:
    """The BLAS libraries in this process."""
    return [lib for lib in ThreadpoolController().lib_controllers if lib.user_api == "blas"]


@contextmanager
def _products_of_one_thread() -> Iterator[None]:
    """Inside, a product uses one thread: the others have products of their own."""
    before = [lib.num_threads for lib in _blas()]
    for lib in _blas():
        lib.set_num_threads(1)
    try:
        yield
    finally:
        for lib, count in zip(_blas(), before, strict=True):
            lib.set_num_threads(count)


@cache
def cache_bytes(level: int = 2) -> int:
    """What a block may take: half of a core's L2 cache, or of all the cores' L3, since inputs and outputs share it."""
    try:
        text = Path(f"/sys/devices/system/cpu/cpu0/cache/index{level}/size").read_text().strip()
        return int(text.rstrip("KM")) * (1 << 20 if text.endswith("M") else 1 << 10) // 2
    except (OSError, ValueError):
        return 1 << (18 if level == 2 else 22)


def share(function: Callable[[int], None], count: int) -> None:
    """function(0) … function(count - 1), spread over the threads, each with products of its own thread."""
    global _pool
    workers = min(_threads, count)
    if workers <= 1 or getattr(_thread, "helps", False):  # helpers that waited for helpers would wait for ever
        for i in range(count):
            function(i)
        return
    if _pool is None:
        _pool = ThreadPoolExecutor(_threads - 1, "tensorlite", _start_helping)

    def work(first: int) -> None:
        for i in range(first, count, workers):
            function(i)

    with _products_of_one_thread():
        helpers = [_pool.submit(work, first) for first in range(1, workers)]
        try:
            work(0)
        finally:  # also after an error: nobody may write into arrays that the caller has given up
            wait(helpers)
        for helper in helpers:
            helper.result()


def rows(function: Callable[[int, int], None], count: int, row_bytes: int, one_pass: bool = False) -> None:
    """function(start, stop) on blocks of rows that together are rows 0 … count.

    row_bytes  what one row takes in all the arrays that the function touches
    one_pass   the function reads each row once, as a compiled loop does: blocks are as large as can be

    Of what is written in NumPy, one thread works on blocks that stay in its L2 cache. Several work on larger ones,
    which share the L3: each of their operations must take much longer than the wait for the lock after it.
    """
    size = count * row_bytes
    if one_pass:
        blocks = _threads if size > ONE_PASS else 1
        alone = blocks == 1
    else:
        alone = size <= SMALL or _threads == 1
        blocks = -(-size // cache_bytes()) if alone else -(-size // cache_bytes(3)) * _threads
    blocks = max(1, min(blocks, count))
    bounds = [count * i // blocks for i in range(blocks + 1)]
    if alone:
        for start, stop in itertools.pairwise(bounds):
            function(start, stop)
    else:
        share(lambda i: function(bounds[i], bounds[i + 1]), blocks)


def sum_of_blocks(function: Callable[[int, int], tuple], count: int, row_bytes: int, one_pass: bool = False) -> tuple:
    """What function(start, stop) returns for each block of rows, added up in order: the same bits every time."""
    parts: dict[int, tuple] = {}

    def block(start: int, stop: int) -> None:
        parts[start] = function(start, stop)

    rows(block, count, row_bytes, one_pass)
    ordered = [parts[start] for start in sorted(parts)]
    return tuple([None if column[0] is None else sum(column[1:], column[0]) for column in zip(*ordered, strict=True)])
