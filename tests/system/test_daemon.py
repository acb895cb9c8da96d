"""The life of a mount, seen from outside: ready, stopped, killed, recovered."""

import errno
import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import COMMAND_TIMEOUT_S, ROOT, Mounted, fusefs, run_fusefs

pytestmark = pytest.mark.mount


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on each program starts as at a user's: with an interpreter, and nothing loaded.

    What a test has of fixtures before this one does not.
    """
    monkeypatch.setenv("FUSEFS_FORKS", "0")


def test_mount_returns_when_the_mount_answers(fresh: None, mounted: Mounted) -> None:
    (mounted.mnt / "file").write_bytes(b"x" * 3_000_000)
    assert (mounted.mnt / "file").stat().st_size == 3_000_000


def test_umount_keeps_everything(fresh: None, mounted: Mounted) -> None:
    (mounted.mnt / "file").write_text("kept")
    mounted.umount()
    assert list(mounted.mnt.iterdir()) == []
    assert not (mounted.store / "control.sock").exists()
    mounted.mount()
    assert (mounted.mnt / "file").read_text() == "kept"


def test_umount_takes_a_store_too(mounted: Mounted) -> None:
    fusefs("umount", mounted.store)
    mounted.wait_for_end()
    assert not mounted.is_mounted


def test_plain_umount_by_root_ends_the_daemon(mounted: Mounted) -> None:
    (mounted.mnt / "file").write_text("kept")
    subprocess.run(["umount", mounted.mnt], check=True)
    mounted.wait_for_end()
    mounted.mount()
    assert (mounted.mnt / "file").read_text() == "kept"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_unmounts_and_keeps_everything(fresh: None, mounted: Mounted, number: int) -> None:
    (mounted.mnt / "file").write_text("kept")
    mounted.kill(number)
    assert not mounted.is_mounted
    mounted.mount()
    assert (mounted.mnt / "file").read_text() == "kept"


def test_a_signal_while_files_are_open_keeps_what_was_written(mounted: Mounted) -> None:
    file = os.open(mounted.mnt / "file", os.O_CREAT | os.O_WRONLY)
    os.write(file, b"kept")
    mounted.kill(signal.SIGTERM)
    assert not mounted.is_mounted
    with pytest.raises(OSError, match="not connected"):
        os.close(file)
    mounted.mount()
    assert (mounted.mnt / "file").read_text() == "kept"


def test_umount_by_force_does_not_wait_for_users(mounted: Mounted) -> None:
    file = os.open(mounted.mnt / "file", os.O_CREAT | os.O_WRONLY)
    os.write(file, b"kept")
    fusefs("umount", "--force", mounted.mnt)
    with pytest.raises(OSError, match="not connected"):
        os.close(file)
    mounted.wait_for_end()
    mounted.mount()
    assert (mounted.mnt / "file").read_text() == "kept"


def test_a_dead_daemon_is_no_empty_directory_and_mount_clears_it(
    fresh: None, mounted: Mounted
) -> None:
    (mounted.mnt / "file").write_text("kept")
    mounted.kill()
    with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
        os.listdir(mounted.mnt)
    mounted.mount()
    assert (mounted.mnt / "file").read_text() == "kept"


def test_a_daemon_that_gives_up_is_no_empty_directory_either(mounted: Mounted) -> None:
    mounted.expected = ["daemon failed", "Traceback", "not everything could be written"]
    (mounted.mnt / "file").write_text("kept")
    mounted.remount(FUSEFS_FAILPOINTS="checkpoint.begin=1:EIO")
    with suppress(OSError):  # if there was something to it already
        (mounted.mnt / "what the checkpoint is for").mkdir()
    mounted.wait_for_end()
    assert "failpoint checkpoint.begin" in mounted.log
    with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
        os.listdir(mounted.mnt)
    mounted.mount()
    assert (mounted.mnt / "file").read_text() == "kept"


def test_stores_and_mountpoints_may_have_any_name(tmp_path: Path) -> None:
    odd = tmp_path / "deep" / ("x" * 120) / os.fsdecode(b"a, b\\040\\ #\t\n\xc3\xa9\xff")
    (odd / "mnt").mkdir(parents=True)
    mounted = Mounted(odd / "store", odd / "mnt")
    try:
        fusefs("init", mounted.store)
        mounted.mount("-o", "noatime")
        (mounted.mnt / "file").write_text("kept")
        status = json.loads(fusefs("status", "--json", mounted.mnt / "file"))
        assert (status["store"], status["mountpoint"]) == (str(mounted.store), str(mounted.mnt))
        mounted.kill()
        mounted.mount()
        assert (mounted.mnt / "file").read_text() == "kept"
        mounted.umount()
    finally:
        mounted.clean_up()
    assert mounted.unexpected() == []


def test_verbs_work_while_the_daemon_is_dead(mounted: Mounted, fresh: None) -> None:
    (mounted.mnt / "file").write_text("kept")
    mounted.kill()
    status = json.loads(fusefs("status", "--json", mounted.mnt / "deep" / "path"))
    assert (status["state"], status["mountpoint"]) == ("dead", str(mounted.mnt))
    assert json.loads(fusefs("info", "--json", mounted.mnt / "file"))
    fusefs("fsck", mounted.mnt)
    fusefs("umount", mounted.mnt)
    assert not mounted.is_mounted


def test_status_knows_mounted_and_not_mounted(mounted: Mounted) -> None:
    status = json.loads(fusefs("status", "--json", mounted.mnt))
    assert (status["state"], status["pid"]) == ("mounted", mounted.pid)
    mounted.umount()
    assert json.loads(fusefs("status", "--json", mounted.store))["state"] == "not mounted"


@pytest.mark.parametrize("verb", ["status", "df", "trash list", "fsck", "info"])
@pytest.mark.parametrize("is_mounted", [True, False], ids=["mounted", "unmounted"])
def test_every_verb_speaks_to_people_and_programs(
    mounted: Mounted, fresh: None, verb: str, is_mounted: bool
) -> None:
    odd = os.fsencode(mounted.mnt) + b"/odd\xff\n"
    Path(os.fsdecode(odd)).write_text("x")
    os.unlink(odd)
    if not is_mounted:
        mounted.umount()
    place = mounted.mnt if is_mounted else mounted.store
    shown = fusefs(*verb.split(), place)
    assert shown.isprintable() or set(shown) - {"\n"}
    record = fusefs(*verb.split(), "--json", place)
    assert record.isascii()
    assert isinstance(json.loads(record), dict | list)
    if verb == "trash list":
        assert r"odd\xff\x0a" in shown
        assert json.loads(record)[0]["original_path"].endswith("odd\udcff\n")


@pytest.mark.parametrize("is_mounted", [True, False], ids=["mounted", "unmounted"])
def test_restore(mounted: Mounted, fresh: None, is_mounted: bool) -> None:
    (mounted.mnt / "docs").mkdir()
    (mounted.mnt / "docs" / "a.txt").write_text("kept")
    (mounted.mnt / "docs" / "a.txt").unlink()
    if is_mounted:
        fusefs("trash", "restore", mounted.mnt / "docs" / "a.txt")
    else:
        mounted.umount()
        fusefs("trash", "restore", mounted.store, "docs/a.txt")
        mounted.mount()
    assert (mounted.mnt / "docs" / "a.txt").read_text() == "kept"


def test_restore_never_overwrites_but_takes_another_name(mounted: Mounted) -> None:
    file = mounted.mnt / "a.txt"
    file.write_text("old")
    file.unlink()
    file.write_text("new")
    done = run_fusefs("trash", "restore", file)
    assert done.returncode == 32
    assert file.read_text() == "new"
    number = json.loads(fusefs("trash", "list", "--json", mounted.mnt))[0]["id"]
    fusefs("trash", "restore", mounted.mnt, str(number), "--to", mounted.mnt / "b.txt")
    assert (file.read_text(), (mounted.mnt / "b.txt").read_text()) == ("new", "old")


def test_systemd_is_told(store: Path, mnt: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(COMMAND_TIMEOUT_S)
        environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"}
        daemon = subprocess.Popen(
            [sys.executable, "-m", "fusefs", "mount", "--foreground", store, mnt],
            env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            said: list[str] = []
            while not any(s.startswith("READY=1") for s in said):
                said.append(manager.recv(4096).decode())
            assert os.path.ismount(mnt)
            while said.count("WATCHDOG=1") < 3:
                said.append(manager.recv(4096).decode())
            daemon.send_signal(signal.SIGTERM)
            while not any(s.startswith("STOPPING=1") for s in said):
                said.append(manager.recv(4096).decode())
            while not said[-1].startswith("EXTEND_TIMEOUT_USEC="):
                said.append(manager.recv(4096).decode())
            _, log = daemon.communicate(timeout=COMMAND_TIMEOUT_S)
        finally:
            run_fusefs("umount", "--force", mnt)
            if daemon.poll() is None:
                daemon.kill()
                daemon.wait()
    assert daemon.returncode == 0
    assert " INFO fusefs.daemon.daemon: mounted" in log
    assert " WARNING " not in log


def test_status_watched_at_a_terminal(mounted: Mounted) -> None:
    parent, child = pty.openpty()
    viewer = subprocess.Popen(
        [sys.executable, "-m", "fusefs", "status", "--watch", "-n", "0.1", mounted.mnt],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"},
        stdin=child,
        stdout=child,
        stderr=child,
    )
    os.close(child)
    try:
        seen = b""
        while seen.count(b"Ctrl-C") < 3:
            assert select.select([parent], [], [], COMMAND_TIMEOUT_S)[0]
            seen += os.read(parent, 65536)
        viewer.send_signal(signal.SIGINT)
        assert viewer.wait(COMMAND_TIMEOUT_S) == 130
    finally:
        viewer.kill()
        viewer.wait()
        os.close(parent)
