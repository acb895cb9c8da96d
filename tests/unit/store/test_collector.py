"""Space comes back, and nothing that is needed goes."""

from collections.abc import Callable, Container
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from fusefs.base import failpoints
from fusefs.model import keys
from fusefs.model.block import Block
from fusefs.store import format
from fusefs.store.collector import Collector, reading_segments
from fusefs.store.margins import DEFAULT, Margins
from fusefs.store.recovery import list_segments
from fusefs.store.store import Store
from fusefs.store.usage import needed_bytes
from tests.unit.store.acts import add, block_row, flip, put, segment

Open = Callable[[], Store]
MIB = 1 << 20


def content(number: int) -> bytes:
    return Random(number).randbytes(100_000 + number)


def drop(store: Store, *numbers: int) -> None:
    """Nothing needs these blocks any more."""
    batch = store.batch()
    for number in numbers:
        store.blocks.change_refs(batch, number, -1)
    store.commit(batch)


def collect(store: Store, margins: Margins = DEFAULT) -> list[int]:
    """A whole collection; returns the segments that are gone."""
    collector = Collector(store, margins)
    emptied = {}
    plan = collector.plan()
    collector.prepare(plan)
    for one in plan.segments:
        held = collector.read(one.number)
        for block in held:
            collector.move(one.number, [block])
        emptied[one.number] = [block.number for block in held]
    store.checkpoint()
    store.write_snapshot()
    return [number for number, _ in collector.delete(emptied)]


def delete(collector: Collector, segments: dict[int, list[int]]) -> list[int]:
    return [number for number, _ in collector.delete(segments)]


@pytest.fixture
def numbers(store: Store) -> list[int]:
    """Blocks of `content`, ten in each of the segments 1 to 3, which are sealed."""
    made = []
    for number in range(30):
        made.append(add(store, content(number)))
        if number % 10 == 9:
            store.seal()
    put(store, last=b"row")
    store.checkpoint()
    return made


def book_of(segment: int) -> str:
    return f"live/{segment:016x}"


def check(store: Store, numbers: list[int], gone: Container[int] = ()) -> None:
    for index, number in enumerate(numbers):
        if index not in gone:
            assert bytes(store.blocks.read(number)) == content(index)


def test_a_segment_that_nothing_needs_is_deleted(store: Store, numbers: list[int]) -> None:
    drop(store, *numbers[:10])
    assert collect(store) == [1]
    assert not segment(store.path, 1).exists()
    assert [block_row(store, number) for number in numbers[:10]] == [None] * 10
    check(store, numbers, gone=range(10))


def test_what_is_needed_moves_and_is_found_after_any_stop(
    store: Store, numbers: list[int], open_store: Open
) -> None:
    drop(store, *numbers[10:17])
    assert collect(store) == [2]
    check(store, numbers, gone=range(10, 17))
    store.abandon()
    store = open_store()
    check(store, numbers, gone=range(10, 17))
    row = block_row(store, numbers[19])
    assert row
    assert (Block.unpack(row).refs, Block.unpack(row).segment) == (1, 4)


def test_what_is_within_the_margin_is_left(store: Store, numbers: list[int]) -> None:
    drop(store, numbers[3])
    assert collect(store) == []
    drop(store, numbers[23])
    assert collect(store, replace(DEFAULT, slack=0.1)) == []
    assert len(collect(store)) == 1  # of two that are equal: one is enough
    assert collect(store) == []
    check(store, numbers, gone={3, 23})


def test_the_newest_segment_is_collected_too(store: Store, open_store: Open) -> None:
    numbers = [add(store, content(number)) for number in range(10)]
    drop(store, *numbers[2:])
    newest = store.newest_segment
    assert collect(store) == [newest]
    assert sum(store.segments.values()) < 1.05 * 200_000
    for _ in range(2):
        check(store, numbers, gone=set(range(2, 10)))
        store.abandon()
        store = open_store()
    assert bytes(store.blocks.read(add(store, content(12)))) == content(12)


def test_a_busy_store_keeps_its_newest_segment_and_the_mostly_live(
    store: Store, numbers: list[int]
) -> None:
    drop(store, *numbers[:3], *numbers[10:17])
    put(store, filler=bytes(100_000))
    collector = Collector(store)
    planned = collector.plan(only_mostly_dead=True).segments
    assert [one.number for one in planned] == [2]
    assert {one.number for one in collector.plan().segments} == {1, 2, store.newest_segment}


def test_planning_touches_nothing(store: Store, numbers: list[int]) -> None:
    drop(store, *numbers[5:])
    before = store.statistics()
    plan = Collector(store).plan()
    assert store.statistics() == before
    assert plan.record()["segments"] == 3
    assert plan.reclaimable_bytes == plan.file_bytes - plan.move_bytes > 1_900_000


def test_small_blocks_are_collected_once_and_not_again(store: Store) -> None:
    """Their records and rows are a seventh of them, and would be for ever."""
    numbers = [add(store, Random(number).randbytes(1000)) for number in range(2000)]
    drop(store, *numbers[::2])
    assert collect(store)
    assert collect(store) == []
    assert store.segments_bytes < 1.05 * store.usage.total_bytes


def test_an_empty_store_has_nothing_to_collect(store: Store) -> None:
    numbers = [add(store, content(number)) for number in range(5)]
    drop(store, *numbers)
    assert collect(store) == [1]
    before = store.statistics()
    assert collect(store) == []
    assert store.statistics().position == before.position


def test_content_that_was_collected_is_stored_anew(store: Store, numbers: list[int]) -> None:
    drop(store, *numbers[:10])
    collect(store)
    number = add(store, content(0))
    assert number not in numbers
    assert bytes(store.blocks.read(number)) == content(0)


def test_a_block_taken_up_again_meanwhile_is_moved(store: Store, numbers: list[int]) -> None:
    drop(store, *numbers[:10])
    collector = Collector(store)
    held = collector.read(1)
    assert add(store, content(4)) == numbers[4]  # of garbage again content
    for block in held:
        collector.move(1, [block])
    store.checkpoint()
    store.write_snapshot()
    assert delete(collector, {1: numbers[:10]}) == [1]
    assert bytes(store.blocks.read(numbers[4])) == content(4)


def test_a_block_needed_after_all_keeps_its_segment(store: Store, numbers: list[int]) -> None:
    drop(store, *numbers[:10])
    collector = Collector(store)
    add(store, content(4))
    assert delete(collector, {1: numbers[:10]}) == []
    assert "of use" in collector.failed[1]
    check(store, numbers)


def test_a_damaged_block_keeps_its_segment(store: Store, numbers: list[int]) -> None:
    row = block_row(store, numbers[7])
    assert row
    flip(segment(store.path, 1), Block.unpack(row).offset + 5)
    drop(store, *numbers[:6])
    seen = []
    store.blocks.on_damage = lambda number, why: seen.append(number)
    collector = Collector(store)
    for _ in range(2):
        for one in collector.plan().segments:
            for block in collector.read(one.number):
                collector.move(one.number, [block])
        store.checkpoint()
        assert delete(collector, {1: numbers[:10]}) == []
    assert seen == [numbers[7]]
    check(store, numbers, gone=range(8))


def test_nothing_is_deleted_under_a_reader(store: Store, numbers: list[int]) -> None:
    drop(store, *numbers[:10])
    with reading_segments(store.path):
        assert collect(store) == []
        assert segment(store.path, 1).exists()
    assert collect(store) == [1]


def test_a_read_that_has_begun_ends_well(store: Store, numbers: list[int]) -> None:
    cold = store.blocks.locate(numbers[9])
    drop(store, *numbers[:9])
    assert collect(store) == [1]
    found = cold.read()
    assert found is not None
    assert bytes(found) == content(9)


def test_a_segment_of_batches_goes_when_the_index_has_a_copy(store: Store) -> None:
    for number in range(100):
        put(store, **{f"k{number}": bytes(1000)})
    store.seal()
    put(store, last=b"row")
    store.checkpoint()
    assert collect(store) == [1]
    assert (store.path / "snapshot").stat().st_size > 100_000
    assert list_segments(store.path / "segments") == [2]


def test_usage_is_what_the_rows_say(store: Store, numbers: list[int], open_store: Open) -> None:
    drop(store, *numbers[:5], *numbers[12:15])
    for _ in range(2):
        for number in (1, 2, 3):
            rows = (row for _, row in store.scan(keys.BLOCK))
            blocks = [(row, Block.unpack(row)) for row in rows]
            live = sum(
                needed_bytes(row, one) for row, one in blocks if one.refs and one.segment == number
            )
            assert store.usage.live_bytes(number) == live
        store.abandon()
        store = open_store()


def test_a_segment_with_a_torn_record_stays(store: Store, numbers: list[int], path: Path) -> None:
    drop(store, *numbers[:10])
    flip(segment(path, 1), format.HEADER_SIZE + 1)
    assert collect(store) == []
    assert segment(path, 1).exists()


@pytest.mark.parametrize("fault", ["collect.read=1:EIO", "collect.delete=1:EPERM"])
def test_a_segment_that_the_disk_keeps_is_left_and_the_others_go(
    store: Store, numbers: list[int], fault: str
) -> None:
    drop(store, *numbers[:20])
    collector = Collector(store)
    failpoints.arm(fault)
    emptied = {}
    for one in collector.plan().segments:
        held = collector.read(one.number)
        collector.move(one.number, held)
        if one.number not in collector.failed:
            emptied[one.number] = [block.number for block in held]
    store.checkpoint()
    store.write_snapshot()
    (gone,) = delete(collector, emptied)
    ((left, why),) = collector.failed.items()
    assert {gone, left} == {1, 2}
    assert why in (
        "cannot be read: failpoint collect.read",
        "cannot be deleted: failpoint collect.delete",
    )
    assert collector.plan().segments == ()
    failpoints.disarm()
    assert collect(store) == [left]
    check(store, numbers, gone=range(20))


def test_books_of_an_earlier_fusefs_are_made_anew(
    store: Store, numbers: list[int], open_store: Open
) -> None:
    """They counted contents alone, and so would find something to gain for ever."""
    needed = [store.usage.live_bytes(number) for number in (1, 2, 3)]
    store._index.commit({"live": None, book_of(1): (1).to_bytes(8, "big")})
    store.abandon()
    store = open_store()
    assert [store.usage.live_bytes(number) for number in (1, 2, 3)] == needed
    store.checkpoint()
    store.abandon()
    store = open_store()
    assert [store.usage.live_bytes(number) for number in (1, 2, 3)] == needed


def test_a_segment_whose_deletion_nobody_noted_is_forgotten(
    store: Store, numbers: list[int], open_store: Open
) -> None:
    drop(store, *numbers[:10])
    assert collect(store) == [1]
    store.abandon()  # before the next checkpoint
    store = open_store()
    store.checkpoint()
    assert store._index.book(book_of(1)) is None
    assert store._index.book(book_of(2)) is not None
