"""Half-written files that nobody goes on with move to the trash, once they are old enough.

Only what is nothing but a copy that stopped is swept: an older file that was being changed when its
writer died stays, whatever its age. And only into a trash that keeps it: where the trash is off, or
a rule says to keep nothing, it stays, too.
"""

import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

import structlog
import trio

from fusefs.base.events import Events, Kind
from fusefs.errors import FusefsError, InUse, Refused, WrongState
from fusefs.files.files import Files
from fusefs.model.entry import Cause
from fusefs.model.inode import Inode
from fusefs.model.partial import Partial
from fusefs.trash.trash import Trash
from fusefs.tree.places import Place, places_of
from fusefs.tree.removal import Caller, Removed
from fusefs.tree.tree import Tree

#: Partials idle for longer count as old where no age is set.
OLD_S = 7 * 86400.0
_LOOK_EVERY_S = 60.0
_NANO = 1e9

log = structlog.get_logger(__name__)


class Swept(NamedTuple):
    """What became of one: `error` where it could not be moved."""

    path: bytes
    size: int
    error: FusefsError | None


class Sweeping:
    """Finds old partials of a filesystem and moves them to its trash.

    `age_s`: how long one may be idle; None to sweep none by itself. `forget_name` tells the face
    that a name is gone.
    """

    def __init__(
        self, tree: Tree, files: Files, trash: Trash, events: Events, age_s: float | None
    ) -> None:
        self._tree = tree
        self._partials = files.partials
        self._trash = trash
        self._events = events
        self.age_s = age_s
        self._trouble = ""
        self.forget_name: Callable[[int, bytes], None] = lambda parent, name: None

    def idle_s(self, inode: Inode, one: Partial) -> float | None:
        """For how long nobody has written it, renamed it or taken it back from the trash; None
        while that is not known.

        By the clock of the trash, which cannot be set; what is no writing is dated by the wall
        clock, so that one which was set forward forgets it.
        """
        now = self._trash.steady.now_ns()
        if one.is_writing:
            return 0.0
        if not now or not one.stopped_ns:
            return None
        changed = self._tree.store.clock.time_ns() - inode.ctime
        return max(0, min(now - one.stopped_ns, changed)) / _NANO

    def old(self, age_s: float) -> Iterator[tuple[Inode, Partial]]:
        """The partials that have been idle for longer."""
        for ino, one in self._partials:
            inode = self._tree.inodes.find(ino)
            if inode is None or not inode.nlink:
                continue
            idle = self.idle_s(inode, one)
            if idle is not None and idle > age_s:
                yield inode, one

    def record(self) -> dict[str, int]:
        """How many there are, and their bytes; those of the old ones apart."""
        sizes = [
            inode.size
            for ino, one in self._partials
            if not one.is_writing and (inode := self._tree.inodes.find(ino)) and inode.nlink
        ]
        old = self.old(OLD_S if self.age_s is None else self.age_s)
        return {
            "count": len(sizes),
            "bytes": sum(sizes),
            "old_bytes": sum(inode.size for inode, _ in old),
        }

    async def sweep(self, age_s: float, uid: int, *, dry_run: bool = False) -> list[Swept]:
        """Move partials that have been idle for longer to the trash: those that `uid` owns, or all
        for root. Raises StoreError."""
        wanted = {
            inode.ino: inode
            for inode, one in self.old(age_s)
            if one.is_new and uid in (0, inode.uid)
        }
        found = []
        for place in places_of(self._tree, wanted):
            if place is None:
                await trio.lowlevel.checkpoint()
            elif not place.is_in_trash:
                found.append(place)
        swept = []
        for place in found:
            inode = wanted[place.ino]
            error: FusefsError | None = None
            try:
                self._move(inode, place, dry_run)
            except Refused:
                error = InUse(f"/{os.fsdecode(place.path)} was moved or removed meanwhile")
            except (InUse, WrongState) as refusal:
                error = refusal
            swept.append(Swept(place.path, inode.size, error))
        return swept

    def _move(self, inode: Inode, place: Place, dry_run: bool) -> None:
        path = b"/" + place.path
        shown = os.fsdecode(path)
        one = self._partials.get(inode.ino)
        if one is None or one.is_writing:
            raise InUse(f"{shown}: somebody goes on with it")
        named = self._tree.lookup(place.parent, place.name)
        if named is None or named.ino != inode.ino:
            raise InUse(f"{shown} was moved or removed meanwhile")
        caller = Caller(inode.uid, inode.gid, os.getpid())
        above = self._tree.inode(place.parent)
        if not self._trash.keeps(Removed(above, place.name, inode, Cause.UNLINK, caller)):
            raise WrongState(f"{shown}: the trash would not keep it; rm removes it for good")
        if dry_run:
            return
        self._tree.unlink(place.parent, place.name, caller)
        self.forget_name(place.parent, place.name)
        self._events.publish(Kind.PARTIAL_SWEPT, path=path, size=inode.size, offset=one.offset)
        log.info("swept a partial", path=shown, size=inode.size, why=one.why)

    async def run(self) -> None:
        """Sweep what is older than the set age, now and then; until cancelled."""
        while True:
            try:
                self._partials.date_undated()
                if self.age_s is not None:
                    await self.sweep(self.age_s, 0)
            except FusefsError as error:
                self._say(error)
            await trio.sleep(min(_LOOK_EVERY_S, (self.age_s or _LOOK_EVERY_S) / 2))

    def _say(self, error: FusefsError) -> None:
        """Once, until another one comes."""
        if str(error) != self._trouble:
            log.warning("half-written files cannot be swept now", error=str(error))
        self._trouble = str(error)
