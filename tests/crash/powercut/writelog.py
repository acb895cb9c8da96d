"""The log of a disk: every write and every flush that reached it, in order; and cuts of it.

::

    kind (1) | offset (8) | length (8) | the bytes written
    'W'                                                       a write
    'F'        0            0                                 a flush: all before it is durable

All little-endian. A place in the log is a byte offset in its file, so the size of the file tells
anybody how much the disk has been told so far, without asking the program that writes it.

A power cut keeps every write before the last flush. Of those after it each sector may have
reached the platter or not, in any combination. A sector of 512 bytes is whole or absent: that
much disks promise, and both ext4 and LMDB are built on it. A sector of 4096 bytes may be torn
between its parts of 512. The first 4096 bytes of the disk are never torn: ext4's superblock has
one checksum over two small sectors, and ext4 itself is not what is tested here.
"""

import os
import random
import struct
import subprocess
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

RECORD = struct.Struct("<cQQ")
WRITE, FLUSH = b"W", b"F"
ATOM, BLOCK = 512, 4096


class Written(NamedTuple):
    """A record of the log: `at` is its own place, `data` that of the bytes of a write."""

    at: int
    kind: bytes
    offset: int
    length: int

    @property
    def data(self) -> int:
        return self.at + RECORD.size

    @property
    def end(self) -> int:
        return self.data + self.length


class Cut(NamedTuple):
    """When the power failed: the log was at `end`, its last flush before that ended at `base`, and
    the next one did not come: it would have ended at `never`."""

    seed: int
    base: int
    end: int
    never: int


class WriteLog:
    """A finished log, for reading."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._size = path.stat().st_size
        self.records = list(self._read(self._size))
        self._places = [one.at for one in self.records]
        self.flushes = [one.end for one in self.records if one.kind == FLUSH]

    def _read(self, size: int) -> list[Written]:
        found, at = [], 0
        while at < size:
            kind, offset, length = RECORD.unpack(os.pread(self._file.fileno(), RECORD.size, at))
            found.append(Written(at, kind, offset, length))
            at = found[-1].end
        assert at == size, "the log ends in half a record"
        return found

    def close(self) -> None:
        self._file.close()

    def between(self, start: int, end: int) -> list[Written]:
        """The records in [start, end)."""
        first, last = (bisect_left(self._places, place) for place in (start, end))
        return self.records[first:last]

    def cut(self, seed: int, after: int) -> Cut:
        """A moment for the power to fail, behind place `after`.

        Half of them lie between any two flushes that follow each other, the others at any record:
        most times between flushes are short, and those with many writes are worth more of a look.
        """
        source = random.Random(seed)
        bases = self.flushes[bisect_left(self.flushes, after) :]
        number = source.randrange(len(bases))
        if source.random() < 0.5:
            place = source.choice(self.between(bases[0], self._size)).at
            number = bisect_right(bases, place) - 1
        base = bases[number]
        is_last = number + 1 == len(bases)
        never = self._size + RECORD.size if is_last else bases[number + 1]
        ends = [base, *(one.end for one in self.between(base, never - RECORD.size))]
        return Cut(seed, base, source.choice(ends), never)

    def apply(self, image: Path, start: int, end: int) -> None:
        """Bring an image that has all before `start` to `end`."""
        target = os.open(image, os.O_WRONLY)
        try:
            for one in self.between(start, end):
                if one.kind == WRITE:
                    _pwrite(target, self._bytes(one), one.offset)
        finally:
            os.close(target)

    def apply_torn(self, image: Path, cut: Cut) -> int:
        """Bring an image that has all before `cut.base` to what the power cut left.

        Returns how many bytes of those that had not been flushed are missing.
        """
        source = random.Random(-cut.seed - 1)
        unit = source.choice((ATOM, BLOCK))
        share = source.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        missing = 0
        target = os.open(image, os.O_WRONLY)
        try:
            for one in self.between(cut.base, cut.end):
                data = self._bytes(one)
                for at, size in _sectors(one, unit):
                    sector = data[at : at + size]
                    is_torn = unit > ATOM and 0 < share < 1 and source.random() < 0.1
                    if is_torn and one.offset + at >= BLOCK:
                        parts = range(0, size, ATOM)
                        kept = [part for part in parts if source.random() < 0.5]
                        for part in kept:
                            _pwrite(target, sector[part : part + ATOM], one.offset + at + part)
                        missing += size - ATOM * len(kept)
                    elif source.random() < share:
                        _pwrite(target, sector, one.offset + at)
                    else:
                        missing += size
        finally:
            os.close(target)
        return missing

    def _bytes(self, one: Written) -> bytes:
        return os.pread(self._file.fileno(), one.length, one.data)


def _sectors(one: Written, unit: int) -> Iterator[tuple[int, int]]:
    """Offset in the write and size of each sector; of the disk's first block there is one."""
    at = 0
    while at < one.length:
        size = min(BLOCK if one.offset + at < BLOCK else unit, one.length - at)
        yield at, size
        at += size


def _pwrite(target: int, data: bytes, offset: int) -> None:
    while data:
        count = os.pwrite(target, data, offset)
        data, offset = data[count:], offset + count


def copy_image(source: Path, target: Path) -> None:
    """Copy a disk image, leaving its holes, to a new file.

    Never into one that was there: while another process has a mount namespace of its own that began
    when that one was mounted, its ext4 lives on unseen, and writes to it at its end.
    """
    command = ["cp", "--remove-destination", "--sparse=always", "--reflink=auto"]
    subprocess.run([*command, source, target], check=True)
