"""Which files need some blocks: found the slow way, a slice at a time, for reports.

Rows that do not decode are passed over; fsck tells them.
"""

import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice

from fusefs.model import extent, keys
from fusefs.model.corruption import MAX_OBJECTS, Object
from fusefs.store.store import Store
from fusefs.tree.places import places_of
from fusefs.tree.tree import Tree

#: Rows that are looked at in one go: about 1 ms.
_ROWS = 1000

#: Awaited after each slice; lets requests have the loop.
Rest = Callable[[], Awaitable[object]]


@dataclass
class Users:
    """The inodes that need a block: some of them by number, and how many there are."""

    inos: dict[int, None] = field(default_factory=dict)
    others: set[int] = field(default_factory=set)

    def add(self, ino: int) -> None:
        if ino in self.inos or len(self.inos) < MAX_OBJECTS:
            self.inos[ino] = None
        else:
            self.others.add(ino)


async def users_of(
    tree: Tree, blocks: set[int], rest: Rest
) -> dict[int, tuple[tuple[Object, ...], int]]:
    """For each of `blocks`: files that need it, with a path of each (empty where it has none), and
    how many others do."""
    found = {number: Users() for number in blocks}
    store = tree.store
    for rows in _slices(store, keys.EXTENT):
        for key, row in rows:
            with suppress(struct.error):
                one = extent.unpack(keys.second(key), row)
                if one.block in found:
                    found[one.block].add(keys.number(key))
        await rest()
    paths = await _paths(tree, {ino for users in found.values() for ino in users.inos}, rest)
    return {
        number: (tuple(Object(ino, paths[ino]) for ino in users.inos), len(users.others))
        for number, users in found.items()
    }


async def _paths(tree: Tree, inos: set[int], rest: Rest) -> dict[int, bytes]:
    paths = dict.fromkeys(inos, b"")
    for place in places_of(tree, inos):
        if place is None:
            await rest()
        else:
            paths[place.ino] = b"/" + place.path
    return paths


def _slices(store: Store, table: bytes) -> Iterator[list[tuple[bytes, bytes]]]:
    """All rows of a table, which may change between two slices."""
    start = table
    while rows := list(islice(store.scan(start, table), _ROWS)):
        yield rows
        start = rows[-1][0] + b"\0"
