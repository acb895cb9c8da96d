"""Taking back what was removed: one entry, or a directory with everything in it.

Never overwrites: what stands at the target stays, and the entry stays in the trash. Parents that
are gone are made again, with the owner and mode that their mirror in the trash has.
"""

import stat
from collections.abc import Iterator

from fusefs.errors import NoSuchEntry, NotPermitted, Refused, TargetExists
from fusefs.model.entry import Entry
from fusefs.model.inode import IN_TRASH, ROOT_INO, TRASH_INO, Inode
from fusefs.trash.trash import Trash
from fusefs.tree.tree import TRASH_NAME, Caller, Tree


class Restorer:
    """Restores from `trash` on behalf of `caller`."""

    def __init__(self, tree: Tree, trash: Trash, caller: Caller) -> None:
        self._tree = tree
        self._trash = trash
        self._caller = caller
        #: (parent, name) of each name that came into being: a kernel's cache must learn of it.
        self.appeared: list[tuple[int, bytes]] = []

    def restore(self, target: int | bytes, to: bytes | None = None) -> list[bytes]:
        """Take back an entry by id, or by path: its old one, or the one below ``.trash``.

        A path that was removed several times means the last removal. Returns the restored paths.
        Raises NoSuchEntry, TargetExists, NotPermitted.
        """
        if isinstance(target, int):
            entry = self._trash.find(target)
            if entry is None:
                raise NoSuchEntry(f"no entry {target} in the trash: see fusefs trash list")
            return [self._entry(entry, to)]
        path = target.strip(b"/")
        if path.split(b"/")[0] == TRASH_NAME:
            return self._from_trash_path(path, to)
        found = [e for e in self._trash.entries() if e.origin == path]
        if found:
            return [self._entry(found[-1], to)]
        for hour in sorted(self._hours(), reverse=True):
            mirror = self._resolve(TRASH_NAME + b"/" + hour + b"/" + path)
            if mirror is not None and mirror.is_dir:
                return self._directory(mirror, to if to is not None else path)
        raise NoSuchEntry(f"{_shown(path)} is not in the trash: see fusefs trash list")

    def _from_trash_path(self, path: bytes, to: bytes | None) -> list[bytes]:
        inode = self._resolve(path)
        parts = path.split(b"/")
        if inode is None or len(parts) < 3:
            raise NoSuchEntry(f"{_shown(path)} is not in the trash: see fusefs trash list")
        if inode.is_dir:
            return self._directory(inode, to if to is not None else b"/".join(parts[2:]))
        parent = self._resolve(b"/".join(parts[:-1]))
        for entry in self._trash.entries():
            if parent and (entry.parent, entry.name) == (parent.ino, parts[-1]):
                return [self._entry(entry, to)]
        raise NoSuchEntry(f"{_shown(path)} is not in the trash: see fusefs trash list")

    def _entry(self, entry: Entry, to: bytes | None) -> bytes:
        inode = self._tree.inode(entry.ino)
        if self._caller.uid not in (0, inode.uid):
            raise NotPermitted(f"{_shown(entry.origin)} belongs to another user")
        path = (to if to is not None else entry.origin).strip(b"/")
        self._move(entry.parent, entry.name, path, self._tree.inode(entry.parent))
        return path

    def _directory(self, mirror: Inode, path: bytes) -> list[bytes]:
        path = path.strip(b"/")
        if self._caller.uid not in (0, mirror.uid):
            raise NotPermitted(f"{_shown(path)} belongs to another user")
        standing = self._resolve(path)
        if standing is None:
            above = self._tree.inode(mirror.parent)
            self._move(mirror.parent, self._tree.name_of(mirror), path, above)
            return [path]
        if not standing.is_dir:
            raise TargetExists(f"{_shown(path)} exists: give another place with --to")
        return list(self._merge(mirror, path))

    def _merge(self, mirror: Inode, path: bytes) -> Iterator[bytes]:
        """The directory lives: restore into it what was removed from it."""
        for ino, kind, name, _ in list(self._tree.listing(mirror.ino, 0)):
            inside = path + b"/" + name if path else name
            if kind == stat.S_IFDIR:
                yield from self._directory(self._tree.inode(ino), inside)
            else:
                self._move(mirror.ino, name, inside, mirror)
                yield inside

    def _move(self, parent: int, name: bytes, path: bytes, mirror: Inode | None) -> None:
        head, _, last = path.rpartition(b"/")
        if not last:
            raise TargetExists("the root of the filesystem exists: give another place with --to")
        if self._resolve(path) is not None:
            raise TargetExists(f"{_shown(path)} exists: give another place with --to")
        into = self._make_parents(head, mirror)
        self._tree.rename(parent, name, into.ino, last, 1, self._caller)
        self.appeared.append((into.ino, last))

    def _make_parents(self, path: bytes, mirror: Inode | None) -> Inode:
        if not path:
            return self._tree.inode(ROOT_INO)
        found = self._resolve(path)
        if found is not None:
            if not found.is_dir or found.flags & IN_TRASH:
                raise TargetExists(f"{_shown(path)} is no directory to restore into")
            return found
        head, _, last = path.rpartition(b"/")
        if mirror is not None and mirror.parent == TRASH_INO:
            mirror = None  # the hour's own: it stands for no directory on the way
        above_mirror = self._tree.inode(mirror.parent) if mirror is not None else None
        above = self._make_parents(head, above_mirror)
        mode = mirror.mode if mirror is not None else stat.S_IFDIR | 0o755
        made = self._tree.make(above.ino, last, mode, self._caller)
        if mirror is not None:
            with self._tree.act() as act:
                act.change(made)
                made.uid, made.gid, made.mode = mirror.uid, mirror.gid, mirror.mode
                self._tree.copy_xattrs(act, mirror, made)
        self.appeared.append((above.ino, last))
        return made

    def _resolve(self, path: bytes) -> Inode | None:
        try:
            return self._tree.resolve(path)
        except Refused:
            return None

    def _hours(self) -> list[bytes]:
        return [name for _, _, name, _ in self._tree.listing(TRASH_INO, 0)]


def _shown(path: bytes) -> str:
    return "/" + path.decode(errors="backslashreplace")
