"""The one way to change a tree: a batch of rows together with the inodes in memory.

An inode is one object that everybody sees, so an act that fails must take back what it did to the
objects as well as drop its rows.
"""

from collections.abc import Callable

from fusefs.model import keys
from fusefs.model.inode import Inode
from fusefs.store.index import Batch
from fusefs.store.store import Store
from fusefs.tree.inodes import Inodes


class Act(Batch):
    """A batch that knows which inodes it changes: ``with tree.act() as act``.

    Left without an error it is committed with the rows of the changed inodes; any error leaves
    store and inodes as they were.
    """

    __slots__ = ("_changed", "_inodes", "_noted", "_store", "_then")

    def __init__(self, store: Store, inodes: Inodes) -> None:
        self._store = store
        self._inodes = inodes
        self._changed: dict[int, Inode] = {}
        self._noted: dict[int, tuple[int, ...]] = {}  # what only memory knew of them
        self._then: list[Callable[[], object]] = []
        self.rows = {}

    def get(self, key: bytes) -> bytes | None:
        return self.rows[key] if key in self.rows else self._store.get(key)

    def change(self, *inodes: Inode) -> None:
        """Say that the act is going to change these inodes."""
        pinned = self._inodes.pinned
        for inode in inodes:
            if inode.ino in pinned and inode.ino not in self._changed:
                self._noted[inode.ino] = inode.fields()
            self._changed[inode.ino] = inode

    def then(self, callback: Callable[[], object]) -> None:
        """Have `callback` called when the act has happened, and not at all if it fails."""
        self._then.append(callback)

    def __enter__(self) -> "Act":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._undo()
            return
        try:
            for inode in self._changed.values():
                key = keys.inode(inode.ino)
                if self.rows.get(key, b"") is not None:  # what the act freed stays freed
                    self.rows[key] = inode.pack()
            self._store.commit(self)
        except BaseException:
            self._undo()
            raise
        for callback in self._then:
            callback()

    def _undo(self) -> None:
        for inode in self._changed.values():
            noted = self._noted.get(inode.ino)
            if noted is not None:
                inode.set_fields(noted)
            else:
                self._inodes.reload(inode)
