"""After any stop: everything that was committed is there, and nothing that was not."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fusefs.base import failpoints
from fusefs.errors import StoreDamaged, StoreError
from fusefs.model import keys
from fusefs.store import format
from fusefs.store import store as store_module
from fusefs.store.format import Record
from fusefs.store.index import Index
from fusefs.store.store import Store
from tests.unit.store.acts import add, flip, get, put, records, segment

Open = Callable[[], Store]


def test_every_commit_survives_a_kill(open_store: Open) -> None:
    store = open_store()
    for index in range(50):
        put(store, **{f"k{index}": b"%d" % index})
    put(store, k3=None)
    number = add(store, b"content")
    store.abandon()
    store = open_store()
    expected = {f"k{i}": b"%d" % i for i in range(50)} | {"k3": None}
    assert {name: get(store, name) for name in expected} == expected
    assert bytes(store.blocks.read(number)) == b"content"
    assert (store.replay.batches, store.replay.blocks, store.replay.cut_bytes) == (52, 1, 0)


def test_recovery_makes_a_checkpoint_so_that_the_next_start_replays_nothing(
    open_store: Open,
) -> None:
    store = open_store()
    put(store, a=b"1")
    store.abandon()
    open_store().abandon()
    store = open_store()
    assert store.replay.batches == 0
    assert get(store, "a") == b"1"


def test_a_checkpoint_bounds_what_is_replayed(open_store: Open) -> None:
    store = open_store()
    put(store, a=b"1")
    assert store.has_uncheckpointed
    store.checkpoint()
    assert not store.has_uncheckpointed
    put(store, b=b"2")
    store.seal()
    put(store, a=b"3")
    store.abandon()
    store = open_store()
    assert store.replay.batches == 2
    assert (get(store, "a"), get(store, "b")) == (b"3", b"2")


def test_commit_makes_the_checkpoint_that_nobody_else_makes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "CHECKPOINT_BATCHES", 5)
    for index in range(19):
        put(store, a=b"%d" % index)
    assert store.is_checkpoint_due
    assert store.statistics().checkpoints == 0
    put(store, a=b"last")
    assert store.statistics().checkpoints == 1
    assert not store.is_checkpoint_due


def test_an_overdue_checkpoint_that_fails_does_not_undo_the_commit(
    store: Store, open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "CHECKPOINT_BATCHES", 1)
    for index in range(3):
        put(store, a=b"%d" % index)
    failpoints.arm("checkpoint.commit=1:ENOSPC")
    put(store, a=b"last")
    assert failpoints.hits()["checkpoint.commit"] == 1
    failpoints.disarm()
    assert get(store, "a") == b"last"
    store.abandon()
    assert get(open_store(), "a") == b"last"


def test_an_index_older_than_the_log_catches_up(open_store: Open, path: Path) -> None:
    store = open_store()
    put(store, a=b"1")
    store.close()
    shutil.copytree(path / "index", path / "old")
    store = open_store()
    put(store, a=b"2", b=b"3")
    number = add(store, b"content")
    store.close()
    shutil.rmtree(path / "index")
    (path / "old").rename(path / "index")
    store = open_store()
    assert (get(store, "a"), get(store, "b")) == (b"2", b"3")
    assert bytes(store.blocks.read(number)) == b"content"


@pytest.mark.parametrize("remains", ["nothing", "directory", "empty file"])
def test_an_index_that_is_gone_is_not_taken_for_an_empty_one(
    open_store: Open, path: Path, remains: str
) -> None:
    store = open_store()
    put(store, a=b"1")
    store.close()
    shutil.rmtree(path / "index")
    if remains != "nothing":
        (path / "index").mkdir()
    if remains == "empty file":
        (path / "index" / "data.mdb").touch()
    for _ in range(2):
        with pytest.raises(StoreDamaged, match="by fusefs rebuild"):
            open_store()


@pytest.mark.parametrize("sign", ["snapshot", "first segment"])
def test_an_empty_index_is_not_taken_for_that_of_a_log_with_a_past(
    open_store: Open, path: Path, sign: str
) -> None:
    store = open_store()
    for _ in range(2):
        put(store, a=b"1")
        store.seal()
    if sign == "snapshot":
        store.checkpoint()
        store.write_snapshot()
    store.close()
    if sign == "first segment":
        segment(path, 1).unlink()
    shutil.rmtree(path / "index")
    (path / "index").mkdir()
    Index(path / "index").close()
    with pytest.raises(StoreDamaged, match="by fusefs rebuild"):
        open_store()
    assert segment(path, 2).exists()


def test_a_torn_tail_is_cut_at_every_byte_of_the_last_record(
    open_store: Open, path: Path, tmp_path: Path
) -> None:
    store = open_store()
    put(store, first=b"kept")
    size = segment(path, 1).stat().st_size
    put(store, last=b"torn")
    store.abandon()
    shutil.copytree(path, tmp_path / "template")
    whole = segment(path, 1).read_bytes()
    for torn_at in range(size, len(whole)):
        shutil.rmtree(path)
        shutil.copytree(tmp_path / "template", path)
        os.truncate(segment(path, 1), torn_at)
        store = open_store()
        assert get(store, "first") == b"kept"
        assert get(store, "last") is None
        assert store.replay.cut_bytes == torn_at - size
        assert segment(path, 1).stat().st_size == size
        tail = whole[size:torn_at]
        kept = path / "cut" / f"{segment(path, 1).name}-{size:08x}"
        assert (kept.read_bytes() == tail) if tail else not kept.exists()
        store.abandon()


def test_zeros_behind_the_log_are_cut_and_not_worth_keeping(open_store: Open, path: Path) -> None:
    store = open_store()
    put(store, a=b"1")
    store.abandon()
    with open(segment(path, 1), "ab") as file:
        file.write(bytes(5000))
    store = open_store()
    assert get(store, "a") == b"1"
    assert store.replay.cut_bytes == 5000
    assert not list((path / "cut").iterdir())


@pytest.mark.parametrize("kind", [format.BLOCK, format.BATCH, format.SEAL])
@pytest.mark.parametrize("place", ["head", "middle", "end"])
def test_a_flipped_byte_ends_the_log_before_its_record(
    open_store: Open, path: Path, kind: int, place: str
) -> None:
    store = open_store()
    put(store, a=b"1")
    add(store, b"content" * 100)
    store.seal()
    store.abandon()
    record = next(
        one for one in reversed(records(path, 1)) if isinstance(one, Record) and one.kind == kind
    )
    end = {"head": record.start, "middle": (record.start + record.end) // 2, "end": record.end - 1}
    flip(segment(path, 1), end[place])
    store = open_store()
    assert get(store, "a") == b"1"
    assert segment(path, 1).stat().st_size == record.start
    assert segment(path, 1).name in store.replay.cut_why
    rows = [key for key, _ in store.scan(keys.BLOCK)]
    assert len(rows) == (1 if kind == format.SEAL else 0)
    put(store, a=b"2")
    store.abandon()
    store = open_store()
    assert get(store, "a") == b"2"
    assert store.replay.cut_bytes == 0


def test_segments_behind_the_damage_are_cut_too_and_kept(open_store: Open, path: Path) -> None:
    store = open_store()
    for index in range(3):
        put(store, a=b"%d" % index)
        store.seal()
    store.abandon()
    third = segment(path, 3).read_bytes()
    batch = records(path, 2)[0]
    assert isinstance(batch, Record)
    flip(segment(path, 2), batch.start + 3)
    store = open_store()
    assert get(store, "a") == b"0"
    assert not segment(path, 3).exists()
    assert (path / "cut" / f"{format.segment_name(3)}-00000000").read_bytes() == third
    put(store, a=b"next")
    store.abandon()
    assert get(open_store(), "a") == b"next"


@pytest.mark.parametrize("size", [0, 1, format.HEADER_SIZE - 1])
def test_a_segment_with_a_torn_header_is_cut_and_the_one_before_untouched(
    open_store: Open, path: Path, size: int
) -> None:
    store = open_store()
    put(store, a=b"1")
    store.seal()
    before = segment(path, 1).read_bytes()
    put(store, b=b"2")
    store.abandon()
    os.truncate(segment(path, 2), size)
    store = open_store()
    assert (get(store, "a"), get(store, "b")) == (b"1", None)
    assert segment(path, 1).read_bytes() == before
    assert not segment(path, 2).exists()
    put(store, b=b"3")
    store.close()
    assert get(open_store(), "b") == b"3"


def test_a_torn_header_of_the_very_first_segment_is_cut(open_store: Open, path: Path) -> None:
    segment(path, 1).write_bytes(b"FUSE")
    store = open_store()
    assert store.replay.cut_bytes == 4
    put(store, a=b"1")
    store.abandon()
    assert get(open_store(), "a") == b"1"


@pytest.mark.parametrize("missing", [2, 3])
@pytest.mark.parametrize("is_clean", [True, False])
def test_a_missing_segment_is_refused_and_nothing_is_changed(
    open_store: Open, path: Path, tmp_path: Path, missing: int, is_clean: bool
) -> None:
    store = open_store()
    put(store, a=b"0")
    store.seal()
    put(store, a=b"1")
    store.checkpoint()
    store.seal()
    put(store, a=b"2")
    if missing == 2:
        store.seal()
        store.abandon()
    elif is_clean:
        store.close()
    else:
        store.checkpoint()
        store.abandon()
    segment(path, missing).rename(tmp_path / "elsewhere")
    before = sorted(os.listdir(path / "segments"))
    with pytest.raises(StoreDamaged, match=f"{format.segment_name(missing)} is missing"):
        open_store()
    assert sorted(os.listdir(path / "segments")) == before
    assert not (path / "cut").exists()
    (tmp_path / "elsewhere").rename(segment(path, missing))
    assert get(open_store(), "a") == b"2"


def test_what_a_dead_process_appended_is_synced_before_the_index_counts_on_it(
    open_store: Open, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    put(store, a=b"1")
    store.seal()
    put(store, a=b"2")
    store.abandon()
    steps = []
    fdatasync, fsync, hit = os.fdatasync, os.fsync, failpoints.hit

    def noted_fdatasync(descriptor: int) -> None:
        steps.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fdatasync(descriptor)

    def noted_fsync(descriptor: int) -> None:
        steps.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    def noted_hit(name: str) -> None:
        steps.append(name)
        hit(name)

    monkeypatch.setattr(os, "fdatasync", noted_fdatasync)
    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(failpoints, "hit", noted_hit)
    open_store()
    before = steps[: steps.index("checkpoint.commit")]
    for wanted in (segment(path, 1), segment(path, 2), path / "segments"):
        assert str(wanted) in before


@pytest.mark.parametrize("is_clean", [True, False])
def test_numbers_are_never_given_out_twice(open_store: Open, is_clean: bool) -> None:
    given: set[tuple[str, int]] = set()
    for round_number in range(3):
        store = open_store()
        counters = store.counters
        number = add(store, b"round %d" % round_number)
        batch = store.batch()
        counters.ino += 1
        counters.cookie += 1
        batch.put(keys.inode(counters.ino), b"row")
        batch.put(keys.order(1, counters.cookie), b"row")
        store.commit(batch)
        batch = store.batch()  # and gone again before anything else happens
        batch.delete(keys.inode(counters.ino))
        batch.delete(keys.order(1, counters.cookie))
        batch.delete(keys.block(number))
        store.commit(batch)
        numbers = {("block", number), ("ino", counters.ino), ("cookie", counters.cookie)}
        assert not numbers & given
        given |= numbers
        if is_clean:
            store.close()
        else:
            store.abandon()


def test_a_failed_checkpoint_loses_nothing(store: Store, open_store: Open) -> None:
    put(store, a=b"1")
    store.checkpoint()
    put(store, a=b"2", b=b"3")
    for place in ("checkpoint.commit", "checkpoint.committed"):
        failpoints.arm(f"{place}=1:EIO")
        with pytest.raises(Exception, match="failpoint"):
            store.checkpoint()
        assert failpoints.hits()[place] == 1
        failpoints.disarm()
        assert (get(store, "a"), get(store, "b")) == (b"2", b"3")
        put(store, c=place.encode())
        assert get(store, "c") == place.encode()
    store.checkpoint()
    store.abandon()
    store = open_store()
    assert (get(store, "a"), get(store, "b")) == (b"2", b"3")
    assert get(store, "c") == b"checkpoint.committed"
    assert store.replay.batches == 0


def test_foreign_files_beside_the_segments_are_left_alone(open_store: Open, path: Path) -> None:
    store = open_store()
    put(store, a=b"1")
    for name in ("note", "not-hexadecimal!", "0000000000000001.bak"):
        (path / "segments" / name).write_bytes(b"mine")
    store.abandon()
    assert get(open_store(), "a") == b"1"
    assert (path / "segments" / "note").read_bytes() == b"mine"


def test_a_log_that_is_shorter_than_at_its_checkpoint_is_told(
    store: Store, open_store: Open
) -> None:
    put(store, a=b"1")
    store.close()
    newest = max((store.path / "segments").iterdir())
    before = newest.stat().st_size
    os.truncate(newest, format.HEADER_SIZE)
    store = open_store()
    assert store.replay.lost_bytes == before - format.HEADER_SIZE
    put(store, b=b"2")
    store.abandon()
    store = open_store()
    assert (get(store, "a"), get(store, "b")) == (b"1", b"2")


def test_an_index_that_cannot_catch_up_is_not_used(store: Store, open_store: Open) -> None:
    """Its rows are of an earlier time: nobody may take them for the present."""
    put(store, a=b"1")
    store.checkpoint()
    put(store, a=b"2")
    newest = max((store.path / "segments").iterdir())
    away = newest.with_name("away")
    newest.rename(away)
    failpoints.arm("checkpoint.commit=1:EIO")
    with pytest.raises(StoreError, match="cannot catch up with the log"):
        store.checkpoint()
    for use in (lambda: get(store, "a"), lambda: put(store, b=b"3"), lambda: store.scan(b"")):
        with pytest.raises(StoreError, match="mount again"):
            list(use() or ())
    away.rename(newest)
    store.checkpoint()
    assert (get(store, "a"), get(store, "b")) == (b"2", None)
    store.abandon()
    assert get(open_store(), "a") == b"2"


def test_damage_that_came_upon_the_log_meanwhile_is_not_passed_over(store: Store) -> None:
    put(store, a=b"1")
    put(store, b=b"2")
    newest = max((store.path / "segments").iterdir())
    flip(newest, newest.stat().st_size - 1)
    failpoints.arm("checkpoint.commit=1:EIO")
    with pytest.raises(StoreError, match="does not verify"):
        store.checkpoint()
    with pytest.raises(StoreError, match="mount again"):
        get(store, "b")
