"""A daemon that stops itself at a failpoint, so that what a test does then is in the midst of it.

However slow the test or the machine is: the daemon goes on when the test says so.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.system.trashcan import until


def has_stopped(pid: int | None) -> bool:
    """Whether a process has been stopped, by itself or by others."""
    try:
        status = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(b")")[2].split()[0] == b"T"


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Wait until a daemon has stopped itself; afterwards it goes on.

    Meanwhile nobody may touch its mount, which does not answer.
    """
    try:
        until(lambda: has_stopped(pid))
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
