"""Collections begin by themselves when they are worth it, and only then."""

from pathlib import Path
from random import Random

import pytest
import trio
import trio.testing

from fusefs.daemon import collecting
from fusefs.store import format
from fusefs.store.recovery import list_segments
from tests.unit import invariants
from tests.unit.clocks import ManualClock
from tests.unit.inprocess import InProcess

MIB = 1 << 20
#: The clock jumps when nothing happened for so long: more than a thread is away.
THREADS_S = 0.3


@pytest.fixture
def fs(tmp_path: Path) -> InProcess:
    """A file of use, and a purged one of 20 MiB."""
    fs = InProcess(tmp_path / "store", ManualClock())
    fs.write(b"kept", Random(1).randbytes(3 * MIB))
    fs.write(b"gone", Random(2).randbytes(20 * MIB))
    fs.write(b"kept too", Random(3).randbytes(20 * MIB))
    fs.unlink(b"gone")
    fs.unlink(fs.trash.path_in_trash(next(fs.trash.entries())))
    while fs.reap():
        pass
    fs.store.checkpoint()
    return fs


def run_for(fs: InProcess, seconds: float) -> None:
    async def main() -> None:
        with trio.move_on_after(seconds):
            await fs.filesystem.collecting.run()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=THREADS_S))


def segments(fs: InProcess) -> list[int]:
    return list_segments(fs.path / "segments")


def test_a_round_that_is_worth_it_begins_by_itself(
    fs: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "WORTH_BYTES", 10 * MIB)
    before = segments(fs)
    planned = fs.filesystem.collecting.plan()
    assert planned.segments > 0
    run_for(fs, collecting.LOOK_EVERY_S - 1)
    assert segments(fs) == before
    run_for(fs, collecting.LOOK_EVERY_S + 30)
    assert before[0] not in segments(fs)
    assert fs.filesystem.collecting.plan().segments == 0
    invariants.check(fs.store)
    fs.crash()
    assert fs.read(b"kept") == Random(1).randbytes(3 * MIB)
    assert fs.read(b"kept too") == Random(3).randbytes(20 * MIB)
    fs.close()


def test_a_little_is_left_until_it_is_worth_it(fs: InProcess) -> None:
    before = segments(fs)
    run_for(fs, 2.5 * collecting.LOOK_EVERY_S)
    assert segments(fs) == before
    fs.close()


def test_a_collection_that_was_stopped_goes_on_later(fs: InProcess) -> None:
    async def stopped() -> None:
        with trio.move_on_after(1):
            await fs.filesystem.collecting.collect(pause_s=0.4)

    trio.run(stopped, clock=trio.testing.MockClock(autojump_threshold=THREADS_S))
    invariants.check(fs.store)
    fs.collect(0.5)
    assert fs.filesystem.collecting.plan().segments == 0
    invariants.check(fs.store)
    assert fs.read(b"kept") == Random(1).randbytes(3 * MIB)
    fs.close()


def test_a_damaged_segment_stays_and_the_others_go(fs: InProcess) -> None:
    fs.collect(0.9)  # moves nothing: both have something of use
    first, second, *_ = segments(fs)
    path = fs.path / "segments" / format.segment_name(first)
    content = bytearray(path.read_bytes())
    content[format.HEADER_SIZE + 1] ^= 1
    path.write_bytes(content)
    fs.collect(0.3)
    assert first in segments(fs)
    assert second not in segments(fs)
    fs.collect(0.3)
    content[format.HEADER_SIZE + 1] ^= 1
    path.write_bytes(content)
    assert fs.read(b"kept too") == Random(3).randbytes(20 * MIB)
    fs.close()
