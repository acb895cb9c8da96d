"""Reading a segment past its damage: the records that verify, and what is lost between them.

A record that does not verify says nothing certain, its length least of all. It is passed over

- where it is a block whose head verifies: only the content is bad;
- where the segment's seal lists a block in its place: the seal knows its end;
- where its own length leads to a record that verifies.

Everything else is lost up to the next block that the seal lists, or to the end of the segment.
Nothing is searched for by its looks: a file in the store may be a copy of another segment, and
what is in there looks as good.
"""

import mmap
import os
from bisect import bisect_right
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from fusefs.errors import StoreDamaged
from fusefs.store import format
from fusefs.store.cipher import Cipher
from fusefs.store.format import BLOCK, SEAL, Record, SealedBlock


class Kind(StrEnum):
    """What a damaged range was, or may have been."""

    HEADER = "header"  # of the segment: says nothing that is needed
    SEAL = "seal"  # the same
    BLOCK = "block"  # content that some files may need
    BATCH = "batch"  # acts, which cannot be told any more
    SEGMENT = "segment"  # all of it: the file is missing, or empty


#: Damage by which acts are lost.
LOSSES = frozenset({Kind.BATCH, Kind.SEGMENT})


class Damage(NamedTuple):
    """Bytes `start` to `end` of a segment do not verify."""

    segment: int
    start: int
    end: int
    kind: Kind
    why: str

    def __str__(self) -> str:
        name = format.segment_name(self.segment)
        if self.kind is Kind.SEGMENT:
            return f"segment {name}: {self.why}"
        return f"segment {name} bytes {self.start} to {self.end} ({self.kind.value}): {self.why}"


def mapped(directory: Path, number: int) -> memoryview:
    """The bytes of a segment. Raises StoreDamaged where they cannot be read."""
    path = directory / format.segment_name(number)
    try:
        with open(path, "rb") as file:
            if not os.fstat(file.fileno()).st_size:
                return memoryview(b"")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise StoreDamaged(f"{path} cannot be read: {error.strerror}") from error


def read_past(
    data: memoryview, number: int, start: int, *, verify_blocks: bool, cipher: Cipher | None = None
) -> Iterator[Record | Damage]:
    """All of segment `number` from `start` to its end, in order and without a gap.

    `verify_blocks` and `cipher` as in `format.scan`.
    """
    position = start
    seen: list[SealedBlock] = []
    listed: _Listed | None = None
    while position < len(data):
        found = format.read_record(data, position)
        if isinstance(found, Record):
            if found.kind == BLOCK and not _take_block(found, seen, cipher, verify=verify_blocks):
                why = "a block does not match its hash"
                yield Damage(number, position, found.end, Kind.BLOCK, why)
            else:
                yield found
            position = found.end
            continue
        if listed is None:
            listed = _Listed(data)
        kind, end = _pass(data, position, listed, seen)
        yield Damage(number, position, end, kind, found)
        position = end


def _take_block(
    record: Record, seen: list[SealedBlock], cipher: Cipher | None, *, verify: bool
) -> bool:
    number, length, digest, payload = format.unpack_block(record.body)
    seen.append(SealedBlock(number, record.start + format.BLOCK_OVERHEAD, len(payload)))
    if not verify:
        return True
    return format.decode(record.codec, payload, length, digest, cipher) is not None


def _pass(
    data: memoryview, position: int, listed: "_Listed", seen: list[SealedBlock]
) -> tuple[Kind, int]:
    """What stood at `position`, where nothing verifies, and where it ended."""
    if block := listed.blocks.get(position):
        seen.append(block)
        return Kind.BLOCK, block.offset + block.stored
    if _was_seal(data, position, seen):
        return Kind.SEAL, len(data)
    bound = listed.next_start(position)
    if claim := format.claimed(data, position):
        kind, end = claim
        leads_on = end < bound and isinstance(format.read_record(data, end), Record)
        if end == bound or leads_on:
            is_block = kind == BLOCK and not listed.is_known
            return (Kind.BLOCK if is_block else Kind.BATCH), end
    return Kind.BATCH, bound


def _was_seal(data: memoryview, position: int, seen: list[SealedBlock]) -> bool:
    """Whether the rest of the segment is more or less the seal that it should have."""
    expected = format.pack_seal(seen)
    rest = data[position:]
    if len(rest) != len(expected):
        return False
    return 2 * sum(map(int.__eq__, rest, expected)) > len(expected)


class _Listed:
    """What the seal at the end of a segment lists.

    `is_known`: whether there is one. `blocks`: by the start of their records.
    """

    def __init__(self, data: memoryview) -> None:
        self._end = len(data)
        seal = _find_seal(data)
        self.is_known = seal is not None
        lines = format.unpack_seal(seal.body) if seal else []
        self.blocks = {line.offset - format.BLOCK_OVERHEAD: line for line in lines}
        self._starts = sorted([*self.blocks, seal.start] if seal else [])

    def next_start(self, position: int) -> int:
        """Where the next record begins that is known to begin there."""
        at = bisect_right(self._starts, position)
        return self._starts[at] if at < len(self._starts) else self._end


def _find_seal(data: memoryview) -> Record | None:
    for start in range(len(data) - format.RECORD_SIZE, format.HEADER_SIZE - 1, -format.SEALED_SIZE):
        if data[start] == SEAL and format.claimed(data, start) == (SEAL, len(data)):
            found = format.read_record(data, start)
            if isinstance(found, Record) and _is_own(data, found):
                return found
    return None


def _is_own(data: memoryview, seal: Record) -> bool:
    """Whether it is this segment's, and not one in the copy of a segment that a file is: a block
    that it lists is there, or what stands behind that."""
    lines = format.unpack_seal(seal.body)
    return not lines or any(_is_there(data, line) for line in lines)


def _is_there(data: memoryview, line: SealedBlock) -> bool:
    end = line.offset + line.stored
    if line.offset < format.HEADER_SIZE + format.BLOCK_OVERHEAD or end > len(data):
        return False
    found = format.read_record(data, line.offset - format.BLOCK_OVERHEAD)
    if isinstance(found, Record) and found.kind == BLOCK:
        return found.end == end and format.unpack_block(found.body)[0] == line.number
    return isinstance(format.read_record(data, end), Record)


def holds_batch(data: memoryview) -> bool:
    """Whether a batch seems to stand somewhere in `data`; a copy of one in a file does as well."""
    return next(format.batches_in(data), None) is not None
