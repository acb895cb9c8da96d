"""Hints find duplicates; a hint that is wrong or missing costs a block, never a byte."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3

from fusefs.base import failpoints
from fusefs.errors import DiskFull, StoreDamaged
from fusefs.model.block import Block
from fusefs.store.blocks import REFILL_SLICE
from fusefs.store.hints import Hints
from fusefs.store.store import Store
from tests.unit.store.acts import add, block_row, flip, segment, stage

Open = Callable[[], Store]
CONTENT = b"content" * 1000


def test_the_same_content_is_stored_once(store: Store) -> None:
    first = add(store, b"content")
    before = store.appended_bytes
    assert add(store, b"content") == first
    assert add(store, b"other") != first
    assert store.statistics().blocks.dedup_hits == 1
    assert store.statistics().blocks.dedup_bytes == 7
    assert store.statistics().blocks.written == 2
    assert store.appended_bytes > before


def test_duplicates_within_one_act_are_found(store: Store) -> None:
    batch = store.batch()
    assert stage(store, batch, b"content") == stage(store, batch, b"content")


def test_duplicates_are_found_after_a_clean_stop(open_store: Open) -> None:
    store = open_store()
    assert list(store.blocks.refill_hints()) == []  # there is nothing to refill yet
    first = add(store, b"content")
    store.close()
    store = open_store()
    assert add(store, b"content") == first


def test_duplicates_are_found_after_an_unclean_stop_once_refilled(open_store: Open) -> None:
    store = open_store()
    numbers = [add(store, b"%d" % index) for index in range(20)]
    store.abandon()
    store = open_store()
    for _ in store.blocks.refill_hints():
        pass
    assert [add(store, b"%d" % index) for index in range(20)] == numbers
    store.close()
    assert [add(open_store(), b"3")] == [numbers[3]]


def test_before_the_refill_a_duplicate_is_stored_again_and_reads_well(open_store: Open) -> None:
    store = open_store()
    first = add(store, b"content")
    store.abandon()
    store = open_store()
    second = add(store, b"content")
    assert second > first
    assert bytes(store.blocks.read(first)) == bytes(store.blocks.read(second)) == b"content"


def test_a_refill_that_was_broken_off_starts_again(open_store: Open) -> None:
    store = open_store()
    batch = store.batch()
    numbers = [stage(store, batch, b"%d" % index) for index in range(6000)]
    for number in numbers:
        store.blocks.change_refs(batch, number, 1)
    store.commit(batch)
    store.abandon()
    store = open_store()
    steps = store.blocks.refill_hints()
    next(steps)
    steps.close()
    store.close()
    store = open_store()
    for _ in store.blocks.refill_hints():
        pass
    assert add(store, b"0") == numbers[0]


def test_the_newest_blocks_are_found_first(open_store: Open) -> None:
    store = open_store()
    batch = store.batch()
    numbers = [stage(store, batch, b"%d" % index) for index in range(REFILL_SLICE + 1)]
    for number in numbers:
        store.blocks.change_refs(batch, number, 1)
    store.commit(batch)
    store.abandon()
    store = open_store()
    next(store.blocks.refill_hints())
    assert add(store, b"%d" % REFILL_SLICE) == numbers[-1]
    assert add(store, b"0") > numbers[-1]


def test_a_hint_to_another_block_is_not_believed(store: Store) -> None:
    other = add(store, b"other")
    store._hints.put(blake3(b"content").digest(), other)
    number = add(store, b"content")
    assert number != other
    assert bytes(store.blocks.read(number)) == b"content"


def test_a_hint_to_a_block_that_is_gone_is_not_believed(store: Store) -> None:
    store._hints.put(blake3(b"content").digest(), 999)
    assert bytes(store.blocks.read(add(store, b"content"))) == b"content"


def test_hints_are_kept_over_a_clean_stop_alone(tmp_path: Path) -> None:
    hints = Hints(tmp_path / "hints")
    assert hints.needs_refill  # a new store's are refilled with nothing
    hints.needs_refill = False
    hints.put(b"d" * 32, 7)
    hints.close()
    hints = Hints(tmp_path / "hints")
    assert not hints.needs_refill
    assert hints.get(b"d" * 32) == 7
    assert hints.get(b"e" * 32) is None
    del hints
    assert Hints(tmp_path / "hints").needs_refill


def test_more_hints_than_the_first_map_holds_are_taken(tmp_path: Path) -> None:
    hints = Hints(tmp_path / "hints")
    first, last = (blake3(b"%d" % number).digest() for number in range(2))
    hints.put(first, 1)
    # Random keys of 10 bytes with values of 8: past 64 MiB at about 1.2 million. A smaller map
    # gets there sooner.
    hints._transaction.commit()
    hints._environment.set_mapsize(1 << 20)
    hints._transaction = hints._environment.begin(write=True)
    for _ in range(60_000):
        hints.put(os.urandom(10), 5)
    hints.put(last, 2)
    assert hints.get(last) == 2


def test_hints_that_cannot_be_written_do_not_stop_a_write(store: Store) -> None:
    assert list(store.blocks.refill_hints()) == []
    hints = store._hints
    hints._transaction.commit()
    hints._environment.set_mapsize(64 << 10)
    hints._transaction = hints._environment.begin(write=True)
    batch = store.batch()
    for index in range(3000):  # more than 64 KiB hold, fewer than make it grow
        stage(store, batch, b"%d" % index)
    store.commit(batch)
    assert hints.needs_refill
    number = add(store, b"content")
    assert bytes(store.blocks.read(number)) == b"content"
    assert add(store, b"content") == number


def filled(store: Store) -> Store:
    for _ in store.blocks.refill_hints():
        pass
    return store


def rot(store: Store, number: int) -> None:
    """Change a bit of a block on the disk."""
    row = block_row(store, number)
    assert row is not None
    block = Block.unpack(row)
    flip(segment(store.path, block.segment), block.offset)


def test_a_block_that_has_rotted_is_no_copy_and_is_mended_for_all(open_store: Open) -> None:
    """Nobody has met the damage before: writing the content again must not rely on it."""
    store = open_store()
    number = add(store, CONTENT)
    store.close()
    store = filled(open_store())
    rot(store, number)
    assert add(store, CONTENT) == number
    assert store.statistics().blocks.dedup_hits == 0
    assert bytes(store.blocks.read(number)) == CONTENT
    assert add(store, CONTENT) == number
    assert store.statistics().blocks.dedup_hits == 1
    store.abandon()
    assert bytes(open_store().blocks.read(number)) == CONTENT


def test_a_block_that_rotted_under_the_process_that_wrote_it_is_mended_too(store: Store) -> None:
    number = add(store, CONTENT)
    rot(store, number)
    with pytest.raises(StoreDamaged):
        store.blocks.read(number)
    assert add(store, CONTENT) == number
    assert bytes(store.blocks.read(number)) == CONTENT


def test_an_act_that_fails_mends_nothing(store: Store) -> None:
    number = add(store, CONTENT)
    rot(store, number)
    with pytest.raises(StoreDamaged):
        store.blocks.read(number)
    failpoints.arm("log.append=1:ENOSPC")
    try:
        with pytest.raises(DiskFull):
            add(store, CONTENT)
    finally:
        failpoints.disarm()
    assert add(store, CONTENT) == number
    assert bytes(store.blocks.read(number)) == CONTENT


def test_a_good_block_is_read_but_once_to_be_a_copy(open_store: Open) -> None:
    store = open_store()
    number = add(store, CONTENT)
    store.close()
    store = filled(open_store())
    assert add(store, CONTENT) == number
    rot(store, number)
    assert add(store, CONTENT) == number
    assert store.statistics().blocks.dedup_hits == 2


@pytest.mark.parametrize("damage", ["a bit", "cut off", "gone"])
def test_hints_that_were_damaged_are_thrown_away(tmp_path: Path, damage: str) -> None:
    hints = Hints(tmp_path / "hints")
    hints.needs_refill = False
    for number in range(1000):
        hints.put(blake3(b"%d" % number).digest(), number)
    hints.close()
    data = tmp_path / "hints" / "data.mdb"
    if damage == "a bit":
        flip(data, data.stat().st_size // 2)
    elif damage == "cut off":
        os.truncate(data, 3 * 4096)
    else:
        data.unlink()
    hints = Hints(tmp_path / "hints")
    assert hints.needs_refill
    assert hints.get(blake3(b"7").digest()) is None


def test_a_store_without_room_for_hints_does_without(
    open_store: Open, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", full)
        store = open_store()
    number = add(store, b"content")
    assert bytes(store.blocks.read(number)) == b"content"
    assert all(step is None for step in store.blocks.refill_hints())
    store.close()
    assert add(open_store(), b"content") != number
