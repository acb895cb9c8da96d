"""What stands against mounting is named before anything changes."""

import os
from pathlib import Path

import pytest

from fusefs.daemon import mountpoint as mountpoint_module
from fusefs.daemon.mountpoint import check_device, check_mountpoint, clear_dead_mount, unmount
from fusefs.errors import (
    FuseUnavailable,
    MountpointBusy,
    MountpointMissing,
    MountpointNotEmpty,
    NotMounted,
    UsageError,
)


def test_an_empty_directory_will_do(tmp_path: Path) -> None:
    mnt = tmp_path / "mnt"
    mnt.mkdir()
    check_mountpoint(tmp_path / "store", mnt)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(MountpointMissing, match="mkdir"):
        check_mountpoint(tmp_path / "store", tmp_path / "mnt")


def test_not_a_directory(tmp_path: Path) -> None:
    (tmp_path / "mnt").touch()
    with pytest.raises(MountpointMissing, match="not a directory"):
        check_mountpoint(tmp_path / "store", tmp_path / "mnt")


def test_not_empty(tmp_path: Path) -> None:
    (tmp_path / "mnt" / "sub").mkdir(parents=True)
    with pytest.raises(MountpointNotEmpty):
        check_mountpoint(tmp_path / "store", tmp_path / "mnt")


def test_busy_with_another_mount(tmp_path: Path) -> None:
    with pytest.raises(MountpointBusy, match="proc"):
        check_mountpoint(tmp_path / "store", Path("/proc"))


@pytest.mark.parametrize(("store", "mnt"), [("a", "a/b"), ("a/b", "a"), ("a", "a")])
def test_one_in_the_other(tmp_path: Path, store: str, mnt: str) -> None:
    with pytest.raises(UsageError, match="beside"):
        check_mountpoint(tmp_path / store, tmp_path / mnt)


def test_what_is_no_mount_cannot_be_unmounted(tmp_path: Path) -> None:
    with pytest.raises(NotMounted, match=str(tmp_path)):
        unmount(tmp_path)


def test_only_a_mount_of_our_own_is_cleared(tmp_path: Path) -> None:
    assert not clear_dead_mount(tmp_path / "store", tmp_path)
    assert not clear_dead_mount(tmp_path / "store", Path("/proc"))
    assert os.path.exists("/proc/self")


def test_no_fuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mountpoint_module, "DEVICE", tmp_path / "fuse")
    with pytest.raises(FuseUnavailable, match="modprobe"):
        check_device()
