"""What is wrong, and where: problems, and the paths to name them by."""

import os
from dataclasses import dataclass

from fusefs.fsck.tables import Tables
from fusefs.model import keys
from fusefs.model.inode import ROOT_INO, TRASH_INO


@dataclass(frozen=True)
class Problem:
    """`where`: path, inode, block, segment, or number of the trash; `message`: what is wrong there.

    `kind`::

        row          does not decode, or belongs to no table
        name         leads nowhere, lies nowhere, or is none
        listing      is not the same by name and in its directory
        directory    does not know its place, or is inside itself
        trash        the books of the trash disagree, or an entry and its name
        links        names are miscounted
        orphan       has no name and is not to be freed, or the reverse
        extent       extents do not cover the file
        partial      a half-written file is none, or not good as far as it promises
        link, xattr  target of a symbolic link, extended attribute
        references   those of a block are miscounted
        transfer     one lacks rows, is miscounted, or ended without a record
        copy         is in a remote that the store does not know
        counters     numbers would be given out twice
        totals       sums of files, bytes, blocks are not those of the rows
        log          is shorter than the index, or cannot be replayed
        segment      a record does not verify
        snapshot     the copy of the index that stands for deleted segments is damaged or missing
        damaged      bytes are lost, and marked so by a repair
        content      a block is not where it should be, or not what it was
        recorded     a block was found bad by a scrub or a reader
        record       of a bad block, which does not exist or is not needed
    """

    kind: str
    where: str
    message: str


class Places:
    """Paths for messages.

    A directory is found by its own row. Whatever else has a name is found in a map of all names
    that is made when the first one is asked for, so that much damage does not take for ever.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._listed: dict[int, tuple[int, int]] | None = None  # ino -> parent, cookie
        self._parents: dict[int, int] = {}  # cookie -> parent

    def path(self, ino: int) -> str:
        """A path of an inode, or its number where it has none."""
        parts: list[bytes] = []
        above, passed = ino, set[int]()
        while above != ROOT_INO:
            if above == TRASH_INO:
                parts.append(b".trash")
                break
            found = None if above in passed else self._a_name(above)
            if found is None:
                return f"inode {ino}"
            passed.add(above)
            above, name = found
            parts.append(name)
        return "/" + os.fsdecode(b"/".join(reversed(parts)))

    def named(self, parent: int, name: bytes) -> str:
        """The path of a name in a directory."""
        return f"{self.path(parent).rstrip('/')}/{os.fsdecode(name)}"

    def of_row(self, key: bytes) -> str:
        """The path that a row of the index has to do with, or its number."""
        table, number = key[:1], keys.number(key)
        if table == keys.REMOTE:
            return f"remote {os.fsdecode(key[1:])}"
        if len(key) < 9:
            return "index"
        if table == keys.NAME:
            return self.named(number, key[9:])
        if table in (keys.BLOCK, keys.CORRUPTION):
            return f"block {number}"
        if table == keys.BATCH:
            return f"batch {number}"
        if table == keys.JOB:
            return f"purge {number}"
        if table in (keys.ENTRY, keys.HISTORY):
            return self._of_entry(number)
        if table in (keys.QUEUE, keys.FINISHED):
            return self._of_entry(keys.second(key)) if len(key) == 17 else "index"
        is_of_inode = table in (
            keys.INODE, keys.ORDER, keys.DIRECTORY, keys.LINK, keys.XATTR, keys.EXTENT,
            keys.REVIVAL, keys.PARTIAL, keys.ORPHAN,
        )  # fmt: skip
        return self.path(number) if is_of_inode else "index"

    def _of_entry(self, number: int) -> str:
        self._list()
        parent = self._parents.get(number)
        name = self._tables.listed_name(parent, number) if parent is not None else None
        return f"entry {number}" if parent is None or name is None else self.named(parent, name)

    def _a_name(self, ino: int) -> tuple[int, bytes] | None:
        inode, name = self._tables.inode(ino), self._tables.get(keys.directory(ino))
        if inode is not None and inode.is_dir and name is not None:
            return inode.parent, name
        place = self._list().get(ino)
        listed = self._tables.listed_name(*place) if place else None
        return (place[0], listed) if place and listed is not None else None

    def _list(self) -> dict[int, tuple[int, int]]:
        if self._listed is None:
            self._listed = {}
            for parent, cookie, ino, _, _ in self._tables.listing():
                self._listed[ino] = parent, cookie
                self._parents[cookie] = parent
        return self._listed
