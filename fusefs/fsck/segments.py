"""Do the segments verify, and do the blocks lie where the index says?"""

import mmap
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from fusefs.fsck.problem import Places, Problem
from fusefs.fsck.selection import Selection, Stopped
from fusefs.fsck.tables import Tables
from fusefs.model.block import Block
from fusefs.store import format, recovery, snapshot
from fusefs.store.cipher import Cipher
from fusefs.store.log import Position
from fusefs.store.reading import CUT_OFF, NO_SEGMENT, check_content, unreadable
from fusefs.store.rebuild import start_from

Progress = Callable[[int, int], None]


def list_segments(directory: Path) -> list[int]:
    """Numbers of the segments, ascending; none where they cannot be listed."""
    try:
        return recovery.list_segments(directory)
    except OSError:
        return []


def segments(
    directory: Path, uuid: bytes, end: Position, goes_on: Callable[[], bool]
) -> Iterator[Problem]:
    """Headers, records and seals of all segments up to `end`, where the log ends.

    Contents of blocks are not read. Raises Stopped when `goes_on` says no.
    """
    for number in list_segments(directory):
        if not goes_on():
            raise Stopped
        if number > end.segment:
            return
        path = directory / format.segment_name(number)
        try:
            data = _mapped(path)
        except OSError as error:
            yield Problem("segment", path.name, f"cannot be read: {error.strerror}")
            continue
        if number == end.segment:
            if len(data) < end.offset:
                message = f"ends at byte {len(data)}, the index knows of {end.offset}"
                yield Problem("log", path.name, message)
            data = data[: end.offset]
        if problem := format.check_header(data, uuid, number):
            yield Problem("segment", path.name, problem)
            continue
        for problem in _records(data):
            yield Problem("segment", path.name, problem)


def copy_of_index(store: Path, *, read_data: bool) -> Iterator[Problem]:
    """Is STORE/snapshot, without which no index could be made again, there if need be, and with
    `read_data`, what was written?"""
    path = store / snapshot.NAME
    is_needed = min(list_segments(store / "segments"), default=1) > 1
    if (read_data and path.exists()) or (is_needed and not path.exists()):
        start, about = start_from(path)
        if start is None:
            yield Problem("snapshot", path.name, f"{about}; fusefs fsck --repair writes it anew")


def _mapped(path: Path) -> memoryview:
    with open(path, "rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _records(data: memoryview) -> Iterator[str]:
    seen: list[format.SealedBlock] = []
    is_sealed = False
    for record in format.scan(data, format.HEADER_SIZE, verify_blocks=False):
        if isinstance(record, format.Torn):
            yield f"at byte {record.offset}: {record.why}"
            return
        if is_sealed:
            yield f"at byte {record.start}: a record stands behind the seal"
            return
        if record.kind == format.BLOCK:
            number, _, _, payload = format.unpack_block(record.body)
            offset = record.start + format.BLOCK_OVERHEAD
            seen.append(format.SealedBlock(number, offset, len(payload)))
        elif record.kind == format.SEAL:
            is_sealed = True
            if not _is_seal_of(seen, record.body):
                yield "its seal lists other blocks than it holds"


def _is_seal_of(seen: list[format.SealedBlock], body: memoryview) -> bool:
    try:
        return format.unpack_seal(body) == seen
    except struct.error:
        return False


class Blocks:
    """Whether each block's record stands where its row says; of those selected, its content too.

    `bad`: why, by number; `out_of_reach`: those that may be good, in a remote that the store does
    not know. `checked`, `read`: how many were looked at so far, and read; `elsewhere`: how many are
    in segments that are in remotes only, and were not looked at.
    """

    def __init__(
        self,
        directory: Path,
        tables: Tables,
        selection: Selection,
        progress: Progress | None,
        goes_on: Callable[[], bool],
        cipher: Cipher | None = None,
    ) -> None:
        self._directory = directory
        self._cipher = cipher
        self._tables = tables
        self._selection = selection
        self._progress = progress
        self._goes_on = goes_on
        self.bad: dict[int, str] = {}
        self.out_of_reach: dict[int, str] = {}
        self._known = tables.remote_numbers()
        self.checked = self.read = self.elsewhere = 0

    def check(self) -> None:
        """Look at all of them. Raises Stopped."""
        total = sum(1 for _ in self._tables.blocks()) if self._progress else 0
        opened, file = -1, -1
        remotes: set[int] = set()
        try:
            for number, block in self._tables.blocks():
                if not self._goes_on():
                    raise Stopped
                if block is None:
                    self.bad[number] = "its row does not decode"
                    continue
                if block.segment != opened:
                    if file >= 0:
                        os.close(file)
                    opened, file = block.segment, _open(self._directory, block.segment)
                    remotes = self._tables.remotes_of(opened) if file < 0 else set()
                if remotes & self._known:
                    self.elsewhere += 1
                    continue
                if remotes:
                    self.out_of_reach[number] = "it is in a remote that the store does not know"
                    continue
                self._check(file, number, block)
                if self._progress and self.checked % 64 == 0:
                    self._progress(self.checked, total)
        finally:
            if file >= 0:
                os.close(file)

    def _check(self, file: int, number: int, block: Block) -> None:
        is_read = self._selection.takes(number)
        if why := _check(file, number, block, self._cipher, read_data=is_read):
            self.bad[number] = f"{why} (segment {format.segment_name(block.segment)})"
        self.checked += 1
        self.read += is_read


def _open(directory: Path, number: int) -> int:
    try:
        return os.open(directory / format.segment_name(number), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1


def _check(
    file: int, number: int, block: Block, cipher: Cipher | None, *, read_data: bool
) -> str | None:
    if file < 0:
        return NO_SEGMENT.reason
    expected = format.pack_block(number, block.codec, block.length, block.digest, block.stored)
    try:
        head = os.pread(file, len(expected), block.offset - len(expected))
        if head != expected:
            return "its record does not verify"
        if os.fstat(file).st_size < block.offset + block.stored:
            return CUT_OFF.reason
    except OSError as error:
        return unreadable(error).reason
    bad = check_content(file, block, cipher) if read_data else None
    return bad.reason if bad else None


def users(tables: Tables, places: Places, bad: dict[int, str]) -> Iterator[Problem]:
    """What needs the blocks in `bad`, which are so for the reasons given."""
    if not bad:
        return
    named = set()
    for ino, one in tables.extents():
        if one is not None and one.block in bad:
            named.add(one.block)
            message = f"block {one.block} for bytes {one.offset} to {one.end}: {bad[one.block]}"
            yield Problem("content", places.path(ino), message)
    for number in sorted(bad.keys() - named):
        yield Problem("content", f"block {number}", bad[number])
