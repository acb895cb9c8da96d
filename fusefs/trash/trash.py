"""Where removed names go, in the very act that removes them.

A removed file keeps its inode and gets a name below ``.trash``, in the mirror of the directory that
it was in. A removed directory is empty by then; its mirror becomes the entry, and its own inode is
freed: the kernel considers that one dead. An entry's id is the cookie of its name in the trash.

What leaves the trash does so by one act, too. A purged name goes first (`delete-ongoing`); its
entry stays until the inode is freed, which takes several acts for a large file.
"""

import re
import stat
from collections import OrderedDict
from collections.abc import Callable, Iterator
from errno import EPERM
from itertools import islice
from typing import NamedTuple

import structlog

from fusefs.base import failpoints
from fusefs.errors import FusefsError, Refused
from fusefs.model import dirent, keys
from fusefs.model.entry import Cause, Entry, Operation, Stamp, State, after
from fusefs.model.inode import IN_TRASH, ROOT_INO, Inode
from fusefs.trash.ledger import STEP, Ledger
from fusefs.trash.mirrors import Mirrors
from fusefs.trash.policy import Policy
from fusefs.trash.removers import Removers
from fusefs.trash.retention import Keeping, Retention
from fusefs.trash.steady import Steady
from fusefs.tree.act import Act
from fusefs.tree.removal import Caller, Removed
from fusefs.tree.tree import Tree

#: Trashes of desktops (the XDG trash specification, section "Trash directories").
_DESKTOP = re.compile(rb"\.Trash-\d+(/|$)|\.Trash/\d+(/|$)")
_PLACES_KEPT = 10_000

log = structlog.get_logger(__name__)


class _Place(NamedTuple):
    """What is known of a live directory: its path, and what holds for a file in it."""

    path: bytes
    keeping: Keeping
    is_desktop_trash: bool


class Trash:
    """The `Removal` of a tree. There is one for an open store.

    `is_enabled`: whether it takes what is removed from now on. `tell` hears of each entry that an
    act has changed.
    """

    def __init__(self, tree: Tree, *, is_enabled: bool = True) -> None:
        self._tree = tree
        self._store = tree.store
        self._is_enabled = is_enabled
        self.steady = Steady(tree.store)
        self.ledger = Ledger(tree.store, self.steady)
        self.mirrors = Mirrors(tree)
        self.retention = Retention(tree, self.ledger, self.steady)
        self._places: OrderedDict[int, _Place] = OrderedDict()
        self._removers = Removers(tree.store)
        #: Mirrors that may be empty by now.
        self.emptied: set[int] = set()
        self.tell: Callable[[Entry], None] = lambda one: None
        tree.removal = self

    # -- what the tree asks

    def keeps(self, what: Removed) -> bool:
        """Whether it would stay for its time, if it were removed so."""
        place, process = self._place(what.parent), self._removers.of(what.caller.pid).process
        return not self._goes_for_good(what, place, self._keeping(what, place), process)

    def removed(self, act: Act, what: Removed) -> None:
        inode = what.inode
        place = self._place(what.parent)
        remover = self._removers.of(what.caller.pid)
        keeping = self._keeping(what, place)
        if self._goes_for_good(what, place, keeping, remover.process):
            self._tree.free_if_unnamed(act, inode)
            return
        origin = place.path + b"/" + what.name if place.path else what.name
        sums = self._removers.batch(act, remover, what.caller, origin)
        if inode.is_dir:
            inode, number = self.mirrors.close(act, what.parent, what.name, inode)
            self._tree.free_if_unnamed(act, what.inode)
            name = act.get(keys.directory(inode.ino)) or b""
            above = inode.parent
        else:
            mirror = self.mirrors.of(act, what.parent)
            name = self.mirrors.free_name(act, mirror, what.name)
            inode.trash_names += 1
            number = self._tree.put_name(act, mirror, name, inode)
            above = mirror.ino
        now = self._store.clock.time_ns()
        since = self.steady.date(act)
        if not since and not self.retention.needs_replan:
            self.retention.call_for_replan(act)
        size = 0 if inode.is_dir else inode.size
        state = after(State.READY, Operation.REMOVE, number, origin)
        made = Entry(
            number=number,
            ino=inode.ino,
            kind=stat.S_IFMT(inode.mode),
            parent=above,
            name=name,
            origin=origin,
            uid=what.caller.uid,
            process=remover.process,
            deleted_ns=now,
            cause=what.cause,
            state=state,
            history=(Stamp(state, now, what.cause.value),),
            since_ns=since,
            deadline_ns=self.retention.deadline_ns(since, keeping.keep_s),
            batch=sums.number,
            size_bytes=size,
        )
        self._removers.enter(act, made, sums)
        self.ledger.add(act, made)

    def _goes_for_good(
        self, what: Removed, place: _Place, keeping: Keeping, process: bytes
    ) -> bool:
        policy, skips = self.retention.policy, self.retention.skips
        if not self._is_enabled or keeping.is_bypass or place.is_desktop_trash:
            return True
        if what.cause is Cause.RENAME and not policy.keeps_replaced:
            return True
        if what.inode.is_dir or not skips.may_take(what.name):
            return False
        age_ns = self._store.clock.time_ns() - what.inode.btime
        return skips.takes(what.name, process, age_ns)

    def _keeping(self, what: Removed, place: _Place) -> Keeping:
        if self.retention.rule_of(what.inode) != "inherit":
            return self.retention.at(what.inode, what.parent)
        return place.keeping

    def left_trash(
        self, act: Act, parent: Inode, name: bytes, inode: Inode, caller: Caller
    ) -> None:
        one = self._named(act, parent, name)
        self._check_may(caller, inode, one)
        self.emptied.add(parent.ino)
        cause = f"taken back by user {caller.uid}"
        if inode.is_dir:
            act.put(keys.revival(inode.ino), cause.encode())
        else:
            inode.trash_names -= 1
            inode.nlink += 1
        if one is not None:
            self.change(act, one, Operation.RESTORE, cause)

    def purged(self, act: Act, parent: Inode, name: bytes, inode: Inode, caller: Caller) -> None:
        one = self._named(act, parent, name)
        self._check_may(caller, inode, None)
        self.emptied.add(parent.ino)
        cause = f"removed from the trash by user {caller.uid}"
        if not inode.is_dir:
            inode.trash_names -= 1
        if one is None:
            self._tree.free_if_unnamed(act, inode)
        else:
            self.begin_purge(act, one, inode, cause)

    def directory_moved(self) -> None:
        self._places.clear()
        self.mirrors.forget()

    def freed(self, act: Act, entry_number: int) -> None:
        one = self.ledger.found_in(act, entry_number)
        if one is not None and one.state is State.ERROR:  # as after the start of another process
            one = self.change(act, one, Operation.PURGE, "tried again")
        if one is not None:
            self.change(act, one, Operation.FINISH, "its space is free")

    def cannot_free(self, entry_number: int, error: FusefsError) -> None:
        one = self.ledger.find(entry_number)
        if one is None or one.state is not State.ONGOING:
            return
        with self._tree.act() as act:
            self.change(act, one, Operation.FAIL, str(error), errno=error.errno, message=str(error))

    # -- changes of entries

    def change(
        self, act: Act, one: Entry, operation: Operation, cause: str, **more: object
    ) -> Entry:
        """Make `operation` happen to an entry; `tell` hears of it. Raises WrongState."""
        changed = self.ledger.change(act, one, operation, cause, **more)
        act.then(lambda: self.tell(changed))
        return changed

    def begin_purge(self, act: Act, one: Entry, inode: Inode, cause: str, job: int = 0) -> None:
        """Hand the object of an entry, which has lost its name there already, to the reaper.

        What needs no reaper, a directory or a file with other names, is complete at once.
        """
        begun = self.change(act, one, Operation.PURGE, cause, job=job)
        is_last = not inode.is_dir and not inode.nlink and not inode.trash_names
        self._tree.free_if_unnamed(act, inode, one.number if is_last else 0)
        if not is_last:
            why = "a directory takes no space" if inode.is_dir else "another name keeps its content"
            self.change(act, begun, Operation.FINISH, why)

    def leave_to_contents(self, act: Act, one: Entry, cause: str, job: int) -> None:
        """Purge a directory that still holds entries: it stays until they go, as their mirror."""
        begun = self.change(act, one, Operation.PURGE, cause, job=job)
        self.change(act, begun, Operation.FINISH, "it goes with the last that is in it")

    def _named(self, act: Act, parent: Inode, name: bytes) -> Entry | None:
        """The entry of a name in the trash, of which the act has deleted the rows already."""
        row = self._store.get(keys.name(parent.ino, name))
        return self.ledger.found_in(act, dirent.unpack(row).cookie) if row is not None else None

    @staticmethod
    def _check_may(caller: Caller, inode: Inode, one: Entry | None) -> None:
        """Only root, the owner, and, to take it back (`one`), who removed it."""
        if caller.uid not in (0, inode.uid) and (one is None or caller.uid != one.uid):
            raise Refused(EPERM, "it belongs to another user")

    # -- taking back directories

    def settle(self) -> None:
        for _ in self.revive():
            pass

    def revive(self) -> Iterator[None]:
        """Make what lies in directories that were taken back live again, an act at each step.

        The name of such a directory is in its place already; a row remembers what is left to do
        over a crash. Two may be at it, one between two steps of the other.
        """
        while (found := next(self._store.scan(keys.REVIVAL), None)) is not None:
            top = keys.number(found[0])
            yield from self._revive_below(top, found[1].decode())
            with self._tree.act() as act:
                act.delete(found[0])

    def _revive_below(self, top: int, cause: str) -> Iterator[None]:
        waiting = [top]
        while waiting:
            directory = waiting.pop()
            last = 0
            while found := list(islice(self._tree.listing(directory, last), STEP)):
                with self._tree.act() as act:
                    for ino, kind, name, cookie in found:
                        if kind == stat.S_IFDIR:
                            waiting.append(ino)
                        one = self.ledger.found_in(act, cookie)
                        if one is not None:  # else it has no entry of its own, or it was done
                            self._revive(act, self._tree.inode(directory), name, one, cause)
                last = found[-1][3]
                failpoints.hit("revive.step")
                yield
            self._unmark(directory)

    def _unmark(self, directory: int) -> None:
        inode = self._tree.inodes.find(directory)
        if inode is not None:  # else it was removed meanwhile
            with self._tree.act() as act:
                act.change(inode)
                inode.flags &= ~IN_TRASH

    def _revive(self, act: Act, directory: Inode, name: bytes, one: Entry, cause: str) -> None:
        inode = self._tree.inode(one.ino)
        act.change(inode)
        if one.state is State.ERROR:
            self._finish(act, directory, name, one, inode)
            return
        if not inode.is_dir:
            inode.trash_names -= 1
            inode.nlink += 1
        self.change(act, one, Operation.RESTORE, cause)

    def _finish(self, act: Act, directory: Inode, name: bytes, one: Entry, inode: Inode) -> None:
        """What was to be purged, and failed, does not come back with the directory it is in."""
        cause = "its directory was taken back"
        if inode.is_dir:
            self.leave_to_contents(act, one, cause, 0)
            return
        inode.trash_names -= 1
        self._tree.delete_name(act, directory, name, dirent.Dirent(inode.ino, one.kind, one.number))
        self.begin_purge(act, one, inode, cause)

    # -- looking

    def entries(self) -> Iterator[Entry]:
        """All entries that can be read, oldest first."""
        return self.ledger.entries()

    def path_in_trash(self, one: Entry) -> bytes:
        """Where a pending entry stands, from the root of the mount."""
        return self._tree.path_of(self._tree.inode(one.parent)) + b"/" + one.name

    def rules_change(self) -> None:
        """A rule of a directory or file is going to change. Raises DiskFull, StoreError."""
        self._places.clear()
        with self._tree.act() as act:
            self.retention.call_for_replan(act)

    def set_policy(self, policy: Policy) -> None:
        """From now on, and for what is in the trash. Raises DiskFull, StoreError."""
        self._places.clear()
        self.retention.set_policy(policy)

    def _place(self, directory: Inode) -> _Place:
        known = self._places.get(directory.ino)
        if known is not None:
            self._places.move_to_end(directory.ino)
            return known
        path = self._tree.path_of(directory)
        keeping = self.retention.at(directory, self._tree.inode(directory.parent or ROOT_INO))
        place = _Place(path, keeping, _DESKTOP.match(path) is not None)
        self._places[directory.ino] = place
        if len(self._places) > _PLACES_KEPT:
            self._places.popitem(last=False)
        return place
