"""Collections begin by themselves when they are worth it, and only then."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import trio
from structlog.testing import capture_logs

from fusefs.base import failpoints
from fusefs.daemon.collecting import Collecting
from fusefs.store import format
from fusefs.store.collector import reading_segments
from fusefs.store.margins import DEFAULT, Margins
from fusefs.store.recovery import list_segments
from tests.unit import invariants
from tests.unit.clocks import ManualClock, run_patiently
from tests.unit.inprocess import InProcess

MIB = 1 << 20
#: Fewer looks and no pauses.
MARGINS = replace(DEFAULT, look_every_s=60.0, retry_s=400.0, pause_s=0.0)
QUIET_S = MARGINS.quiet_s + 2 * MARGINS.look_every_s + 1


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[InProcess]:
    """Three segments; most of the first and less than half of the second were purged."""
    fs = InProcess(tmp_path / "store", ManualClock())
    fs.write(b"kept", Random(1).randbytes(3 * MIB))
    fs.write(b"gone", Random(2).randbytes(18 * MIB))
    fs.write(b"kept too", Random(3).randbytes(20 * MIB))
    purge(fs, b"gone")
    fs.store.checkpoint()
    yield fs
    failpoints.disarm()
    if fs.store._lock >= 0:
        fs.store.abandon()


def purge(fs: InProcess, name: bytes) -> None:
    fs.unlink(name)
    for entry in list(fs.trash.entries()):
        fs.unlink(fs.trash.path_in_trash(entry))
    while fs.reap():
        pass


def check(fs: InProcess) -> None:
    invariants.check(fs.store)
    fs.crash()
    invariants.check(fs.store)
    assert fs.read(b"kept") == Random(1).randbytes(3 * MIB)
    assert fs.read(b"kept too") == Random(3).randbytes(20 * MIB)
    fs.close()


def run_for(fs: InProcess, seconds: float, margins: Margins = MARGINS) -> None:
    """The background, for so long on a clock that jumps."""

    async def main() -> None:
        with trio.move_on_after(seconds):
            await Collecting(fs.store, margins).run()

    run_patiently(main)


def segments(fs: InProcess) -> list[int]:
    return list_segments(fs.path / "segments")


def excess(fs: InProcess) -> float:
    """What the segments are larger than what is needed, as a part of that."""
    size = sum(path.stat().st_size for path in (fs.path / "segments").iterdir())
    return size / fs.store.totals.stored_bytes - 1


def test_a_store_that_is_left_alone_shrinks_to_what_it_needs(fs: InProcess) -> None:
    assert excess(fs) > 0.7
    run_for(fs, 90, replace(DEFAULT, pause_s=0.0))
    assert 0 <= excess(fs) <= 0.05
    check(fs)


def test_mostly_dead_segments_go_at_the_next_look_and_the_others_wait(fs: InProcess) -> None:
    first, second, third = segments(fs)
    run_for(fs, MARGINS.look_every_s - 1)
    assert segments(fs) == [first, second, third]
    run_for(fs, MARGINS.look_every_s + 5)
    assert first not in segments(fs)
    assert {second, third} <= set(segments(fs))
    check(fs)


def test_a_store_that_is_in_use_is_not_rewritten(fs: InProcess) -> None:
    run_for(fs, MARGINS.look_every_s + 5)
    _, second, *_ = segments(fs)  # the first is mostly dead now, and newest

    async def use() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Collecting(fs.store, MARGINS).run)
            for number in range(12):
                await trio.sleep(MARGINS.quiet_s / 3)
                fs.write(b"used", b"%d" % number)
            nursery.cancel_scope.cancel()

    before = fs.store.statistics().blocks.written_bytes
    run_patiently(use)
    assert second in segments(fs)
    assert fs.store.statistics().blocks.written_bytes - before < 1000
    check(fs)


def test_a_round_of_a_quiet_store_ends_when_somebody_comes(fs: InProcess) -> None:
    before = segments(fs)
    margins = replace(MARGINS, mostly_dead=1.0, pause_s=3.0)

    async def come() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Collecting(fs.store, margins).run)
            await trio.sleep(MARGINS.quiet_s + MARGINS.look_every_s + 8)
            fs.write(b"used", b"1")
            await trio.sleep(MARGINS.quiet_s - 10)
            nursery.cancel_scope.cancel()

    run_patiently(come)
    assert before[0] not in segments(fs)
    assert before[1] in segments(fs)
    check(fs)


def test_a_round_of_a_quiet_store_does_not_take_its_own_work_for_somebody(fs: InProcess) -> None:
    run_for(fs, 2 * MARGINS.look_every_s + 10, replace(MARGINS, mostly_dead=1.0))
    assert excess(fs) <= 0.05
    check(fs)


def test_a_little_is_left_until_it_is_worth_it(fs: InProcess) -> None:
    fs.collect()
    fs.write(b"small", Random(4).randbytes(3 * MIB))
    purge(fs, b"small")
    fs.store.checkpoint()
    before = fs.store.statistics()
    run_for(fs, 2 * QUIET_S)
    assert fs.store.statistics() == before
    fs.write(b"small", Random(5).randbytes(3 * MIB))
    purge(fs, b"small")
    run_for(fs, 2 * QUIET_S)
    assert excess(fs) <= 0.05
    check(fs)


def test_a_large_index_has_to_be_outweighed(fs: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(fs.store), "index_bytes", 100 * MIB)
    before = fs.store.statistics()
    run_for(fs, QUIET_S)
    assert fs.store.statistics() == before
    monkeypatch.undo()
    run_for(fs, QUIET_S)
    assert excess(fs) <= 0.05
    check(fs)


def test_nothing_is_done_where_there_is_nothing_to_do(fs: InProcess) -> None:
    fs.collect(DEFAULT)
    before = fs.store.statistics()
    assert fs.collect(DEFAULT).segments == 0
    run_for(fs, 3 * QUIET_S)
    assert fs.store.statistics() == before
    check(fs)


def test_the_background_waits_for_a_reader_without_work(fs: InProcess) -> None:
    before = fs.store.statistics()
    with reading_segments(fs.path):
        run_for(fs, QUIET_S)
        assert fs.store.statistics() == before
    run_for(fs, QUIET_S)
    assert excess(fs) <= 0.05
    check(fs)


def test_a_collection_that_was_stopped_goes_on_later(fs: InProcess) -> None:
    async def stopped() -> None:
        with trio.move_on_after(MARGINS.look_every_s + 1):
            await Collecting(fs.store, replace(MARGINS, pause_s=0.4)).run()

    run_patiently(stopped)
    invariants.check(fs.store)
    fs.collect(DEFAULT)
    assert fs.filesystem.collecting.plan().segments == ()
    assert excess(fs) <= 0.05
    check(fs)


def test_who_asks_does_not_wait_for_the_pace_of_the_background(fs: InProcess) -> None:
    collecting = Collecting(fs.store, replace(MARGINS, pause_s=1000.0))

    async def ask() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(collecting.run)
            await trio.sleep(MARGINS.look_every_s + 5)
            assert collecting.progress is not None
            with trio.fail_after(1100):
                await collecting.collect()
            nursery.cancel_scope.cancel()

    run_patiently(ask)
    assert excess(fs) <= 0.05
    check(fs)


def test_a_tight_disk_gets_each_segment_back_before_the_next_is_moved(fs: InProcess) -> None:
    before = fs.store.statistics().checkpoints
    done = fs.collect(replace(DEFAULT, slack=0.0, tight_part=0.0))
    assert fs.store.statistics().checkpoints - before == done.segments > 1
    check(fs)


def test_progress_is_told(fs: InProcess) -> None:
    told: list[tuple[int, int]] = []
    collecting = Collecting(fs.store, MARGINS)

    def tell(done: int, planned: int) -> None:
        assert collecting.progress == (done, planned)
        told.append((done, planned))

    run_patiently(lambda: collecting.collect(tell))
    assert told == [(number, len(told)) for number in range(len(told))] != []
    assert collecting.progress is None
    check(fs)


def test_a_damaged_segment_stays_and_the_others_go(fs: InProcess) -> None:
    first, second, *_ = segments(fs)
    path = fs.path / "segments" / format.segment_name(first)
    content = bytearray(path.read_bytes())
    content[format.HEADER_SIZE + 1] ^= 1
    path.write_bytes(content)
    fs.collect()
    assert first in segments(fs)
    assert second not in segments(fs)
    fs.collect()
    content[format.HEADER_SIZE + 1] ^= 1
    path.write_bytes(content)
    assert fs.read(b"kept too") == Random(3).randbytes(20 * MIB)
    fs.close()


@pytest.mark.parametrize("fault", ["collect.read=1:EIO", "collect.delete=1:EPERM"])
def test_a_segment_that_the_disk_keeps_is_named_once_and_tried_again(
    fs: InProcess, fault: str
) -> None:
    collecting = Collecting(fs.store, MARGINS)

    async def collect() -> None:
        failpoints.arm(fault)
        done = await collecting.collect()
        assert (done.failed_segments, done.segments) == (1, 1)
        assert fault.partition("=")[0] in done.failed[0]
        before = fs.store.statistics()
        with trio.move_on_after(MARGINS.retry_s / 2):
            await collecting.run()
        assert fs.store.statistics() == before
        assert excess(fs) > 0.05
        failpoints.arm(fault)
        assert (await collecting.collect()).failed == done.failed
        with trio.move_on_after(MARGINS.retry_s):
            await collecting.run()
        failpoints.disarm()

    with capture_logs() as lines:
        run_patiently(collect)
    assert [line["event"] for line in lines].count("a segment is left, the others go on") == 1
    assert excess(fs) <= 0.05
    check(fs)


def make_small(fs: InProcess, count: int) -> dict[bytes, bytes]:
    """Small segments, as cuts for remotes end them; returns the files in them."""
    files = {}
    for number in range(count):
        name, content = b"small%d" % number, Random(number).randbytes(5000)
        fs.write(name, content)
        fs.store.seal()
        files[name] = content
    return files


def small(fs: InProcess) -> list[int]:
    return [n for n, size in fs.store.segments.items() if size < MARGINS.small_bytes]


def test_many_small_segments_become_few_also_in_a_store_in_use(fs: InProcess) -> None:
    files = make_small(fs, 70)
    assert len(small(fs)) > MARGINS.merge_least

    async def use() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Collecting(fs.store, MARGINS).run)
            for number in range(20):
                fs.write(b"busy", b"%d" % number)
                await trio.sleep(10)
            nursery.cancel_scope.cancel()

    before = sum(fs.store.segments.values())
    run_patiently(use)
    assert len(small(fs)) <= 3
    assert sum(fs.store.segments.values()) <= before + MIB
    for name, content in files.items():
        assert fs.read(name) == content
    check(fs)


def test_some_small_segments_are_left_alone(fs: InProcess) -> None:
    make_small(fs, MARGINS.merge_least - 10)
    before = segments(fs)
    run_for(fs, QUIET_S, replace(MARGINS, worth_bytes=1 << 40))
    assert segments(fs) == before
    check(fs)


def test_what_a_remote_still_lacks_is_not_merged(fs: InProcess) -> None:
    make_small(fs, 140)
    ordered = small(fs)
    published = ordered[69]

    async def main() -> None:
        collecting = Collecting(fs.store, replace(MARGINS, worth_bytes=1 << 40))
        collecting.merges_up_to = lambda: published
        with trio.move_on_after(QUIET_S):
            await collecting.run()

    run_patiently(main)
    assert small(fs)[: len(ordered) - 70] == ordered[70:]
    check(fs)
