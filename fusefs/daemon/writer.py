"""Who holds the lock of a store, asked without taking part.

The lock is the truth about whether a store is served: a socket or a mount may be left over from a
daemon that died, the kernel frees a lock always.
"""

import fcntl
import os
import time
from pathlib import Path

from fusefs.errors import DaemonFailed, NotPermitted
from fusefs.store.identity import LOCK

_POLL_S = 0.02


def writer_of(store: Path) -> int | None:
    """The pid of the process that has `store` open for writing, None if no one has.

    0 where the pid is not known. Raises NotPermitted if the lock may not be looked at.
    """
    try:
        descriptor = os.open(store / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise NotPermitted(f"{store} belongs to another user: try again as its owner") from error
    try:
        # A shared lock that lives for microseconds: as near to "test only" as flock(2) comes.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(descriptor, 32, 0).strip()
        return int(pid) if pid.isdigit() else 0
    finally:
        os.close(descriptor)
    return None


def wait_until_released(store: Path, pid: int, timeout_s: float) -> None:
    """Return when the process `pid` no longer writes to `store`: all that it had is durable then.

    Raises DaemonFailed after `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while writer_of(store) == pid:
        if time.monotonic() > deadline:
            raise DaemonFailed(
                f"process {pid} is still writing to {store} after {timeout_s:.0f} s:"
                f" look at {store}/daemon.log, or for mounts of it in other namespaces"
            )
        time.sleep(_POLL_S)
