"""Which segments are only in remotes, and what of these has been fetched.

A segment is here when its file is in STORE/segments. Where it is not, rows say in which remotes it
is (model.remote.Copy), and STORE/cache/<segment name> holds what was fetched of it: a sparse file
with the same offsets.

The cache has no books. What is a hole in a file of it, or does not verify, is not there; so it may
be cut off anywhere, damaged or deleted, and costs no more than fetching again.
"""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import msgspec

from fusefs.model import keys, remote
from fusefs.model.remote import Copy
from fusefs.store import format
from fusefs.store.recovery import list_segments

NAME = "cache"
#: What is fetched begins and ends at multiples of this, or with the segment: a hole is told from
#: what is there by pages of the disk, which are not larger.
GRAIN = 64 << 10


class Rows(Protocol):
    """Rows in order, of an index or of what is laid over one."""

    def scan(self, start: bytes, prefix: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Rows from `start` on while keys begin with `prefix` (default: `start`)."""


def copies_of(rows: Rows, segment: int) -> Iterator[tuple[int, Copy]]:
    """(number of the remote, what is known) of each copy of a segment."""
    for key, row in rows.scan(keys.COPY + segment.to_bytes(8, "big")):
        try:
            yield keys.second(key), remote.unpack_copy(row)
        except msgspec.MsgspecError:
            continue  # fsck tells it


def is_copied(rows: Rows, segment: int) -> bool:
    """Whether a segment is in a remote."""
    return next(copies_of(rows, segment), None) is not None


def copied_size(rows: Rows, segment: int) -> int:
    """How long the copies of a segment are; 0 where there are none."""
    return max((copy.size for _, copy in copies_of(rows, segment)), default=0)


class Cache:
    """STORE/cache. The agent writes into the same files; who reads verifies what is found."""

    def __init__(self, store: Path) -> None:
        self._directory = store / NAME
        self._sizes: dict[int, int] | None = None  # in the order of their last use
        self._total = 0

    def path(self, segment: int) -> Path:
        return self._directory / format.segment_name(segment)

    def make(self) -> None:
        """Make the directory, before the first fetch. Raises OSError."""
        self._directory.mkdir(mode=0o700, exist_ok=True)

    def lacking(self, segment: int, start: int, end: int) -> tuple[int, int] | None:
        """From the first hole in [start, end) to the end of the last one; None without a hole."""
        try:
            descriptor = os.open(self.path(segment), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return start, end
        try:
            first = last = -1
            at = start
            size = min(end, os.fstat(descriptor).st_size)
            while at < size and (hole := os.lseek(descriptor, at, os.SEEK_HOLE)) < size:
                at = min(_next_data(descriptor, hole, end), end)
                first, last = hole if first < 0 else first, at
            if size < end:
                first, last = max(size, start) if first < 0 else first, end
            return None if first < 0 else (first, last)
        finally:
            os.close(descriptor)

    @property
    def sizes(self) -> dict[int, int]:
        """Bytes on disk of each segment in it, least recently used first."""
        if self._sizes is None:
            self._sizes = {}
            found = []
            for number in list_segments(self._directory) if self._directory.exists() else ():
                try:
                    status = os.stat(self.path(number))
                except FileNotFoundError:
                    continue
                found.append((status.st_mtime_ns, number, status.st_blocks * 512))
            for _, number, size in sorted(found):
                self._sizes[number] = size
                self._total += size
        return self._sizes

    @property
    def total_bytes(self) -> int:
        return self._total if self.sizes else 0

    def used(self, segment: int) -> None:
        """A segment was read from, or something more of it was fetched."""
        sizes = self.sizes
        self._total -= sizes.pop(segment, 0)
        try:
            sizes[segment] = os.stat(self.path(segment)).st_blocks * 512
        except FileNotFoundError:
            return
        self._total += sizes[segment]

    def drop(self, segment: int) -> int:
        """Forget what was fetched of a segment; returns bytes that the disk gets back."""
        size = self.sizes.pop(segment, 0)
        self._total -= size
        try:
            self.path(segment).unlink()
        except FileNotFoundError:
            return 0
        return size


def _next_data(descriptor: int, hole: int, end: int) -> int:
    try:
        return os.lseek(descriptor, hole, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:  # no data behind the hole
            return end
        raise
