"""What a store holds, in sums that every changed row moves a little.

So the space a store takes can be told at any time without reading the index.
"""

import stat
import struct
from collections.abc import Callable
from typing import Any

import msgspec

from fusefs.model import block, inode, keys
from fusefs.model.inode import IN_TRASH


class Totals(msgspec.Struct):
    """`live_bytes`, `trash_bytes`: data of files with a name outside the trash, and of those with
    names in it only; what has no name at all is being freed, or somebody has it open.

    `stored_bytes`, `plain_bytes`: of blocks that something needs, on disk and as read;
    `referenced_bytes`: the same, counted once for each reference. `garbage_bytes`: on disk, of
    blocks that nothing needs any more. Directories of the trash are inodes, not `directories`.
    """

    inodes: int = 0
    files: int = 0
    directories: int = 0
    trash_entries: int = 0
    live_bytes: int = 0
    trash_bytes: int = 0
    stored_bytes: int = 0
    plain_bytes: int = 0
    referenced_bytes: int = 0
    garbage_bytes: int = 0

    def account(self, key: bytes, old: bytes | None, new: bytes | None) -> None:
        """The row at `key` changes from `old` to `new`, either of which may be absent.

        A row that does not decode counts nothing: whoever needs it says that it is damaged.
        """
        summed, count = _COUNTED[key[:1]]
        was, now = _decoded(summed, old), _decoded(summed, new)
        if was != now:
            if was is not None:
                count(self, was, -1)
            if now is not None:
                count(self, now, 1)

    def _inode(self, one: tuple[int, ...], sign: int) -> None:
        version, mode, nlink, blocks_bytes, flags, trash_names = one
        if version != inode.VERSION:
            return
        self.inodes += sign
        if stat.S_ISDIR(mode):
            if not flags & IN_TRASH:
                self.directories += sign
        elif nlink:
            self.files += sign
            self.live_bytes += sign * blocks_bytes
        elif trash_names:
            self.trash_bytes += sign * blocks_bytes

    def _block(self, one: block.Summed, sign: int) -> None:
        if one.refs:
            self.stored_bytes += sign * one.stored
            self.plain_bytes += sign * one.length
            self.referenced_bytes += sign * one.length * one.refs
        else:
            self.garbage_bytes += sign * one.stored

    def _entry(self, one: bool, sign: int) -> None:
        self.trash_entries += sign


def _decoded(summed: Callable[[bytes], Any], row: bytes | None) -> Any:
    if row is None:
        return None
    try:
        return summed(row)
    except struct.error:
        return None


def _present(row: bytes) -> bool:
    return True


#: How to decode what is counted of a row of each table, and how to count it.
_COUNTED: dict[bytes, tuple[Callable[[bytes], Any], Callable[[Totals, Any, int], None]]] = {
    keys.INODE: (inode.SUMMED.unpack, Totals._inode),
    keys.BLOCK: (block.summed, Totals._block),
    keys.ENTRY: (_present, Totals._entry),
}
#: Prefixes of the tables whose rows are accounted for.
COUNTED = frozenset(_COUNTED)
