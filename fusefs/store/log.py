"""The log: appends records to the newest segment, seals full ones, makes them durable.

Records are staged in memory until `flush`, so that the blocks and the batch of one act go out in
one writev. An act is acknowledged after its flush; a flush that fails leaves the log as it was.
"""

import os
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from fusefs.base import durable, failpoints
from fusefs.base.clock import Clock
from fusefs.errors import StoreError, of_disk
from fusefs.store import format

_IOV_MAX = 1000
_STAGE_LIMIT = 4 << 20
#: So much is written before the disk is to begin with it.
_WRITE_BACK_BYTES = 4 << 20

Buffer = bytes | bytearray | memoryview


class Position(NamedTuple):
    """A place in the log: byte `offset` of segment `segment`."""

    segment: int
    offset: int


class Written(NamedTuple):
    """Bytes of a segment that the disk may begin with. The descriptor is its owner's to close."""

    descriptor: int
    offset: int
    size: int


class Log:
    """The writer of STORE/segments. One thread appends; `sync` may run in another.

    `end` is where the log ended before; what comes next goes into a new segment. `sizes`: bytes of
    each segment that is there; kept up to date, so that nobody need ask the disk.
    `position`: where the next record goes. After a failed fdatasync `failed` holds the error and
    every later call raises it: what the kernel dropped once cannot be synced later.
    """

    def __init__(
        self, directory: Path, uuid: bytes, end: Position, clock: Clock, sizes: Mapping[int, int],
        *, is_encrypted: bool = False,
    ) -> None:  # fmt: skip
        self._directory = directory
        self._uuid = uuid
        self._is_encrypted = is_encrypted
        self._clock = clock
        self._number = end.segment
        self._descriptor = -1
        self._written = end.offset  # bytes of the segment that are in the file
        self._staged: list[Buffer] = []
        self._staged_bytes = 0
        self._blocks: list[format.SealedBlock] = []
        self._unsynced: list[int] = []  # descriptors of sealed segments
        self._begun = 0  # bytes of the segment that were given out by `take_written`
        #: The rest of the segment that was sealed last; whoever takes it out closes it.
        self._sealed_rest: deque[Written] = deque()
        self._is_new_name = False
        self._is_torn = False  # bytes of a failed append may stand behind `_written`
        self._half_made: Path | None = None  # a segment whose header could not be written
        self._sync_lock = threading.Lock()
        self.sizes = dict(sizes)
        self.total_bytes = sum(sizes.values())
        self.appended_bytes = 0
        self.failed: StoreError | None = None

    @property
    def position(self) -> Position:
        return Position(self._number, self._written + self._staged_bytes)

    @property
    def sealed(self) -> int:
        """The newest segment that nothing will be appended to."""
        return self._number if self._descriptor < 0 else self._number - 1

    def reserve(self, size: int) -> None:
        """Make room at `position` for a record of `size` bytes, which is to be staged next."""
        seal = format.RECORD_SIZE + format.SEALED_SIZE * (len(self._blocks) + 1)
        if self._descriptor < 0:
            self._open_segment()
        elif self._written + self._staged_bytes + size + seal > format.SEGMENT_SIZE:
            self.seal()
            self._open_segment()

    def stage(self, *parts: Buffer) -> None:
        """Add a record, given in pieces, for which `reserve` was called just before."""
        self._staged += parts
        self._staged_bytes += sum(map(len, parts))
        if self._staged_bytes > _STAGE_LIMIT:
            self.flush()

    def note_block(self, block: format.SealedBlock) -> None:
        """Remember a staged block for the segment's seal."""
        self._blocks.append(block)

    def flush(self) -> None:
        """Hand staged records to the kernel: from here they survive this process.

        Raises DiskFull or StoreError; nothing of them is in the log then.
        """
        if self.failed:
            raise self.failed
        if not self._staged:
            return
        staged, size = self._staged, self._staged_bytes
        self._staged, self._staged_bytes = [], 0
        try:
            if self._is_torn:
                self._cut()
            failpoints.hit("log.append")
            _write_all(self._descriptor, staged, size)
            failpoints.hit("log.appended")
        except OSError as error:
            self._blocks = [b for b in self._blocks if b.offset < self._written]
            self._is_torn = True
            with suppress(OSError):  # a disk that takes nothing: before the next append, then
                self._cut()
            raise self._translate(error) from error
        self._grow(size)
        self.appended_bytes += size

    def _cut(self) -> None:
        os.ftruncate(self._descriptor, self._written)
        os.lseek(self._descriptor, self._written, os.SEEK_SET)
        self._is_torn = False

    def drop_staged(self) -> None:
        """Forget what was staged since the last flush, for an act that failed half-way."""
        self._staged, self._staged_bytes = [], 0
        self._blocks = [b for b in self._blocks if b.offset < self._written]

    def seal(self) -> None:
        """End the current segment, if there is one with records; the next append opens another."""
        self.flush()
        if self._descriptor < 0:
            return
        failpoints.hit("log.seal")
        record = format.pack_seal(self._blocks)
        self._staged, self._staged_bytes = [record], len(record)
        self.flush()
        self._close_sealed_rest()
        self._sealed_rest += self._to_begin()
        self._unsynced.append(self._descriptor)
        self._descriptor = -1
        self._blocks = []

    def roll(self) -> None:
        """End the current segment and begin the next, so that `position` is in that one.

        Raises DiskFull or StoreError; whatever had been done then, the log goes on.
        """
        if self._descriptor >= 0 and self.position.offset == format.HEADER_SIZE:
            return
        self.seal()
        self._open_segment()

    def take_written(self) -> list[Written]:
        """What was written since the last call, in large parts: of the newest segment and of the
        one before it. The descriptors are the caller's to close."""
        if not self._sealed_rest and self._written - self._begun < _WRITE_BACK_BYTES:
            return []
        found: list[Written] = []
        with suppress(IndexError):  # a sync in another thread was faster
            found.append(self._sealed_rest.popleft())
        if self._descriptor >= 0:
            found += self._to_begin()
        return found

    def _to_begin(self) -> list[Written]:
        """What the disk was not told to begin with; none where no descriptor is left for it."""
        begun, self._begun = self._begun, self._written
        try:
            # One of its own: a sync in another thread may close the log's while it is used.
            return [Written(os.dup(self._descriptor), begun, self._written - begun)]
        except OSError:
            return []

    def _close_sealed_rest(self) -> None:
        with suppress(IndexError):
            while True:
                os.close(self._sealed_rest.popleft().descriptor)

    def forget(self, segment: int) -> None:
        """The file of a segment was deleted."""
        self.total_bytes -= self.sizes.pop(segment, 0)

    def adopt(self, segment: int, size: int) -> None:
        """The file of a sealed segment is here again."""
        self.sizes[segment] = size
        self.total_bytes += size

    def sync(self) -> None:
        """Make everything flushed before the call durable.

        Raises StoreError, now and at every later call, when the disk refused.
        """
        with self._sync_lock:
            self._sync()

    def _sync(self) -> None:
        if self.failed:
            raise self.failed
        # In this order: a segment sealed in between is then in both, never in neither.
        current = self._descriptor
        sealed = list(self._unsynced)
        self._close_sealed_rest()
        is_new_name, self._is_new_name = self._is_new_name, False
        try:
            failpoints.hit("log.sync")
            for descriptor in {current, *sealed} - {-1}:
                os.fdatasync(descriptor)
            if is_new_name:
                durable.sync_directory(self._directory)
        except OSError as error:
            self.failed = StoreError(
                f"{self._directory}: fdatasync failed ({error.strerror}): the disk may have lost"
                " writes; unmount, check the disk, and mount again"
            )
            raise self.failed from error
        for descriptor in sealed:
            self._unsynced.remove(descriptor)
            os.close(descriptor)

    def close(self) -> None:
        """Seal, sync and close."""
        try:
            self.seal()
            self.sync()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close the files as they are."""
        for descriptor in (*self._unsynced, self._descriptor):
            if descriptor >= 0:
                os.close(descriptor)
        self._close_sealed_rest()
        self._unsynced, self._descriptor = [], -1

    def _open_segment(self) -> None:
        number = self._number + 1
        path = self._directory / format.segment_name(number)
        header = format.pack_header(
            self._uuid, number, self._clock.time_ns(), is_encrypted=self._is_encrypted
        )
        try:
            failpoints.hit("log.open")
            self._remove_half_made()
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            descriptor = os.open(path, flags, 0o600)
        except OSError as error:
            raise self._translate(error) from error
        try:
            _write_all(descriptor, [header], len(header))
        except OSError as error:
            os.close(descriptor)
            self._half_made = path
            with suppress(OSError):  # before the next try, then
                self._remove_half_made()
            raise self._translate(error) from error
        self._number, self._descriptor = number, descriptor
        self._written = self._begun = 0
        self._grow(len(header))
        self._is_new_name = True

    def _remove_half_made(self) -> None:
        if self._half_made:
            self._half_made.unlink()
            self._half_made = None

    def _grow(self, size: int) -> None:
        self._written += size
        self.sizes[self._number] = self._written
        self.total_bytes += size

    def _translate(self, error: OSError) -> StoreError:
        return of_disk(error, f"{self._directory}: append failed")


def _write_all(descriptor: int, parts: Sequence[Buffer], size: int) -> None:
    """writev without a short write: raises OSError unless all `size` bytes were taken."""
    if len(parts) <= _IOV_MAX:
        written = os.writev(descriptor, parts)
        if written == size:
            return
        rest = memoryview(b"".join(parts))[written:]
    else:
        rest = memoryview(b"".join(parts))
    while rest:
        rest = rest[os.write(descriptor, rest) :]
