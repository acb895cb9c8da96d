"""Of one file: which remotes have all of it, as it is now."""

from fusefs.files.extents import Extents
from fusefs.model import keys
from fusefs.model.block import Block
from fusefs.model.inode import Inode
from fusefs.model.remote import Remote
from fusefs.store.store import Store
from fusefs.sync.copies import Copies
from fusefs.sync.registry import Registry


class Synced:
    """Answers by the rows of `store` alone: nothing is asked of a network."""

    def __init__(self, store: Store, registry: Registry, copies: Copies, extents: Extents) -> None:
        self._store = store
        self._registry = registry
        self._copies = copies
        self._extents = extents

    def describe(self, inode: Inode) -> bytes:
        """Such as ``usb=yes bucket=no``; empty where there is no remote.

        It is *yes* when a checkpoint in the remote has the file as it is: its last change came
        before the cut, which took along what waited in memory, and the segments of all of its
        blocks are there.
        """
        segments = self._segments(inode)
        return b" ".join(
            name.encode() + (b"=yes" if self._has(row, inode, segments) else b"=no")
            for name, row in self._registry.synced()
        )

    def _has(self, row: Remote, inode: Inode, segments: set[int]) -> bool:
        if not row.sequence or inode.ctime > row.published_ns:
            return False
        return max(segments, default=0) <= row.published_segment and segments <= self._copies.held(
            row.number
        )

    def _segments(self, inode: Inode) -> set[int]:
        """Those that hold blocks of a file."""
        found = set()
        if inode.is_file and inode.stored_size:
            for one in self._extents.covering(inode.ino, 0, inode.stored_size):
                row = self._store.get(keys.block(one.block)) if one.has_block else None
                if row is not None:
                    found.add(Block.unpack(row).segment)
        return found
