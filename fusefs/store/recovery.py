"""Replay: after any stop, bring the index from its last checkpoint to the end of the log.

Needs no knowledge of the filesystem: it applies batches. What does not verify ends the log there;
the bytes behind are moved to STORE/cut, because they may be a damaged disk's, not a torn write's.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fusefs.base import durable, failpoints
from fusefs.errors import StoreDamaged, StoreError
from fusefs.store import format
from fusefs.store.cipher import Cipher
from fusefs.store.log import Position


@dataclass(frozen=True)
class Replay:
    """What a replay did. `end`: where the log ends now; `cut_bytes`: moved to STORE/cut.

    `lost_bytes`: how many the newest segment lacks that were there at the checkpoint. The index
    has what they said; blocks that lay in them are gone.
    """

    end: Position
    batches: int = 0
    blocks: int = 0
    cut_bytes: int = 0
    cut_why: str = ""
    lost_bytes: int = 0


def list_segments(directory: Path) -> list[int]:
    """Numbers of the segments, ascending. Foreign names are left alone."""
    numbers = []
    for name in os.listdir(directory):
        if len(name) == 16:
            try:
                numbers.append(int(name, 16))
            except ValueError:
                continue
    return sorted(numbers)


def segment_sizes(directory: Path) -> dict[int, int]:
    """Bytes of each segment."""
    return {
        n: (directory / format.segment_name(n)).stat().st_size for n in list_segments(directory)
    }


def replay(
    directory: Path,
    uuid: bytes,
    start: Position,
    apply: Callable[[dict[bytes, bytes | None]], None],
    *,
    cut: bool = True,
    size_elsewhere: Callable[[int], int] = lambda segment: 0,
    cipher: Cipher | None = None,
) -> Replay:
    """Apply every batch from `start` to the end of the log.

    The segment of `start` may be missing where `start` is its end: `size_elsewhere` says how long
    its copies in remotes are. `cipher`: of an encrypted store; WrongKey where it is missing.
    Raises StoreDamaged where segments are missing between `start` and the newest one: that is
    no torn tail, and nothing is cut then.
    """
    numbers = [n for n in list_segments(directory) if n >= max(start.segment, 1)]
    first = start.segment or (numbers[0] if numbers else 1)
    if start.segment not in numbers and start.offset and size_elsewhere(first) == start.offset:
        first += 1
    expected = range(first, max([start.segment, *numbers]) + 1)
    if numbers != list(expected):
        missing = min(set(expected) - set(numbers))
        raise StoreDamaged(
            f"{directory / format.segment_name(missing)} is missing: the log cannot be replayed;"
            " fusefs rebuild --dry-run says what can be made of the rest"
        )
    batches = blocks = lost = 0
    end = start
    for number in numbers:
        offset = start.offset if number == start.segment else 0
        path = directory / format.segment_name(number)
        data = memoryview(path.read_bytes())
        lost += max(0, offset - len(data))
        problem = None if offset else format.check_header(data, uuid, number)
        if not problem:  # otherwise the log ends where the segment before ends
            position = offset or format.HEADER_SIZE
            for record in format.scan(data, position, verify_blocks=True, cipher=cipher):
                if isinstance(record, format.Torn):
                    problem = record.why
                    break
                position = record.end
                failpoints.hit("recovery.record")
                if record.kind == format.BATCH:
                    apply(dict(format.unpack_batch(record.body)))
                    batches += 1
                elif record.kind == format.BLOCK:
                    blocks += 1
            end = Position(number, position)
        if problem:
            where = end.offset if end.segment == number else 0
            why = f"{path.name} at byte {where}: {problem}"
            size = _cut(directory, end, numbers) if cut else 0
            return Replay(end, batches, blocks, size, why, lost)
    return Replay(end, batches, blocks, lost_bytes=lost)


def make_durable(directory: Path, start: Position) -> None:
    """Sync the segments from `start` on, which a process that died may not have done.

    The index must not know more than the disk has of the log. Raises StoreError.
    """
    try:
        for number in list_segments(directory):
            if number >= start.segment:
                descriptor = os.open(directory / format.segment_name(number), os.O_RDONLY)
                try:
                    os.fdatasync(descriptor)
                finally:
                    os.close(descriptor)
        durable.sync_directory(directory)
    except OSError as error:
        raise StoreError(f"{directory}: fdatasync failed ({error.strerror})") from error


def _cut(directory: Path, end: Position, numbers: list[int]) -> int:
    """Move the bytes from `end` on to STORE/cut and end the log there; returns their number."""
    kept = directory.parent / "cut"
    kept.mkdir(mode=0o700, exist_ok=True)
    size = 0
    for number in reversed([n for n in numbers if n >= end.segment]):
        path = directory / format.segment_name(number)
        is_torn = number == end.segment
        offset = end.offset if is_torn else 0
        tail = path.read_bytes()[offset:]
        size += len(tail)
        if tail.strip(b"\0"):
            durable.write_file(kept / f"{path.name}-{offset:08x}", tail)
        failpoints.hit("recovery.cut")
        if is_torn:
            descriptor = os.open(path, os.O_WRONLY)
            os.ftruncate(descriptor, end.offset)
            os.fsync(descriptor)
            os.close(descriptor)
        else:
            path.unlink()
    durable.sync_directory(directory)
    return size
