"""The operations on names and attributes. Each one is a batch: it happens whole or not at all.

What becomes of an object whose name is removed is not decided here: a `Removal`, handed in, puts
it somewhere else in the same batch (the trash does), or frees it. An inode is freed when neither a
live name nor a trashed one nor an open handle nor the kernel refers to it; until then a row in the
orphan table remembers it over a crash.
"""

import stat
from collections.abc import Callable, Iterator
from errno import EEXIST, EINVAL, EISDIR, ENAMETOOLONG, ENOENT, ENOTDIR, ENOTEMPTY, EPERM
from itertools import islice

from fusefs.errors import Refused
from fusefs.model import dirent, keys
from fusefs.model.dirent import Dirent
from fusefs.model.entry import Cause
from fusefs.model.inode import IN_TRASH, ROOT_INO, TIME_LIMIT_NS, TRASH_INO, Inode
from fusefs.store.store import Store
from fusefs.tree.act import Act
from fusefs.tree.inodes import Inodes
from fusefs.tree.removal import Caller, Free, Removal, Removed
from fusefs.tree.xattrs import Xattrs

TRASH_NAME = b".trash"
NAME_MAX = 255

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
RENAME_WHITEOUT = 4

#: The set-ID bits of a mode.
SET_ID = stat.S_ISUID | stat.S_ISGID
_RELATIME_NS = 24 * 3600 * 10**9


class Tree:
    """The tree of a store. Call `format` once on a new one."""

    def __init__(self, store: Store, *, noatime: bool = False, nodiratime: bool = False) -> None:
        self.store = store
        self.inodes = Inodes(store)
        self.inode = self.inodes.get
        self.xattrs = Xattrs(store, self.inodes)
        self.removal: Removal = Free(self.free_if_unnamed)
        self._noatime = noatime
        self._nodiratime = nodiratime

    def format(self, uid: int, gid: int) -> None:
        """Make the root and the trash, if they are not there yet."""
        if self.store.get(keys.inode(ROOT_INO)) is not None:
            return
        now = self.store.clock.time_ns()
        mode = stat.S_IFDIR | 0o755
        with self.act() as act:
            for ino, flags in ((ROOT_INO, 0), (TRASH_INO, IN_TRASH)):
                act.change(Inode(ino, mode, uid, gid, now, nlink=2, parent=ROOT_INO, flags=flags))
            # By name only: a listing of the root does not show the trash.
            trash = Dirent(TRASH_INO, stat.S_IFDIR, 0)
            act.put(keys.name(ROOT_INO, TRASH_NAME), dirent.pack(trash))

    def act(self) -> Act:
        return Act(self.store, self.inodes)

    # -- looking

    def lookup(self, parent: int, name: bytes) -> Inode | None:
        """The inode that `name` in `parent` stands for. Raises Refused(ENAMETOOLONG)."""
        if len(name) > NAME_MAX:
            raise Refused(ENAMETOOLONG)
        row = self.store.get(keys.name(parent, name))
        return self.inode(dirent.unpack(row).ino) if row is not None else None

    def resolve(self, path: bytes) -> Inode:
        """The inode at `path` from the root; symbolic links are not followed.

        Raises Refused(ENOENT, ENOTDIR).
        """
        inode = self.inode(ROOT_INO)
        for part in path.split(b"/"):
            if part in (b"", b"."):
                continue
            if not inode.is_dir:
                raise Refused(ENOTDIR)
            found = self.lookup(inode.ino, part)
            if found is None:
                raise Refused(ENOENT)
            inode = found
        return inode

    def path_of(self, directory: Inode) -> bytes:
        """The path of a directory from the root, without a leading slash; empty for the root."""
        parts: list[bytes] = []
        while directory.ino != ROOT_INO:
            parts.append(self.name_of(directory))
            directory = self.inode(directory.parent)
        return b"/".join(reversed(parts))

    def name_of(self, directory: Inode) -> bytes:
        """The name of a directory in its parent. Raises Refused(ENOENT) if it was removed."""
        if directory.ino == TRASH_INO:
            return TRASH_NAME
        name = self.store.get(keys.directory(directory.ino))
        if name is None:
            raise Refused(ENOENT)
        return name

    def listing(self, parent: int, after: int) -> Iterator[tuple[int, int, bytes, int]]:
        """(ino, kind, name, cookie) of the names behind the cookie `after`, in a stable order."""
        prefix = keys.ORDER + parent.to_bytes(8, "big")
        for key, row in self.store.scan(keys.order(parent, after + 1), prefix):
            ino, kind, name = dirent.unpack_listed(row)
            yield ino, kind, name, keys.second(key)

    def is_empty(self, directory: int) -> bool:
        return next(self.listing(directory, 0), None) is None

    def readlink(self, ino: int) -> bytes:
        """Raises Refused(EINVAL) on anything but a symbolic link."""
        target = self.store.get(keys.link(ino))
        if target is None:
            raise Refused(EINVAL)
        return target

    # -- making

    def make(
        self, parent_ino: int, name: bytes, mode: int, caller: Caller, *, rdev: int = 0,
        target: bytes | None = None, also: Callable[[Act, Inode], object] | None = None,
    ) -> Inode:  # fmt: skip
        """Make a file, directory, node, or symbolic link (to `target`) of the type in `mode`.

        `also` is called inside the act.

        Raises Refused: ENAMETOOLONG, EEXIST, ENOENT (the parent was removed), EPERM (in the trash).
        """
        self.store.space.admit_name()
        parent = self._open_for_names(parent_ino)
        self._check_absent(parent, name)
        now = self.store.clock.time_ns()
        gid = caller.gid
        is_dir = stat.S_ISDIR(mode)
        if parent.mode & stat.S_ISGID:
            gid = parent.gid
            if is_dir:
                mode |= stat.S_ISGID
        counters = self.store.counters
        counters.ino += 1
        inode = Inode(
            counters.ino, mode, caller.uid, gid, now, rdev=rdev, nlink=2 if is_dir else 1,
            parent=parent.ino if is_dir else 0,
        )  # fmt: skip
        with self.act() as act:
            act.change(inode, parent)
            if target is not None:
                act.put(keys.link(inode.ino), target)
                inode.size = inode.stored_size = len(target)
            else:
                self.xattrs.inherit(act, parent, inode)
            self.put_name(act, parent, name, inode)
            if is_dir:
                parent.nlink += 1
            parent.mtime = parent.ctime = now
            if also is not None:
                also(act, inode)
        self.inodes.add(inode)
        return inode

    def link(self, ino: int, parent_ino: int, name: bytes) -> Inode:
        """Give an inode another name.

        Raises Refused: as `make`, EPERM for directories and what is in the trash.
        """
        self.store.space.admit_name()
        parent = self._open_for_names(parent_ino)
        self._check_absent(parent, name)
        inode = self.inode(ino)
        if inode.is_dir or (inode.nlink == 0 and inode.trash_names):
            raise Refused(EPERM)
        if inode.nlink == 0:
            raise Refused(ENOENT)
        now = self.store.clock.time_ns()
        with self.act() as act:
            act.change(inode, parent)
            inode.nlink += 1
            inode.ctime = now
            self.put_name(act, parent, name, inode)
            parent.mtime = parent.ctime = now
        return inode

    # -- removing

    def unlink(self, parent_ino: int, name: bytes, caller: Caller) -> Inode:
        """Take a name of something that is no directory away. Raises Refused: ENOENT, EISDIR."""
        return self._remove(parent_ino, name, caller, Cause.UNLINK)

    def rmdir(self, parent_ino: int, name: bytes, caller: Caller) -> Inode:
        """Take an empty directory away. Raises Refused: ENOENT, ENOTDIR, ENOTEMPTY."""
        return self._remove(parent_ino, name, caller, Cause.RMDIR)

    def _remove(self, parent_ino: int, name: bytes, caller: Caller, cause: Cause) -> Inode:
        self.store.space.admit_removal()
        parent = self.inode(parent_ino)
        found, inode = self._find(parent, name)
        if inode.ino == TRASH_INO:
            raise Refused(EPERM, "the trash itself cannot be removed")
        self._settle(parent, inode)
        if inode.is_dir and cause is Cause.UNLINK:
            raise Refused(EISDIR)
        if not inode.is_dir and cause is Cause.RMDIR:
            raise Refused(ENOTDIR)
        if inode.is_dir and not self.is_empty(inode.ino):
            raise Refused(ENOTEMPTY)
        now = self.store.clock.time_ns()
        with self.act() as act:
            act.change(inode, parent)
            self.delete_name(act, parent, name, found)
            if parent.flags & IN_TRASH:
                if inode.is_dir:
                    parent.nlink -= 1
                    inode.nlink = 0
                self.removal.purged(act, parent, name, inode, caller)
            else:
                self._lose_name(act, Removed(parent, name, inode, cause, caller), now)
            parent.mtime = parent.ctime = now
        return inode

    def _lose_name(self, act: Act, what: Removed, now: int) -> None:
        inode = what.inode
        if inode.is_dir:
            inode.nlink = 0
            what.parent.nlink -= 1
        else:
            inode.nlink -= 1
        self.removal.removed(act, what)
        inode.ctime = now

    def free_if_unnamed(self, act: Act, inode: Inode, entry_number: int = 0) -> None:
        """Hand an inode that no name refers to any more to the reaper.

        `entry_number`: the entry of the trash that is complete when it is freed.
        """
        if inode.nlink == 0 and inode.trash_names == 0:
            number = entry_number.to_bytes(8, "big") if entry_number else b""
            act.put(keys.orphan(inode.ino), number)
            if inode.is_dir:
                act.delete(keys.directory(inode.ino))

    def make_orphan(self, act: Act, like: Inode) -> Inode:
        """A file without a name, for whoever holds it; the reaper frees it afterwards."""
        self.store.counters.ino += 1
        now = self.store.clock.time_ns()
        made = Inode(self.store.counters.ino, like.mode, like.uid, like.gid, now, nlink=0)
        act.change(made)
        self.free_if_unnamed(act, made)
        act.then(lambda: self.inodes.add(made))
        return made

    def orphans(self, after: int = 0, limit: int = 1000) -> list[int]:
        """Inodes that wait for the reaper, in order: up to `limit`, behind the inode `after`."""
        rows = self.store.scan(keys.orphan(after + 1), keys.ORPHAN)
        return [keys.number(key) for key, _ in islice(rows, limit)]

    def entry_of_orphan(self, ino: int) -> int:
        """The entry of the trash that an orphan was; 0 if none."""
        return int.from_bytes(self.store.get(keys.orphan(ino)) or b"", "big")

    def reap(self, act: Act, ino: int) -> None:
        """Free an orphan: its row, attributes and target. Its extents must be gone already."""
        for key, _ in self.store.scan(keys.XATTR + ino.to_bytes(8, "big")):
            act.delete(key)
        act.delete(keys.link(ino))
        act.delete(keys.inode(ino))
        act.delete(keys.orphan(ino))
        entry_number = self.entry_of_orphan(ino)
        if entry_number:
            self.removal.freed(act, entry_number)
        act.then(lambda: self.inodes.forget(ino))

    # -- renaming

    def rename(
        self, old_parent_ino: int, old_name: bytes, new_parent_ino: int, new_name: bytes,
        flags: int, caller: Caller, *, also: Callable[[Act, Inode], object] | None = None,
    ) -> Inode | None:  # fmt: skip
        """Move a name; returns the inode that lost its name at the target, if any did.

        `also` is called inside the act, with the inode that is moved.

        Raises Refused: ENOENT, EEXIST (NOREPLACE), EINVAL (unknown flags, EXCHANGE with another),
        EISDIR, ENOTDIR, ENOTEMPTY, EPERM (into the trash), ENAMETOOLONG.
        """
        exchange = flags == RENAME_EXCHANGE
        if flags & ~(RENAME_NOREPLACE | RENAME_WHITEOUT) and not exchange:
            raise Refused(EINVAL)
        self.store.space.admit_removal()
        old_parent = self.inode(old_parent_ino)
        new_parent = self._open_for_names(new_parent_ino)
        if len(new_name) > NAME_MAX:
            raise Refused(ENAMETOOLONG)
        old, inode = self._find(old_parent, old_name)
        self._settle(old_parent, inode)
        target_row = self.store.get(keys.name(new_parent.ino, new_name))
        target = self.inode(dirent.unpack(target_row).ino) if target_row else None
        if TRASH_INO in (inode.ino, target.ino if target else 0):
            raise Refused(EPERM, "the trash itself cannot be renamed or replaced")
        if flags & RENAME_NOREPLACE and target:
            raise Refused(EEXIST)
        if target is None and exchange:
            raise Refused(ENOENT)
        if target is inode:
            return None
        target_row = target_row or b""
        if flags & ~RENAME_NOREPLACE and old_parent.flags & IN_TRASH:
            raise Refused(EPERM)
        if target and not exchange:
            self._check_replaceable(inode, target)
        # A listing under way must neither miss nor repeat what only changes its name or its inode.
        cookie = None
        if target_row:
            cookie = dirent.unpack(target_row).cookie
        elif old_parent is new_parent:
            cookie = old.cookie
        now = self.store.clock.time_ns()
        with self.act() as act:
            act.change(inode, old_parent, new_parent)
            if target:
                act.change(target)
                self.delete_name(act, new_parent, new_name, dirent.unpack(target_row))
                if not exchange:
                    what = Removed(new_parent, new_name, target, Cause.RENAME, caller)
                    self._lose_name(act, what, now)
            self.delete_name(act, old_parent, old_name, old)
            if target and exchange:
                self.put_name(act, old_parent, old_name, target, old.cookie)
                self._moved_dir(target, new_parent, old_parent)
                target.ctime = now
            if old_parent.flags & IN_TRASH:
                self.removal.left_trash(act, old_parent, old_name, inode, caller)
            self.put_name(act, new_parent, new_name, inode, cookie)
            self._moved_dir(inode, old_parent, new_parent)
            inode.ctime = now
            if flags & RENAME_WHITEOUT:
                self._leave_whiteout(act, old_parent, old_name, caller)
            for parent in (old_parent, new_parent):
                parent.mtime = parent.ctime = now
            if also is not None:
                also(act, inode)
        if inode.is_dir or (target and target.is_dir):
            self.removal.directory_moved()
        return None if exchange else target

    def _leave_whiteout(self, act: Act, parent: Inode, name: bytes, caller: Caller) -> None:
        """Put the device 0:0 where a name was: overlayfs takes it for "removed"."""
        counters = self.store.counters
        counters.ino += 1
        now = self.store.clock.time_ns()
        whiteout = Inode(counters.ino, stat.S_IFCHR, caller.uid, caller.gid, now)
        act.change(whiteout)
        self.put_name(act, parent, name, whiteout)
        self.inodes.add(whiteout)

    @staticmethod
    def _moved_dir(inode: Inode, old_parent: Inode, new_parent: Inode) -> None:
        if inode.is_dir and old_parent is not new_parent:
            inode.parent = new_parent.ino
            old_parent.nlink -= 1
            new_parent.nlink += 1

    def _check_replaceable(self, inode: Inode, target: Inode) -> None:
        if target.is_dir:
            if not inode.is_dir:
                raise Refused(EISDIR)
            if not self.is_empty(target.ino):
                raise Refused(ENOTEMPTY)
        elif inode.is_dir:
            raise Refused(ENOTDIR)

    # -- attributes

    def set_attributes(
        self, inode: Inode, caller: Caller, *, mode: int | None = None, uid: int | None = None,
        gid: int | None = None, atime: int | None = None, mtime: int | None = None,
        ctime: int | None = None,
    ) -> None:  # fmt: skip
        """chmod, chown and utimensat. The kernel has checked the right to.

        Times out of range become the next one in range, as the kernel's own filesystems do.
        """
        self.store.space.admit_removal()
        with self.act() as act:
            act.change(inode)
            if mode is not None:
                inode.mode = stat.S_IFMT(inode.mode) | stat.S_IMODE(mode)
                self.xattrs.chmod(act, inode)
            if uid is not None:
                inode.uid = uid
            if gid is not None:
                inode.gid = gid
            if mode is None and (uid is not None or gid is not None) and not inode.is_dir:
                self._drop_set_id(inode, stat.S_ISGID)
            if atime is not None:
                inode.atime = _in_range(atime)
            if mtime is not None:
                inode.mtime = _in_range(mtime)
            inode.ctime = self.store.clock.time_ns() if ctime is None else _in_range(ctime)

    @staticmethod
    def _drop_set_id(inode: Inode, keeps: int) -> None:
        """As after chown(2) and truncate(2): but for the bits in `keeps`, where set-group-ID means
        execution it goes in any case."""
        if inode.mode & stat.S_IXGRP:
            keeps &= ~stat.S_ISGID
        inode.mode &= ~SET_ID | keeps

    def wrote(self, inode: Inode, *, keeps: int = SET_ID) -> None:
        """Note a write in memory: times, and for a truncation set-ID bits, of which `keeps` stay.

        The index learns of it with the data, or through `flush_times`.
        """
        inode.mtime = inode.ctime = self.store.clock.time_ns()
        if inode.mode & SET_ID and keeps != SET_ID and inode.is_file:
            self._drop_set_id(inode, keeps)
        self.inodes.pin(inode)

    def accessed(self, inode: Inode) -> None:
        """Note a read as relatime does: at most once a day, or after a change."""
        if self._noatime or (self._nodiratime and inode.is_dir):
            return
        atime = inode.atime
        now = self.store.clock.time_ns()
        if atime <= inode.mtime or atime <= inode.ctime or now - atime > _RELATIME_NS:
            inode.atime = now
            self.inodes.pin(inode)

    def flush_times(self) -> None:
        """Put what `wrote` and `accessed` noted into the index, for inodes without waiting data."""
        settled = [i for i in self.inodes.pinned.values() if i.size == i.stored_size]
        for start in range(0, len(settled), 500):
            part = settled[start : start + 500]
            with self.act() as act:
                act.change(*part)
            for inode in part:
                self.inodes.unpin(inode)

    # -- pieces

    def _settle(self, parent: Inode, inode: Inode) -> None:
        if (parent.flags | inode.flags) & IN_TRASH:
            self.removal.settle()

    def _open_for_names(self, ino: int) -> Inode:
        parent = self.inode(ino)
        if parent.flags & IN_TRASH:
            raise Refused(EPERM, "nothing can be made in the trash by hand")
        if parent.nlink == 0:
            raise Refused(ENOENT)
        return parent

    def _check_absent(self, parent: Inode, name: bytes) -> None:
        if len(name) > NAME_MAX:
            raise Refused(ENAMETOOLONG)
        if self.store.get(keys.name(parent.ino, name)) is not None:
            raise Refused(EEXIST)

    def _find(self, parent: Inode, name: bytes) -> tuple[Dirent, Inode]:
        if len(name) > NAME_MAX:
            raise Refused(ENAMETOOLONG)
        row = self.store.get(keys.name(parent.ino, name))
        if row is None:
            raise Refused(ENOENT)
        found = dirent.unpack(row)
        return found, self.inode(found.ino)

    def put_name(
        self, act: Act, parent: Inode, name: bytes, inode: Inode, cookie: int | None = None
    ) -> int:
        """Put the rows of a name; returns its cookie, a new one if none is given.

        Counts and times are the caller's.
        """
        if cookie is None:
            counters = self.store.counters
            counters.cookie = cookie = counters.cookie + 1
        kind = stat.S_IFMT(inode.mode)
        act.put(keys.name(parent.ino, name), dirent.pack(Dirent(inode.ino, kind, cookie)))
        act.put(keys.order(parent.ino, cookie), dirent.pack_listed(inode.ino, kind, name))
        if kind == stat.S_IFDIR:
            act.put(keys.directory(inode.ino), name)
        return cookie

    @staticmethod
    def delete_name(act: Act, parent: Inode, name: bytes, found: Dirent) -> None:
        """Delete the rows of a name. Counts and times are the caller's."""
        act.delete(keys.name(parent.ino, name))
        act.delete(keys.order(parent.ino, found.cookie))


def _in_range(time_ns: int) -> int:
    return max(-TIME_LIMIT_NS, min(time_ns, TIME_LIMIT_NS))
