"""An index that is gone or damaged is made anew, and what cannot be is said before it is done."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from fusefs.base import failpoints
from fusefs.errors import DiskFull, StoreDamaged, StoreLocked
from fusefs.fsck.check import check
from fusefs.model import keys
from fusefs.model.block import Block
from fusefs.store import format, rebuild, snapshot
from fusefs.store import rebuild as rebuild_module
from fusefs.store.format import BATCH, BLOCK, SEAL, Record
from fusefs.store.index import Index
from fusefs.store.rebuild import Plan, Rebuilt
from fusefs.store.salvage import Kind
from fusefs.store.store import Store
from tests.unit import invariants
from tests.unit.clocks import ManualClock
from tests.unit.inprocess import InProcess
from tests.unit.store.acts import flip, records, segment

Contents = dict[bytes, bytes | None]
OLD = "index.old"


def content(number: int) -> bytes:
    return Random(number).randbytes(2000 + number * 997)


def fill(fs: InProcess, first: int, count: int) -> None:
    """Files, each in a segment of its own together with the acts that made it."""
    for number in range(first, first + count):
        fs.write(b"file %d" % number, content(number))
        fs.store.seal()


def destroy(path: Path) -> None:
    shutil.rmtree(path / "index")


def make(path: Path, *, accept_loss: bool = False) -> tuple[Plan, Rebuilt]:
    with rebuild.alone(path):
        plan = rebuild.plan(path)
        return plan, rebuild.apply(plan, accept_loss=accept_loss)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def made(path: Path) -> Contents:
    """What is in the store at `path`: six segments, one file in each, the last one not sealed."""
    fs = InProcess(path, ManualClock())
    fill(fs, 1, 5)
    fs.mkdir(b"dir")
    fs.write(b"dir/last", b"last")
    found = fs.tree_below()
    fs.store.abandon()
    return found


@pytest.fixture
def collected(path: Path) -> Contents:
    """The same with a snapshot, and without some of the segments before it."""
    fs = InProcess(path, ManualClock())
    fill(fs, 1, 8)
    for number in (2, 3, 5):
        fs.unlink(b"file %d" % number)
    for entry in list(fs.trash.entries()):
        fs.unlink(fs.trash.path_in_trash(entry))
    while fs.reap():
        pass
    assert fs.collect().segments >= 3
    fill(fs, 11, 3)
    found = fs.tree_below()
    fs.store.abandon()
    assert (path / "snapshot").exists()
    return found


@pytest.fixture(autouse=True)
def _no_faults() -> Iterator[None]:
    yield
    failpoints.disarm()


def opened(path: Path) -> InProcess:
    return InProcess(path, ManualClock())


def check_whole(path: Path, expected: Contents) -> None:
    """A mount finds everything, replays nothing, and everything adds up."""
    assert check(path, True).problems == ()
    fs = opened(path)
    assert fs.store.replay.batches == 0
    assert fs.tree_below() == expected
    invariants.check(fs.store)
    fs.write(b"after", b"and it goes on")
    fs.remount()
    assert fs.read(b"after") == b"and it goes on"
    invariants.check(fs.store)
    fs.close()


def record_of(path: Path, number: int, kind: int, which: int = 0) -> Record:
    found = [r for r in records(path, number) if isinstance(r, Record) and r.kind == kind]
    return found[which]


# -- what is sound


def garbage(path: Path) -> None:
    size = path.stat().st_size
    path.write_bytes(Random(1).randbytes(size))


INDEXES: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: shutil.rmtree(path / "index"),
    "without its file": lambda path: (path / "index" / "data.mdb").unlink(),
    "empty": lambda path: os.truncate(path / "index" / "data.mdb", 0),
    "cut off": lambda path: os.truncate(path / "index" / "data.mdb", 9000),
    "garbage": lambda path: garbage(path / "index" / "data.mdb"),
    "sound": lambda path: None,
}


@pytest.mark.parametrize("damage", INDEXES.values(), ids=INDEXES)
def test_an_index_is_made_from_the_whole_log(
    path: Path, made: Contents, damage: Callable[[Path], object]
) -> None:
    damage(path)
    had_index = (path / "index").exists()
    plan, done = make(path)
    assert (plan.has_snapshot, plan.start, plan.damages, plan.torn) == (False, (0, 0), (), "")
    assert done.damaged == done.recounted == ()
    assert done.old == (path / OLD if had_index else None)
    assert not (path / "index.new").exists()
    check_whole(path, made)
    assert not (path / OLD).exists()  # the mount was successful


@pytest.mark.parametrize("damage", INDEXES.values(), ids=INDEXES)
def test_an_index_is_made_from_the_snapshot_and_the_log_behind_it(
    path: Path, collected: Contents, damage: Callable[[Path], object]
) -> None:
    damage(path)
    plan, done = make(path)
    assert (plan.has_snapshot, plan.damages) == (True, ())
    assert plan.start > (1, 0)
    assert done.damaged == done.recounted == ()
    check_whole(path, collected)


def test_it_is_the_index_that_was_there(path: Path, collected: Contents) -> None:
    fs = opened(path)
    rows, counters = invariants.rows_in_index(fs.store), fs.store.counters
    totals = fs.store.totals
    fs.store.close()
    destroy(path)
    make(path)
    fs = opened(path)
    assert invariants.rows_in_index(fs.store) == rows
    assert fs.store.counters == counters
    assert fs.store.totals == totals
    fs.close()


def test_a_new_store_has_an_empty_index(path: Path) -> None:
    InProcess(path, ManualClock()).store.abandon()
    for file in (path / "segments").iterdir():
        file.unlink()
    destroy(path)
    _, done = make(path)
    assert done.rows == 0
    fs = opened(path)
    fs.write(b"a", b"1")
    fs.close()


def test_a_torn_tail_is_left_to_the_next_mount(path: Path, made: Contents) -> None:
    newest = max((path / "segments").iterdir())
    size = newest.stat().st_size
    with open(newest, "ab") as file:
        file.write(format.pack_batch({b"~": bytes(100)})[:-1])
    destroy(path)
    plan, _ = make(path)
    assert f"byte {size}" in plan.torn
    assert plan.damages == ()
    assert plan.end == (int(newest.name, 16), size)
    fs = opened(path)
    assert fs.store.replay.cut_bytes == newest.stat().st_size - size + fs.store.replay.cut_bytes
    assert fs.tree_below() == made
    fs.close()


@pytest.mark.parametrize("size", [0, 10])
def test_a_torn_header_ends_the_log_before_it(path: Path, made: Contents, size: int) -> None:
    newest = max((path / "segments").iterdir())
    (newest.parent / format.segment_name(int(newest.name, 16) + 1)).write_bytes(
        b"FUSEFSEG!!"[:size]
    )
    destroy(path)
    plan, _ = make(path)
    assert plan.end == (int(newest.name, 16), newest.stat().st_size)
    check_whole(path, made)


def test_a_map_that_fills_up_is_grown(
    path: Path, made: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs = opened(path)
    for number in range(200):
        batch = fs.store.batch()
        for part in range(100):
            batch.put(b"~%d %d" % (number, part), bytes(4000))
        fs.store.commit(batch)
    rows = invariants.rows_in_index(fs.store)
    fs.store.abandon()
    destroy(path)
    monkeypatch.setattr(rebuild_module, "_COMMIT_BYTES", 1 << 40)
    make(path)
    fs = opened(path)
    assert invariants.rows_in_index(fs.store) == rows
    fs.store.abandon()


def test_many_transactions_make_the_same(
    path: Path, collected: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild_module, "_COMMIT_BATCHES", 2)
    destroy(path)
    make(path)
    check_whole(path, collected)


def test_numbers_are_never_given_out_twice(path: Path) -> None:
    fs = opened(path)
    for name in (b"gone", b"gone as well"):
        fs.write(name, name)
        fs.unlink(name)
    for entry in list(fs.trash.entries()):
        fs.unlink(fs.trash.path_in_trash(entry))
    while fs.reap():
        pass
    counters = fs.store.counters
    fs.store.abandon()
    destroy(path)
    make(path)
    fs = opened(path)
    assert fs.store.counters == counters
    fs.close()


# -- who may


def test_a_store_that_somebody_writes_to_is_refused(path: Path, made: Contents) -> None:
    fs = opened(path)
    with pytest.raises(StoreLocked), rebuild.alone(path):
        pytest.fail("it was admitted")
    fs.close()


def test_a_plan_changes_nothing(path: Path, collected: Contents) -> None:
    def everything() -> dict[Path, bytes]:
        return {one: one.read_bytes() for one in sorted(path.rglob("*")) if one.is_file()}

    destroy(path)
    before = everything()
    rebuild.plan(path)
    assert everything() == before


# -- damage to the snapshot

SNAPSHOTS: dict[str, Callable[[Path], object]] = {
    "one bit": lambda path: flip(path, path.stat().st_size // 2),
    "one bit of the sum": lambda path: flip(path, path.stat().st_size - 1),
    "cut off": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: os.truncate(path, 0),
    "garbage": garbage,
}


@pytest.mark.parametrize("damage", SNAPSHOTS.values(), ids=SNAPSHOTS)
def test_a_damaged_snapshot_is_not_needed_where_all_segments_are_there(
    path: Path, made: Contents, damage: Callable[[Path], object]
) -> None:
    fs = opened(path)
    fs.store.checkpoint()
    fs.store.write_snapshot()
    fs.store.abandon()
    destroy(path)
    damage(path / snapshot.NAME)
    plan, _ = make(path)
    assert not plan.has_snapshot
    assert "damaged" in plan.snapshot
    (path / snapshot.NAME).unlink()
    check_whole(path, made)


@pytest.mark.parametrize("damage", SNAPSHOTS.values(), ids=SNAPSHOTS)
def test_a_damaged_snapshot_is_refused_where_segments_are_gone(
    path: Path, collected: Contents, damage: Callable[[Path], object]
) -> None:
    damage(path / snapshot.NAME)
    with pytest.raises(StoreDamaged, match=r"segments of the log are gone.* Lost are"):
        make(path, accept_loss=True)
    assert (path / "index" / "data.mdb").exists()


def test_a_missing_snapshot_is_refused_where_segments_are_gone(
    path: Path, collected: Contents
) -> None:
    (path / snapshot.NAME).unlink()
    with pytest.raises(StoreDamaged, match="segments of the log are gone"):
        make(path, accept_loss=True)


def test_a_snapshot_without_a_sum_is_read_to_see_whether_it_is_whole(
    path: Path, collected: Contents
) -> None:
    """As an earlier fusefs wrote it."""
    file = path / snapshot.NAME
    os.truncate(file, file.stat().st_size - 40)
    destroy(path)
    plan, _ = make(path)
    assert plan.has_snapshot
    check_whole(path, collected)


def test_a_lost_log_is_refused(path: Path, collected: Contents) -> None:
    for file in (path / "segments").iterdir():
        file.unlink()
    with pytest.raises(StoreDamaged, match="holds no segment"):
        make(path, accept_loss=True)
    (path / "segments").rmdir()
    with pytest.raises(StoreDamaged, match="without the log nothing can be rebuilt"):
        make(path, accept_loss=True)


# -- damage to the log

PLACES: dict[str, Callable[[Record], int]] = {
    "length": lambda record: record.start + 5,
    "checksum": lambda record: record.start + 9,
    "body": lambda record: (record.start + record.end) // 2,
    "end": lambda record: record.end - 1,
}


def damage_record(path: Path, number: int, kind: int, place: str, which: int = 0) -> Record:
    record = record_of(path, number, kind, which)
    flip(segment(path, number), PLACES[place](record))
    return record


@pytest.mark.parametrize("place", PLACES)
def test_a_damaged_block_costs_its_own_bytes_alone(path: Path, made: Contents, place: str) -> None:
    record = damage_record(path, 3, BLOCK, place)
    destroy(path)
    plan, done = make(path)
    (damage,) = plan.damages
    assert damage[:4] == (3, record.start, record.end, Kind.BLOCK)
    assert plan.losses == ()
    fs = opened(path)
    if place in ("length", "checksum"):  # its row says the same
        assert done.damaged == ()
        assert fs.read(b"file 3") == made[b"file 3"]
    else:
        assert [number for number, _ in done.damaged] == [3]
        with pytest.raises(StoreDamaged):
            fs.read(b"file 3")
    for name, data in made.items():
        if data is not None and name != b"file 3":
            assert fs.read(name) == data
    assert fs.names() == sorted(name for name in made if b"/" not in name)
    fs.close()


def test_a_damaged_block_without_a_seal_to_tell_its_end(path: Path, made: Contents) -> None:
    record = damage_record(path, 6, BLOCK, "end")
    destroy(path)
    plan, done = make(path)
    assert plan.damages[0][:4] == (6, record.start, record.end, Kind.BLOCK)
    assert plan.torn == ""
    assert len(done.damaged) == 1


@pytest.mark.parametrize("place", PLACES)
def test_a_damaged_batch_stops_it(path: Path, made: Contents, place: str) -> None:
    damage_record(path, 3, BATCH, place)
    destroy(path)
    with pytest.raises(StoreDamaged, match="--accept-loss"):
        make(path)
    assert not (path / "index").exists()
    assert not (path / "index.new").exists()


@pytest.mark.parametrize("place", PLACES)
def test_behind_a_loss_that_is_accepted_everything_is_applied(
    path: Path, made: Contents, place: str
) -> None:
    """Lost is the batch that made file 3; the one that gave it its content is not, or is too
    where the length of the first cannot be believed."""
    damage_record(path, 3, BATCH, place)
    destroy(path)
    plan, _ = make(path, accept_loss=True)
    (loss,) = plan.losses
    assert (loss.segment, loss.kind) == (3, Kind.BATCH)
    fs = opened(path)
    for name, data in made.items():
        if data is not None and name != b"file 3":
            assert fs.read(name) == data
    fs.close()


def test_references_are_counted_again_behind_a_loss(path: Path) -> None:
    """A lost act took a reference, and a later one says how many there are with that."""
    fs = opened(path)
    for name in (b"one", b"two", b"three"):
        fs.write(name, content(1))
        fs.store.seal()
    fs.store.abandon()
    damage_record(path, 2, BATCH, "body", -1)  # with which the second file got its content
    destroy(path)
    _, done = make(path, accept_loss=True)
    (block,) = done.recounted
    fs = opened(path)
    assert {one.block for one in fs.extents(b"one")} == {block}
    assert fs.extents(b"two") == []
    row = fs.store.get(keys.block(block))
    assert row is not None
    assert Block.unpack(row).refs == 2
    fs.close()
    problems = check(path, True).problems
    assert not [one for one in problems if one.kind in ("references", "totals", "counters")]


@pytest.mark.parametrize("is_accepted", [False, True])
def test_a_missing_segment_is_a_loss(path: Path, collected: Contents, is_accepted: bool) -> None:
    newest = sorted((path / "segments").iterdir())[-2]
    number = int(newest.name, 16)
    newest.unlink()
    destroy(path)
    if not is_accepted:
        with pytest.raises(StoreDamaged, match=f"{newest.name}: is missing"):
            make(path)
        return
    plan, _ = make(path, accept_loss=True)
    assert [one.segment for one in plan.losses] == [number]
    fs = opened(path)
    assert fs.read(b"file 11") == collected[b"file 11"]
    fs.close()


def test_a_missing_segment_before_the_snapshot_takes_its_blocks_along(
    path: Path, made: Contents
) -> None:
    fs = opened(path)
    fs.store.checkpoint()
    fs.store.write_snapshot()
    fs.store.abandon()
    segment(path, 1).unlink()
    destroy(path)
    plan, done = make(path)
    assert plan.damages == ()
    assert [why for _, why in done.damaged] == [f"its segment {format.segment_name(1)} is missing"]


@pytest.mark.parametrize("kind", ["header", "seal"])
def test_damage_by_which_nothing_is_lost_is_told(path: Path, made: Contents, kind: str) -> None:
    at = 20 if kind == "header" else record_of(path, 3, SEAL).start + 8
    flip(segment(path, 3), at)
    destroy(path)
    plan, done = make(path)
    assert [one.kind.value for one in plan.damages] == [kind]
    assert done.damaged == ()
    fs = opened(path)
    assert fs.tree_below() == made
    fs.close()


def test_what_is_behind_damage_in_the_newest_segment_is_no_torn_tail(
    path: Path, made: Contents
) -> None:
    damage_record(path, 6, BATCH, "length")
    destroy(path)
    with pytest.raises(StoreDamaged, match="--accept-loss"):
        make(path)


def test_a_copy_of_a_segment_in_a_file_is_no_part_of_the_log(path: Path, tmp_path: Path) -> None:
    """Its records look as good as any; only their place tells that they are content."""
    other = InProcess(tmp_path / "other", ManualClock())
    other.write(b"evil", b"rows of another store")
    other.close()
    copy = segment(tmp_path / "other", 1).read_bytes()
    fs = opened(path)
    fs.write(b"good", b"good")
    fs.write(b"copy", copy)
    fs.store.seal()
    fs.write(b"more", b"more")
    fs.store.abandon()
    record = record_of(path, 1, BLOCK, 1)
    flip(segment(path, 1), record.start + 5)
    destroy(path)
    plan, _ = make(path)
    assert [one.kind for one in plan.damages] == [Kind.BLOCK]
    fs = opened(path)
    assert fs.read(b"copy") == copy
    assert fs.names() == [b"copy", b"good", b"more"]
    fs.close()


def test_a_segment_of_another_store_is_refused(path: Path, made: Contents, tmp_path: Path) -> None:
    other = InProcess(tmp_path / "other", ManualClock())
    other.close()
    shutil.copy(segment(tmp_path / "other", 1), segment(path, 3))
    with pytest.raises(StoreDamaged, match="segment of another store"):
        make(path)


# -- what may go wrong on the way


@pytest.mark.parametrize(
    "name", ["rebuild.begun", "rebuild.batch", "rebuild.made", "rebuild.set_aside"]
)
def test_a_full_disk_leaves_the_old_index_and_can_be_repeated(
    path: Path, made: Contents, name: str
) -> None:
    before = (path / "index" / "data.mdb").read_bytes()
    failpoints.arm(f"{name}=1:ENOSPC")
    with pytest.raises(DiskFull):
        make(path)
    assert failpoints.hits()[name] == 1
    failpoints.disarm()
    assert (path / "index" / "data.mdb").read_bytes() == before
    assert not (path / "index.new").exists()
    assert not (path / OLD).exists()
    make(path)
    check_whole(path, made)


def test_an_index_that_does_not_hold_what_was_written_is_not_used(
    path: Path, made: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_it = rebuild_module._make

    def made_badly(*arguments: object) -> object:
        done = make_it(*arguments)  # type: ignore[arg-type]
        index = Index(path / "index.new")
        index.apply({keys.block(1): None})
        index.commit({})
        index.close()
        return done

    before = (path / "index" / "data.mdb").read_bytes()
    monkeypatch.setattr(rebuild_module, "_make", made_badly)
    with pytest.raises(StoreDamaged, match=r"\(totals, usage\)"):
        make(path)
    assert (path / "index" / "data.mdb").read_bytes() == before


def test_the_index_that_was_there_first_is_the_one_that_is_kept(path: Path, made: Contents) -> None:
    before = (path / "index" / "data.mdb").read_bytes()
    for _ in range(3):
        _, done = make(path)
        assert done.old == path / OLD
        assert (path / OLD / "data.mdb").read_bytes() == before
    Store.open(path, clock=ManualClock()).abandon()
    assert (path / OLD).exists()
    (path / "index.new").mkdir()  # of one that was killed
    opened(path).close()
    assert not (path / OLD).exists()
    assert not (path / "index.new").exists()
