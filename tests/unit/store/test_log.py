"""The log: what was appended is there, what failed is not, what the disk refused stays refused."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fusefs.base import failpoints
from fusefs.errors import DiskFull, StoreError
from fusefs.model.block import Block
from fusefs.store import format
from fusefs.store.format import Record, Torn
from fusefs.store.store import Store
from tests.unit.store.acts import add, block_row, get, put, records, segment, stage

Open = Callable[[], Store]


def file_of(descriptor: int) -> Path:
    return Path(os.readlink(f"/proc/self/fd/{descriptor}"))


def all_open_files() -> list[Path]:
    with os.scandir("/proc/self/fd") as names:
        return [file_of(int(name.name)) for name in names if Path(name.path).is_symlink()]


def test_segments_stay_within_16_mib_and_end_with_a_seal_of_their_blocks(
    open_store: Open, path: Path
) -> None:
    store = open_store()
    contents = [bytes([index]) * 900_000 for index in range(40)]
    numbers = [add(store, content) for content in contents]
    store.close()
    store = open_store()
    for number in (1, 2, 3):
        assert segment(path, number).stat().st_size <= format.SEGMENT_SIZE
        found = records(path, number)
        assert not any(isinstance(one, Torn) for one in found)
        *body, seal = (one for one in found if isinstance(one, Record))
        assert seal.kind == format.SEAL
        blocks = [one for one in body if one.kind == format.BLOCK]
        assert [
            (format.unpack_block(one.body)[0], one.start + format.BLOCK_OVERHEAD) for one in blocks
        ] == [(line.number, line.offset) for line in format.unpack_seal(seal.body)]
        assert [len(format.unpack_block(one.body)[3]) for one in blocks] == [
            line.stored for line in format.unpack_seal(seal.body)
        ]
    assert not segment(path, 4).exists()
    assert [bytes(store.blocks.read(number)) for number in numbers] == contents


def test_all_that_was_written_is_given_out_once_in_large_parts(
    open_store: Open, path: Path
) -> None:
    store = open_store()
    found = []
    for _ in range(40):
        add(store, os.urandom(900_000))
        parts = store.take_written()
        found += [(file_of(one.descriptor).name, one.offset, one.size) for one in parts]
        for one in parts:
            os.close(one.descriptor)
    assert store.take_written() == []
    assert 6 < len(found) < 16
    for name in sorted({name for name, _, _ in found}):
        end = 0
        for offset, size in [rest for its, *rest in found if its == name]:
            assert offset == end
            end += size
        is_newest = name == segment(path, store.newest_segment).name
        assert is_newest or end == segment(path, int(name, 16)).stat().st_size
    add(store, b"sealed")
    store.seal()
    store.sync()
    assert store.take_written() == []


def test_what_was_given_out_is_open_until_it_is_closed(store: Store, path: Path) -> None:
    for _ in range(6):
        add(store, os.urandom(900_000))
    newest = segment(path, store.newest_segment)
    (written,) = store.take_written()
    store.seal()
    (rest,) = store.take_written()
    store.sync()
    assert file_of(written.descriptor) == file_of(rest.descriptor) == newest
    for one in (written, rest):
        os.close(one.descriptor)


def test_what_nobody_takes_does_not_pile_up(store: Store, path: Path) -> None:
    for _ in range(100):
        add(store, os.urandom(900_000))
    sealed, newest = store.newest_segment - 1, store.newest_segment
    found = store.take_written()
    assert [file_of(one.descriptor) for one in found] == [
        segment(path, number) for number in (sealed, newest)
    ]
    for one in found:
        os.close(one.descriptor)
    store.seal()
    store.sync()
    is_of_log = [one.parent == segment(path, 1).parent for one in all_open_files()]
    assert not any(is_of_log)


def test_an_idle_segment_is_sealed_on_demand_and_the_next_append_opens_another(
    store: Store, path: Path
) -> None:
    store.seal()
    assert not segment(path, 1).exists()
    put(store, a=b"1")
    store.seal()
    store.seal()
    put(store, a=b"2")
    assert [one.kind for one in records(path, 1) if isinstance(one, Record)] == [
        format.BATCH, format.SEAL,
    ]  # fmt: skip
    assert [one.kind for one in records(path, 2) if isinstance(one, Record)] == [format.BATCH]


def test_rolling_seals_the_segment_and_begins_the_next_once(store: Store, path: Path) -> None:
    put(store, a=b"1")
    for _ in range(2):
        store.roll()
        assert (store.newest_segment, sorted(store.segments)) == (2, [1, 2])
    last = records(path, 1)[-1]
    assert isinstance(last, Record)
    assert last.kind == format.SEAL
    assert records(path, 2) == []
    put(store, a=b"2")
    assert store.newest_segment == 2


@pytest.mark.parametrize("place", ["log.append", "log.appended", "log.open"])
@pytest.mark.parametrize(("name", "kind"), [("ENOSPC", DiskFull), ("EIO", StoreError)])
def test_an_append_that_fails_leaves_nothing_behind(
    store: Store, open_store: Open, path: Path, place: str, name: str, kind: type[StoreError]
) -> None:
    put(store, a=b"1")
    if place == "log.open":
        store.seal()
    failpoints.arm(f"{place}=1:{name}")
    with pytest.raises(kind):
        put(store, a=b"2")
    assert failpoints.hits()[place] == 1
    failpoints.disarm()
    assert get(store, "a") == b"1"
    put(store, b=b"3")
    store.abandon()
    store = open_store()
    assert (get(store, "a"), get(store, "b")) == (b"1", b"3")
    assert store.replay.cut_bytes == 0


def test_a_short_write_leaves_the_log_as_it_was(
    store: Store, open_store: Open, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, a=b"1")
    size = segment(path, 1).stat().st_size
    writev = os.writev

    def short(descriptor: int, parts: Any) -> int:
        return writev(descriptor, [b"".join(parts)[:9]])

    def full(descriptor: int, data: Any) -> int:
        raise OSError(errno.ENOSPC, "no room")

    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", short)
        patch.setattr(os, "write", full)
        with pytest.raises(DiskFull):
            put(store, a=b"2")
    assert segment(path, 1).stat().st_size == size
    put(store, b=b"3")
    store.abandon()
    store = open_store()
    assert (get(store, "a"), get(store, "b")) == (b"1", b"3")
    assert store.replay.cut_bytes == 0


def test_a_segment_that_cannot_even_be_cut_is_cut_before_the_next_append(
    store: Store, open_store: Open, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, a=b"1")
    size = segment(path, 1).stat().st_size
    writev = os.writev

    def refuse(*_: Any) -> int:
        raise OSError(errno.EPERM, "immutable")

    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", lambda fd, parts: writev(fd, [b"".join(parts)[:9]]))
        for name in ("write", "ftruncate"):
            patch.setattr(os, name, refuse)
        for _ in range(2):
            with pytest.raises(StoreError):
                put(store, a=b"2")
    assert segment(path, 1).stat().st_size > size
    put(store, b=b"3")
    store.abandon()
    store = open_store()
    assert (get(store, "a"), get(store, "b")) == (b"1", b"3")
    assert store.replay.cut_bytes == 0


def test_a_short_write_is_carried_on_where_there_is_room(
    store: Store, open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    writev = os.writev
    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", lambda fd, parts: writev(fd, [b"".join(parts)[:9]]))
        put(store, a=b"value" * 1000)
    store.abandon()
    assert get(open_store(), "a") == b"value" * 1000


def test_an_act_with_more_pieces_than_one_writev_takes_is_written_whole(
    store: Store, open_store: Open
) -> None:
    batch = store.batch()
    numbers = [stage(store, batch, b"%d" % index) for index in range(1500)]
    for number in numbers:
        store.blocks.change_refs(batch, number, 1)
    store.commit(batch)
    store.abandon()
    store = open_store()
    assert [bytes(store.blocks.read(n)) for n in numbers] == [b"%d" % i for i in range(1500)]


def test_blocks_of_a_failed_act_are_not_in_the_seal(store: Store, path: Path) -> None:
    kept = add(store, b"kept")
    failpoints.arm("log.append=1:ENOSPC")
    with pytest.raises(DiskFull):
        add(store, b"lost")
    failpoints.disarm()
    after = add(store, b"after")
    store.seal()
    seal = records(path, 1)[-1]
    assert isinstance(seal, Record)
    assert [line.number for line in format.unpack_seal(seal.body)] == [kept, after]


def test_a_block_of_a_failed_act_is_no_duplicate_for_the_next(store: Store) -> None:
    failpoints.arm("log.append=1:ENOSPC")
    with pytest.raises(DiskFull):
        add(store, b"content")
    failpoints.disarm()
    assert bytes(store.blocks.read(add(store, b"content"))) == b"content"


def test_a_seal_that_fails_can_be_made_later(store: Store, path: Path) -> None:
    add(store, b"content")
    failpoints.arm("log.append=1:ENOSPC")
    with pytest.raises(DiskFull):
        store.seal()
    failpoints.disarm()
    add(store, b"more")
    store.seal()
    found = records(path, 1)
    assert not any(isinstance(one, Torn) for one in found)
    seal = found[-1]
    assert isinstance(seal, Record)
    assert len(format.unpack_seal(seal.body)) == 2


def test_a_failed_fdatasync_is_never_retried_into_success(
    store: Store, open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, a=b"1")
    calls = []

    def refuse(descriptor: int) -> None:
        calls.append(descriptor)
        raise OSError(errno.EIO, "lost")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", refuse)
        with pytest.raises(StoreError, match="fdatasync failed"):
            store.sync()
    assert len(calls) == 1
    for act in (store.sync, store.checkpoint, lambda: put(store, a=b"2")):
        with pytest.raises(StoreError, match="fdatasync failed"):
            act()
    assert get(store, "a") == b"1"
    with pytest.raises(StoreError, match="fdatasync failed"):
        store.close()
    assert get(open_store(), "a") == b"1"  # unlocked, and what the kernel has is there


def test_sync_reaches_every_segment_since_the_last_and_the_directory(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    fdatasync, fsync = os.fdatasync, os.fsync

    def note(real: Callable[[int], None]) -> Callable[[int], None]:
        def noted(descriptor: int) -> None:
            synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
            real(descriptor)

        return noted

    monkeypatch.setattr(os, "fdatasync", note(fdatasync))
    monkeypatch.setattr(os, "fsync", note(fsync))
    put(store, a=b"1")
    store.seal()
    put(store, a=b"2")
    assert store.unsynced_bytes > 0
    store.sync()
    assert store.unsynced_bytes == 0
    names = {str(segment(path, 1)), str(segment(path, 2))}
    assert set(synced) == names | {str(path / "segments")}
    synced.clear()
    store.sync()
    assert synced == [str(segment(path, 2))]


def test_the_row_of_a_block_says_where_it_is(store: Store, path: Path) -> None:
    number = add(store, b"content")
    row = block_row(store, number)
    assert row is not None
    block = Block.unpack(row)
    data = segment(path, block.segment).read_bytes()
    assert data[block.offset : block.offset + block.stored] == b"content"
    assert block.refs == 1
