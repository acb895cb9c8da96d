"""A directory is a store or is not, and has one writer; what is refused is named, and unchanged."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fusefs.config.options import StoreOptions
from fusefs.errors import (
    FormatTooNew,
    NotAStore,
    StoreDamaged,
    StoreError,
    StoreExists,
    StoreLocked,
)
from fusefs.store import identity
from fusefs.store.identity import StoreIdentity
from fusefs.store.index import Index
from fusefs.store.store import Store
from tests.unit.clocks import ManualClock

Open = Callable[[], Store]


def change(path: Path, **fields: Any) -> None:
    file = path / "fusefs.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def test_init_says_what_it_made(tmp_path: Path, clock: ManualClock) -> None:
    path = tmp_path / "a" / "b"
    made = Store.init(path, StoreOptions("zstd"), clock=clock, mountpoint="/mnt/x")
    assert identity.read(path) == made
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
    change(path, format=3, uuid=17, compression={"x": 1})
    with pytest.raises(FormatTooNew, match="has format 3"):
        Store.open(path, clock=clock)


def test_an_unknown_required_feature_is_refused_by_name(path: Path, clock: ManualClock) -> None:
    change(path, requires=["encryption", "snapshots", "wings"])
    with pytest.raises(FormatTooNew, match="needs snapshots, wings"):
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


def half_made(path: Path) -> None:
    """As an init leaves it that dies before its last step."""
    (path / "segments").mkdir(parents=True)
    (path / "index").mkdir()
    Index(path / "index").close()
    (path / "fusefs.json.new").write_bytes(b"{")
    (path / "lock").touch()


def test_an_init_that_was_cut_off_can_be_made_again(tmp_path: Path, clock: ManualClock) -> None:
    half_made(tmp_path / "store")
    Store.init(tmp_path / "store", StoreOptions(), clock=clock)
    Store.open(tmp_path / "store", clock=clock).close()


@pytest.mark.parametrize(
    ("step", "refusal"), [("write", StoreLocked), ("lock", StoreExists)], ids=["midst", "end"]
)
def test_an_init_that_meets_another_one_is_refused_and_changes_nothing(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, step: str,
    refusal: type[StoreError],
) -> None:  # fmt: skip
    path = tmp_path / "store"
    theirs: list[StoreIdentity] = []
    known = getattr(identity, step)

    def meanwhile(*arguments: Any) -> Any:
        monkeypatch.setattr(identity, step, known)
        if step == "lock":  # the other one came to its end just before
            theirs.append(Store.init(path, StoreOptions(), clock=clock))
        else:
            with pytest.raises(refusal):
                Store.init(path, StoreOptions(), clock=clock)
        return known(*arguments)

    monkeypatch.setattr(identity, step, meanwhile)
    try:
        theirs.append(Store.init(path, StoreOptions(), clock=clock))
    except refusal:
        assert step == "lock"
    assert [identity.read(path)] == theirs
    Store.open(path, clock=clock).close()


@pytest.mark.parametrize("what", ["a segment", "rows", "a file"])
def test_what_may_be_of_use_is_no_half_made_store(
    tmp_path: Path, clock: ManualClock, what: str
) -> None:
    half_made(tmp_path)
    if what == "a segment":
        (tmp_path / "segments" / f"{1:016x}").touch()
    elif what == "rows":
        index = Index(tmp_path / "index")
        index.apply({b"key": b"value"})
        index.commit({})
        index.close()
    else:
        (tmp_path / "mine").touch()
    with pytest.raises(StoreExists, match="not empty"):
        Store.init(tmp_path, StoreOptions(), clock=clock)


def test_a_full_disk_is_no_reason_not_to_open(
    open_store: Open, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    open_store()
    with pytest.raises(StoreLocked, match="process unknown"):
        open_store()
