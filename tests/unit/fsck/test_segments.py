"""Damage to segments: each kind of record, missing and short files, the end of the log."""

import os
from pathlib import Path

import pytest

from fusefs.config.options import StoreOptions
from fusefs.fsck.check import check
from fusefs.store import format
from fusefs.store.format import Record
from fusefs.store.store import Store
from tests.unit.clocks import ManualClock
from tests.unit.fsck.sample import IN_TRASH, Sample
from tests.unit.inprocess import InProcess
from tests.unit.store.acts import flip, records, segment

FIRST, SECOND = "0000000000000001", "0000000000000002"


def found(sample: Sample, kind: int, number: int = 1) -> list[Record]:
    """The records of one kind in a segment."""
    return [r for r in records(sample.path, number) if isinstance(r, Record) and r.kind == kind]


def both(sample: Sample) -> set[str]:
    """The problems, which are the same whether data is read or not."""
    problems = sample.problems()
    assert sample.problems(read_data=True) == problems
    return problems


def test_a_header(sample: Sample) -> None:
    flip(segment(sample.path, 1), 20)
    assert both(sample) == {f"segment {FIRST}"}


@pytest.mark.parametrize("byte", [0, 2, 5, 9, 14, 30], ids=lambda at: f"byte {at}")
def test_the_head_of_a_block(sample: Sample, byte: int) -> None:
    block = found(sample, format.BLOCK)[2]
    flip(segment(sample.path, 1), block.start + byte)
    assert both(sample) == {f"segment {FIRST}", "content /docs/sub/b"}


def test_the_payload_of_a_block(sample: Sample) -> None:
    block = found(sample, format.BLOCK)[2]
    flip(segment(sample.path, 1), block.end - 1)
    assert sample.problems() == set()
    assert sample.problems(read_data=True) == {"content /docs/sub/b"}


def test_a_batch(sample: Sample) -> None:
    batch = found(sample, format.BATCH)[3]
    flip(segment(sample.path, 1), batch.start + 40)
    assert both(sample) == {f"segment {FIRST}"}


def test_a_seal(sample: Sample) -> None:
    (seal,) = found(sample, format.SEAL)
    flip(segment(sample.path, 1), seal.start + 20)
    assert both(sample) == {f"segment {FIRST}"}


def test_a_seal_of_other_blocks(sample: Sample) -> None:
    (seal,) = found(sample, format.SEAL)
    os.truncate(segment(sample.path, 1), seal.start)
    with open(segment(sample.path, 1), "ab") as file:
        file.write(format.pack_seal([format.SealedBlock(1, 2, 3)]))
    assert both(sample) == {f"segment {FIRST}"}


def test_a_record_behind_the_seal(sample: Sample) -> None:
    with open(segment(sample.path, 1), "ab") as file:
        file.write(format.pack_batch({b"a": b"b"}))
    assert both(sample) == {f"segment {FIRST}"}


def test_a_segment_of_another_number(sample: Sample) -> None:
    segment(sample.path, 1).write_bytes(segment(sample.path, 2).read_bytes())
    assert both(sample) == {f"segment {FIRST}", "content /docs/a.txt", "content /docs/sub/b"}


def test_a_segment_is_gone(sample: Sample) -> None:
    segment(sample.path, 1).unlink()
    content = {"content /docs/a.txt", "content /docs/sub/b"}
    assert both(sample) == {"snapshot snapshot", *content}  # nor is there one that stands for it


def test_the_segment_where_the_index_stands_is_gone(sample: Sample) -> None:
    segment(sample.path, 2).unlink()
    assert both(sample) == {"log log", f"content {IN_TRASH}", "content /sparse"}


def test_all_segments_are_gone(sample: Sample) -> None:
    for path in (sample.path / "segments").iterdir():
        path.unlink()
    (sample.path / "segments").rmdir()
    content = ("/docs/a.txt", "/docs/sub/b", "/sparse", IN_TRASH)
    assert both(sample) == {"log log", *(f"content {path}" for path in content)}


def test_a_segment_that_cannot_be_read(sample: Sample) -> None:
    segment(sample.path, 1).unlink()
    segment(sample.path, 1).mkdir()
    assert both(sample) == {f"segment {FIRST}", "content /docs/a.txt", "content /docs/sub/b"}


@pytest.mark.parametrize("size", [0, 7, 500_000])
def test_a_segment_cut_short(sample: Sample, size: int) -> None:
    os.truncate(segment(sample.path, 1), size)
    assert both(sample) == {f"segment {FIRST}", "content /docs/a.txt", "content /docs/sub/b"}


def test_a_segment_cut_short_within_a_block(sample: Sample) -> None:
    os.truncate(segment(sample.path, 1), found(sample, format.BLOCK)[2].end - 1)
    assert both(sample) == {f"segment {FIRST}", "content /docs/sub/b"}


def test_a_log_cut_short_between_two_records(sample: Sample) -> None:
    os.truncate(segment(sample.path, 2), format.HEADER_SIZE)
    assert both(sample) == {f"log {SECOND}", f"content {IN_TRASH}", "content /sparse"}


def test_a_block_that_stands_elsewhere(sample: Sample) -> None:
    sample.change(sample.block(3, offset=12345))
    assert both(sample) == {"content /docs/sub/b"}


def test_a_block_in_a_segment_that_does_not_exist(sample: Sample) -> None:
    sample.change(sample.block(3, segment=77))
    assert both(sample) == {"content /docs/sub/b"}


def test_a_hash_of_a_part_of_a_block(sample: Sample) -> None:
    sample.change(sample.block(1, leaves=bytes(8 * 64)))
    assert sample.problems() == set()
    assert sample.problems(read_data=True) == {"content /docs/a.txt"}


def test_a_bad_block_that_nobody_needs(sample: Sample) -> None:
    fs = InProcess(sample.path, ManualClock())
    fs.truncate(b"sparse", 0)
    fs.close()
    flip(segment(sample.path, 2), found(sample, format.BLOCK, 2)[1].end - 1)
    assert sample.problems(read_data=True) == {"content block 5"}


# -- the log behind the checkpoint


@pytest.fixture
def killed(sample: Sample) -> Sample:
    """The store of a daemon that was killed: segment 3 is not in the index yet."""
    fs = InProcess(sample.path, ManualClock())
    fs.write(b"docs/late", b"written late")
    fs.unlink(b"docs/twice")
    fs.write(b"docs/last", b"written last")
    fs.store.abandon()
    return sample


def test_a_log_that_was_not_checkpointed_is_replayed(killed: Sample) -> None:
    report = check(killed.path, True)
    assert (report.problems, report.torn) == ((), "")
    assert (report.blocks, report.replayed) == (7, 5)
    assert check(killed.path, True) == report  # nothing was written


def test_rows_damaged_before_the_log_was_replayed(killed: Sample) -> None:
    killed.change({b"~": b""})
    assert killed.problems() == {"row index"}


@pytest.mark.parametrize("kind", [format.BATCH, format.BLOCK])
def test_a_torn_log_is_a_crash_and_no_damage(killed: Sample, kind: int) -> None:
    last = found(killed, kind, 3)[-1]
    flip(segment(killed.path, 3), last.end - 1)
    report = check(killed.path, True)
    assert report.problems == ()
    assert f"{segment(killed.path, 3).name} at byte {last.start}" in report.torn


def test_a_new_segment_without_a_header_is_a_crash_and_no_damage(killed: Sample) -> None:
    segment(killed.path, 4).write_bytes(b"FUSE")
    report = check(killed.path, False)
    assert (report.problems, report.replayed) == ((), 5)
    assert "header" in report.torn


def test_a_gap_in_the_log(killed: Sample) -> None:
    fs = InProcess(killed.path, ManualClock())
    for name in (b"one", b"two", b"three"):
        fs.make(name)
        fs.store.seal()
    fs.store.abandon()
    numbers = [int(p.name, 16) for p in (killed.path / "segments").iterdir()]
    segment(killed.path, max(numbers) - 1).unlink()
    assert killed.problems() == {"log log"}


def test_the_log_of_a_store_without_a_checkpoint_is_replayed_whole(tmp_path: Path) -> None:
    fs = InProcess(tmp_path / "store", ManualClock())
    fs.write(b"file", b"content")
    fs.store.abandon()
    assert check(tmp_path / "store", True).problems == ()


def test_a_store_that_was_never_mounted(tmp_path: Path) -> None:
    Store.init(tmp_path / "store", StoreOptions(), clock=ManualClock())
    report = check(tmp_path / "store", True)
    assert (report.problems, report.inodes, report.segments) == ((), 0, 0)
