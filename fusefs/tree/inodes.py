"""The inodes in use: one object for each, so that everybody sees a change at once."""

from collections import OrderedDict
from errno import ENOENT

from fusefs.errors import Refused, StoreDamaged
from fusefs.model import keys
from fusefs.model.inode import Inode
from fusefs.store.store import Store

_KEPT = 10_000


class Inodes:
    """Inodes by number, loaded on demand; the ones used last are kept.

    `pinned` inodes carry what the index does not have yet (sizes, times); `held` ones belong to
    open files. Neither are let go: a second object for an inode would know an older state.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: OrderedDict[int, Inode] = OrderedDict()
        self.pinned: dict[int, Inode] = {}
        self.held: dict[int, Inode] = {}

    def get(self, ino: int) -> Inode:
        """Raises Refused(ENOENT) if there is none such."""
        inode = self._kept.get(ino)
        if inode is not None:
            self._kept.move_to_end(ino)
            return inode
        return self._load(ino)

    def find(self, ino: int) -> Inode | None:
        """The same, or None if there is none such."""
        try:
            return self.get(ino)
        except Refused:
            return None

    def _load(self, ino: int) -> Inode:
        inode = self.pinned.get(ino) or self.held.get(ino)
        if inode is None:
            row = self._store.get(keys.inode(ino))
            if row is None:
                raise Refused(ENOENT, f"inode {ino} does not exist")
            try:
                inode = Inode.unpack(ino, row)
            except Exception as error:
                raise StoreDamaged(f"inode {ino} cannot be read: {error}") from error
        self.add(inode)
        return inode

    def add(self, inode: Inode) -> None:
        """Keep an inode that was just made."""
        self._kept[inode.ino] = inode
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)

    def pin(self, inode: Inode) -> None:
        self.pinned[inode.ino] = inode

    def unpin(self, inode: Inode) -> None:
        self.pinned.pop(inode.ino, None)

    def forget(self, ino: int) -> None:
        """The inode was freed."""
        self._kept.pop(ino, None)
        self.pinned.pop(ino, None)
        self.held.pop(ino, None)

    def reload(self, inode: Inode) -> None:
        """Undo changes to the object, which is not pinned, after a batch that did not happen."""
        row = self._store.get(keys.inode(inode.ino))
        if row is None:
            self.forget(inode.ino)
            return
        inode.set_fields(Inode.unpack(inode.ino, row).fields())
