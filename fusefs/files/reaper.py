"""Freeing what no name refers to any more, nor anybody holds open, a slice at a time.

Orphans stand in a table until they are freed, so a crash at any point leaves what the next start
goes on with. Small files are freed many in one act, large ones take several each.
"""

from collections.abc import Callable

import structlog

from fusefs.base import failpoints
from fusefs.errors import Refused, StoreDamaged
from fusefs.files.extents import Extents
from fusefs.files.partials import Partials
from fusefs.tree.act import Act
from fusefs.tree.tree import Tree

#: What one act frees at most, in orphans and extents together: some 4 ms.
STEP = 100

log = structlog.get_logger(__name__)


class Reaper:
    """Frees the orphans of a tree. `is_held`: whether somebody still refers to an inode."""

    def __init__(
        self, tree: Tree, extents: Extents, partials: Partials, is_held: Callable[[int], bool]
    ) -> None:
        self._tree = tree
        self._extents = extents
        self._partials = partials
        self._is_held = is_held
        self._last = 0  # the orphan that was looked at last
        self._damaged: set[int] = set()

    def step(self) -> int:
        """Free some orphans by one act; returns how much it did, 0 where nothing can be done.

        The next call goes on where this one stopped, and begins again after the last orphan.
        Raises DiskFull, StoreError.
        """
        found = self._tree.orphans(self._last, STEP)
        if not found and self._last:
            found = self._tree.orphans(0, STEP)
        self._last = found[-1] if found else 0
        free = [ino for ino in found if not (self._is_held(ino) or ino in self._damaged)]
        try:
            return self._free_together(free) if free else 0
        except (StoreDamaged, Refused):
            return sum(map(self._free_alone, free))

    def forgive(self, ino: int) -> None:
        """Try an orphan again that could not be freed."""
        self._damaged.discard(ino)

    def _free_together(self, inos: list[int]) -> int:
        done = 0
        with self._tree.act() as act:
            for ino in inos:
                done += self._free(act, ino)
                if done >= STEP:
                    self._last = ino
                    break
        failpoints.hit("purge.freed")
        return done

    def _free_alone(self, ino: int) -> int:
        try:
            with self._tree.act() as act:
                return self._free(act, ino)
        except (StoreDamaged, Refused) as damage:
            log.error("cannot free", inode=ino, error=str(damage))
            self._damaged.add(ino)
            self._tree.removal.cannot_free(self._tree.entry_of_orphan(ino), damage)
            return 1

    def _free(self, act: Act, ino: int) -> int:
        """Take a step towards freeing an orphan; returns its size."""
        inode = self._tree.inode(ino)
        count = 0
        if inode.is_file and inode.stored_size:
            count = self._extents.cut(act, inode, 0)
        if not inode.stored_size or not inode.is_file:
            self._partials.end(act, ino)
            self._tree.reap(act, ino)
        return count + 1
