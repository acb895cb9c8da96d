"""Taking back what was removed: one entry, or a directory with everything in it.

Never overwrites: what stands at the target stays, and the entry stays in the trash. Parents that
are gone are made again, with the owner and mode that their mirror in the trash has.
"""

import stat

from fusefs.errors import NoSuchEntry, NotPermitted, Refused, TargetExists
from fusefs.model.entry import Entry
from fusefs.model.inode import IN_TRASH, ROOT_INO, TRASH_INO, Inode
from fusefs.trash.trash import Trash
from fusefs.tree.removal import Caller
from fusefs.tree.tree import TRASH_NAME, Tree


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
        """Take back a directory; where one lives at its place, all that was removed from that."""
        restored: list[bytes] = []
        waiting = [(mirror, path.strip(b"/"))]
        while waiting:
            mirror, path = waiting.pop()
            if self._caller.uid not in (0, mirror.uid):
                raise NotPermitted(f"{_shown(path)} belongs to another user")
            standing = self._resolve(path)
            if standing is None:
                above = self._tree.inode(mirror.parent)
                self._move(mirror.parent, self._tree.name_of(mirror), path, above)
                restored.append(path)
                continue
            if not standing.is_dir:
                raise TargetExists(f"{_shown(path)} exists: give another place with --to")
            for ino, kind, name, _ in list(self._tree.listing(mirror.ino, 0)):
                inside = path + b"/" + name if path else name
                if kind == stat.S_IFDIR:
                    waiting.append((self._tree.inode(ino), inside))
                else:
                    self._move(mirror.ino, name, inside, mirror)
                    restored.append(inside)
        return restored

    def _move(self, parent: int, name: bytes, path: bytes, mirror: Inode) -> None:
        head, _, last = path.rpartition(b"/")
        if not last:
            raise TargetExists("the root of the filesystem exists: give another place with --to")
        if self._resolve(path) is not None:
            raise TargetExists(f"{_shown(path)} exists: give another place with --to")
        into = self._make_parents(head, mirror)
        self._tree.rename(parent, name, into.ino, last, 1, self._caller)
        self.appeared.append((into.ino, last))

    def _make_parents(self, path: bytes, mirror: Inode) -> Inode:
        """The directory at `path`, made where it is gone as `mirror` and those above it show."""
        directory = self._tree.inode(ROOT_INO)
        parts = path.split(b"/") if path else []
        for name, model in zip(parts, self._models(mirror, len(parts)), strict=True):
            found = self._tree.lookup(directory.ino, name)
            if found is None:
                found = self._make_parent(directory, name, model)
            elif not found.is_dir or found.flags & IN_TRASH:
                raise TargetExists(f"{_shown(path)} is no directory to restore into")
            directory = found
        return directory

    def _models(self, mirror: Inode, count: int) -> list[Inode | None]:
        """The last `count` directories down to `mirror`; None for those above the mirrors."""
        models: list[Inode | None] = []
        while len(models) < count and mirror.parent != TRASH_INO:
            models.append(mirror)
            mirror = self._tree.inode(mirror.parent)
        return [*[None] * (count - len(models)), *reversed(models)]

    def _make_parent(self, above: Inode, name: bytes, model: Inode | None) -> Inode:
        mode = model.mode if model else stat.S_IFDIR | 0o755
        made = self._tree.make(above.ino, name, mode, self._caller)
        if model:
            with self._tree.act() as act:
                act.change(made)
                made.uid, made.gid, made.mode = model.uid, model.gid, model.mode
                self._tree.xattrs.copy(act, model, made)
        self.appeared.append((above.ino, name))
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
