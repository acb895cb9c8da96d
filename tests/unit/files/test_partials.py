"""Files that were left half-written are known as such, and never promise too much."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from fusefs.base import failpoints
from fusefs.config.options import MountOptions
from fusefs.errors import DiskFull, Refused
from fusefs.files import attributes, partials
from fusefs.fsck.check import check
from fusefs.model.inode import Inode
from fusefs.model.partial import Partial, Upload
from fusefs.tree.tree import SET_ID
from tests.unit.clocks import ManualClock
from tests.unit.inprocess import REGULAR, InProcess

MIB = 1 << 20


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[InProcess]:
    fs = InProcess(tmp_path / "store", ManualClock())
    yield fs
    fs.close()


def create(fs: InProcess, path: bytes) -> int:
    """As open(2) with O_CREAT does."""
    parent, name = fs._place(path)
    begin = fs.files.partials.begin
    inode = fs.tree.make(parent, name, REGULAR, fs.caller, also=begin)
    return fs.files.open(inode, for_writing=True)


def close(fs: InProcess, handle: int) -> None:
    """As close(2) does."""
    fs.files.close(fs.files.handle(handle))
    fs.files.release(handle)


def partial(fs: InProcess, path: bytes) -> Partial | None:
    return fs.files.partials.get(fs.at(path).ino)


def is_writing(fs: InProcess, path: bytes) -> bool:
    one = partial(fs, path)
    return one is not None and one.is_writing


def left(fs: InProcess, path: bytes) -> Partial:
    """The partial that a file is."""
    one = partial(fs, path)
    assert one is not None
    assert not one.is_writing
    return one


def test_what_a_writer_closed_is_complete_also_after_a_crash(fs: InProcess) -> None:
    handle = create(fs, b"file")
    assert is_writing(fs, b"file")
    fs.pwrite(handle, 0, bytes(3 * MIB))
    fs.pwrite(handle, 3 * MIB, b"end")
    fs.files.close(fs.files.handle(handle))
    assert partial(fs, b"file") is None
    fs.crash()
    assert partial(fs, b"file") is None
    assert fs.at(b"file").size == 3 * MIB + 3


def test_a_crash_leaves_a_partial_that_says_how_far_it_is_good(fs: InProcess) -> None:
    handle = create(fs, b"file")
    fs.pwrite(handle, 0, os.urandom(3 * MIB))
    fs.pwrite(handle, 3 * MIB, b"waits in memory")
    fs.files.flush(fs.files.handle(handle).file)
    fs.crash()
    one = left(fs, b"file")
    assert (one.offset, one.is_new, one.why) == (3 * MIB, True, partials.DAEMON_ENDED)
    fs.crash()
    assert left(fs, b"file") == one


def test_a_read_only_mount_knows_it_too(fs: InProcess) -> None:
    handle = create(fs, b"file")
    fs.pwrite(handle, 0, os.urandom(MIB))
    fs.options = MountOptions(read_only=True)
    fs.crash()
    assert left(fs, b"file").offset == MIB
    assert not fs.store.has_uncheckpointed


def test_an_empty_file_that_was_just_made_is_one_too(fs: InProcess) -> None:
    create(fs, b"file")
    fs.crash()
    assert left(fs, b"file").offset == 0


def test_a_file_that_was_only_read_or_opened_is_none(fs: InProcess) -> None:
    fs.write(b"file", b"x" * MIB)
    fs.opened(b"file")
    fs.crash()
    assert partial(fs, b"file") is None


def test_a_writer_that_goes_on_makes_it_complete(fs: InProcess) -> None:
    handle = create(fs, b"file")
    fs.pwrite(handle, 0, os.urandom(2 * MIB))
    fs.crash()
    handle = fs.opened(b"file")
    fs.pwrite(handle, 2 * MIB, os.urandom(MIB))
    fs.files.store_whole()
    one = partial(fs, b"file")
    assert one is not None
    assert (one.is_writing, one.is_new, one.offset) == (True, True, 2 * MIB)
    close(fs, handle)
    assert partial(fs, b"file") is None


def test_opening_a_partial_without_writing_completes_nothing(fs: InProcess) -> None:
    handle = create(fs, b"file")
    fs.pwrite(handle, 0, os.urandom(MIB))
    fs.crash()
    before = left(fs, b"file")
    handle = fs.files.open(fs.at(b"file"), for_writing=False)
    fs.files.release(handle)
    assert left(fs, b"file") == before


def test_an_older_file_that_was_being_changed_is_told_apart(fs: InProcess) -> None:
    fs.write(b"file", os.urandom(2 * MIB))
    handle = fs.opened(b"file")
    fs.pwrite(handle, 0, os.urandom(MIB))
    fs.crash()
    assert not left(fs, b"file").is_new


def test_emptying_a_file_begins_anew(fs: InProcess) -> None:
    handle = create(fs, b"file")
    fs.pwrite(handle, 0, os.urandom(2 * MIB))
    fs.crash()
    handle = fs.opened(b"file")
    fs.truncate(b"file", 0)
    fs.pwrite(handle, 0, os.urandom(MIB))
    fs.crash()
    one = left(fs, b"file")
    assert (one.offset, one.is_new) == (MIB, True)


@pytest.mark.parametrize("is_open", [True, False])
def test_the_offset_is_never_behind_where_the_file_was_cut(fs: InProcess, is_open: bool) -> None:
    handle = create(fs, b"file")
    fs.pwrite(handle, 0, os.urandom(3 * MIB))
    fs.crash()
    if is_open:
        fs.opened(b"file")
    fs.truncate(b"file", 2 * MIB - 1)
    one = partial(fs, b"file")
    assert one is not None
    assert one.offset == MIB
    fs.crash()
    assert left(fs, b"file").offset == MIB


def test_the_offset_ends_at_a_hole(fs: InProcess) -> None:
    handle = create(fs, b"file")
    fs.pwrite(handle, 0, os.urandom(MIB))
    fs.pwrite(handle, 2 * MIB, os.urandom(MIB))
    fs.crash()
    assert left(fs, b"file").offset == MIB


def damage(fs: InProcess, path: bytes, at: int) -> None:
    """Change one stored byte of the block at `at` of a file."""
    number = next(one.block for one in fs.extents(path) if one.offset == at)
    block = fs.store.blocks.locate(number).block
    segment = sorted((fs.path / "segments").iterdir())[block.segment - 1]
    with segment.open("r+b") as file:
        file.seek(block.offset + 5)
        byte = file.read(1)[0]
        file.seek(block.offset + 5)
        file.write(bytes([byte ^ 1]))


def test_a_start_moves_the_offset_back_to_before_a_bad_block(fs: InProcess) -> None:
    handle = create(fs, b"file")
    fs.pwrite(handle, 0, os.urandom(5 * MIB))
    fs.crash()
    fs.store.checkpoint()
    assert left(fs, b"file").offset == 5 * MIB
    damage(fs, b"file", 3 * MIB)
    fs.remount()
    assert left(fs, b"file").offset == 3 * MIB
    damage(fs, b"file", 2 * MIB)
    fs.remount()
    assert left(fs, b"file").offset == 2 * MIB


def test_all_of_it_can_be_checked(fs: InProcess) -> None:
    """Damage that lies far before the end is not looked for at a start."""
    handle = create(fs, b"file")
    for at in range(20):
        fs.pwrite(handle, at * MIB, os.urandom(MIB))
    fs.crash()
    fs.store.checkpoint()
    damage(fs, b"file", 4 * MIB)
    fs.remount()
    assert left(fs, b"file").offset == 20 * MIB
    trio.run(fs.files.partials.check, fs.at(b"file").ino)
    assert left(fs, b"file").offset == 4 * MIB
    handle = fs.opened(b"file")
    fs.pwrite(handle, 20 * MIB, os.urandom(MIB))
    fs.crash()
    assert left(fs, b"file").offset == 4 * MIB, "the bad block is there yet"
    handle = fs.opened(b"file")
    fs.pwrite(handle, 4 * MIB, os.urandom(MIB))
    fs.crash()
    assert left(fs, b"file").offset == 21 * MIB


def test_a_killed_writer_leaves_a_partial(fs: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = create(fs, b"file")
    fs.pwrite(handle, 0, os.urandom(MIB))
    monkeypatch.setattr(fs.files.deaths, "killed_by", lambda pid: 15)
    close(fs, handle)
    one = left(fs, b"file")
    assert one.offset == MIB
    assert one.why.endswith("was killed by SIGTERM")
    assert one.stopped_ns


def test_a_writer_that_was_killed_after_another_closed_leaves_what_is_complete(
    fs: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = create(fs, b"file")
    fs.pwrite(handle, 0, b"all of it")
    fs.files.close(fs.files.handle(handle))
    monkeypatch.setattr(fs.files.deaths, "killed_by", lambda pid: 9)
    close(fs, handle)
    assert partial(fs, b"file") is None


def test_what_was_declared_is_not_completed_by_closing_it(fs: InProcess) -> None:
    handle = create(fs, b"file")
    ino = fs.at(b"file").ino
    upload = Upload(b"token", 3 * MIB, b"name")
    with fs.tree.act() as act:
        fs.files.partials.put(act, ino, Partial(0, is_new=True, upload=upload))
    fs.pwrite(handle, 0, os.urandom(MIB))
    close(fs, handle)
    one = left(fs, b"file")
    assert (one.offset, one.upload) == (MIB, upload)


def test_a_partial_that_is_removed_stays_one_in_the_trash_and_goes_with_it(fs: InProcess) -> None:
    handle = create(fs, b"file")
    fs.pwrite(handle, 0, os.urandom(MIB))
    fs.crash()
    ino = fs.at(b"file").ino
    fs.unlink(b"file")
    assert ino in fs.files.partials
    entry = fs.pending()[0]
    fs.rename(fs.trash.path_in_trash(entry), b"back")
    assert left(fs, b"back").offset == MIB
    fs.unlink(b"back")
    fs.unlink(fs.trash.path_in_trash(fs.pending()[0]))
    while fs.reap():
        pass
    assert ino not in fs.files.partials
    fs.crash()
    assert ino not in fs.files.partials


# -- what a partial held before it is begun anew


def begin_anew(fs: InProcess, path: bytes) -> int:
    """As open(2) with O_TRUNC does."""
    handle = fs.opened(path)
    fs.files.truncate(fs.at(path), 0, keeps=SET_ID)
    return handle


def assert_sound(fs: InProcess) -> None:
    """fsck finds nothing."""
    fs.close()
    assert check(fs.path, True).problems == ()
    fs.open()


def reap(fs: InProcess) -> None:
    while fs.reap():
        pass


def test_what_it_held_is_found_again_however_late(fs: InProcess) -> None:
    """The collector is at work between the two copies, and after a crash."""
    content = os.urandom(4 * MIB)
    handle = create(fs, b"file")
    fs.pwrite(handle, 0, content[: 3 * MIB])
    fs.crash()
    handle = begin_anew(fs, b"file")
    assert fs.at(b"file").size == 0
    reap(fs)
    fs.collect()
    fs.crash()
    handle = begin_anew(fs, b"file")
    reap(fs)
    fs.collect()
    before = fs.store.statistics().blocks.written
    fs.pwrite(handle, 0, content)
    close(fs, handle)
    assert fs.store.statistics().blocks.written - before == 1
    assert fs.read(b"file") == content
    reap(fs)
    assert fs.store.totals.inodes == 3, "the two roots and the file"
    assert_sound(fs)


def test_the_longest_of_several_is_kept(fs: InProcess) -> None:
    content = os.urandom(4 * MIB)
    for size in (2 * MIB, MIB, 3 * MIB, MIB):
        handle = begin_anew(fs, b"file") if fs.names() else create(fs, b"file")
        fs.pwrite(handle, 0, content[:size])
        fs.crash()
    handle = begin_anew(fs, b"file")
    reap(fs)
    fs.collect()
    assert fs.store.totals.stored_bytes == 3 * MIB
    assert fs.store.totals.inodes == 4
    close(fs, handle)
    reap(fs)
    assert fs.store.totals.stored_bytes == 0


def test_a_file_of_many_extents_is_kept_in_steps(
    fs: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusefs.files.extents._STEP", 3)
    content = os.urandom(40 * 5000)
    handle = create(fs, b"file")
    for at in range(0, len(content), 5000):
        if at != 35_000:  # a hole
            fs.pwrite(handle, at, content[at : at + 5000])
            fs.files.flush(fs.files.handle(handle).file)
    fs.crash()
    begin_anew(fs, b"file")
    reap(fs)
    assert_sound(fs)
    assert fs.store.totals.stored_bytes == len(content) - 5000


@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_no_room_to_keep_it(fs: InProcess, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr("fusefs.files.extents._STEP", 3)
    handle = create(fs, b"file")
    for at in range(0, 60_000, 5000):
        fs.pwrite(handle, at, os.urandom(5000))
        fs.files.flush(fs.files.handle(handle).file)
    fs.crash()
    failpoints.arm(f"log.append={number}:ENOSPC")
    try:
        with pytest.raises(DiskFull):
            begin_anew(fs, b"file")
        assert failpoints.hits()["log.append"] == number
    finally:
        failpoints.disarm()
    fs.crash()
    assert_sound(fs)
    close(fs, begin_anew(fs, b"file"))
    reap(fs)
    assert fs.store.totals.stored_bytes == 0
    assert_sound(fs)


def test_a_writer_that_empties_its_own_file_keeps_nothing(fs: InProcess) -> None:
    handle = create(fs, b"file")
    fs.pwrite(handle, 0, os.urandom(2 * MIB))
    fs.files.truncate(fs.at(b"file"), 0, keeps=SET_ID)
    assert fs.store.totals.stored_bytes == 0


def test_it_goes_with_the_partial(fs: InProcess) -> None:
    handle = create(fs, b"file")
    fs.pwrite(handle, 0, os.urandom(2 * MIB))
    fs.crash()
    begin_anew(fs, b"file")
    fs.crash()
    fs.unlink(b"file")
    assert fs.store.totals.stored_bytes == 2 * MIB
    fs.unlink(fs.trash.path_in_trash(fs.pending()[0]))
    reap(fs)
    assert fs.store.totals.stored_bytes == 0
    assert_sound(fs)


# -- extended attributes


def nowhere(_inode: Inode) -> bytes:
    """There are no remotes."""
    return b""


def told(fs: InProcess, path: bytes) -> tuple[bytes, bytes | None]:
    """What getfattr shows: state and offset."""
    known, inode = fs.files.partials, fs.at(path)
    state = attributes.get(known, inode, attributes.STATE, nowhere)
    if state != attributes.COMPLETE:
        return state, attributes.get(known, inode, attributes.OFFSET, nowhere)
    with pytest.raises(Refused) as refused:
        attributes.get(known, inode, attributes.OFFSET, nowhere)
    assert refused.value.errno == errno.ENODATA
    return state, None


def test_attributes_tell_the_state(fs: InProcess) -> None:
    handle = create(fs, b"file")
    fs.pwrite(handle, 0, os.urandom(MIB))
    assert told(fs, b"file") == (b"writing", b"0")
    assert attributes.listed(fs.files.partials, fs.at(b"file").ino) == ()
    fs.crash()
    assert told(fs, b"file") == (b"partial", b"%d" % MIB)
    unfinished = attributes.listed(fs.files.partials, fs.at(b"file").ino)
    assert unfinished == (attributes.STATE, attributes.OFFSET)
    attributes.set_(fs.files.partials, fs.at(b"file"), attributes.STATE, b"complete")
    assert told(fs, b"file") == (b"complete", None)
    assert attributes.listed(fs.files.partials, fs.at(b"file").ino) == ()


@pytest.mark.parametrize(
    ("name", "value", "number"),
    [
        (attributes.STATE, b"partial", errno.EINVAL),
        (attributes.OFFSET, b"0", errno.EPERM),
    ],
)
def test_nothing_else_can_be_said(fs: InProcess, name: bytes, value: bytes, number: int) -> None:
    create(fs, b"file")
    with pytest.raises(Refused) as refused:
        attributes.set_(fs.files.partials, fs.at(b"file"), name, value)
    assert refused.value.errno == number
    assert is_writing(fs, b"file")


def test_directories_have_no_such_attributes(fs: InProcess) -> None:
    fs.mkdir(b"dir")
    with pytest.raises(Refused) as refused:
        attributes.get(fs.files.partials, fs.at(b"dir"), attributes.STATE, nowhere)
    assert refused.value.errno == errno.ENODATA
