"""Where files lie: which segments hold what of them, and which of these are pinned.

A file is pinned by the attribute ``user.fusefs.pin`` of its own or of a directory above it: ``1``,
or ``0`` for what is below a pinned directory and is not pinned itself.
"""

from collections.abc import AsyncIterator
from typing import NamedTuple

import trio

from fusefs.model import extent, keys
from fusefs.model.block import Block
from fusefs.model.inode import HAS_XATTR, Inode
from fusefs.tree.tree import Tree

ATTRIBUTE = b"user.fusefs.pin"
#: Rows that are looked at before others have their turn.
_STEP = 200


class Part(NamedTuple):
    """What a file needs of a segment: a block there, and its bytes on the disk."""

    segment: int
    block: int
    stored: int


class Pins:
    """Pins of the files of `tree`, and where these lie."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._store = tree.store

    def pin(self, inode: Inode, value: bytes | None) -> None:
        """Give a file or directory a pin, or take it away. Raises DiskFull, StoreError."""
        xattrs = self._tree.xattrs
        if value is not None:
            xattrs.set(inode.ino, ATTRIBUTE, value)
        elif self._own(inode) is not None:
            xattrs.remove(inode.ino, ATTRIBUTE)

    def _own(self, inode: Inode) -> bool | None:
        if not inode.flags & HAS_XATTR:
            return None
        value = self._store.get(keys.xattr(inode.ino, ATTRIBUTE))
        return None if value is None else is_pin(value)

    async def segments(self) -> set[int]:
        """All segments that hold something pinned. Others may run meanwhile."""
        roots = []
        for count, (key, value) in enumerate(list(self._store.scan(keys.XATTR))):
            if key[9:] == ATTRIBUTE and is_pin(value):
                roots.append(keys.number(key))
            if count % _STEP == 0:
                await trio.lowlevel.checkpoint()
        found: set[int] = set()
        for ino in roots:
            inode = self._tree.inodes.find(ino)
            if inode is not None:
                async for one in self.files_below(inode, is_pinned=True):
                    found.update(part.segment for part in self.parts(one))
        return found

    async def files_below(self, top: Inode, *, is_pinned: bool = False) -> AsyncIterator[Inode]:
        """A file itself, or all files below a directory; with `is_pinned` not those whose pin is
        taken away below it. Others may run meanwhile."""
        pending, count = [top.ino], 0
        seen = {top.ino}
        while pending:
            inode = self._tree.inodes.find(pending.pop())
            count += 1
            if count % _STEP == 0:
                await trio.lowlevel.checkpoint()
            if inode is None or (is_pinned and self._own(inode) is False):
                continue
            if inode.is_file:
                yield inode
            elif inode.is_dir:
                below = {ino for ino, _, _, _ in self._tree.listing(inode.ino, 0)}
                pending += below - seen
                seen |= below

    def parts(self, inode: Inode) -> list[Part]:
        """What a file needs of which segment, in the order of the file."""
        found = []
        for key, row in self._store.scan(keys.EXTENT + inode.ino.to_bytes(8, "big")):
            one = extent.unpack(keys.second(key), row)
            if one.has_block and (row_of := self._store.get(keys.block(one.block))) is not None:
                block = Block.unpack(row_of)
                found.append(Part(block.segment, one.block, block.stored))
        return found


def is_pin(value: bytes) -> bool:
    """Whether the value of the attribute pins: anything does but 0."""
    return value.strip(b"\0 \n") != b"0"
