"""Do the segments verify, and do the blocks lie where the index says?"""

import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from fusefs.fsck.structure import Problem, path_of
from fusefs.fsck.view import Rows
from fusefs.model import extent, keys
from fusefs.model.block import Block
from fusefs.store import format
from fusefs.store.log import Position
from fusefs.store.recovery import list_segments

Progress = Callable[[int, int], None]


def segments(directory: Path, uuid: bytes, end: Position) -> Iterator[Problem]:
    """Headers, records and seals of all segments up to `end`, where the log ends.

    Contents of blocks are not read.
    """
    for number in list_segments(directory):
        path = directory / format.segment_name(number)
        if number > end.segment or not path.stat().st_size:
            continue
        with open(path, "rb") as file:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        if number == end.segment:
            data = data[: end.offset]
        if problem := format.check_header(data, uuid, number):
            yield Problem("segment", path.name, problem)
            continue
        yield from _records(path.name, data)


def _records(name: str, data: memoryview) -> Iterator[Problem]:
    seen: list[format.SealedBlock] = []
    for record in format.scan(data, format.HEADER_SIZE, verify_blocks=False):
        if isinstance(record, format.Torn):
            yield Problem("segment", name, f"at byte {record.offset}: {record.why}")
        elif record.kind == format.BLOCK:
            number, _, _, payload = format.unpack_block(record.body)
            offset = record.start + format.BLOCK_OVERHEAD
            seen.append(format.SealedBlock(number, offset, len(payload)))
        elif record.kind == format.SEAL and format.unpack_seal(record.body) != seen:
            yield Problem("segment", name, "its seal lists other blocks than it holds")


def blocks(
    directory: Path, rows: Rows, read_data: bool, progress: Progress | None
) -> Iterator[Problem]:
    """Whether each block's record stands where its row says; with `read_data`, its content too.

    Problems name the files that need the block.
    """
    total = sum(1 for _ in rows.scan(keys.BLOCK)) if progress else 0
    bad: dict[int, str] = {}
    opened, file = -1, -1
    try:
        for count, (key, row) in enumerate(rows.scan(keys.BLOCK)):
            number, block = keys.number(key), Block.unpack(row)
            if block.segment != opened:
                if file >= 0:
                    os.close(file)
                opened, file = block.segment, _open(directory, block.segment)
            if why := _check(file, number, block, read_data):
                bad[number] = f"{why} (segment {format.segment_name(block.segment)})"
            if progress and count % 64 == 0:
                progress(count, total)
    finally:
        if file >= 0:
            os.close(file)
    yield from _name_users(rows, bad)


def _open(directory: Path, number: int) -> int:
    try:
        return os.open(directory / format.segment_name(number), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1


def _check(file: int, number: int, block: Block, read_data: bool) -> str | None:
    if file < 0:
        return "its segment is missing"
    expected = format.pack_block(number, block.codec, block.length, block.digest, block.stored)
    try:
        head = os.pread(file, len(expected), block.offset - len(expected))
        if head != expected:
            return "its record does not verify"
        if not read_data:
            return None
        payload = os.pread(file, block.stored, block.offset)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if format.decode(block.codec, payload, block.length, block.digest) is None:
        return "its content does not match its hash"
    return None


def _name_users(rows: Rows, bad: dict[int, str]) -> Iterator[Problem]:
    if not bad:
        return
    named = set()
    for key, row in rows.scan(keys.EXTENT):
        one = extent.unpack(keys.second(key), row)
        if one.block in bad:
            named.add(one.block)
            message = f"block {one.block} for bytes {one.offset} to {one.end}: {bad[one.block]}"
            yield Problem("content", path_of(rows, keys.number(key)), message)
    for number in bad.keys() - named:
        yield Problem("content", f"block {number}", bad[number])
