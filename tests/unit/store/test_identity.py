"""A directory is a store or is not, and has one writer; what is refused is named, and unchanged."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fusefs.config.options import StoreOptions
from fusefs.errors import FormatTooNew, NotAStore, StoreDamaged, StoreExists, StoreLocked
from fusefs.store.store import Store
from tests.unit.clocks import ManualClock

Open = Callable[[], Store]


def change(path: Path, **fields: Any) -> None:
    file = path / "fusefs.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def test_init_says_what_it_made(tmp_path: Path, clock: ManualClock) -> None:
    path = tmp_path / "a" / "b"
    made = Store.init(path, StoreOptions("zstd"), clock=clock, mountpoint="/mnt/x")
    assert Store.peek(path) == made
    assert made.compression == "zstd"
    assert made.mountpoint == "/mnt/x"
    assert made.created_ns == clock.time_ns()
    assert os.stat(path).st_mode & 0o777 == 0o700


def test_two_stores_are_never_the_same(tmp_path: Path, clock: ManualClock) -> None:
    one = Store.init(tmp_path / "1", StoreOptions(), clock=clock)
    two = Store.init(tmp_path / "2", StoreOptions(), clock=clock)
    assert one.uuid != two.uuid


def test_init_takes_an_empty_directory(tmp_path: Path, clock: ManualClock) -> None:
    Store.init(tmp_path, StoreOptions(), clock=clock)
    Store.open(tmp_path, clock=clock).close()


def test_init_never_touches_what_is_there(path: Path, tmp_path: Path, clock: ManualClock) -> None:
    before = (path / "fusefs.json").read_bytes()
    with pytest.raises(StoreExists, match="is a store already"):
        Store.init(path, StoreOptions(), clock=clock)
    assert (path / "fusefs.json").read_bytes() == before
    full = tmp_path / "full"
    full.mkdir()
    (full / "file").touch()
    with pytest.raises(StoreExists, match="not empty"):
        Store.init(full, StoreOptions(), clock=clock)
    with pytest.raises(StoreExists, match="not a directory"):
        Store.init(full / "file", StoreOptions(), clock=clock)
    assert os.listdir(full) == ["file"]


@pytest.mark.parametrize("what", ["missing", "directory", "file"])
def test_what_is_no_store_is_named_and_left_alone(
    tmp_path: Path, clock: ManualClock, what: str
) -> None:
    path = tmp_path / "thing"
    if what == "directory":
        path.mkdir()
    elif what == "file":
        path.touch()
    with pytest.raises(NotAStore, match="thing is not a fusefs store"):
        Store.open(path, clock=clock)
    assert not path.is_dir() or not os.listdir(path)


def test_a_newer_format_is_refused_even_if_the_rest_is_not_understood(
    path: Path, clock: ManualClock
) -> None:
    change(path, format=2, uuid=17, compression={"x": 1})
    with pytest.raises(FormatTooNew, match="has format 2"):
        Store.open(path, clock=clock)


def test_an_unknown_required_feature_is_refused_by_name(path: Path, clock: ManualClock) -> None:
    change(path, requires=["encryption", "snapshots"])
    with pytest.raises(FormatTooNew, match="needs encryption, snapshots"):
        Store.open(path, clock=clock)


def test_a_field_that_a_later_program_added_is_no_obstacle(path: Path, clock: ManualClock) -> None:
    change(path, colour="blue")
    Store.open(path, clock=clock).close()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format": "one"}'])
def test_a_file_that_makes_no_sense_is_damage(path: Path, clock: ManualClock, text: str) -> None:
    (path / "fusefs.json").write_text(text)
    with pytest.raises(StoreDamaged, match="cannot be read"):
        Store.open(path, clock=clock)


def test_the_second_writer_is_refused_and_told_who_the_first_is(
    store: Store, path: Path, clock: ManualClock
) -> None:
    with pytest.raises(StoreLocked, match=f"in use by process {os.getpid()}"):
        Store.open(path, clock=clock)
    store.close()
    Store.open(path, clock=clock).close()


def test_an_open_that_fails_leaves_the_store_unlocked(
    path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Store, "_replay", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            Store.open(path, clock=clock)
    Store.open(path, clock=clock).close()
