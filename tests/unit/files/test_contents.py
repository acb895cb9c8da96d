"""What was written is what is read, through memory, blocks, holes, and a crash."""

import errno
import os
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusefs.base import failpoints
from fusefs.config.options import MountOptions
from fusefs.errors import DiskFull, Refused, StoreDamaged, StoreError
from fusefs.model import keys
from fusefs.model.block import Block
from fusefs.model.extent import BLOCK_SIZE, HOLE
from tests.unit import invariants
from tests.unit.clocks import ManualClock
from tests.unit.inprocess import InProcess

MIB = 1 << 20
HOUR = b".trash/2027-01-15T08"
OFFSET = st.one_of(
    st.integers(0, 300),
    st.integers(MIB - 150, MIB + 150),
    st.integers(3 * MIB - 50, 3 * MIB + 50),
)
LENGTH = st.integers(1, 200) | st.integers(MIB - 100, MIB + 100)
ACT = st.one_of(
    st.tuples(st.just("write"), OFFSET, LENGTH),
    st.tuples(st.just("truncate"), OFFSET, st.just(0)),
    st.tuples(st.sampled_from(["flush", "reopen", "crash"]), st.just(0), st.just(0)),
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(acts=st.lists(ACT, min_size=1, max_size=14))
def test_a_file_holds_what_an_array_of_bytes_holds(
    acts: list[tuple[str, int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    fs = InProcess(tmp_path_factory.mktemp("files") / "store", ManualClock())
    fs.make(b"file")
    handle = fs.opened(b"file")
    model = bytearray()
    for number, (act, offset, length) in enumerate(acts):
        if act == "write":
            data = bytes([number + 1]) * length
            fs.pwrite(handle, offset, data)
            model.extend(bytes(max(0, offset - len(model))))
            model[offset : offset + length] = data
        elif act == "truncate":
            fs.truncate(b"file", offset)
            del model[offset:]
            model.extend(bytes(offset - len(model)))
        elif act == "flush":
            fs.files.flush(fs.files.handle(handle).file)
            invariants.check(fs.store)
        else:
            fs.files.release(handle)
            if act == "crash":  # what was closed before a kill is there after it
                fs.crash()
            handle = fs.opened(b"file")
        assert fs.at(b"file").size == len(model)
        assert fs.pread(handle, 0, 5 * MIB) == model
        start = max(0, offset - 70)
        assert fs.pread(handle, start, 140) == model[start : start + 140]
    fs.files.release(handle)
    invariants.check(fs.store)
    fs.remount()
    assert fs.read(b"file") == model
    invariants.check(fs.store)
    fs.close()


def test_separate_pieces_behind_the_end_have_holes_between_them(fs: InProcess) -> None:
    fs.make(b"file")
    handle = fs.opened(b"file")
    fs.pwrite(handle, 100, b"a" * 100)
    fs.pwrite(handle, 500, b"b" * 100)
    fs.files.release(handle)
    invariants.check(fs.store)
    fs.crash()
    assert fs.read(b"file") == bytes(100) + b"a" * 100 + bytes(300) + b"b" * 100


def test_a_sparse_file_takes_what_was_written(fs: InProcess) -> None:
    fs.make(b"file")
    handle = fs.opened(b"file")
    for offset in (5 * 10**9, 10**12, 3 * 10**15):
        fs.pwrite(handle, offset, b"data")
    fs.files.flush(fs.files.handle(handle).file)
    assert fs.files.allocated_bytes(fs.at(b"file")) == 12
    assert [one.block == HOLE for one in fs.extents(b"file")] == [True, False] * 3
    assert fs.pread(handle, 10**12 - 3, 10) == b"\0\0\0data\0\0\0"
    assert fs.pread(handle, 10**14, 4096) == bytes(4096)
    fs.files.release(handle)


def test_the_largest_file_and_back_is_a_handful_of_rows(fs: InProcess) -> None:
    fs.write(b"file", b"head")
    for _ in range(3):
        fs.truncate(b"file", 2**63 - 1)
        assert len(fs.extents(b"file")) == 2
        assert fs.at(b"file").size == 2**63 - 1
        handle = fs.opened(b"file")
        assert fs.pread(handle, 2**63 - 20, 100) == bytes(19)
        fs.files.release(handle)
        fs.truncate(b"file", 4)
        assert len(fs.extents(b"file")) == 1
    fs.truncate(b"file", 2**63 - 1)
    fs.write(b"file", b"tail", 2**63 - 5)
    assert len(fs.extents(b"file")) == 3
    fs.crash()
    assert fs.at(b"file").size == 2**63 - 1
    handle = fs.opened(b"file")
    assert fs.pread(handle, 2**63 - 6, 100) == b"\0tail"
    fs.files.release(handle)
    fs.truncate(b"file", 0)
    assert fs.extents(b"file") == []


def test_behind_the_largest_size_nothing_is_written(fs: InProcess) -> None:
    fs.make(b"file")
    handle = fs.opened(b"file")
    for act in (
        lambda: fs.pwrite(handle, 2**63 - 1, b"x"),
        lambda: fs.truncate(b"file", 2**63),
    ):
        with pytest.raises(Refused) as caught:
            act()
        assert caught.value.errno == errno.EFBIG
    fs.pwrite(handle, 2**63 - 1, b"")
    fs.files.release(handle)
    assert fs.at(b"file").size == 0


def test_a_grown_file_reads_zeros_where_it_was_cut_before(fs: InProcess) -> None:
    fs.write(b"file", b"secret" * 100)
    handle = fs.opened(b"file")
    fs.pwrite(handle, 600, b"waiting")
    fs.truncate(b"file", 3)
    fs.truncate(b"file", 1000)
    assert fs.pread(handle, 0, 2000) == b"sec" + bytes(997)
    fs.files.release(handle)
    assert fs.read(b"file") == b"sec" + bytes(997)


def test_a_file_of_many_extents_is_cut_in_several_acts(fs: InProcess) -> None:
    fs.make(b"file")
    handle = fs.opened(b"file")
    for index in range(1200):
        fs.pwrite(handle, index * 4096, b"%d" % index)
    fs.files.flush(fs.files.handle(handle).file)
    assert len(fs.extents(b"file")) == 2399
    fs.truncate(b"file", 700 * 4096 + 1)
    assert len(fs.extents(b"file")) == 1401
    invariants.check(fs.store)
    assert fs.pread(handle, 699 * 4096, 8192) == b"699" + bytes(4093) + b"7"
    fs.files.release(handle)
    fs.unlink(b"file")
    fs.unlink(fs.trash.path_in_trash(next(fs.trash.entries())))
    while fs.reap():
        pass
    assert not list(fs.store.scan(keys.EXTENT))


def test_overwriting_a_little_stores_a_little(fs: InProcess) -> None:
    content = os.urandom(4 * MIB)
    fs.write(b"file", content)
    before = fs.store.statistics().blocks.written_bytes
    new = os.urandom(3000)
    fs.write(b"file", new, 2 * MIB - 1500)
    assert fs.store.statistics().blocks.written_bytes - before == 3000
    expected = content[: 2 * MIB - 1500] + new + content[2 * MIB + 1500 :]
    assert fs.read(b"file") == expected
    assert fs.at(b"file").blocks_bytes == 4 * MIB


def test_equal_files_share_their_blocks(fs: InProcess) -> None:
    content = os.urandom(3 * MIB + 777)
    fs.write(b"one", content)
    before = fs.store.statistics().blocks.written_bytes
    fs.write(b"two", content)
    assert fs.store.statistics().blocks.written_bytes == before
    assert fs.extents(b"one") == fs.extents(b"two")
    blocks = [Block.unpack(row) for _, row in fs.store.scan(keys.BLOCK)]
    assert [block.refs for block in blocks] == [2] * 4
    fs.truncate(b"one", 0)
    assert fs.read(b"two") == content


def test_a_file_written_in_small_pieces_has_whole_blocks(fs: InProcess) -> None:
    content = os.urandom(2 * MIB + 5)
    fs.make(b"file")
    handle = fs.opened(b"file")
    for offset in range(0, len(content), 3333):
        fs.pwrite(handle, offset, content[offset : offset + 3333])
    fs.files.release(handle)
    assert [one.length for one in fs.extents(b"file")] == [BLOCK_SIZE, BLOCK_SIZE, 5]
    assert fs.read(b"file") == content


def test_reading_does_not_store_anything(fs: InProcess) -> None:
    fs.make(b"file")
    handle = fs.opened(b"file")
    fs.pwrite(handle, 10, b"waits")
    before = fs.store.appended_bytes
    assert fs.pread(handle, 0, 99) == bytes(10) + b"waits"
    assert fs.pread(handle, 15, 99) == b""
    assert fs.pread(handle, 10**6, 99) == b""
    assert fs.store.appended_bytes == before
    fs.files.release(handle)


def test_two_handles_see_each_others_writes(fs: InProcess) -> None:
    fs.make(b"file")
    one, two = fs.opened(b"file"), fs.opened(b"file")
    fs.pwrite(one, 0, b"from one")
    assert fs.pread(two, 0, 99) == b"from one"
    fs.files.release(one)
    fs.pwrite(two, 5, b"TWO")
    assert fs.read(b"file") == b"from TWO"
    fs.files.release(two)
    assert fs.files.waiting_bytes == 0
    assert not fs.files.is_open(fs.at(b"file").ino)


def test_a_closed_handle_is_no_handle(fs: InProcess) -> None:
    fs.make(b"file")
    handle = fs.opened(b"file")
    fs.files.release(handle)
    with pytest.raises(Refused) as caught:
        fs.pread(handle, 0, 1)
    assert caught.value.errno == errno.EBADF


def test_memory_over_the_limit_is_flushed_oldest_first(tmp_path: Path) -> None:
    clock = ManualClock()
    fs = InProcess(tmp_path / "store", clock, MountOptions(dirty_limit_bytes=1_200_000))
    handles = []
    for number in range(5):
        fs.make(b"%d" % number)
        handles.append(fs.opened(b"%d" % number))
    for number, handle in enumerate(handles):
        clock.advance(1)
        fs.pwrite(handle, 0, b"%d" % number * 300_000)
        assert fs.files.waiting_bytes <= 1_200_000
    stored = [fs.at(b"%d" % number).stored_size for number in range(5)]
    assert stored == [300_000, 300_000, 300_000, 0, 0]
    for number, handle in enumerate(handles):
        assert fs.pread(handle, 299_999, 99) == b"%d" % number
        fs.files.release(handle)
    assert fs.files.waiting_bytes == 0
    invariants.check(fs.store)
    fs.close()


def test_old_bytes_are_flushed_and_young_ones_wait(fs: InProcess) -> None:
    fs.make(b"old")
    fs.make(b"young")
    old, young = fs.opened(b"old"), fs.opened(b"young")
    fs.pwrite(old, 0, b"old")
    fs.clock.advance(4)
    fs.pwrite(old, 3, b"er")  # age is that of the oldest byte
    fs.pwrite(young, 0, b"young")
    fs.clock.advance(1)
    fs.files.flush_older_than(5)
    assert (fs.at(b"old").stored_size, fs.at(b"young").stored_size) == (5, 0)
    fs.clock.advance(4)
    fs.files.flush_older_than(5)
    assert fs.at(b"young").stored_size == 5
    fs.files.release(old)
    fs.files.release(young)


def test_what_fsync_returned_for_is_on_disk_and_more_need_not_be(fs: InProcess) -> None:
    import trio

    fs.make(b"file")
    handle = fs.opened(b"file")
    fs.pwrite(handle, 0, b"synced")
    trio.run(fs.files.fsync, fs.files.handle(handle).file)
    assert fs.store.unsynced_bytes == 0
    syncs = fs.store.statistics().syncs
    trio.run(fs.files.sync)
    assert fs.store.statistics().syncs == syncs
    fs.pwrite(handle, 0, b"SYNCED")
    fs.crash()
    assert fs.read(b"file") == b"synced"


def test_syncs_that_wait_together_share_one_fdatasync(fs: InProcess) -> None:
    import trio

    async def many() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(fs.files.sync)

    fs.make(b"file")
    fs.write(b"file", os.urandom(MIB))  # so much that a thread does it
    before = fs.store.statistics().syncs
    trio.run(many)
    assert fs.store.statistics().syncs == before + 1


def test_a_flush_that_the_full_disk_refuses_keeps_the_bytes(fs: InProcess) -> None:
    fs.write(b"file", b"first")
    handle = fs.opened(b"file")
    fs.pwrite(handle, 3, b"second")
    failpoints.arm("log.append=1:ENOSPC")
    with pytest.raises(DiskFull):
        fs.files.release(handle)
    failpoints.disarm()
    assert fs.files.waiting_bytes == 6
    assert fs.at(b"file").size == 9
    assert fs.read(b"file") == b"firsecond"
    fs.files.flush_all()
    assert fs.files.waiting_bytes == 0
    fs.crash()
    assert fs.read(b"file") == b"firsecond"


def test_a_flush_that_fails_between_two_spans_loses_neither(fs: InProcess) -> None:
    fs.make(b"file")
    handle = fs.opened(b"file")
    fs.pwrite(handle, MIB - 3, b"abcdef")
    failpoints.arm("log.append=2:EIO")
    with pytest.raises(StoreError):
        fs.files.flush(fs.files.handle(handle).file)
    assert failpoints.hits()["log.append"] == 2
    failpoints.disarm()
    invariants.check(fs.store)
    assert fs.pread(handle, MIB - 4, 10) == b"\0abcdef"
    fs.files.release(handle)
    fs.crash()
    assert fs.read(b"file")[-7:] == b"\0abcdef"


@pytest.mark.parametrize("size", [0, 3, 9, 200, 5000])
def test_a_truncation_that_fails_leaves_stored_and_waiting_bytes(fs: InProcess, size: int) -> None:
    fs.write(b"file", b"stored")
    handle = fs.opened(b"file")
    fs.pwrite(handle, 100, b"waits")
    failpoints.arm("log.append=1:ENOSPC")
    with pytest.raises(DiskFull):
        fs.truncate(b"file", size)
    failpoints.disarm()
    expected = b"stored" + bytes(94) + b"waits"
    assert fs.pread(handle, 0, 999) == expected
    fs.files.release(handle)
    fs.crash()
    assert fs.read(b"file") == expected


def test_a_truncation_that_is_refused_leaves_waiting_bytes(
    fs: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs.make(b"file")
    handle = fs.opened(b"file")
    fs.pwrite(handle, 0, b"waits")

    def full() -> None:
        raise DiskFull("no")

    with monkeypatch.context() as patch:
        patch.setattr(fs.store.space, "admit_removal", full)
        patch.setattr(fs.store.space, "admit_name", full)
        for size in (0, 2, 99):
            with pytest.raises(DiskFull):
                fs.truncate(b"file", size)
    assert fs.pread(handle, 0, 99) == b"waits"
    fs.files.release(handle)


def test_a_write_that_is_refused_takes_nothing(
    fs: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs.write(b"file", b"old")
    handle = fs.opened(b"file")

    def full(size: int, waiting: int) -> None:
        raise DiskFull("no")

    with monkeypatch.context() as patch:
        patch.setattr(fs.store.space, "admit_data", full)
        with pytest.raises(DiskFull):
            fs.pwrite(handle, 0, b"new content")
    assert fs.pread(handle, 0, 99) == b"old"
    fs.files.release(handle)


def test_a_write_sets_times_and_leaves_set_id_bits_to_the_kernel(fs: InProcess) -> None:
    inode = fs.make(b"file", stat.S_IFREG | 0o6745)
    fs.clock.advance(1)
    fs.write(b"file", b"x")
    fs.crash()
    inode = fs.at(b"file")
    assert stat.S_IMODE(inode.mode) == 0o6745
    assert inode.mtime == inode.ctime == fs.clock.now_ns


def test_a_truncation_sets_times_and_clears_set_id_bits(fs: InProcess) -> None:
    inode = fs.make(b"file", stat.S_IFREG | 0o6755)
    fs.clock.advance(1)
    fs.files.truncate(inode, 100, keeps=stat.S_ISGID)  # which means execution here
    assert stat.S_IMODE(inode.mode) == 0o755
    assert inode.mtime == inode.ctime == fs.clock.now_ns


def test_an_open_file_without_a_name_is_read_and_written_to_the_end(fs: InProcess) -> None:
    fs.write(b"file", b"content")
    handle = fs.opened(b"file")
    ino = fs.at(b"file").ino
    fs.unlink(b"file")
    fs.unlink(fs.trash.path_in_trash(next(fs.trash.entries())))
    fs.pwrite(handle, 7, b" and more")
    assert fs.reap() == 0
    assert fs.pread(handle, 0, 99) == b"content and more"
    fs.files.release(handle)
    assert fs.reap()
    assert fs.store.get(keys.inode(ino)) is None
    invariants.check(fs.store)


def test_a_missing_extent_is_damage_and_not_zeros(fs: InProcess) -> None:
    fs.write(b"file", b"a" * 100)
    ino = fs.at(b"file").ino
    batch = fs.store.batch()
    batch.delete(keys.extent(ino, 0))
    row = fs.store.get(keys.extent(ino, 0))
    assert row is not None
    fs.store.commit(batch)
    with pytest.raises(StoreDamaged, match=f"inode {ino} has no extent for byte 0"):
        fs.read(b"file")
    batch = fs.store.batch()
    batch.put(keys.extent(ino, 0), row)
    fs.store.commit(batch)


@pytest.mark.parametrize("how", ["an extent", "a segment"])
def test_what_is_missing_behind_is_no_error_of_who_reads_before_it(fs: InProcess, how: str) -> None:
    """Readers in sequence have what comes next read ahead."""
    content = os.urandom(2 * MIB)
    fs.write(b"file", content)
    fs.store.roll()
    fs.write(b"file", os.urandom(MIB), offset=2 * MIB)
    fs.remount()
    ino, last = fs.at(b"file").ino, fs.extents(b"file")[2]
    segment = Block.unpack(fs.store.get(keys.block(last.block)) or b"").segment
    path = fs.path / "segments" / f"{segment:016x}"
    row = fs.store.get(keys.extent(ino, 2 * MIB)) or b""
    batch = fs.store.batch()
    if how == "an extent":
        batch.delete(keys.extent(ino, 2 * MIB))
        fs.store.commit(batch)
    else:
        path.rename(fs.path / "away")
    handle = fs.files.open(fs.at(b"file"), for_writing=False)
    assert fs.pread(handle, 0, MIB) + fs.pread(handle, MIB, MIB) == content
    with pytest.raises(StoreDamaged):
        fs.pread(handle, 2 * MIB, MIB)
    fs.files.release(handle)
    batch = fs.store.batch()
    batch.put(keys.extent(ino, 2 * MIB), row)
    fs.store.commit(batch)
    if how == "a segment":
        (fs.path / "away").rename(path)


def test_a_damaged_block_is_an_error_and_its_neighbours_are_read(fs: InProcess) -> None:
    from tests.unit.store.acts import flip, segment

    content = os.urandom(2 * MIB)
    fs.write(b"file", content)
    fs.remount()
    second = fs.extents(b"file")[1]
    row = fs.store.get(keys.block(second.block))
    assert row is not None
    block = Block.unpack(row)
    place = segment(fs.path, block.segment), block.offset + 99
    flip(*place)
    handle = fs.opened(b"file")
    assert fs.pread(handle, 0, MIB) == content[:MIB]
    with pytest.raises(StoreDamaged):
        fs.pread(handle, MIB, MIB)
    assert fs.pread(handle, MIB + 500_000, 4096) == content[MIB + 500_000 :][:4096]
    fs.files.release(handle)
    flip(*place)
    assert fs.read(b"file") == content


def test_one_file_waits_with_a_part_of_the_limit_at_most(
    tmp_path: Path, clock: ManualClock
) -> None:
    fs = InProcess(tmp_path / "store", clock, MountOptions(dirty_limit_bytes=4 * MIB))
    fs.make(b"file")
    handle = fs.opened(b"file")
    most = 0
    for number in range(100):  # with gaps, as rsync --sparse writes
        fs.pwrite(handle, number * MIB // 2, b"x" * (100 * 1024))
        most = max(most, fs.files.waiting_bytes)
    assert MIB // 2 < most <= MIB
    fs.files.release(handle)
    fs.close()


def test_orphans_are_freed_a_few_at_a_time(fs: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fusefs.files.reaper.STEP", 8)
    names = [b"file-%d" % number for number in range(10)]
    for name in names:
        fs.write(name, b"content")
        fs.unlink(name)
        fs.unlink(HOUR + b"/" + name)
    first = fs.tree.orphans()[0]
    left = []
    for _ in range(3):
        fs.reap(lambda ino: ino == first)
        left.append(len(fs.tree.orphans()))
    assert left == [6, 2, 1]  # each is an orphan and an extent
    assert fs.tree.orphans() == [first]
    assert fs.reap()
    assert fs.tree.orphans() == []


def test_a_long_orphan_is_freed_over_several_calls(fs: InProcess) -> None:
    for number in range(1200):
        fs.write(b"file", b"x", offset=number * 2)
    fs.unlink(b"file")
    fs.unlink(HOUR + b"/file")
    calls = 0
    while fs.tree.orphans():
        fs.reap()
        fs.crash()
        calls += 1
    assert calls > 2


def test_a_damaged_orphan_is_left_alone(fs: InProcess) -> None:
    for name in (b"bad", b"good"):
        fs.write(name, b"content")
        fs.unlink(name)
        fs.unlink(HOUR + b"/" + name)
    ino = fs.tree.orphans()[0]
    row = fs.store.get(keys.extent(ino, 0))
    assert row
    with fs.tree.act() as act:
        act.delete(keys.extent(ino, 0))
    for _ in range(3):
        fs.reap()
    assert fs.tree.orphans() == [ino]
    with fs.tree.act() as act:
        act.put(keys.extent(ino, 0), row)
