"""The disk of a remote is full: it is told, some of it stays free, and room helps by itself."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusefs.errors import RemoteFull
from fusefs.remotes.address import connect
from fusefs.remotes.room import MARGIN_BYTES
from tests.conftest import Mounted, fusefs, run_fusefs
from tests.disks import small_ext4
from tests.remotes.servers import SshSftp
from tests.system.synced import assert_restorable, record
from tests.system.trashcan import until

pytestmark = [
    pytest.mark.mount,
    pytest.mark.root,
    pytest.mark.skipif(os.getuid() != 0, reason="needs to be root"),
]

MIB = 1 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small ext4, with somebody else's file on it."""
    with small_ext4(tmp_path, 128 * MIB, 64 * MIB) as path:
        yield path


def free(disk: Path) -> int:
    room = os.statvfs(disk)
    return room.f_bavail * room.f_frsize


@pytest.mark.parametrize("kind", ["directory", "sftp"])
def test_a_full_remote_is_told_and_goes_on_when_there_is_room(
    mounted: Mounted, disk: Path, tmp_path: Path, kind: str
) -> None:
    mounted.expected = ["sync waits"]
    (disk / "copies").mkdir()
    url = f"file://{disk}/copies"
    server = SshSftp(tmp_path / "server") if kind == "sftp" else None
    try:
        if server:
            server.start()
            url = server.url.replace(f"{server.data}?", f"{disk}/copies?")
        fusefs("remote", "add", mounted.mnt, "small", url)
        (mounted.mnt / "a").write_bytes(os.urandom(4 * MIB))
        fusefs("sync", "now", mounted.mnt)
        (mounted.mnt / "b").write_bytes(os.urandom(64 * MIB))
        done = run_fusefs("sync", "now", mounted.mnt)
        assert done.returncode == RemoteFull.exit_code, done
        assert "no room is left" in done.stderr
        assert free(disk) >= MARGIN_BYTES - MIB  # what names and directories take
        # It is tried again now and then; if something still fits, all is well for a moment.
        until(lambda: "no room is left" in fusefs("sync", "status", mounted.mnt))
        until(lambda: "no room is left" in fusefs("status", mounted.mnt))
        until(lambda: record(mounted, "small")["error_class"] == "RemoteFull")
        (disk / "ballast").unlink()
        fusefs("sync", "wait", mounted.mnt, "--timeout", "170s")
        assert record(mounted, "small")["error"] is None
        mounted.umount()
        assert_restorable(mounted.store, connect(url))
    finally:
        if server:
            server.stop()
