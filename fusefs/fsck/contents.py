"""Do extents cover their files, and are blocks and what else belongs to inodes accounted for?"""

import os
from collections.abc import Iterator

from fusefs.base.clock import utc
from fusefs.base.counts import Counts
from fusefs.fsck.problem import Places, Problem
from fusefs.fsck.tables import Tables
from fusefs.model import keys
from fusefs.model.extent import BLOCK_SIZE, DAMAGED, HOLE, Extent
from fusefs.model.inode import HAS_XATTR, Inode


def contents(tables: Tables, places: Places) -> Iterator[Problem]:
    """Every misfit among extents, block rows, link targets and extended attributes."""
    references = Counts()
    yield from _extents(tables, places, references)
    yield from _files(tables, places)
    yield from _references(tables, references)
    yield from _records(tables)
    yield from _targets(tables, places)
    yield from _attributes(tables, places)


class _Map:
    """The extents of one file, taken in order."""

    def __init__(self, tables: Tables, ino: int) -> None:
        self.ino = ino
        self._tables = tables
        self._inode = tables.inode(ino)
        self._position = self._data_bytes = 0
        self._is_doubtful = self._inode is None or not self._inode.is_file

    def begin(self) -> Iterator[str]:
        if self._inode is None and not self._tables.has(keys.inode(self.ino)):
            yield "has extents, but does not exist"
        elif self._inode is not None and not self._inode.is_file:
            yield "has extents, but is no file"

    def take(self, one: Extent | None) -> Iterator[str]:
        """What is wrong with the next extent; None is one that does not decode."""
        if one is None:
            self._is_doubtful = True
            return
        if one.offset != self._position and not self._is_doubtful:
            what = "overlap" if one.offset < self._position else "leave a gap"
            yield f"extents {what} at byte {min(one.offset, self._position)}"
            self._is_doubtful = True
        self._position = one.end
        if one.block == HOLE:
            return
        self._data_bytes += one.length
        if not one.has_block:
            return
        if one.offset // BLOCK_SIZE != (one.end - 1) // BLOCK_SIZE:
            yield f"the extent at byte {one.offset} crosses a multiple of 1 MiB"
        block = self._tables.block(one.block)
        if block is not None and one.skip + one.length > block.length:
            yield f"the extent at byte {one.offset} reaches behind the end of block {one.block}"
        elif block is None and not self._tables.has(keys.block(one.block)):
            yield f"bytes {one.offset} to {one.end} need block {one.block}, which does not exist"

    def end(self) -> Iterator[str]:
        """What the inode says otherwise, where all extents were in order."""
        if self._is_doubtful or self._inode is None:
            return
        if self._position != self._inode.stored_size:
            yield f"extents end at {self._position}, its size is {self._inode.stored_size}"
        elif self._data_bytes != self._inode.blocks_bytes:
            yield f"counts {self._inode.blocks_bytes} bytes of data, has {self._data_bytes}"


def _extents(tables: Tables, places: Places, references: Counts) -> Iterator[Problem]:
    current: _Map | None = None

    def named(ino: int, messages: Iterator[str]) -> Iterator[Problem]:
        return (Problem("extent", places.path(ino), message) for message in messages)

    for ino, one in tables.extents():
        if current is None or ino != current.ino:
            if current is not None:
                yield from named(current.ino, current.end())
            current = _Map(tables, ino)
            yield from named(ino, current.begin())
        yield from named(ino, current.take(one))
        if one is not None and one.has_block:
            references.add(one.block)
    if current is not None:
        yield from named(current.ino, current.end())


def known_damage(tables: Tables, places: Places) -> Iterator[Problem]:
    """What a repair has marked as lost, and nobody has overwritten since."""
    for ino, one in tables.extents():
        if one is not None and one.block == DAMAGED:
            message = f"bytes {one.offset} to {one.end} are lost, as a repair found"
            yield Problem("damaged", places.path(ino), message)


def _files(tables: Tables, places: Places) -> Iterator[Problem]:
    """What has a size and nothing to fill it."""
    for inode in tables.inodes():
        if inode.is_file and (inode.stored_size or inode.blocks_bytes):
            if tables.has(keys.extent(inode.ino, 0)) or _has_extents(tables, inode):
                continue
            message = f"has no extents, its size is {inode.stored_size}"
            yield Problem("extent", places.path(inode.ino), message)
        elif inode.is_symlink and not tables.has(keys.link(inode.ino)):
            yield Problem("link", places.path(inode.ino), "is a symbolic link without a target")


def _has_extents(tables: Tables, inode: Inode) -> bool:
    return tables.has_any(keys.EXTENT + inode.ino.to_bytes(8, "big"))


def _references(tables: Tables, references: Counts) -> Iterator[Problem]:
    for number, block in tables.blocks():
        if block is not None and block.refs != references.of(number):
            message = f"counts {block.refs} references, has {references.of(number)}"
            yield Problem("references", f"block {number}", message)


def _records(tables: Tables) -> Iterator[Problem]:
    """Records of bad blocks that stand for nothing."""
    for number, _ in tables.corruptions():
        block = tables.block(number)
        if block is None and not tables.has(keys.block(number)):
            yield Problem("record", f"block {number}", "is recorded as bad, and does not exist")
        elif block is not None and not block.refs:
            yield Problem("record", f"block {number}", "is recorded as bad, and nothing needs it")


def recorded_damage(tables: Tables) -> Iterator[Problem]:
    """Blocks that a scrub or a reader found to be bad."""
    for number, one in tables.corruptions():
        block = tables.block(number)
        if one is not None and block is not None and block.refs:
            files = [os.fsdecode(it.path) or f"inode {it.ino}" for it in one.objects]
            where = ", ".join(files) or f"block {number}"
            seen = f"as was seen at {utc(one.last_ns)}"
            yield Problem("recorded", where, f"block {number}: {one.reason}, {seen}")


def _targets(tables: Tables, places: Places) -> Iterator[Problem]:
    for ino, _, target in tables.of_inodes(keys.LINK):
        inode = tables.inode(ino)
        if inode is None:
            if not tables.has(keys.inode(ino)):
                yield Problem("link", f"inode {ino}", "has a target, but does not exist")
        elif not inode.is_symlink:
            yield Problem("link", places.path(ino), "has a target, but is no symbolic link")
        elif len(target) != inode.stored_size:
            message = f"has the size {inode.stored_size}, its target {len(target)}"
            yield Problem("link", places.path(ino), message)


def _attributes(tables: Tables, places: Places) -> Iterator[Problem]:
    for ino, name, _ in tables.of_inodes(keys.XATTR):
        inode = tables.inode(ino)
        if inode is None:
            if not tables.has(keys.inode(ino)):
                message = f"has the attribute {os.fsdecode(name)}, but does not exist"
                yield Problem("xattr", f"inode {ino}", message)
        elif not inode.flags & HAS_XATTR:
            message = f"does not show its attribute {os.fsdecode(name)}"
            yield Problem("xattr", places.path(ino), message)
