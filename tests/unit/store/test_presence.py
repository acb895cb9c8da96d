"""Segments that are only in remotes: what is read, checked, collected and recovered then."""

import os
from pathlib import Path
from random import Random

import pytest
from blake3 import blake3

from fusefs.errors import NotLocal
from fusefs.fsck.check import check
from fusefs.model import keys, remote
from fusefs.model.block import Block
from fusefs.model.remote import Copy
from fusefs.store import format, rebuild
from fusefs.store.index import Index
from fusefs.store.presence import GRAIN, Cache
from fusefs.store.recovery import list_segments
from tests.unit.elsewhere import Away
from tests.unit.inprocess import ALL, InProcess

CONTENT = Random(1).randbytes(3 << 20)


def block_of(fs: InProcess, path: bytes) -> tuple[int, Block]:
    number = fs.extents(path)[0].block
    return number, fs.store.blocks.row(fs.store._index, number)


def test_a_block_that_is_away_says_what_is_wanted(fs: InProcess) -> None:
    fs.write(b"a", CONTENT)
    away = Away(fs.store)
    away.evict_all()
    fs.remount()
    number, block = block_of(fs, b"a")
    with pytest.raises(NotLocal) as raised:
        fs.store.blocks.read(number)
    wanted = raised.value
    assert (wanted.segment, wanted.offset, wanted.size) == (
        block.segment,
        block.offset,
        block.stored,
    )
    assert fs.store.blocks.counts.damaged_reads == 0


def test_what_was_fetched_is_read_and_a_hole_is_not(fs: InProcess) -> None:
    fs.write(b"a", CONTENT)
    away = Away(fs.store)
    away.evict_all()
    away.store = fs.store
    number, block = block_of(fs, b"a")
    away.fetch(block.segment, block.offset, block.stored)
    assert bytes(fs.store.blocks.read(number)) == CONTENT[: 1 << 20]
    with pytest.raises(NotLocal):
        fs.store.blocks.read(number + 1)


def test_what_was_fetched_and_does_not_verify_is_wanted_again(fs: InProcess) -> None:
    fs.write(b"a", CONTENT)
    away = Away(fs.store)
    away.evict_all()
    number, block = block_of(fs, b"a")
    good = away.objects[block.segment]
    flipped = bytearray(good)
    flipped[block.offset + 7] ^= 1
    away.objects[block.segment] = bytes(flipped)
    away.fetch(block.segment, 0, len(good))
    with pytest.raises(NotLocal):
        fs.store.blocks.locate(number).read_part(0, 100)
    assert fs.store.blocks.counts.damaged_reads == 0
    away.objects[block.segment] = good
    away.fetch(block.segment, block.offset, block.stored)
    assert bytes(fs.store.blocks.locate(number).read_part(0, 100) or b"") == CONTENT[:100]


def test_holes_are_found(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.make()
    size = 8 * GRAIN
    assert cache.lacking(1, 10, 20) == (10, 20)
    with open(cache.path(1), "wb") as file:
        os.pwrite(file.fileno(), b"x" * GRAIN, GRAIN)
        os.pwrite(file.fileno(), b"x" * GRAIN, 3 * GRAIN)
    assert cache.lacking(1, 0, size) == (0, size)
    assert cache.lacking(1, GRAIN, 2 * GRAIN) is None
    assert cache.lacking(1, GRAIN, 4 * GRAIN) == (2 * GRAIN, 3 * GRAIN)
    assert cache.lacking(1, GRAIN + 5, 3 * GRAIN) == (2 * GRAIN, 3 * GRAIN)
    assert cache.lacking(1, 3 * GRAIN, 5 * GRAIN) == (4 * GRAIN, 5 * GRAIN)
    assert cache.lacking(1, 5 * GRAIN, 6 * GRAIN) == (5 * GRAIN, 6 * GRAIN)


def test_the_cache_forgets_the_least_recently_used_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.make()
    for number in (1, 2, 3):
        cache.path(number).write_bytes(b"x" * GRAIN)
        os.utime(cache.path(number), (100 - number, 100 - number))
    assert list(cache.sizes) == [3, 2, 1]
    cache.used(3)
    assert list(cache.sizes) == [2, 1, 3]
    assert cache.total_bytes == 3 * GRAIN
    assert cache.drop(2) == GRAIN
    assert cache.total_bytes == 2 * GRAIN


def test_a_store_opens_without_the_segments_that_are_away(fs: InProcess) -> None:
    fs.write(b"a", CONTENT)
    Away(fs.store).evict_all()
    fs.write(b"b", b"new")
    fs.remount()
    assert fs.read(b"b") == b"new"
    fs.crash()
    assert fs.read(b"b") == b"new"


def test_a_log_goes_on_behind_a_last_segment_that_is_away(fs: InProcess) -> None:
    fs.write(b"a", CONTENT)
    Away(fs.store).evict_all()
    fs.write(b"b", b"in the last segment")
    fs.close()
    last = max(list_segments(fs.path / "segments"))
    path = fs.path / "segments" / format.segment_name(last)
    copy = Copy("segments/last", path.stat().st_size, blake3(path.read_bytes()).digest(), 0)
    index = Index(fs.path / "index")
    index.apply({keys.copy(last, 1): remote.pack(copy)})
    index.commit({})
    index.copy(fs.path / "snapshot")
    index.close()
    path.unlink()
    assert not check(fs.path, True).problems
    assert not rebuild.plan(fs.path).losses
    fs.open()
    assert fs.store.replay.end == fs.store.checkpointed
    fs.write(b"c", b"goes on")
    assert fs.store.newest_segment == last + 1
    fs.crash()
    assert fs.read(b"c") == b"goes on"


def test_nothing_away_is_damage_to_a_check_or_a_scrub(fs: InProcess) -> None:
    fs.write(b"a", CONTENT)
    Away(fs.store).evict_all()
    fs.write(b"b", b"here")
    fs.scrub()
    assert fs.corruptions() == []
    assert fs.filesystem.scrubbing.scrubbed_blocks == 1
    fs.close()
    report = check(fs.path, True)
    fs.open()
    assert not report.problems
    assert report.blocks_elsewhere == 3
    assert report.blocks_read == 1


def test_a_segment_that_is_nowhere_is_damage(fs: InProcess) -> None:
    fs.write(b"a", CONTENT)
    evicted = Away(fs.store).evict_all()
    rows = {keys.copy(number, 1): fs.store.get(keys.copy(number, 1)) for number in evicted}
    batch = fs.store.batch()
    batch.rows.update(dict.fromkeys(rows))
    fs.store.commit(batch)
    fs.scrub()
    assert len(fs.corruptions()) == 3
    batch.rows.update(rows)
    fs.store.commit(batch)
    batch = fs.store.batch()
    for one in fs.corruptions():
        batch.delete(keys.corruption(one.block))
    fs.store.commit(batch)


def test_what_is_written_again_rests_on_what_is_away(fs: InProcess) -> None:
    fs.write(b"a", CONTENT)
    Away(fs.store).evict_all()
    fs.remount()
    before = fs.store.appended_bytes
    fs.write(b"b", CONTENT)
    assert fs.store.appended_bytes - before < 64 << 10
    assert fs.extents(b"a") == fs.extents(b"b")


def test_a_collection_leaves_what_is_away(fs: InProcess) -> None:
    fs.write(b"a", CONTENT)
    fs.write(b"b", Random(2).randbytes(2 << 20))
    Away(fs.store).evict_all()
    fs.write(b"c", b"x" * 5000)
    fs.write(b"c", b"y" * 5000)
    fs.sync()
    assert fs.filesystem.collecting.plan().dead_bytes >= 0
    done = fs.collect(ALL)
    assert done.failed_segments == 0
    assert fs.read(b"c") == b"y" * 5000


def test_an_index_is_rebuilt_without_the_segments_that_are_away(fs: InProcess) -> None:
    fs.write(b"a", CONTENT)
    Away(fs.store).evict_all()
    fs.write(b"b", b"new")
    fs.close()
    with rebuild.alone(fs.path):
        plan = rebuild.plan(fs.path)
        assert not plan.losses
        done = rebuild.apply(plan)
    assert not done.damaged
    fs.open()
    assert fs.read(b"b") == b"new"
