"""What the instance name of a systemd unit stands for."""

from pathlib import Path

import pytest

from fusefs.base.clock import SystemClock
from fusefs.cli.instance import Instance, load, unescape_path
from fusefs.config.options import StoreOptions
from fusefs.errors import NotAStore, UsageError
from fusefs.store import identity


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("srv-store", "/srv/store"),
        (r"srv-my\x20store\x2d1", "/srv/my store-1"),
        ("-", "/"),
        (r"srv-\xff", "/srv/\udcff"),
    ],
)
def test_escaped_paths(name: str, path: str) -> None:
    assert unescape_path(name) == path


def test_a_file_says_it_all(tmp_path: Path) -> None:
    (tmp_path / "photos.conf").write_text(
        '# photos\n\nSTORE="/srv/my store"\nMOUNTPOINT=/mnt/photos\nOPTIONS=allow_other,noatime\n'
    )
    expected = Instance("/srv/my store", "/mnt/photos", "allow_other,noatime")
    assert load("photos", tmp_path) == expected


def test_a_line_that_is_not_understood_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.conf").write_text("STORE=/srv/x\nMOUNT=/y\n")
    with pytest.raises(UsageError, match=r"x\.conf line 2"):
        load("x", tmp_path)


def _make_store(path: Path, mountpoint: str | None) -> str:
    made = identity.create(path, StoreOptions(), SystemClock().time_ns(), mountpoint)
    identity.write(path, made)
    return str(path).strip("/").replace("-", r"\x2d").replace("/", "-")


def test_a_store_knows_its_mountpoint(tmp_path: Path) -> None:
    name = _make_store(tmp_path / "store", "/mnt/here")
    assert load(name, tmp_path) == Instance(str(tmp_path / "store"), "/mnt/here")


def test_no_mountpoint_anywhere(tmp_path: Path) -> None:
    name = _make_store(tmp_path / "store", None)
    with pytest.raises(UsageError, match="MOUNTPOINT="):
        load(name, tmp_path)


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(NotAStore):
        load("no-such-store", tmp_path)
