"""Where removed names go, in the very act that removes them.

A removed file keeps its inode and gets a name below ``.trash``, in directories that mirror those
above its old name: same names, owners, modes and attributes, so the kernel's own permission check
decides who may look and who may take back. A removed directory is mirrored too (it is empty by
then; what was in it lies in the mirror already), and its own inode is freed: the kernel considers
that one dead.

An entry's id is the cookie of its name in the trash. Where a name is taken, ``.~ID~`` is added.
"""

import stat
import time
from collections.abc import Iterator
from itertools import islice

import msgspec
import structlog

from fusefs.errors import StoreDamaged
from fusefs.model import dirent, entry, keys
from fusefs.model.entry import Entry, State
from fusefs.model.inode import IN_TRASH, ROOT_INO, TRASH_INO, Inode
from fusefs.tree.act import Act
from fusefs.tree.removal import Removed
from fusefs.tree.tree import NAME_MAX, Tree

#: Entries that one act converts when a directory is taken back: bounds the batch to some MiB.
_STEP = 5000
_PROCESS_NAME_S = 5.0
_MIRRORS_KEPT = 10_000

log = structlog.get_logger(__name__)


class Trash:
    """The `Removal` of a tree. There is one for a mounted store."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._store = tree.store
        self._mirrors: dict[tuple[bytes, int], int] = {}
        self._process_names: dict[int, tuple[float, bytes]] = {}
        tree.removal = self

    # -- what the tree asks

    def removed(self, act: Act, what: Removed) -> None:
        now = self._store.clock.time_ns()
        hour = time.strftime("%Y-%m-%dT%H", time.gmtime(now // 10**9)).encode()
        above = self._mirror(act, what.parent, hour)
        inode = what.inode
        if inode.is_dir:
            self._mirror_named(act, above, what.name, inode)
            self._tree.free_if_unnamed(act, inode)
            return
        name = self._free_name(act, above, what.name)
        inode.trash_names += 1
        number = self._tree.put_name(act, above, name, inode)
        path = self._tree.path_of(what.parent)
        made = Entry(
            number=number,
            ino=inode.ino,
            kind=stat.S_IFMT(inode.mode),
            parent=above.ino,
            name=name,
            origin=path + b"/" + what.name if path else what.name,
            uid=what.caller.uid,
            process=self._process_name(what.caller.pid),
            deleted_ns=now,
            cause=what.cause,
            state=State.PENDING,
            history=((State.PENDING, now, what.cause.value),),
        )
        act.put(keys.entry(number), entry.pack(made))

    def left_trash(self, act: Act, parent: Inode, name: bytes, inode: Inode) -> None:
        if inode.is_dir:
            self._revive_below(act, inode)
        else:
            self._revive(act, parent, name, inode)

    def purged(self, act: Act, parent: Inode, name: bytes, inode: Inode) -> None:
        if not inode.is_dir:
            inode.trash_names -= 1
            act.delete(keys.entry(self._number(act, parent, name)))
        self._tree.free_if_unnamed(act, inode)

    def directory_moved(self) -> None:
        self._mirrors.clear()

    # -- looking

    def entries(self) -> Iterator[Entry]:
        """All entries that can be read, oldest first."""
        for key, row in self._store.scan(keys.ENTRY):
            try:
                yield entry.unpack(row)
            except msgspec.MsgspecError as error:
                log.error("damaged trash entry", entry=keys.number(key), error=str(error))

    def find(self, number: int) -> Entry | None:
        """The entry with this id. Raises StoreDamaged."""
        row = self._store.get(keys.entry(number))
        try:
            return entry.unpack(row) if row is not None else None
        except msgspec.MsgspecError as error:
            raise StoreDamaged(f"trash entry {number} does not decode: run fusefs fsck") from error

    def path_in_trash(self, one: Entry) -> bytes:
        """Where an entry stands, from the root of the mount."""
        return self._tree.path_of(self._tree.inode(one.parent)) + b"/" + one.name

    # -- mirrors

    def _mirror(self, act: Act, live: Inode, hour: bytes) -> Inode:
        """The directory of the trash that stands for a live one this hour."""
        missing = []
        above, mirror = live, self._known_mirror(hour, live)
        while mirror is None and above.ino != ROOT_INO:
            missing.append(above)
            above = self._tree.inode(above.parent)
            mirror = self._known_mirror(hour, above)
        if mirror is None:
            mirror = self._mirror_named(act, self._tree.inode(TRASH_INO), hour, above)
            self._remember_mirror(hour, above, mirror)
        for directory in reversed(missing):
            mirror = self._mirror_named(act, mirror, self._tree.name_of(directory), directory)
            self._remember_mirror(hour, directory, mirror)
        act.change(mirror)
        return mirror

    def _known_mirror(self, hour: bytes, live: Inode) -> Inode | None:
        """The mirror remembered for `live`, unless it was purged, taken back, or never came to be
        because its act failed."""
        known = self._mirrors.get((hour, live.ino))
        mirror = self._tree.inodes.find(known) if known is not None else None
        return mirror if mirror and mirror.nlink and mirror.flags & IN_TRASH else None

    def _remember_mirror(self, hour: bytes, live: Inode, mirror: Inode) -> None:
        if len(self._mirrors) >= _MIRRORS_KEPT:
            self._mirrors.clear()
        self._mirrors[hour, live.ino] = mirror.ino

    def _mirror_named(self, act: Act, above: Inode, name: bytes, live: Inode) -> Inode:
        row = act.get(keys.name(above.ino, name))
        if row is not None and (found := dirent.unpack(row)).kind == stat.S_IFDIR:
            mirror = self._tree.inode(found.ino)
            act.change(mirror)
        else:
            name = self._free_name(act, above, name)
            mirror = self._make_mirror(act, above, name, live)
        if live.nlink == 0:  # it goes now: its last attributes count
            mirror.mode, mirror.uid, mirror.gid = live.mode, live.uid, live.gid
            self._tree.xattrs.copy(act, live, mirror)
        return mirror

    def _make_mirror(self, act: Act, above: Inode, name: bytes, live: Inode) -> Inode:
        counters = self._store.counters
        counters.ino += 1
        now = self._store.clock.time_ns()
        mirror = Inode(
            counters.ino, live.mode, live.uid, live.gid, now, nlink=2, parent=above.ino,
            flags=IN_TRASH,
        )  # fmt: skip
        if live.ino == ROOT_INO:
            mirror.mode = stat.S_IFDIR | 0o755
        mirror.atime, mirror.mtime = live.atime, live.mtime
        self._tree.xattrs.copy(act, live, mirror)
        self._tree.put_name(act, above, name, mirror)
        act.change(above, mirror)
        above.nlink += 1
        self._tree.inodes.add(mirror)
        return mirror

    def _free_name(self, act: Act, above: Inode, name: bytes) -> bytes:
        if act.get(keys.name(above.ino, name)) is None:
            return name
        suffix = b".~%d~" % (self._store.counters.cookie + 1)
        free = name[: NAME_MAX - len(suffix)] + suffix
        while act.get(keys.name(above.ino, free)) is not None:  # someone's own name looks like that
            suffix += b"~"
            free = name[: NAME_MAX - len(suffix)] + suffix
        return free

    # -- the way back

    def _number(self, act: Act, parent: Inode, name: bytes) -> int:
        row = self._store.get(keys.name(parent.ino, name))
        return dirent.unpack(row).cookie if row is not None else 0

    def _revive(self, act: Act, parent: Inode, name: bytes, inode: Inode) -> None:
        number = self._number(act, parent, name)
        if act.get(keys.entry(number)) is None:
            return  # taken back before, by an act that a crash cut short
        act.change(inode)
        inode.trash_names -= 1
        inode.nlink += 1
        act.delete(keys.entry(number))

    def _revive_below(self, act: Act, top: Inode) -> None:
        """Make everything in a directory of the trash live again.

        A large one takes acts of its own before `act`. A crash between them leaves it in the trash
        with a part of its files counted as live; taking it back again goes on from there.
        """
        found = self._below(top)
        step = list(islice(found, _STEP))
        if len(step) < _STEP:
            self._revive_all(act, step)
            return
        while step:
            with self._tree.act() as own:
                self._revive_all(own, step)
            step = list(islice(found, _STEP))

    def _revive_all(self, act: Act, found: list[tuple[Inode, bytes, Inode]]) -> None:
        for parent, name, inode in found:
            if inode.is_dir:
                act.change(inode)
                inode.flags &= ~IN_TRASH
            else:
                self._revive(act, parent, name, inode)

    def _below(self, top: Inode) -> Iterator[tuple[Inode, bytes, Inode]]:
        """(directory, name, inode) of everything below `top`, and `top` itself last."""
        waiting = [top]
        while waiting:
            directory = waiting.pop()
            for ino, _, name, _ in list(self._tree.listing(directory.ino, 0)):
                inode = self._tree.inode(ino)
                if inode.is_dir:
                    waiting.append(inode)
                yield directory, name, inode
        yield top, b"", top

    def _process_name(self, pid: int) -> bytes:
        now = self._store.clock.monotonic()
        known = self._process_names.get(pid)
        if known and now - known[0] < _PROCESS_NAME_S:
            return known[1]
        try:
            with open(f"/proc/{pid}/comm", "rb") as file:
                name = file.read().rstrip(b"\n")
        except OSError:
            name = b""
        if len(self._process_names) > 1000:
            self._process_names.clear()
        self._process_names[pid] = now, name
        return name
