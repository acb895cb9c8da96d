"""What a store holds, in sums that every changed row moves a little.

So the space a store takes can be told at any time without reading the index.
"""

import struct
from contextlib import suppress

import msgspec

from fusefs.model import keys
from fusefs.model.block import Block
from fusefs.model.inode import IN_TRASH, Inode


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
        count = _COUNTED[key[:1]]
        for row, sign in ((old, -1), (new, 1)):
            if row is not None:
                with suppress(struct.error, ValueError):
                    count(self, row, sign)

    def _inode(self, row: bytes, sign: int) -> None:
        inode = Inode.unpack(0, row)
        self.inodes += sign
        if inode.is_dir:
            if not inode.flags & IN_TRASH:
                self.directories += sign
        elif inode.nlink:
            self.files += sign
            self.live_bytes += sign * inode.blocks_bytes
        elif inode.trash_names:
            self.trash_bytes += sign * inode.blocks_bytes

    def _block(self, row: bytes, sign: int) -> None:
        block = Block.unpack(row)
        if block.refs:
            self.stored_bytes += sign * block.stored
            self.plain_bytes += sign * block.length
            self.referenced_bytes += sign * block.length * block.refs
        else:
            self.garbage_bytes += sign * block.stored

    def _entry(self, row: bytes, sign: int) -> None:
        self.trash_entries += sign


_COUNTED = {keys.INODE: Totals._inode, keys.BLOCK: Totals._block, keys.ENTRY: Totals._entry}
#: Prefixes of the tables whose rows are accounted for.
COUNTED = frozenset(_COUNTED)
