"""A program whose output is read by another, as in `python -m tensorlite.lens | head`."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """Within it, a reader of standard output that stops reading ends the program, without a traceback.

    The exit code is that of a program which the broken pipe's signal ends, 141. A BrokenPipeError of anything else, as
    of a connection, is raised as ever.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()  # here, since Python would complain of it when it ends
    except BrokenPipeError:
        if not _nobody_reads():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(128 + 13) from None


def _nobody_reads() -> bool:
    """Whether standard output is a pipe whose other end is closed."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
    except (AttributeError, OSError, ValueError):  # Windows; or no real file
        return False
    return any(event & select.POLLERR for _, event in poll.poll(0))
