"""Whatever path a user has at hand leads to the store."""

import os
from pathlib import Path

import pytest

from fusefs.daemon import target as target_module
from fusefs.daemon.mounttable import MountTable
from fusefs.daemon.target import Target, real_path, resolve, resolve_inner
from fusefs.errors import NotMounted, UsageError


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    path.mkdir()
    (path / "fusefs.json").write_text("{}")
    return path


@pytest.fixture
def mnt(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mountpoint that the mount table shows, as that of a dead daemon would be."""
    path = tmp_path / "mnt"
    real = MountTable.read()
    holder = real.locate(os.fsencode(tmp_path)).mount  # none in a plain chroot
    parent = holder.mount_id if holder else 0
    line = f"9999 {parent} 0:99 / {path} rw - fuse.fusefs {store} rw"
    table = MountTable((*real.mounts, *MountTable.parse(line.encode()).mounts))
    monkeypatch.setattr(target_module.MountTable, "read", lambda: table)
    return path


def test_a_store_is_a_target_and_so_is_a_path_below_it(store: Path) -> None:
    assert resolve(store) == Target(store, None, None)
    assert resolve(store / "segments" / "1") == Target(store, None, None)


def test_a_store_knows_its_mountpoint(store: Path, mnt: Path) -> None:
    assert resolve(store) == Target(store, mnt, None)


def test_a_mountpoint_and_a_path_below_it_lead_to_the_store(store: Path, mnt: Path) -> None:
    assert resolve(mnt) == Target(store, mnt, b"")
    assert resolve(str(mnt) + "/docs/a.txt") == Target(store, mnt, b"docs/a.txt")


def test_neither_store_nor_mount_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(NotMounted, match=str(tmp_path)):
        resolve(tmp_path)


def test_a_current_directory_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(NotMounted, match="is gone"):
        resolve(".")


def test_inner_paths_may_be_written_from_the_root_of_the_filesystem(store: Path) -> None:
    target = Target(store, None, None)
    assert resolve_inner(target, "docs/a.txt") == b"docs/a.txt"
    assert resolve_inner(target, "/docs/../a.txt") == b"a.txt"


def test_inner_paths_may_lead_through_the_mountpoint(store: Path, mnt: Path) -> None:
    assert resolve_inner(resolve(mnt), str(mnt / "docs")) == b"docs"
    assert resolve_inner(resolve(store), str(mnt / "docs")) == b"docs"


def test_a_destination_outside_of_the_mount_is_refused(store: Path, mnt: Path) -> None:
    with pytest.raises(UsageError, match="/outside"):
        resolve_inner(resolve(mnt), "/outside")


def test_a_destination_in_another_mount_is_refused(store: Path, mnt: Path) -> None:
    with pytest.raises(UsageError, match="another store"):
        resolve_inner(Target(store.parent / "other", None, None), str(mnt / "x"))


def test_real_path_follows_links(tmp_path: Path, store: Path) -> None:
    (tmp_path / "link").symlink_to("store")
    assert real_path(tmp_path / "link") == store
