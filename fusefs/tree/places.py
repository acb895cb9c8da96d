"""Where an inode is: found the slow way, by a look at all names, for reports and rare work.

Rows that do not decode are passed over; fsck tells them.
"""

import struct
from collections.abc import Collection, Iterator
from itertools import islice
from typing import NamedTuple

from fusefs.errors import Refused
from fusefs.model import dirent, keys
from fusefs.model.inode import IN_TRASH
from fusefs.tree.tree import Tree

#: Names that are looked at in one go: about 1 ms.
_SLICE = 1000


class Place(NamedTuple):
    """One name of an inode: `name` in the directory `parent`. `path`: from the root, without a
    leading slash."""

    ino: int
    parent: int
    name: bytes
    path: bytes
    is_in_trash: bool


def places_of(tree: Tree, inos: Collection[int]) -> Iterator[Place | None]:
    """All names of these inodes; None now and then, where others may change the tree."""
    start = keys.ORDER
    while inos and (rows := list(islice(tree.store.scan(start, keys.ORDER), _SLICE))):
        for key, row in rows:
            try:
                ino, _, name = dirent.unpack_listed(row)
                if ino in inos:
                    yield _place(tree, ino, keys.number(key), name)
            except (struct.error, Refused):
                continue
        start = rows[-1][0] + b"\0"
        yield None


def _place(tree: Tree, ino: int, parent: int, name: bytes) -> Place:
    directory = tree.inode(parent)
    above = tree.path_of(directory)
    path = above + b"/" + name if above else name
    return Place(ino, parent, name, path, bool(directory.flags & IN_TRASH))


def a_path_of(tree: Tree, ino: int) -> bytes:
    """One path of an inode, or its number where it has none."""
    places = (place for place in places_of(tree, {ino}) if place is not None)
    found = next(places, None)
    return found.path if found else b"inode %d" % ino
