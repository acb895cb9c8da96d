"""The mount table as the kernel writes it, and paths resolved in it without touching a mount."""

import os
from pathlib import Path

import pytest

from fusefs.daemon.mounttable import MountTable, unescape

TABLE = rb"""27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
22 27 0:21 / /proc rw,relatime - proc proc rw
25 27 0:23 / /shm rw - tmpfs tmpfs rw
30 25 0:27 / /shm rw shared:5 master:3 - tmpfs upper rw
40 27 0:50 / /mnt/my\040data rw,nosuid,nodev - fuse.fusefs /srv/my\040store rw,user_id=0
41 40 0:51 / /mnt/my\040data/disk rw - ext4 /dev/sdb1 rw
42 27 0:50 /docs /docs rw - fuse.fusefs /srv/my\040store rw,user_id=0
43 999 0:52 / /elsewhere rw - fuse.fusefs /srv/other rw
"""


@pytest.fixture
def table() -> MountTable:
    return MountTable.parse(TABLE)


def test_octal_escapes_are_undone() -> None:
    assert unescape(rb"/a\040b\011c\012d\134e\043f") == b"/a b\tc\nd\\e#f"
    assert unescape(rb"/plain\9") == rb"/plain\9"


def test_lines_are_parsed_with_any_number_of_tags(table: MountTable) -> None:
    mount = table.at(b"/mnt/my data")
    assert mount is not None
    assert (mount.is_fusefs, mount.store, mount.path, mount.device) == (
        True,
        Path("/srv/my store"),
        Path("/mnt/my data"),
        b"0:50",
    )


def test_lines_that_are_not_understood_are_skipped() -> None:
    table = MountTable.parse(b"garbage\n1 2 3\nx y 0:1 / / rw - ext4 d rw\n\n" + TABLE)
    assert len(table.mounts) == TABLE.count(b"\n")


def test_the_real_table_has_a_proc() -> None:
    mount = MountTable.read().at(b"/proc")
    assert mount is not None
    assert mount.fstype == b"proc"


def test_the_upper_of_two_stacked_mounts_is_found(table: MountTable) -> None:
    mount = table.at(b"/shm")
    assert mount is not None
    assert mount.source == b"upper"


def test_a_directory_that_is_no_mountpoint_has_no_mount(table: MountTable) -> None:
    assert table.at(b"/mnt") is None
    assert table.at(b"/mnt/my data/docs") is None


def test_mounts_of_a_store_come_newest_first(table: MountTable) -> None:
    assert [m.path for m in table.of_store(Path("/srv/my store"))] == [
        Path("/docs"),
        Path("/mnt/my data"),
    ]


@pytest.mark.parametrize(
    ("path", "inner"),
    [
        (b"/mnt/my data", b""),
        (b"/mnt/my data/", b""),
        (b"/mnt/my data/a/./b//c", b"a/b/c"),
        (b"/mnt/my data/a/../b", b"b"),
        (b"/mnt/../mnt/my data/a\xff", b"a\xff"),
        (b"/docs/x", b"docs/x"),
        (b"/docs", b"docs"),
    ],
)
def test_a_path_below_a_mount_gets_its_inner_path(
    table: MountTable, path: bytes, inner: bytes
) -> None:
    location = table.locate(path)
    assert location.mount is not None
    assert location.mount.is_fusefs
    assert location.inner == inner


def test_another_mount_inside_of_ours_is_not_ours(table: MountTable) -> None:
    location = table.locate(b"/mnt/my data/disk/x")
    assert location.mount is not None
    assert not location.mount.is_fusefs


def test_leaving_a_mount_by_dots_leaves_it(table: MountTable) -> None:
    location = table.locate(b"/mnt/my data/a/../../file")
    assert location.path == b"/mnt/file"
    assert location.mount is not None
    assert location.mount.fstype == b"ext4"


def test_links_outside_of_the_mount_are_followed(tmp_path: Path) -> None:
    mountpoint = tmp_path / "mnt"
    (tmp_path / "relative").symlink_to("mnt")
    (tmp_path / "absolute").symlink_to(tmp_path / "relative")
    line = f"40 27 0:50 / {mountpoint} rw - fuse.fusefs /srv/store rw\n".encode()
    table = MountTable.parse(TABLE + line.replace(b"40 27", b"90 27"))
    location = table.locate(os.fsencode(tmp_path / "absolute" / "a" / "b"))
    assert location.path == os.fsencode(mountpoint / "a" / "b")
    assert location.inner == b"a/b"


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert MountTable.parse(TABLE).locate(os.fsencode(tmp_path / "a")).path


def test_no_system_call_is_made_inside_of_a_mount(
    table: MountTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []

    def readlink(path: bytes) -> bytes:
        asked.append(path)
        raise OSError

    monkeypatch.setattr(os, "readlink", readlink)
    table.locate(b"/mnt/my data/a/b")
    assert asked == [b"/mnt"]


def test_a_relative_path_starts_where_we_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert MountTable.read().locate(b"x").path == os.fsencode(tmp_path.resolve() / "x")
