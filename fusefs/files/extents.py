"""The extent map of a file: which block holds which range, changed in steps that are acts.

Extents cover [0, stored size) exactly; see model.extent. Each extent holds one reference on its
block.
"""

from collections.abc import Iterable

from fusefs.errors import StoreDamaged
from fusefs.model import extent, keys
from fusefs.model.extent import HOLE, Extent
from fusefs.model.inode import Inode
from fusefs.store.blocks import Prepared
from fusefs.store.store import Store
from fusefs.tree.act import Act
from fusefs.tree.tree import Tree

#: Extents that one act takes away at most: keeps a batch small and the loop free.
_STEP = 500


class Extents:
    """The extents of all files of a store."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._store: Store = tree.store

    def covering(self, ino: int, start: int, end: int) -> list[Extent]:
        """The extents that have bytes in [start, end), whole, in order.

        Raises StoreDamaged where they leave a gap.
        """
        rows = self._store.covering(
            keys.extent(ino, start), keys.extent(ino, end), keys.EXTENT + ino.to_bytes(8, "big")
        )
        found = [extent.unpack(keys.second(key), row) for key, row in rows]
        position = start
        for one in found:
            if one.offset > position or one.end <= position:
                break
            position = one.end
        if position < end:
            raise StoreDamaged(f"inode {ino} has no extent for byte {position}: run fusefs fsck")
        return found

    def missing(self, inode: Inode, size: int) -> list[tuple[int, int]]:
        """The ranges [begin, end) of the first `size` bytes that no block holds, in order.

        Raises StoreDamaged where the extents leave a gap.
        """
        stored = min(size, inode.stored_size)
        found = self.covering(inode.ino, 0, stored) if stored else []
        ranges = [(one.offset, min(one.end, stored)) for one in found if not one.has_block]
        return joined_ranges([*ranges, (stored, size)] if stored < size else ranges)

    def store(self, act: Act, inode: Inode, pieces: Iterable[tuple[int, Prepared]]) -> None:
        """Make `pieces` (offset, content) blocks of the file; gaps behind its end become holes."""
        new = [
            Extent(offset, len(piece), self._store.blocks.add(act, piece), 0)
            for offset, piece in pieces
        ]
        self.replace(act, inode, new)

    def replace(self, act: Act, inode: Inode, new: list[Extent]) -> None:
        """Lay `new` over the map; the stored size grows as far as they reach."""
        act.change(inode)
        stored = inode.stored_size
        new = _with_holes(stored, new)
        start, end = new[0].offset, new[-1].end
        old: list[Extent] = []
        if stored and start >= stored and new[0].block == HOLE:
            start = stored - 1  # to join the hole that may be there
        if start < stored:
            old = self.covering(inode.ino, start, min(end, stored))
        result = extent.splice(old, new)
        self._write(act, inode, old, result)
        inode.stored_size = max(stored, end)

    def extend(self, act: Act, inode: Inode, size: int) -> None:
        """Make the file longer by a hole."""
        stored = inode.stored_size
        if size > stored:
            self.replace(act, inode, [Extent(stored, size - stored, HOLE, 0)])

    def cut(self, act: Act, inode: Inode, size: int) -> int:
        """Take up to some hundred extents from the end of a file that is longer than `size`, none
        of which `act` has changed; returns how many."""
        old = self._last(inode, size)
        kept = [old[0].part(0, size)] if old[0].offset < size else []
        act.change(inode)
        self._write(act, inode, old, kept)
        inode.stored_size = kept[0].end if kept else old[0].offset
        inode.size = max(size, inode.stored_size)
        return len(old)

    def move(self, act: Act, inode: Inode, to: Inode) -> None:
        """Take up to some hundred extents from the end of a file and lay them at the same place
        over a hole of another, that reaches as far and begins with it."""
        old = self._last(inode, 0)
        start = old[0].offset
        act.change(inode, to)
        for one in old:
            act.delete(keys.extent(inode.ino, one.offset))
            act.put(keys.extent(to.ino, one.offset), extent.pack(one))
            if one.block != HOLE:
                inode.blocks_bytes -= one.length
                to.blocks_bytes += one.length
        if start:
            act.put(keys.extent(to.ino, 0), extent.pack(Extent(0, start, HOLE, 0)))
        inode.stored_size = inode.size = start

    def _last(self, inode: Inode, size: int) -> list[Extent]:
        """Up to `_STEP` extents from the end of a file, in order, that reach beyond `size`."""
        rows = self._store.tail(
            keys.extent(inode.ino, inode.stored_size),
            keys.EXTENT + inode.ino.to_bytes(8, "big"), _STEP,
        )  # fmt: skip
        found = [extent.unpack(keys.second(key), row) for key, row in reversed(rows)]
        found = [one for one in found if one.end > size]
        if not found:
            raise StoreDamaged(f"inode {inode.ino} has no extents at its end: run fusefs fsck")
        return found

    def _write(self, act: Act, inode: Inode, old: list[Extent], new: list[Extent]) -> None:
        before = {one.offset: one for one in old}
        for one in new:
            if before.pop(one.offset, None) != one:
                act.put(keys.extent(inode.ino, one.offset), extent.pack(one))
        for offset in before:
            act.delete(keys.extent(inode.ino, offset))
        references: dict[int, int] = {}
        for several, sign in ((new, 1), (old, -1)):
            for one in several:
                if one.block != HOLE:
                    inode.blocks_bytes += sign * one.length
                if one.has_block:
                    references[one.block] = references.get(one.block, 0) + sign
        for number, change in references.items():
            if change:
                self._store.blocks.change_refs(act, number, change)


def _with_holes(stored: int, new: list[Extent]) -> list[Extent]:
    """`new` with a hole in each of its gaps that lies behind the stored size."""
    result: list[Extent] = []
    position = stored
    for one in new:
        if one.offset > position:
            result.append(Extent(position, one.offset - position, HOLE, 0))
        result.append(one)
        position = max(position, one.end)
    return result


def joined_ranges(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges in order, those that touch made one."""
    result: list[tuple[int, int]] = []
    for start, end in ranges:
        if result and result[-1][1] == start:
            result[-1] = result[-1][0], end
        else:
            result.append((start, end))
    return result
