"""A block that comes from disk is verified; what does not verify is never returned."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fusefs.config.options import StoreOptions
from fusefs.errors import StoreDamaged
from fusefs.model.block import ZSTD, Block
from fusefs.store.store import Store
from tests.unit.clocks import ManualClock
from tests.unit.store.acts import add, block_row, flip, segment

Open = Callable[[], Store]
TEXT = b"It's a dangerous business, Frodo, going out your door. " * 400


def located(store: Store, number: int) -> Block:
    row = block_row(store, number)
    assert row is not None
    return Block.unpack(row)


@pytest.mark.parametrize("place", [0, 0.5, 1])
def test_a_flipped_byte_of_a_block_is_an_error_and_counted(
    store: Store, open_store: Open, path: Path, place: float
) -> None:
    content = os.urandom(200_000)
    number = add(store, content)
    good = add(store, b"good")
    store.close()
    store = open_store()
    block = located(store, number)
    flip(segment(path, block.segment), block.offset + int((block.stored - 1) * place))
    reports = []
    store.blocks.on_damage = lambda its_number, where: reports.append(its_number)
    for _ in range(2):
        with pytest.raises(StoreDamaged, match=f"block {number} in segment"):
            store.blocks.read(number)
    assert reports == [number, number]
    assert store.statistics().blocks.damaged_reads == 2
    assert bytes(store.blocks.read(good)) == b"good"


def test_what_was_verified_once_is_read_from_memory(
    store: Store, open_store: Open, path: Path
) -> None:
    number = add(store, b"content")
    store.close()
    store = open_store()
    assert store.blocks.cached(number) is None
    assert bytes(store.blocks.read(number)) == b"content"
    block = located(store, number)
    flip(segment(path, block.segment), block.offset)
    assert bytes(store.blocks.read(number)) == b"content"
    cached = store.blocks.cached(number)
    assert cached is not None
    assert bytes(cached) == b"content"


def test_a_part_of_a_long_block_is_verified_by_its_own_leaves(
    store: Store, open_store: Open, path: Path
) -> None:
    content = os.urandom(1 << 20)
    number = add(store, content)
    store.close()
    store = open_store()
    block = located(store, number)
    flip(segment(path, block.segment), block.offset + 500_000)
    cold = store.blocks.locate(number)
    for skip, length in ((0, 10), (65_530, 20), ((1 << 20) - 5, 5), (100_000, 200_000)):
        part = cold.read_part(skip, length)
        assert part is not None
        assert bytes(part) == content[skip : skip + length]
    with pytest.raises(StoreDamaged):
        cold.read_part(499_000, 2000)
    with pytest.raises(StoreDamaged):
        cold.read_part(0, 1 << 20)


def test_a_read_that_may_not_wait_says_none_or_the_content(store: Store) -> None:
    number = add(store, TEXT)
    assert store.blocks.locate(number).read(no_wait=True) in (None, TEXT)
    assert store.blocks.locate(number).read_part(7, 9, no_wait=True) in (None, TEXT[7:16])


def test_a_segment_that_is_shorter_than_it_was_is_damage(
    store: Store, open_store: Open, path: Path
) -> None:
    number = add(store, TEXT)
    store.close()
    store = open_store()
    block = located(store, number)
    os.truncate(segment(path, block.segment), block.offset + 10)
    with pytest.raises(StoreDamaged):
        store.blocks.read(number)
    segment(path, block.segment).unlink()


def test_a_block_that_is_not_in_the_index_is_damage(store: Store) -> None:
    with pytest.raises(StoreDamaged, match="block 99"):
        store.blocks.read(99)
    with pytest.raises(StoreDamaged, match="block 99"):
        store.blocks.change_refs(store.batch(), 99, 1)


def test_references_never_fall_below_zero(store: Store) -> None:
    number = add(store, TEXT)
    batch = store.batch()
    with pytest.raises(StoreDamaged, match="fewer references"):
        store.blocks.change_refs(batch, number, -2)
    assert located(store, number).refs == 1


def test_a_compressed_store_gives_back_what_it_took(tmp_path: Path, clock: ManualClock) -> None:
    Store.init(tmp_path / "zstd", StoreOptions("zstd"), clock=clock)
    store = Store.open(tmp_path / "zstd", clock=clock)
    noise = os.urandom(100_000)
    text, random = add(store, TEXT), add(store, noise)
    assert located(store, text).codec == ZSTD
    assert located(store, text).stored < len(TEXT) // 4
    assert located(store, random).stored == len(noise)
    store.close()
    store = Store.open(tmp_path / "zstd", clock=clock)
    assert bytes(store.blocks.read(text)) == TEXT
    assert bytes(store.blocks.read(random)) == noise
    store.close()
    store = Store.open(tmp_path / "zstd", clock=clock)
    part = store.blocks.locate(text).read_part(1000, 50)
    assert part is not None
    assert bytes(part) == TEXT[1000:1050]
    block = located(store, text)
    store.close()
    flip(segment(tmp_path / "zstd", block.segment), block.offset + block.stored // 2)
    store = Store.open(tmp_path / "zstd", clock=clock)
    with pytest.raises(StoreDamaged):
        store.blocks.read(text)
    store.close()


def test_more_segments_than_are_kept_open_can_be_read(store: Store) -> None:
    numbers = []
    for index in range(70):
        numbers.append(add(store, b"%d" % index))
        store.seal()
    for _ in range(2):
        assert [bytes(store.blocks.read(n)) for n in numbers] == [b"%d" % i for i in range(70)]
