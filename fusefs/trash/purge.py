"""Destroying what is in the trash: jobs that are asked for, and begin their entries in slices.

A job is a row from the moment it is asked for, so it survives a stop and a crash, and goes on with
the next mount. Beginning an entry takes its name out of ``.trash`` and hands its object to the
reaper; the job is over when all it began is complete or has failed.

What is open is left where it is, at the moment of doing, and so is what belongs to others. An entry
that another job has is that job's: to ask again is to join.

Where an act fails, the entries of a slice are begun one by one, and the one that fails becomes
`delete-error`. A store that takes no writes at all cannot record that either: such failures wait in
memory until it does.
"""

import stat
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

import structlog

from fusefs.base import failpoints
from fusefs.errors import DiskFull, FusefsError, StoreDamaged
from fusefs.model import dirent, job, keys
from fusefs.model.entry import Entry, Operation, State
from fusefs.model.inode import IN_TRASH, TRASH_INO, Inode
from fusefs.model.job import Job, Selector
from fusefs.trash.ledger import STEP, Ledger
from fusefs.trash.trash import Trash
from fusefs.tree.act import Act
from fusefs.tree.tree import Tree

#: Entries that one act begins at most: some 4 ms.
BEGIN_STEP = 50
#: An entry that is in use when it is due is looked at again after so long.
IN_USE_S = 60
#: Names that one step of looking for empty directories goes over: some 3 ms.
_LOOK = 1000

log = structlog.get_logger(__name__)


class Unrecorded(NamedTuple):
    """A failure that the store could not be told of yet."""

    time_ns: int
    errno: int
    message: str


class Purger:
    """The purges of one store. `is_open`: whether somebody has an inode open."""

    def __init__(self, tree: Tree, trash: Trash, is_open: Callable[[int], bool]) -> None:
        self._tree = tree
        self._store = tree.store
        self._trash = trash
        self._ledger: Ledger = trash.ledger
        self._is_open = is_open
        self.try_again: Callable[[int], None] = lambda ino: None
        #: (parent, name, inode) of names that went: a kernel's cache must learn of it.
        self.vanished: list[tuple[int, bytes, int]] = []
        self.unrecorded: dict[int, Unrecorded] = {}

    # -- asking

    def ask(self, selector: Selector, cause: str, uid: int) -> Job:
        """Begin a job; it is remembered from here on. Raises DiskFull, StoreError."""
        self._store.space.admit_removal()
        counters = self._store.counters
        counters.cookie += 1
        made = Job(counters.cookie, cause, uid, self._store.clock.time_ns(), selector)
        made.cursor = selector.batch
        with self._tree.act() as act:
            act.put(keys.job(made.number), job.pack(made))
        failpoints.hit("purge.asked")
        return made

    def jobs(self) -> list[Job]:
        """The jobs that are not over, oldest first."""
        return [job.unpack(row) for _, row in self._store.scan(keys.JOB)]

    def find(self, number: int) -> Job | None:
        """A job that is not over."""
        row = self._store.get(keys.job(number))
        return job.unpack(row) if row is not None else None

    def job_of(self, one: Entry, jobs: list[Job]) -> Job | None:
        """The job that has an entry, or is going to come to it."""
        for active in jobs:
            if active.number == one.job and one.state is State.ONGOING:
                return active
            if not active.is_begun and one.number in active.selector.numbers:
                return active
        return None

    # -- doing

    def step(self, number: int) -> bool:
        """Begin a slice of the entries of a job; whether there was anything to do.

        Raises DiskFull, StoreError where the store takes no writes; nothing has happened then, and
        it may be called again.
        """
        active = self.find(number)
        if active is None or active.is_begun:
            return False
        if active.selector.due_ns and self._trash.retention.needs_replan:
            return False  # what was due may not be any more
        found, cursor = self._next(active)
        try:
            self._begin_all(active, found, cursor)
        except DiskFull:
            raise
        except FusefsError:
            self._begin_each(active, found, cursor)
        failpoints.hit("purge.begun")
        self._sweep({one.parent for one in found})
        return True

    def end(self, over: Job) -> None:
        """Forget a job that is over."""
        with self._tree.act() as act:
            act.delete(keys.job(over.number))
        failpoints.hit("purge.ended")

    def _next(self, active: Job) -> tuple[list[Entry], int]:
        """The next entries of a job, and how far it is then; -1: at the end."""
        selector = active.selector
        if selector.numbers:
            return self._next_numbered(active)
        found: list[Entry] = []
        cursor = active.cursor
        for one in islice(self._ledger.entries(cursor), STEP):
            if one.number > selector.upto:
                return found, -1
            cursor = one.number
            if selector.takes(one) and selector.uid in (None, self._owner(one)):
                found.append(one)
                if len(found) == BEGIN_STEP:
                    return found, cursor
        return found, cursor if cursor > active.cursor else -1

    def _next_numbered(self, active: Job) -> tuple[list[Entry], int]:
        found: list[Entry] = []
        numbers, cursor = active.selector.numbers, active.cursor
        while cursor < len(numbers) and len(found) < BEGIN_STEP:
            one = self._ledger.find(numbers[cursor])
            is_directory = one is not None and one.kind == stat.S_IFDIR
            if one and is_directory and one.state is State.PENDING and active.selector.is_due(one):
                inside = list(islice(self._purgeable_below(active, one.ino), BEGIN_STEP))
                if inside:
                    return [*found, *inside], cursor  # and come back for the directory
            if one is not None and active.selector.is_due(one):
                found.append(one)
            cursor += 1
        return found, cursor if cursor < len(numbers) else -1

    def _purgeable_below(self, active: Job, mirror: int) -> Iterator[Entry]:
        """Entries below a directory of the trash: files, then directories, the innermost first."""
        waiting, directories = [mirror], []
        while waiting:
            for ino, kind, _, cookie in list(self._tree.listing(waiting.pop(), 0)):
                if kind == stat.S_IFDIR:
                    waiting.append(ino)
                    directories.append(cookie)
                elif (one := self._purgeable(active, cookie)) is not None:
                    yield one
        for cookie in reversed(directories):
            if (one := self._purgeable(active, cookie)) is not None:
                yield one

    def _purgeable(self, active: Job, number: int) -> Entry | None:
        one = self._ledger.find(number)
        if one is None or not active.selector.is_due(one):
            return None
        return one if self.why_not(one, active.uid) is None else None

    def _owner(self, one: Entry) -> int:
        inode = self._tree.inodes.find(one.ino)
        return inode.uid if inode is not None else -1

    def why_not(self, one: Entry, uid: int) -> str | None:
        """What keeps a user from purging an entry now; None if nothing."""
        inode = self._tree.inodes.find(one.ino)
        if inode is None:
            return None  # damage, which is said when it is begun
        if uid not in (0, inode.uid):
            return "belongs to another user"
        if one.state is State.PENDING and self._is_open(one.ino):
            return "is in use"
        return None

    def _begin_all(self, active: Job, found: list[Entry], cursor: int) -> None:
        with self._tree.act() as act:
            self._advance(act, active, cursor)
            for one in found:
                self._begin(act, active.number, one)

    def _advance(self, act: Act, active: Job, cursor: int) -> None:
        active.is_begun = cursor < 0
        active.cursor = max(active.cursor, cursor)
        act.put(keys.job(active.number), job.pack(active))

    def _begin(self, act: Act, number: int, old: Entry) -> None:
        one = self._ledger.found_in(act, old.number)
        if one is None or one.state is State.ONGOING:
            return
        active = self._ledger.job_in(act, number)
        if self.why_not(one, active.uid) is not None:
            self._skip(act, active, one)
            return
        one = self._settle(act, one, number)
        if not self._has_name(act, one):
            self._trash.change(act, one, Operation.PURGE, active.cause, job=number)
            act.then(lambda: self.try_again(one.ino))
            return
        inode = self._tree.inode(one.ino)
        if inode.is_dir and not self._is_empty(act, inode):
            self._trash.leave_to_contents(act, one, active.cause, number)
            return
        self._remove_name(act, self._tree.inode(one.parent), one.name, inode)
        self._trash.begin_purge(act, one, inode, active.cause, number)

    def _has_name(self, act: Act, one: Entry) -> bool:
        """Whether an entry stands in its directory still: not where freeing it has failed."""
        if one.state is State.PENDING:
            return True
        row = act.get(keys.name(one.parent, one.name))
        return row is not None and dirent.unpack(row).cookie == one.number

    def _remove_name(self, act: Act, above: Inode, name: bytes, inode: Inode) -> None:
        row = act.get(keys.name(above.ino, name))
        if row is None:
            raise StoreDamaged(f"inode {inode.ino} has no name in the trash: run fusefs fsck")
        self._tree.delete_name(act, above, name, dirent.unpack(row))
        act.change(inode, above)
        if inode.is_dir:
            inode.nlink = 0
            above.nlink -= 1
        else:
            inode.trash_names -= 1
        gone = (above.ino, name, inode.ino)
        act.then(lambda: self.vanished.append(gone))

    def _is_empty(self, act: Act, directory: Inode) -> bool:
        """Whether a directory has no names, those left out that the act removes."""
        names = self._tree.listing(directory.ino, 0)
        return all(act.get(keys.order(directory.ino, cookie)) is None for *_, cookie in names)

    def _skip(self, act: Act, active: Job, one: Entry) -> None:
        active.skipped += 1
        act.put(keys.job(active.number), job.pack(active))
        if active.selector.due_ns:
            later = self._trash.steady.now_ns() + IN_USE_S * 10**9
            self._ledger.set_deadline(act, one, one.since_ns, later)

    # -- failing

    def note_failure(self, number: int, error: FusefsError) -> None:
        """An entry could not be purged, and the store could not be told."""
        now = self._store.clock.time_ns()
        self.unrecorded[number] = Unrecorded(now, error.errno, str(error))

    def record_failures(self) -> None:
        """Tell the store of failures, now that it may take writes again. Raises StoreError."""
        for number in list(self.unrecorded):
            with self._tree.act() as act:
                one = self._ledger.found_in(act, number)
                if one is None or one.state is not State.PENDING:
                    del self.unrecorded[number]
                else:
                    self._settle(act, one, 0)

    def _begin_each(self, active: Job, found: list[Entry], cursor: int) -> None:
        """Begin entries that could not be begun together; what fails becomes an error."""
        for old in found:
            try:
                with self._tree.act() as act:
                    self._begin(act, active.number, old)
            except DiskFull:
                raise
            except FusefsError as error:
                self._fail(active, old, error)
        refreshed = self.find(active.number)
        if refreshed is not None:
            with self._tree.act() as act:
                self._advance(act, refreshed, cursor)

    def _fail(self, active: Job, old: Entry, error: FusefsError) -> None:
        self.note_failure(old.number, error)
        log.error("cannot purge", entry=old.number, error=str(error))
        with self._tree.act() as act:  # raises where the store takes no writes: see `unrecorded`
            one = self._ledger.found_in(act, old.number)
            if one is not None and one.state is State.PENDING:
                self._settle(act, one, active.number)

    def _settle(self, act: Act, one: Entry, number: int) -> Entry:
        """Record a failure that is only known here."""
        known = self.unrecorded.get(one.number)
        if known is None or one.state is not State.PENDING:
            return one
        one = self._trash.change(act, one, Operation.PURGE, "begun", job=number)
        one = self._trash.change(
            act, one, Operation.FAIL, known.message, errno=known.errno, message=known.message,
        )  # fmt: skip
        act.then(lambda: self.unrecorded.pop(one.number, None))
        return one

    # -- directories that were left empty

    def leftovers(self) -> Iterator[None]:
        """Note all empty directories of the trash for `sweep`, some hundred at each step: what is
        `emptied` is known to one run only."""
        waiting = [TRASH_INO]
        looked = 0
        while waiting:
            directory = waiting.pop()
            names = list(self._tree.listing(directory, 0))
            waiting += [ino for ino, kind, _, _ in names if kind == stat.S_IFDIR]
            if not names:
                self._trash.emptied.add(directory)
            looked += 1 + len(names)
            if looked >= _LOOK:
                looked = 0
                yield

    def sweep(self) -> None:
        """Remove the directories of the trash that lately became empty and are no entries."""
        emptied, self._trash.emptied = self._trash.emptied, set()
        self._sweep(emptied)

    def _sweep(self, mirrors: set[int]) -> None:
        while mirrors:
            above: set[int] = set()
            with self._tree.act() as act:
                for ino in mirrors:
                    mirror = self._tree.inodes.find(ino)
                    if mirror is not None and self._is_left_over(act, mirror):
                        parent = self._tree.inode(mirror.parent)
                        self._remove_name(act, parent, self._tree.name_of(mirror), mirror)
                        self._tree.free_if_unnamed(act, mirror)
                        above.add(parent.ino)
            mirrors = above

    def _is_left_over(self, act: Act, mirror: Inode) -> bool:
        if mirror.ino == TRASH_INO or not mirror.nlink or not mirror.flags & IN_TRASH:
            return False
        if act.get(keys.revival(mirror.ino)) is not None:
            return False  # being taken back
        if not self._is_empty(act, mirror):
            return False
        name = act.get(keys.directory(mirror.ino))
        row = act.get(keys.name(mirror.parent, name)) if name is not None else None
        return row is not None and act.get(keys.entry(dirent.unpack(row).cookie)) is None
