"""Who writes to a store is what its lock says."""

import os
from pathlib import Path

import pytest

from fusefs.daemon.writer import wait_until_released, writer_of
from fusefs.errors import DaemonFailed
from fusefs.store import identity


def test_nobody_before_and_after_and_its_pid_while_it_is_locked(tmp_path: Path) -> None:
    assert writer_of(tmp_path) is None
    descriptor = identity.lock(tmp_path)
    assert writer_of(tmp_path) == os.getpid()
    os.close(descriptor)
    assert writer_of(tmp_path) is None


def test_waiting_ends_with_a_deadline(tmp_path: Path) -> None:
    descriptor = identity.lock(tmp_path)
    with pytest.raises(DaemonFailed, match=str(os.getpid())):
        wait_until_released(tmp_path, os.getpid(), 0.01)
    os.close(descriptor)
    wait_until_released(tmp_path, os.getpid(), 0.01)
