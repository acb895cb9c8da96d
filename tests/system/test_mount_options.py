"""What each mount option changes, seen from outside."""

import errno
import os
import subprocess

import pytest

from tests.conftest import Mounted, fusefs, run_fusefs

pytestmark = pytest.mark.mount


def test_the_trash_is_hidden_unless_it_is_to_be_shown(mounted: Mounted) -> None:
    (mounted.mnt / "file").touch()
    assert os.listdir(mounted.mnt) == ["file"]
    mounted.remount("-o", "show_trash")
    assert sorted(os.listdir(mounted.mnt)) == [".trash", "file"]
    (mounted.mnt / "file").unlink()
    assert os.listdir(mounted.mnt) == [".trash"]
    assert [p.name for p in (mounted.mnt / ".trash").glob("*/*")] == ["file"]


def test_a_read_only_mount_changes_nothing(mounted: Mounted) -> None:
    (mounted.mnt / "file").write_text("content")
    mounted.umount()
    before = fusefs("fsck", "--json", mounted.store)
    mounted.mount("-o", "ro")
    assert (mounted.mnt / "file").read_text() == "content"
    for act in (
        lambda: (mounted.mnt / "file").write_text("other"),
        lambda: (mounted.mnt / "file").unlink(),
        lambda: (mounted.mnt / "new").mkdir(),
        lambda: os.utime(mounted.mnt / "file"),
    ):
        with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
            act()
    for verb in (["gc", mounted.mnt], ["trash", "restore", mounted.mnt, "1"]):
        done = run_fusefs(*verb)
        assert (done.returncode, "read-only" in done.stderr) == (15, True), done
    mounted.umount()
    assert fusefs("fsck", "--json", mounted.store) == before


@pytest.mark.parametrize(("option", "is_changed"), [("relatime", True), ("noatime", False)])
def test_noatime_keeps_access_times(mounted: Mounted, option: str, is_changed: bool) -> None:
    file = mounted.mnt / "file"
    file.write_text("content")
    os.utime(file, (1, 2))
    mounted.remount("-o", option)
    file.read_text()
    assert (file.stat().st_atime != 1) == is_changed


@pytest.mark.parametrize(("option", "is_changed"), [("diratime", True), ("nodiratime", False)])
def test_nodiratime_keeps_those_of_directories(
    mounted: Mounted, option: str, is_changed: bool
) -> None:
    directory, file = mounted.mnt / "directory", mounted.mnt / "directory/file"
    directory.mkdir()
    file.write_text("content")
    os.utime(file, (1, 2))
    os.utime(directory, (1, 2))
    mounted.remount("-o", option)
    assert os.listdir(directory) == ["file"]
    file.read_text()
    assert (directory.stat().st_atime != 1) == is_changed
    assert file.stat().st_atime != 1


def test_noacl_has_no_access_lists(mounted: Mounted) -> None:
    file = mounted.mnt / "file"
    file.touch()
    command = ["setfacl", "-m", "u:65534:r", str(file)]
    subprocess.run(command, check=True)
    mounted.remount("-o", "noacl")
    refused = subprocess.run(command, capture_output=True, text=True)
    assert "Operation not supported" in refused.stderr


def test_other_users_get_in_with_allow_other_alone(mounted: Mounted) -> None:
    (mounted.mnt / "file").write_text("content")
    mounted.mnt.parent.chmod(0o755)

    # From a directory inside of those that pytest closes to others.
    cat = ["setpriv", "--reuid", "65534", "--clear-groups", "cat", "mnt/file"]
    refused = subprocess.run(cat, cwd=mounted.mnt.parent, capture_output=True, text=True)
    assert "Permission denied" in refused.stderr
    mounted.remount("-o", "allow_other")
    assert subprocess.check_output(cat, cwd=mounted.mnt.parent) == b"content"


def test_writeback_cache_loses_nothing(mounted: Mounted) -> None:
    mounted.remount("-o", "writeback_cache")
    file = mounted.mnt / "file"
    with open(file, "wb") as out:
        for number in range(20_000):
            out.write(b"%07d\n" % number)
    mounted.remount()
    assert file.read_bytes() == b"".join(b"%07d\n" % number for number in range(20_000))
