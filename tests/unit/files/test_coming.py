"""Whole blocks that are hashed beside the loop: nothing of them is lost, torn or read too early."""

import os
import threading
from collections.abc import Iterator
from typing import NoReturn

import pytest
import trio

from fusefs.base import failpoints
from fusefs.errors import DiskFull, StoreError
from fusefs.files.opened import OpenFile
from fusefs.store.blocks import Prepared
from fusefs.store.log import Buffer
from tests.unit import invariants
from tests.unit.inprocess import InProcess

MIB = 1 << 20
CONTENT = os.urandom(6 * MIB)


@pytest.fixture
def handle(fs: InProcess) -> Iterator[int]:
    """A file, new and open."""
    fs.make(b"file")
    yield fs.opened(b"file")
    failpoints.disarm()


@pytest.fixture
def gate(fs: InProcess, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """No block is hashed beside the loop until it is set."""
    gate, prepare = threading.Event(), fs.store.blocks.prepare

    def late(data: Buffer) -> Prepared:
        if threading.current_thread() is not threading.main_thread():
            gate.wait()
        return prepare(data)

    monkeypatch.setattr(fs.store.blocks, "prepare", late)
    yield gate
    gate.set()


def opened(fs: InProcess, handle: int) -> OpenFile:
    return fs.files.handle(handle).file


def write_all(fs: InProcess, handle: int, size: int, step: int) -> None:
    for offset in range(0, size, step):
        fs.pwrite(handle, offset, CONTENT[offset : offset + step])


def test_bytes_are_read_while_they_are_hashed(
    fs: InProcess, handle: int, gate: threading.Event
) -> None:
    write_all(fs, handle, 2 * MIB, 128 << 10)
    assert list(opened(fs, handle).coming) == [0, 1]
    assert fs.at(b"file").stored_size == 0
    assert fs.pread(handle, 0, 9 * MIB) == CONTENT[: 2 * MIB]
    assert fs.pread(handle, MIB - 5, 10) == CONTENT[MIB - 5 : MIB + 5]


@pytest.mark.parametrize("step", [MIB, 128 << 10, 100_000])
def test_what_was_synced_outlives_a_kill(fs: InProcess, handle: int, step: int) -> None:
    write_all(fs, handle, 3 * MIB, step)
    trio.run(fs.files.fsync, opened(fs, handle))
    size = fs.at(b"file").size
    fs.crash(at_once=True)
    assert fs.read(b"file") == CONTENT[:size]
    assert size >= 3 * MIB


def test_what_was_closed_outlives_a_kill(fs: InProcess, handle: int) -> None:
    write_all(fs, handle, 3 * MIB, MIB)
    fs.files.close(fs.files.handle(handle))
    fs.crash(at_once=True)
    assert fs.read(b"file") == CONTENT[: 3 * MIB]


def test_a_sequence_becomes_whole_blocks_in_order(fs: InProcess, handle: int) -> None:
    write_all(fs, handle, 6 * MIB, 128 << 10)
    fs.files.release(handle)
    extents = fs.extents(b"file")
    assert [(one.offset, one.length) for one in extents] == [(n * MIB, MIB) for n in range(6)]
    assert [one.block for one in extents] == sorted(one.block for one in extents)
    invariants.check(fs.store)


def test_whole_blocks_are_stored_when_a_while_has_passed(fs: InProcess, handle: int) -> None:
    write_all(fs, handle, 2 * MIB, MIB)
    fs.files.store_whole()
    fs.crash(at_once=True)
    assert fs.read(b"file") == CONTENT[: 2 * MIB]


@pytest.mark.parametrize("offset", [0, 5, MIB - 5, MIB, 2 * MIB - 1])
def test_a_write_over_what_is_hashed_wins(
    fs: InProcess, handle: int, gate: threading.Event, offset: int
) -> None:
    write_all(fs, handle, 2 * MIB, MIB)
    assert len(opened(fs, handle).coming) == 2
    gate.set()
    fs.pwrite(handle, offset, b"newer bytes")
    expected = bytearray(CONTENT[: 2 * MIB])
    expected[offset : offset + 11] = b"newer bytes"
    assert fs.pread(handle, 0, 3 * MIB) == expected
    assert fs.files.waiting_bytes == 11  # not all of the block once more
    fs.files.release(handle)
    fs.crash(at_once=True)
    assert fs.read(b"file") == expected
    invariants.check(fs.store)


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 7, 2 * MIB, 3 * MIB])
def test_a_truncation_cuts_what_is_hashed(fs: InProcess, handle: int, size: int) -> None:
    write_all(fs, handle, 2 * MIB, 256 << 10)
    fs.truncate(b"file", size)
    expected = CONTENT[: min(size, 2 * MIB)].ljust(size, b"\0")
    assert fs.pread(handle, 0, 4 * MIB) == expected
    fs.pwrite(handle, size, b"more")
    fs.files.release(handle)
    assert fs.files.waiting_bytes == 0
    fs.crash(at_once=True)
    assert fs.read(b"file") == expected + b"more"
    invariants.check(fs.store)


def test_an_append_that_fails_is_told_to_the_next_write_which_takes_nothing(
    fs: InProcess, handle: int
) -> None:
    fs.pwrite(handle, 0, CONTENT[:MIB])
    opened(fs, handle).coming.result(0)
    failpoints.arm("log.append=1:ENOSPC")
    with pytest.raises(DiskFull):
        fs.pwrite(handle, MIB, b"refused")
    assert failpoints.hits()["log.append"] == 1
    assert fs.at(b"file").size == MIB
    assert fs.pread(handle, 0, 2 * MIB) == CONTENT[:MIB]
    failpoints.disarm()
    fs.pwrite(handle, MIB, b"taken")
    assert fs.at(b"file").stored_size == MIB
    fs.files.release(handle)
    fs.crash(at_once=True)
    assert fs.read(b"file") == CONTENT[:MIB] + b"taken"
    invariants.check(fs.store)


def test_an_append_that_fails_is_told_to_fsync_and_can_be_repeated(
    fs: InProcess, handle: int
) -> None:
    write_all(fs, handle, MIB, MIB)
    failpoints.arm("log.append=1:EIO")
    with pytest.raises(StoreError):
        trio.run(fs.files.fsync, opened(fs, handle))
    assert fs.files.waiting_bytes == MIB
    failpoints.disarm()
    trio.run(fs.files.fsync, opened(fs, handle))
    fs.crash(at_once=True)
    assert fs.read(b"file") == CONTENT[:MIB]


def test_what_cannot_be_hashed_is_told_and_waits(
    fs: InProcess, handle: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(data: Buffer) -> NoReturn:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(fs.store.blocks, "prepare", fail)
        fs.pwrite(handle, 0, CONTENT[:MIB])
        with pytest.raises(MemoryError):
            fs.files.flush_all()
    fs.files.flush_all()
    fs.crash(at_once=True)
    assert fs.read(b"file") == CONTENT[:MIB]


def test_few_are_hashed_at_a_time(fs: InProcess, gate: threading.Event) -> None:
    handles = []
    for name in (b"a", b"b", b"c"):
        fs.make(name)
        handles.append(fs.opened(name))
        write_all(fs, handles[-1], 3 * MIB, MIB)
    assert [len(opened(fs, one).coming) for one in handles] == [3, 3, 2]
    assert fs.files.waiting_bytes == 8 * MIB
    gate.set()
    for one in handles:
        fs.files.release(one)
    assert fs.files.waiting_bytes == 0
    fs.crash(at_once=True)
    assert {fs.read(name) for name in (b"a", b"b", b"c")} == {CONTENT[: 3 * MIB]}


def test_one_file_has_few_of_them(fs: InProcess, handle: int) -> None:
    for offset in range(0, 6 * MIB, MIB):
        fs.pwrite(handle, offset, CONTENT[offset : offset + MIB])
        assert len(opened(fs, handle).coming) <= 4
    fs.files.release(handle)


def test_a_writer_that_goes_on_is_not_flushed_for_the_age_of_what_is_stored(
    fs: InProcess, handle: int
) -> None:
    for offset in range(0, 3 * MIB, 256 << 10):
        fs.pwrite(handle, offset, CONTENT[offset : offset + (256 << 10)])
        fs.clock.advance(1)
        fs.files.store_whole()
        fs.files.flush_older_than(5)
    fs.files.release(handle)
    assert [one.length for one in fs.extents(b"file")] == [MIB] * 3
