"""Extents: which bytes of which block stand in which range of a file.

The extents of a file cover [0, stored size) exactly, without gap or overlap. A hole is an extent
of block 0. So a missing row is damage, and never reads as zeros. What a repair could not save is an
extent of the block DAMAGED: it reads as an error until it is overwritten.
"""

from struct import Struct
from typing import NamedTuple

#: A block is at most this long, and extents of data do not cross multiples of it in a file.
BLOCK_SIZE = 1 << 20

#: Block number of a hole.
HOLE = 0
#: Block number of bytes that are known to be lost. There is no such block, nor references to it; as
#: the bytes were data they count as such, but the extent may be of any length.
DAMAGED = (1 << 64) - 1

_ROW = Struct("<QQI")


class Extent(NamedTuple):
    """`length` bytes at `offset` of the file are those at `skip` of block `block`."""

    offset: int
    length: int
    block: int
    skip: int

    @property
    def end(self) -> int:
        return self.offset + self.length

    @property
    def has_block(self) -> bool:
        """Whether a block holds its bytes: it is neither a hole nor known damage."""
        return self.block != HOLE and self.block != DAMAGED

    def part(self, start: int, end: int) -> "Extent":
        """The part of it in [start, end), which must not be empty."""
        first, last = max(self.offset, start), min(self.end, end)
        skip = self.skip + (first - self.offset) if self.has_block else 0
        return Extent(first, last - first, self.block, skip)


def pack(extent: Extent) -> bytes:
    return _ROW.pack(extent.length, extent.block, extent.skip)


def unpack(offset: int, row: bytes) -> Extent:
    return Extent(offset, *_ROW.unpack(row))


def splice(old: list[Extent], new: list[Extent]) -> list[Extent]:
    """`old` with the ranges of `new` laid over it; both sorted and free of overlap.

    Neighbouring holes become one.
    """
    result: list[Extent] = []
    remaining = iter(old)
    current = next(remaining, None)
    for extent in new:
        while current and current.end <= extent.offset:
            result.append(current)
            current = next(remaining, None)
        if current and current.offset < extent.offset:
            result.append(current.part(current.offset, extent.offset))
        result.append(extent)
        while current and current.end <= extent.end:
            current = next(remaining, None)
        if current and current.offset < extent.end:
            current = current.part(extent.end, current.end)
    if current:
        result.append(current)
        result.extend(remaining)
    return _join_holes(result)


def _join_holes(extents: list[Extent]) -> list[Extent]:
    joined: list[Extent] = []
    for extent in extents:
        last = joined[-1] if joined else None
        if last and last.block == HOLE == extent.block and last.end == extent.offset:
            joined[-1] = Extent(last.offset, last.length + extent.length, HOLE, 0)
        else:
            joined.append(extent)
    return joined
