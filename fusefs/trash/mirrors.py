"""The directories of the trash: ``.trash/<UTC day and hour>/<original path>``.

A mirror stands for a live directory: same name, owner, mode and attributes, so the kernel's own
permission check decides who may look. When the directory itself is removed its mirror becomes an
entry and stands for nothing else any more; another directory of that path gets a mirror of its own,
with ``.~NUMBER~`` behind its name, as any name that is taken.
"""

import stat
import time
from collections import OrderedDict

from fusefs.model import dirent, keys
from fusefs.model.inode import IN_TRASH, ROOT_INO, TRASH_INO, Inode
from fusefs.tree.act import Act
from fusefs.tree.tree import NAME_MAX, Tree

_KEPT = 10_000
_HOUR_NS = 3600 * 10**9


class Mirrors:
    """The mirrors of one tree."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._store = tree.store
        self._known: OrderedDict[tuple[bytes, int], int] = OrderedDict()
        self._hour_number = -1
        self._hour_name = b""

    def forget(self) -> None:
        """Paths have changed."""
        self._known.clear()

    def of(self, act: Act, live: Inode) -> Inode:
        """The mirror of a live directory, made in `act` where there is none this hour."""
        hour = self._hour()
        missing = []
        above, mirror = live, self._find(hour, live)
        while mirror is None and above.ino != ROOT_INO:
            missing.append(above)
            above = self._tree.inode(above.parent)
            mirror = self._find(hour, above)
        if mirror is None:
            trash = self._tree.inode(TRASH_INO)
            mirror = self._open_or_make(act, trash, hour, above)
            self._remember(hour, above, mirror)
        for directory in reversed(missing):
            name = self._tree.name_of(directory)
            mirror = self._open_or_make(act, mirror, name, directory)
            self._remember(hour, directory, mirror)
        return mirror

    def close(self, act: Act, parent: Inode, name: bytes, gone: Inode) -> tuple[Inode, int]:
        """Let the mirror of the directory `gone`, which was `name` in `parent`, stand for it alone,
        with its last attributes. Returns it and the new cookie of its name."""
        mirror = self._find(self._hour(), gone)
        if mirror is None:
            mirror = self._open_or_make(act, self.of(act, parent), name, gone)
        act.change(mirror)
        mirror.mode, mirror.uid, mirror.gid = gone.mode, gone.uid, gone.gid
        self._tree.xattrs.copy(act, gone, mirror)
        above = self._tree.inode(mirror.parent)
        own_name = act.get(keys.directory(mirror.ino))
        assert own_name is not None
        row = act.get(keys.name(above.ino, own_name))
        assert row is not None
        self._tree.delete_name(act, above, own_name, dirent.unpack(row))
        return mirror, self._tree.put_name(act, above, own_name, mirror)

    def free_name(self, act: Act, above: Inode, name: bytes) -> bytes:
        """`name`, or one like it that is not taken in the mirror `above`."""
        if act.get(keys.name(above.ino, name)) is None:
            return name
        suffix = b".~%d~" % (self._store.counters.cookie + 1)
        free = name[: NAME_MAX - len(suffix)] + suffix
        while act.get(keys.name(above.ino, free)) is not None:  # someone's own name looks like that
            suffix += b"~"
            free = name[: NAME_MAX - len(suffix)] + suffix
        return free

    def _hour(self) -> bytes:
        number = self._store.clock.time_ns() // _HOUR_NS
        if number != self._hour_number:
            self._hour_number = number
            self._hour_name = time.strftime("%Y-%m-%dT%H", time.gmtime(number * 3600)).encode()
        return self._hour_name

    def _find(self, hour: bytes, live: Inode) -> Inode | None:
        """The mirror remembered for `live`, unless it was purged, taken back, or never came to be
        because its act failed."""
        known = self._known.get((hour, live.ino))
        mirror = self._tree.inodes.find(known) if known is not None else None
        if mirror is None or not mirror.nlink or not mirror.flags & IN_TRASH:
            return None
        self._known.move_to_end((hour, live.ino))
        return mirror

    def _remember(self, hour: bytes, live: Inode, mirror: Inode) -> None:
        self._known[hour, live.ino] = mirror.ino
        if len(self._known) > _KEPT:
            self._known.popitem(last=False)

    def _open_or_make(self, act: Act, above: Inode, name: bytes, live: Inode) -> Inode:
        row = act.get(keys.name(above.ino, name))
        if row is not None:
            found = dirent.unpack(row)
            is_closed = act.get(keys.entry(found.cookie)) is not None
            if found.kind == stat.S_IFDIR and not is_closed:
                mirror = self._tree.inode(found.ino)
                act.change(mirror)
                return mirror
        return self._make(act, above, self.free_name(act, above, name), live)

    def _make(self, act: Act, above: Inode, name: bytes, live: Inode) -> Inode:
        counters = self._store.counters
        counters.ino += 1
        now = self._store.clock.time_ns()
        mirror = Inode(
            counters.ino, live.mode, live.uid, live.gid, now, nlink=2, parent=above.ino,
            flags=IN_TRASH,
        )  # fmt: skip
        mirror.atime, mirror.mtime = live.atime, live.mtime
        self._tree.xattrs.copy(act, live, mirror)
        self._tree.put_name(act, above, name, mirror)
        act.change(above, mirror)
        above.nlink += 1
        self._tree.inodes.add(mirror)
        return mirror
