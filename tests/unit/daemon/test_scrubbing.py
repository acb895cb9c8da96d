"""All content is read and verified, at a pace, and what is bad is on record as long as it is."""

import os
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from fusefs.base import failpoints
from fusefs.config.options import MountOptions
from fusefs.daemon import scrubbing
from fusefs.daemon.pace import REST, SHORT_REST, Pace
from fusefs.daemon.scrubbing import FIRST_LOOK_S, RENEW_S, SAVE_EVERY_S, Scrubbing
from fusefs.errors import DiskFull, StoreDamaged
from fusefs.fsck.check import check
from fusefs.model import keys
from fusefs.model.block import Block
from fusefs.model.corruption import MAX_OBJECTS, Bad, Object, State
from fusefs.store import rebuild, scrubber
from tests.unit import invariants
from tests.unit.clocks import ManualClock, run_patiently
from tests.unit.inprocess import InProcess

MIB = 1 << 20
DAY_S = 86400.0


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[InProcess]:
    """Six files of one block each, /dir/0 to /dir/5: blocks 1 to 6."""
    fs = InProcess(tmp_path / "store", ManualClock())
    fs.mkdir(b"dir")
    for number in range(6):
        fs.write(b"dir/%d" % number, content(number))
    fs.store.checkpoint()
    yield fs
    failpoints.disarm()
    if fs.store._lock >= 0:
        fs.store.abandon()


def content(number: int) -> bytes:
    return Random(number).randbytes(MIB)


def block(fs: InProcess, number: int) -> Block:
    row = fs.store.get(keys.block(number))
    assert row is not None
    return Block.unpack(row)


def flip(fs: InProcess, number: int) -> None:
    """Change one bit of a block on the disk; again, and it is as it was."""
    place = block(fs, number)
    path = fs.path / "segments" / f"{place.segment:016x}"
    with open(path, "r+b") as file:
        file.seek(place.offset + 500_000)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))


def bad(fs: InProcess) -> list[int]:
    return [one.block for one in fs.corruptions()]


def read_cold(fs: InProcess, path: bytes) -> None:
    """Read as a program does, of which nothing is in memory; it must fail."""
    fs.remount()
    with pytest.raises(StoreDamaged):
        fs.read(path)


def settle(fs: InProcess) -> None:
    trio.run(fs.filesystem.scrubbing.settle)


def events(fs: InProcess, kind: str) -> list[dict[str, Any]]:
    return [one.record() for one in fs.filesystem.events.since(0) if one.kind == kind]


def test_a_sound_store_has_no_records_and_all_of_it_was_read(fs: InProcess) -> None:
    fs.scrub()
    record = fs.filesystem.scrubbing.record()
    assert (record["blocks"], record["read_bytes"], record["damaged"]) == (6, 6 * MIB, 0)
    assert record["healed"] == 0
    assert (record["is_running"], record["total_bytes"], record["records"]) == (False, 6 * MIB, 0)
    assert record["began"] == record["ended"] == "2027-01-15T08:00:00.000000Z"
    (event,) = events(fs, "scrubbed")
    assert (event["blocks"], event["read_bytes"], event["damaged"]) == (6, 6 * MIB, 0)
    invariants.check(fs.store)


def test_a_bad_block_is_on_record_with_the_files_that_need_it(fs: InProcess) -> None:
    fs.write(b"twin", content(3))  # the same block
    flip(fs, 4)
    with capture_logs() as lines:
        fs.scrub()
    (one,) = fs.corruptions()
    place = block(fs, 4)
    assert (one.block, one.segment, one.offset) == (4, place.segment, place.offset)
    assert (one.state, one.reason) == (State.DAMAGED, "its content does not match its hash")
    assert one.first_ns == one.last_ns == fs.clock.time_ns()
    wanted = {Object(fs.at(b"dir/3").ino, b"/dir/3"), Object(fs.at(b"twin").ino, b"/twin")}
    assert (set(one.objects), one.others) == (wanted, 0)
    (event,) = events(fs, "corruption")
    assert (event["block"], event["path"], event["state"]) == (4, "/dir/3", "damaged")
    (line,) = [line for line in lines if line["event"] == "a block is bad"]
    assert line["files"] == ["/dir/3", "/twin"]
    assert fs.filesystem.scrubbing.record()["damaged"] == 1


def test_it_is_said_once_and_seen_again_by_the_next_pass(fs: InProcess) -> None:
    flip(fs, 4)
    fs.scrub()
    (before,) = fs.corruptions()
    fs.clock.advance(DAY_S)
    fs.rename(b"dir/3", b"moved")
    fs.scrub()
    (after,) = fs.corruptions()
    assert (after.first_ns, after.last_ns) == (before.first_ns, fs.clock.time_ns())
    assert [one.path for one in after.objects] == [b"/moved"]
    assert len(events(fs, "corruption")) == 1


def test_of_very_many_files_some_are_named_and_the_others_counted(fs: InProcess) -> None:
    for number in range(MAX_OBJECTS + 4):
        fs.write(b"same %d" % number, content(2))
    flip(fs, 3)
    fs.scrub()
    (one,) = fs.corruptions()
    assert (len(one.objects), one.others) == (MAX_OBJECTS, 5)


def test_what_is_in_the_trash_is_named_there(fs: InProcess) -> None:
    fs.unlink(b"dir/3")
    flip(fs, 4)
    fs.scrub()
    (one,) = fs.corruptions()
    assert [it.path for it in one.objects] == [b"/.trash/2027-01-15T08/dir/3"]


def test_a_record_goes_when_the_block_is_good_again(fs: InProcess) -> None:
    flip(fs, 2)
    flip(fs, 4)
    fs.scrub()
    assert bad(fs) == [2, 4]
    flip(fs, 2)
    fs.scrub()
    assert bad(fs) == [4]
    fs.crash()
    assert bad(fs) == [4]


def test_a_record_goes_with_the_last_file_that_needs_the_block(fs: InProcess) -> None:
    fs.write(b"twin", content(3))
    flip(fs, 4)
    fs.scrub()
    purge(fs, b"dir/3")
    assert bad(fs) == [4]
    purge(fs, b"twin")
    assert bad(fs) == []
    assert fs.store.get(keys.block(4)) is None
    fs.write(b"again", content(3))  # must not be the damaged bytes once more
    fs.remount()
    assert fs.read(b"again") == content(3)
    fs.collect()
    fs.close()
    assert check(fs.path, True).problems == ()


def purge(fs: InProcess, path: bytes) -> None:
    fs.unlink(path)
    for entry in list(fs.trash.entries()):
        fs.unlink(fs.trash.path_in_trash(entry))
    while fs.reap():
        pass


def test_content_that_is_written_again_heals_the_block_for_all(fs: InProcess) -> None:
    flip(fs, 4)
    fs.scrub()
    before = fs.store.statistics().blocks
    fs.write(b"copy", content(3))
    after = fs.store.statistics().blocks
    assert (after.dedup_hits, after.written - before.written) == (0, 1)
    assert bad(fs) == []
    fs.remount()
    assert fs.read(b"dir/3") == fs.read(b"copy") == content(3)
    fs.scrub()
    assert bad(fs) == []
    assert fs.extents(b"copy") == fs.extents(b"dir/3")
    fs.close()
    assert check(fs.path, True).problems == ()


def test_a_missing_segment_is_unreadable_for_all_of_its_blocks(fs: InProcess) -> None:
    fs.store.seal()
    fs.write(b"other", b"in another segment")
    (fs.path / "segments" / f"{1:016x}").rename(fs.path / "away")
    fs.scrub()
    assert bad(fs) == [1, 2, 3, 4, 5, 6]
    assert {(one.state, one.reason) for one in fs.corruptions()} == {
        (State.UNREADABLE, "its segment is missing")
    }
    (fs.path / "away").rename(fs.path / "segments" / f"{1:016x}")
    fs.scrub()
    assert bad(fs) == []


def test_an_error_of_the_disk_is_no_wrong_content(fs: InProcess) -> None:
    failpoints.arm("scrub.read=1:EIO")
    fs.scrub()
    (reason,) = {(one.state, one.reason) for one in fs.corruptions()}
    assert reason == (State.UNREADABLE, "cannot be read: failpoint scrub.read")


def test_what_memory_still_has_is_read_from_the_disk(fs: InProcess) -> None:
    assert fs.read(b"dir/3") == content(3)
    flip(fs, 4)
    assert fs.read(b"dir/3") == content(3)
    fs.scrub()
    assert bad(fs) == [4]


def test_the_kernel_forgets_a_block_before_it_is_read_and_after(
    fs: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = block(fs, 1)
    steps: list[str] = []

    def advise(file: int, offset: int, size: int, advice: int) -> None:
        assert advice == os.POSIX_FADV_DONTNEED
        if offset <= place.offset and place.offset + place.stored <= offset + size:
            steps.append("forget")

    def look(file: int, one: Block, _cipher: object) -> Bad | None:
        if one.offset == place.offset:
            steps.append("read")
        return None

    monkeypatch.setattr(os, "posix_fadvise", advise)
    monkeypatch.setattr(scrubber, "check_content", look)
    fs.scrub()
    assert steps == ["forget", "read", "forget"]


@pytest.mark.parametrize("offset", [0, 300_000])
def test_a_bad_read_by_a_program_is_on_record(fs: InProcess, offset: int) -> None:
    flip(fs, 4)
    read_cold(fs, b"dir/3")
    settle(fs)
    (one,) = fs.corruptions()
    assert (one.block, [it.path for it in one.objects]) == (4, [b"/dir/3"])
    assert len(events(fs, "corruption")) == 1
    assert fs.filesystem.scrubbing.record()["blocks"] == 0


def test_readers_who_meet_it_again_renew_the_record_now_and_then(fs: InProcess) -> None:
    flip(fs, 4)
    read_cold(fs, b"dir/3")
    settle(fs)
    (first,) = fs.corruptions()
    fs.clock.advance(RENEW_S / 2)
    read_cold(fs, b"dir/3")
    settle(fs)
    assert fs.corruptions() == [first]
    fs.clock.advance(RENEW_S / 2)
    read_cold(fs, b"dir/3")
    settle(fs)
    (renewed,) = fs.corruptions()
    assert (renewed.first_ns, renewed.last_ns) == (first.first_ns, fs.clock.time_ns())


def test_what_the_collector_cannot_move_is_on_record(fs: InProcess) -> None:
    flip(fs, 4)
    purge(fs, b"dir/0")
    fs.collect()
    settle(fs)
    assert bad(fs) == [4]
    assert block(fs, 4).segment == 1


def test_a_block_that_the_collector_moved_meanwhile_is_not_bad(
    fs: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    scrub = scrubber.Scrubber(fs.store)
    wanted = scrub.after(0)._replace(is_end=True)
    purge(fs, b"dir/5")
    fs.collect()
    assert not (fs.path / "segments" / f"{1:016x}").exists()
    found = scrub.read(wanted)
    assert found.keys() == {number for number, _ in wanted.blocks} != set()
    with monkeypatch.context() as patch:
        patch.setattr(scrubber.Scrubber, "after", lambda self, number: wanted)
        fs.scrub()
    assert bad(fs) == []
    assert fs.filesystem.scrubbing.record()["damaged"] == 0


def test_records_have_an_end(fs: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrubbing, "MAX_RECORDS", 2)
    for number in (1, 3, 5):
        flip(fs, number)
    with capture_logs() as lines:
        fs.scrub()
        fs.scrub()
    assert bad(fs) == [1, 3]
    assert fs.filesystem.scrubbing.record()["damaged"] == 3
    full = [line for line in lines if line["event"].startswith("there are too many bad blocks")]
    assert len(full) == 1


def test_a_pass_goes_on_after_a_crash_where_it_was_noted(
    fs: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrubber, "SLICE_BYTES", MIB)
    worker = fs.filesystem.scrubbing
    worker.ask(0)
    for _ in range(2):
        trio.run(worker.step)
    fs.clock.advance(SAVE_EVERY_S)
    trio.run(worker.step)
    trio.run(worker.step)
    began = worker.record()["began"]
    fs.crash()
    record = fs.filesystem.scrubbing.record()
    assert (record["blocks"], record["began"], record["ended"]) == (3, began, None)
    fs.scrub()
    record = fs.filesystem.scrubbing.record()
    assert (record["blocks"], record["began"]) == (6, began)
    assert fs.filesystem.scrubbing.scrubbed_blocks == 3


def test_a_clean_end_notes_how_far_it_is(fs: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrubber, "SLICE_BYTES", MIB)
    worker = fs.filesystem.scrubbing
    worker.ask(0)
    for _ in range(4):
        trio.run(worker.step)
    fs.remount()
    assert fs.filesystem.scrubbing.record()["blocks"] == 4


def test_a_pass_is_noted_rarely(fs: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrubber, "SLICE_BYTES", MIB)
    before = fs.store.statistics().batches
    fs.scrub()
    assert fs.store.statistics().batches - before == 2


@pytest.mark.parametrize("is_closed", [False, True])
def test_what_cannot_be_recorded_for_want_of_room_is_recorded_later(
    fs: InProcess, monkeypatch: pytest.MonkeyPatch, is_closed: bool
) -> None:
    monkeypatch.setattr(scrubber, "SLICE_BYTES", MIB)
    commit, worker = fs.store.commit, fs.filesystem.scrubbing

    def refuse(batch: Any) -> None:
        if any(key[:1] == keys.CORRUPTION for key in batch.rows):
            raise DiskFull("full")
        commit(batch)

    flip(fs, 4)
    worker.ask(0)
    with monkeypatch.context() as patch:
        patch.setattr(fs.store, "commit", refuse)
        for _ in range(3):
            trio.run(worker.step)
        with pytest.raises(DiskFull):
            trio.run(worker.step)
        if is_closed:
            fs.close()
            fs.open()
    fs.scrub()
    assert bad(fs) == [4]


# -- the pace


def background(fs: InProcess, rate: int, every_s: float = 30 * DAY_S) -> Scrubbing:
    return Scrubbing(fs.tree, Pace(lambda: 0), rate=rate, every_s=every_s)


def watch(fs: InProcess, worker: Scrubbing, seconds: float) -> int:
    """Bytes that the worker reads in so long."""
    before = worker.scrubbed_bytes

    async def main() -> None:
        with trio.move_on_after(seconds):
            await worker.run()

    run_patiently(main)
    fs.clock.advance(seconds)
    return worker.scrubbed_bytes - before


def test_a_pass_takes_the_time_that_its_rate_gives_it(
    fs: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrubber, "SLICE_BYTES", MIB)
    worker = background(fs, MIB // 10)
    fs.clock.advance(FIRST_LOOK_S)
    assert watch(fs, worker, 25) == 3 * MIB
    assert watch(fs, worker, 20) == 2 * MIB


def test_a_mount_that_just_came_up_is_left_alone(fs: InProcess) -> None:
    worker = background(fs, MIB)
    assert watch(fs, worker, FIRST_LOOK_S - 1) == 0
    fs.clock.advance(1)
    assert watch(fs, worker, 30) == 6 * MIB


def test_the_next_pass_comes_after_its_pause_and_not_before(fs: InProcess) -> None:
    worker = background(fs, 100 * MIB, every_s=10 * DAY_S)
    fs.clock.advance(FIRST_LOOK_S)
    assert watch(fs, worker, 5) == 6 * MIB
    fs.clock.advance(10 * DAY_S - 20)
    assert watch(fs, worker, 5) == 0
    fs.clock.advance(20)
    assert watch(fs, worker, 5) == 6 * MIB


def test_a_clock_that_went_back_does_not_put_the_next_pass_off(fs: InProcess) -> None:
    worker = background(fs, 100 * MIB)
    fs.clock.advance(FIRST_LOOK_S)
    watch(fs, worker, 5)
    fs.clock.jump(-400 * DAY_S)
    assert watch(fs, worker, 5) == 6 * MIB


def test_without_a_rate_there_is_a_pass_only_for_who_asks(fs: InProcess) -> None:
    worker = background(fs, 0)
    fs.clock.advance(FIRST_LOOK_S)
    assert watch(fs, worker, 100) == 0
    worker.ask(0)
    assert watch(fs, worker, 10) == 6 * MIB
    assert watch(fs, worker, 100) == 0


def test_who_asks_does_not_wait_for_the_rate_of_the_background(fs: InProcess) -> None:
    worker = background(fs, 1)
    worker.ask(0)
    assert watch(fs, worker, 10) == 6 * MIB


def test_between_slices_it_rests_as_long_as_requests_want(
    fs: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Busy(Pace):
        def rest_s(self, worked_s: float) -> float:
            return 10.0

    monkeypatch.setattr(scrubber, "SLICE_BYTES", MIB)
    worker = Scrubbing(fs.tree, Busy(lambda: 0), rate=0, every_s=DAY_S)
    worker.ask(0)
    assert watch(fs, worker, 25) == 3 * MIB


def test_requests_come_first() -> None:
    answered = 0
    pace = Pace(lambda: answered)
    assert pace.rest_s(2.0) == 2.0 * SHORT_REST
    answered = 1
    assert pace.rest_s(2.0) == 2.0 * REST
    assert pace.rest_s(2.0) == 2.0 * SHORT_REST


def test_a_full_disk_is_said_once_and_the_scrub_goes_on_later(
    fs: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, worker = fs.store.commit, background(fs, 100 * MIB)
    left = 3

    def refuse(batch: Any) -> None:
        nonlocal left
        if batch.rows and left:
            left -= 1
            raise DiskFull("full")
        commit(batch)

    monkeypatch.setattr(fs.store, "commit", refuse)
    fs.clock.advance(FIRST_LOOK_S)
    with capture_logs() as lines:
        assert watch(fs, worker, 60) == 6 * MIB
    assert [line["event"] for line in lines].count("scrubbing waits") == 1


def test_who_asks_does_not_wait_for_the_next_try_after_an_error(
    fs: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, worker = fs.store.commit, background(fs, 0)
    refused, over = trio.Event(), trio.Event()
    worker.tell_over = lambda _: over.set()

    def refuse(batch: Any) -> None:
        refused.set()
        raise DiskFull("full")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            worker.ask(0)
            nursery.start_soon(worker.run)
            await refused.wait()
            assert worker.record()["trouble"] == "full"
            monkeypatch.setattr(fs.store, "commit", commit)
            worker.ask(0)
            with trio.fail_after(scrubbing.RETRY_S / 2):
                await over.wait()
            nursery.cancel_scope.cancel()

    monkeypatch.setattr(fs.store, "commit", refuse)
    run_patiently(main)


# -- beside the others


def test_a_mount_that_changes_nothing_records_nothing(fs: InProcess) -> None:
    fs.options = MountOptions(read_only=True)
    flip(fs, 4)
    read_cold(fs, b"dir/3")
    fs.remount()
    assert bad(fs) == []


def test_fsck_knows_what_is_on_record(fs: InProcess) -> None:
    flip(fs, 4)
    fs.scrub()
    fs.close()
    report = check(fs.path, False)
    assert report.problems == ()
    (known,) = report.known
    assert (known.kind, known.where) == ("recorded", "/dir/3")
    assert known.message.startswith("block 4: its content does not match its hash")


def test_a_rebuilt_index_has_the_records(fs: InProcess) -> None:
    flip(fs, 4)
    fs.scrub()
    before = fs.corruptions()
    fs.close()
    with rebuild.alone(fs.path):
        rebuild.apply(rebuild.plan(fs.path))
    fs.open()
    assert fs.corruptions() == before
