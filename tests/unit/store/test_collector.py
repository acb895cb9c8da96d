"""Space comes back, and nothing that is needed goes."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from fusefs.model import keys
from fusefs.model.block import Block
from fusefs.store import format
from fusefs.store.collector import Collector, reading_segments
from fusefs.store.recovery import list_segments
from fusefs.store.store import Store
from tests.unit.store.acts import add, block_row, flip, put, segment

Open = Callable[[], Store]
MIB = 1 << 20


def content(number: int) -> bytes:
    return Random(number).randbytes(100_000 + number)


def drop(store: Store, *numbers: int) -> None:
    """Nothing needs these blocks any more."""
    batch = store.batch()
    for number in numbers:
        store.change_refs(batch, number, -1)
    store.commit(batch)


def collect(store: Store, least_dead: float = 0.5) -> list[int]:
    """A whole collection; returns the segments that are gone."""
    collector = Collector(store)
    emptied = {}
    for one in collector.plan(least_dead):
        held = collector.read(one.number)
        for block in held:
            collector.move(one.number, [block])
        emptied[one.number] = [block.number for block in held]
    store.checkpoint()
    store.write_snapshot()
    return list(collector.delete(emptied))


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


def check(store: Store, numbers: list[int], gone: range = range(0)) -> None:
    for index, number in enumerate(numbers):
        if index not in gone:
            assert bytes(store.read_block(number)) == content(index)


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


def test_a_segment_with_much_of_use_is_left(store: Store, numbers: list[int]) -> None:
    drop(store, *numbers[:3])
    assert collect(store) == []
    assert collect(store, least_dead=0.2) == [1]
    assert collect(store, least_dead=0.2) == []


def test_what_the_index_has_not_caught_up_with_is_left(store: Store) -> None:
    drop(store, add(store, content(1)))
    store.seal()
    put(store, last=b"row")
    assert Collector(store).plan() == []
    store.checkpoint()
    assert [one.number for one in Collector(store).plan()] == [1]


def test_content_that_was_collected_is_stored_anew(store: Store, numbers: list[int]) -> None:
    drop(store, *numbers[:10])
    collect(store)
    number = add(store, content(0))
    assert number not in numbers
    assert bytes(store.read_block(number)) == content(0)


def test_a_block_taken_up_again_meanwhile_is_moved(store: Store, numbers: list[int]) -> None:
    drop(store, *numbers[:10])
    collector = Collector(store)
    held = collector.read(1)
    assert add(store, content(4)) == numbers[4]  # of garbage again content
    for block in held:
        collector.move(1, [block])
    store.checkpoint()
    store.write_snapshot()
    assert list(collector.delete({1: numbers[:10]})) == [1]
    assert bytes(store.read_block(numbers[4])) == content(4)


def test_a_block_needed_after_all_keeps_its_segment(store: Store, numbers: list[int]) -> None:
    drop(store, *numbers[:10])
    collector = Collector(store)
    add(store, content(4))
    assert collector.delete({1: numbers[:10]}) == {}
    check(store, numbers)


def test_a_damaged_block_keeps_its_segment(store: Store, numbers: list[int]) -> None:
    row = block_row(store, numbers[7])
    assert row
    flip(segment(store.path, 1), Block.unpack(row).offset + 5)
    drop(store, *numbers[:6])
    seen = []
    store.on_damage = lambda number, why: seen.append(number)
    collector = Collector(store)
    for _ in range(2):
        for one in collector.plan():
            for block in collector.read(one.number):
                collector.move(one.number, [block])
        store.checkpoint()
        assert collector.delete({1: numbers[:10]}) == {}
    assert seen == [numbers[7]]
    check(store, numbers, gone=range(8))


def test_nothing_is_deleted_under_a_reader(store: Store, numbers: list[int]) -> None:
    drop(store, *numbers[:10])
    with reading_segments(store.path):
        assert collect(store) == []
        assert segment(store.path, 1).exists()
    assert collect(store) == [1]


def test_a_read_that_has_begun_ends_well(store: Store, numbers: list[int]) -> None:
    cold = store.locate(numbers[9])
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
            blocks = [Block.unpack(row) for row in rows]
            live = sum(one.stored for one in blocks if one.refs and one.segment == number)
            assert store.usage.live_bytes(number) == live
        store.abandon()
        store = open_store()


def test_a_segment_with_a_torn_record_stays(store: Store, numbers: list[int], path: Path) -> None:
    drop(store, *numbers[:10])
    flip(segment(path, 1), format.HEADER_SIZE + 1)
    assert collect(store) == []
    assert segment(path, 1).exists()


def test_a_segment_that_cannot_be_read_is_damaged(store: Store, numbers: list[int]) -> None:
    segment(store.path, 1).unlink()
    collector = Collector(store)
    assert collector.read(1) == []
    assert collector.damaged == {1}
